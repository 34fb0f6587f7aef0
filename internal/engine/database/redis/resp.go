package redis

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// A reply is what the server answers to one command.
type reply struct {
	kind byte // + - : $ *
	text string
	list []reply
	null bool
}

// Limits on what a server may answer. CLIENT LIST is a few hundred bytes for each session.
const (
	longestLine = 64 << 10
	longestBulk = 16 << 20
	mostValues  = 1 << 16 // of one reply, at all depths: each takes more memory than bytes on the wire
	deepest     = 8
)

var errProtocol = errors.New("the server does not speak the Redis protocol")

// readReply reads one reply in the protocol's version 2.
func readReply(r *bufio.Reader) (reply, error) {
	left := mostValues
	return readValue(r, 0, &left)
}

// readValue reads one value of a reply, which may have so many more.
func readValue(r *bufio.Reader, depth int, left *int) (reply, error) {
	line, err := readLine(r)
	if err != nil {
		return reply{}, err
	}
	if *left--; line == "" || depth > deepest || *left < 0 {
		return reply{}, errProtocol
	}
	out := reply{kind: line[0], text: line[1:]}
	switch out.kind {
	case '+', '-', ':':
		return out, nil
	case '$', '*':
	default:
		return reply{}, errProtocol
	}
	n, err := strconv.Atoi(out.text)
	out.text = ""
	switch {
	case err != nil || n < -1:
		return reply{}, errProtocol
	case n == -1:
		out.null = true
		return out, nil
	case out.kind == '$':
		out.text, err = readBulk(r, n)
		return out, err
	case n > *left:
		return reply{}, errProtocol
	}
	for range n {
		one, err := readValue(r, depth+1, left)
		if err != nil {
			return reply{}, err
		}
		out.list = append(out.list, one)
	}
	return out, nil
}

func readLine(r *bufio.Reader) (string, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case err != nil && !errors.Is(err, bufio.ErrBufferFull):
			return "", err
		case len(line) > longestLine:
			return "", errProtocol
		case err == nil:
			text, ok := strings.CutSuffix(string(line), "\r\n")
			if !ok {
				return "", errProtocol
			}
			return text, nil
		}
	}
}

func readBulk(r *bufio.Reader, n int) (string, error) {
	if n > longestBulk {
		return "", errProtocol
	}
	var b strings.Builder
	if _, err := io.CopyN(&b, r, int64(n)+2); err != nil {
		return "", err
	}
	text, ok := strings.CutSuffix(b.String(), "\r\n")
	if !ok {
		return "", errProtocol
	}
	return text, nil
}

// appendCommand writes a command as the list of its words, in which any byte may stand.
func appendCommand(dst []byte, words []string) []byte {
	dst = append(dst, '*')
	dst = strconv.AppendInt(dst, int64(len(words)), 10)
	dst = append(dst, '\r', '\n')
	for _, w := range words {
		dst = append(dst, '$')
		dst = strconv.AppendInt(dst, int64(len(w)), 10)
		dst = append(dst, '\r', '\n')
		dst = append(dst, w...)
		dst = append(dst, '\r', '\n')
	}
	return dst
}

// A session is one connection to the server. It is used by one call at a time.
type session struct {
	net    net.Conn
	read   *bufio.Reader
	opened time.Time
	role   string // the server's, when it was opened
	broken bool   // after an error between commands and replies
}

// answer is an error that the server answered to a command.
type answer struct {
	text string
	at   int // which command of the message
}

func (e *answer) Error() string { return e.text }

// word is the first word of the answer: "NOPERM".
func (e *answer) word() string {
	w, _, _ := strings.Cut(e.text, " ")
	return w
}

// do sends commands as one message and reads their replies. The server runs them in their order. An error of one
// does not keep the others from being run; the first is returned with all replies.
func (s *session) do(ctx context.Context, commands ...[]string) ([]reply, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = s.net.SetDeadline(time.Now()) })
	defer stop()
	var message []byte
	for _, words := range commands {
		message = appendCommand(message, words)
	}
	replies := make([]reply, 0, len(commands))
	if _, err := s.net.Write(message); err != nil {
		s.broken = true
		return nil, err
	}
	var first error
	for i := range commands {
		r, err := readReply(s.read)
		if err != nil {
			s.broken = true
			return replies, err
		}
		if r.kind == '-' && first == nil {
			first = &answer{r.text, i}
		}
		replies = append(replies, r)
	}
	return replies, first
}
