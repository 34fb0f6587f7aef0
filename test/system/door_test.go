//go:build integration

package system

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/test/await"
	"github.com/keyturn/keyturn/test/harness"
)

// TestLimits sends requests that are too large, too deep or too many over a real connection. Each
// is refused with a status and a reason, and the server continues.
func TestLimits(t *testing.T) {
	t.Parallel()
	s := harness.Ready(t, harness.Options{})
	root := s.Client(s.Root)
	root.Must(t, "POST", "sys/mounts/kv", object{"type": "kv", "options": object{"version": "1"}})
	var keys strings.Builder
	for i := range 30_000 {
		fmt.Fprintf(&keys, `,"k%d":1`, i)
	}
	for name, tt := range map[string]struct {
		body   string
		status int
		says   string
	}{
		"33 MiB":               {`{"x":"` + strings.Repeat("y", 33<<20) + `"}`, 413, "larger"},
		"31 MiB in one string": {`{"x":"` + strings.Repeat("y", 31<<20) + `"}`, 400, "max_json_string_value_length"},
		"deep list": {`{"x":` + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000) + `}`, 400,
			"max_json_depth"},
		"deep object":          {strings.Repeat(`{"x":`, 10_000) + "1" + strings.Repeat("}", 10_000), 400, "max_json_depth"},
		"never closed":         {strings.Repeat(`{"x":`, 100_000), 400, ""},
		"a key twice":          {`{"x":1,"x":2}`, 400, "twice"},
		"a key twice, inside":  {`{"a":{"x":1,"x":2}}`, 400, "twice"},
		"a key twice, escaped": {`{"x":1,"\u0078":2}`, 400, "twice"},
		"many keys":            {`{"x":1` + keys.String() + `}`, 400, "max_json_object_entry_count"},
		"a long number":        {`{"x":` + strings.Repeat("9", 100_000) + `}`, 0, ""},
		"bad UTF-8":            {"{\"x\":\"\xff\"}", 400, ""},
		"a lone surrogate":     {`{"x":"\ud800"}`, 0, ""},
		"NUL":                  {"{\"x\":\"\x00\"}", 400, ""},
		"not JSON":             {`x=y`, 400, "JSON"},
		"two values":           {`{"x":1} {"x":2}`, 400, "JSON"},
		"a list":               {`[1]`, 400, "object"},
	} {
		a, err := root.Do("PUT", "kv/limit", tt.body)
		if err != nil {
			// The server may answer and close the connection before everything is sent.
			if tt.status != 413 {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if tt.status != 0 && a.Status != tt.status || tt.status == 0 && a.Status >= 500 ||
			!strings.Contains(string(a.Body), tt.says) {
			t.Errorf("%s: %d %.300s, want %d and %q", name, a.Status, a.Body, tt.status, tt.says)
		}
	}
	for name, tt := range map[string]struct {
		head   []string
		status int
	}{
		"token of 8 KiB and a byte": {[]string{"X-Vault-Token", strings.Repeat("x", 8<<10+1)}, 413},
		"bearer of 9 KB":            {[]string{"Authorization", "Bearer " + strings.Repeat("x", 9000)}, 413},
		"token of 100 KB":           {[]string{"X-Vault-Token", strings.Repeat("x", 100_000)}, 431},
		"a megabyte of headers":     {[]string{"X-Other", strings.Repeat("x", 1<<20)}, 431},
		"wrapping TTL":              {[]string{"X-Vault-Wrap-TTL", strings.Repeat("9", 1000)}, 400},
		"namespace":                 {[]string{"X-Vault-Namespace", "team"}, 400},
	} {
		answer, err := harness.Raw(s.Address, harness.Line("GET", "/v1/kv/limit", "", "", tt.head...), await.Patience)
		if status := harness.StatusOf(answer); err == nil && status != tt.status {
			t.Errorf("%s: status %d, want %d", name, status, tt.status)
		}
	}
	long := "kv/" + strings.Repeat("a", 2000)
	root.Must(t, "GET", long, nil, 400)
	root.Must(t, "GET", "kv/x?x="+strings.Repeat("a", 100_000), nil, 400, 404, 414, 431)
	root.Must(t, "PUT", "kv/limit", object{"x": strings.Repeat("y", 500_000)}, 204)
	root.Must(t, "GET", "kv/limit", nil, 200)
}

// TestBodyWithoutEnd sends a chunked body without a length or an end.
func TestBodyWithoutEnd(t *testing.T) {
	t.Parallel()
	s := harness.Ready(t, harness.Options{})
	r, err := http.NewRequest("PUT", "http://"+s.Address+"/v1/cubbyhole/x",
		io.MultiReader(strings.NewReader(`{"x":"`), endless{}))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Vault-Token", s.Root)
	client := http.Client{Timeout: await.Patience}
	begin := time.Now()
	res, err := client.Do(r)
	if err == nil {
		defer res.Body.Close()
		if res.StatusCode != 413 {
			t.Errorf("status %d", res.StatusCode)
		}
	}
	if took := time.Since(begin); took > await.Patience {
		t.Errorf("it took %s", took)
	}
	s.Client(s.Root).Must(t, "GET", "sys/mounts", nil, 200)
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'y'
	}
	return len(p), nil
}

// TestSlowClients checks that slow headers and bodies are cut off, even many at once, while other
// requests are served.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	s := harness.Ready(t, harness.Options{Listener: `max_request_duration = "2s"`})
	root := s.Client(s.Root)
	const many = 200
	ended := make(chan string, many)
	begin := time.Now()
	for i := range many {
		go func() {
			head := fmt.Sprintf("PUT /v1/cubbyhole/x HTTP/1.1\r\nHost: x\r\nX-Vault-Token: %s\r\n", s.Root)
			if i%2 == 0 {
				head += "Content-Length: 1000000\r\n\r\n{"
			}
			ended <- drip(s.Address, head)
		}()
	}
	for range 20 {
		root.Must(t, "GET", "sys/mounts", nil, 200)
	}
	timeouts := 0
	for range many {
		select {
		case answer := <-ended:
			if status := harness.StatusOf(answer); status == 504 || status == 408 || status == 400 {
				timeouts++
			} else if status == 200 || status == 204 {
				t.Errorf("a body that never came: %s", answer)
			}
		case <-time.After(await.Patience):
			t.Fatal("slow clients are not cut off")
		}
	}
	t.Logf("%d slow clients were cut off in %s, %d with an answer", many, time.Since(begin).Round(time.Millisecond),
		timeouts)
	if timeouts == 0 {
		t.Error("nobody was told")
	}
}

// drip sends only the beginning of a request, and returns what arrives until the server closes the
// connection.
func drip(address, head string) string {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err.Error()
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(await.Patience)); err != nil {
		return err.Error()
	}
	if _, err := io.WriteString(conn, head); err != nil {
		return err.Error()
	}
	text, err := io.ReadAll(bufio.NewReader(conn))
	if err != nil && len(text) == 0 {
		return err.Error()
	}
	return string(text)
}
