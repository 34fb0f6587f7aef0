package redis

import (
	"bufio"
	"context"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
)

// pretend answers as a server without users would, and returns the commands. It answers no command
// that begins with mute.
func pretend(c net.Conn, mute string) (heard []string) {
	defer c.Close()
	// a pipe has no buffer, and the client writes all before it reads
	r, answers := bufio.NewReader(c), make(chan string, 100)
	defer close(answers)
	go func() {
		for answer := range answers {
			_, _ = c.Write([]byte(answer))
		}
	}()
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return heard
		}
		n, _ := strconv.Atoi(strings.TrimSpace(line[1:]))
		words := make([]string, n)
		for i := range words {
			size, _ := r.ReadString('\n')
			k, _ := strconv.Atoi(strings.TrimSpace(size[1:]))
			b := make([]byte, k+2)
			_, _ = io.ReadFull(r, b)
			words[i] = strings.ToUpper(string(b[:k]))
		}
		command := strings.Join(words, " ")
		heard = append(heard, command)
		answer := "+OK\r\n"
		switch {
		case mute != "" && strings.HasPrefix(command, mute):
			continue
		case words[0] == "HELLO":
			answer = "*4\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n"
		case words[0] == "TIME":
			answer = "*2\r\n$1\r\n1\r\n$1\r\n0\r\n"
		case strings.HasPrefix(command, "ACL GETUSER"):
			answer = "*-1\r\n"
		}
		answers <- answer
	}
}

// pretending is a connection to servers that pretend. heard is read once all have ended.
func pretending(t *testing.T, mute string) (c database.Conn, heard *[]string) {
	heard = new([]string)
	c, err := Provider.Connect(t.Context(), database.Config{
		Extra: map[string]string{"host": "h"}, Username: "admin", Password: secret.Text("Canary"),
		Dial: func(context.Context, string, string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			go func() { *heard = append(*heard, pretend(theirs, mute)...) }()
			return ours, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return c, heard
}

// TestWhatIsSent: the library sends nothing unasked but one HELLO, and nothing of it is left after
// the end: the bubble ends only when all goroutines have.
func TestWhatIsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, heard := pretending(t, "")
		for range 2 {
			if there, err := c.Exists(t.Context(), "v-app"); there || err != nil {
				t.Fatal(there, err)
			}
		}
		c.Close()
		synctest.Wait()
		const want = "HELLO 2|AUTH ADMIN CANARY|HELLO 2|CLIENT SETNAME KEYTURN|ACL GETUSER V-APP|HELLO 2|ACL " +
			"GETUSER V-APP"
		if got := strings.Join(*heard, "|"); got != want {
			t.Errorf("the server heard %s\nwant %s", got, want)
		}
	})
}

// TestCanceled: a call ends with its context, also where that has no deadline, and its command is
// not sent again.
func TestCanceled(t *testing.T) {
	for mute, end := range map[string]func(c database.Conn, cancel func()){
		"HELLO":       func(_ database.Conn, cancel func()) { cancel() },
		"AUTH":        func(_ database.Conn, cancel func()) { cancel() },
		"ACL DELUSER": func(_ database.Conn, cancel func()) { cancel() },
		"ACL":         func(c database.Conn, _ func()) { c.Close() },
	} {
		synctest.Test(t, func(t *testing.T) {
			c, heard := pretending(t, mute)
			ctx, cancel := context.WithCancel(t.Context())
			began := time.Now()
			time.AfterFunc(time.Hour, func() { end(c, cancel) })
			_, err := c.Drop(ctx, "v-app", database.DropOptions{})
			if took := time.Since(began); !fault.Is(err, fault.Unavailable) || took != time.Hour {
				t.Errorf("%s is not answered: %v after %v", mute, err, took)
			}
			c.Close()
			synctest.Wait()
			if n := strings.Count(strings.Join(*heard, "|"), mute); n != 1 && mute != "HELLO" || n == 0 {
				t.Errorf("%s is not answered: it was sent %d times", mute, n)
			}
			cancel()
		})
	}
}
