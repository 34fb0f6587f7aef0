package harness

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/test/await"
)

// A Client sends requests to one server with one token. It is safe for concurrent use.
type Client struct {
	Address string
	Token   string
	HTTP    *http.Client
}

// NewClient returns a client with connections of its own.
func NewClient(address, token string) *Client {
	return &Client{address, token, &http.Client{
		Timeout:   await.Patience,
		Transport: &http.Transport{MaxIdleConnsPerHost: 16},
	}}
}

// As returns a client with another token.
func (c *Client) As(token string) *Client { return &Client{c.Address, token, c.HTTP} }

// An Answer is an answer of the server.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Do sends one request. path is below /v1/. body is JSON as bytes or a string, a value to encode,
// or nil. head is alternating names and values.
func (c *Client) Do(method, path string, body any, head ...string) (*Answer, error) {
	in, err := encode(body)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequest(method, "http://"+c.Address+"/v1/"+path, in)
	if err != nil {
		return nil, err
	}
	if c.Token != "" {
		r.Header.Set("X-Vault-Token", c.Token)
	}
	if method == http.MethodPatch {
		r.Header.Set("Content-Type", "application/merge-patch+json")
	}
	for pair := range slices.Chunk(head, 2) {
		r.Header.Set(pair[0], pair[1])
	}
	res, err := c.HTTP.Do(r)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	return &Answer{res.StatusCode, res.Header, text}, nil
}

func encode(body any) (io.Reader, error) {
	switch b := body.(type) {
	case nil:
		return http.NoBody, nil
	case string:
		return strings.NewReader(b), nil
	case []byte:
		return bytes.NewReader(b), nil
	}
	text, err := json.Marshal(body)
	return bytes.NewReader(text), err
}

// Must is Do and fails the test unless the answer has one of the statuses; by default, one below
// 300.
func (c *Client) Must(t testing.TB, method, path string, body any, statuses ...int) *Answer {
	t.Helper()
	a, err := c.Do(method, path, body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	if len(statuses) == 0 && a.Status < 300 || slices.Contains(statuses, a.Status) {
		return a
	}
	t.Fatalf("%s %s: status %d, want %v: %s", method, path, a.Status, statuses, a.Body)
	return nil
}

// Get returns the value at a path of keys in the body, or nil.
func (a *Answer) Get(keys ...string) any {
	var v any
	d := json.NewDecoder(bytes.NewReader(a.Body))
	d.UseNumber()
	if d.Decode(&v) != nil {
		return nil
	}
	for _, k := range keys {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[k]
	}
	return v
}

// Text returns the string at a path of keys, or "".
func (a *Answer) Text(keys ...string) string {
	s, _ := a.Get(keys...).(string)
	return s
}

// Int returns the number at a path of keys, or -1.
func (a *Answer) Int(keys ...string) int64 {
	if n, ok := a.Get(keys...).(json.Number); ok {
		if i, err := n.Int64(); err == nil {
			return i
		}
	}
	return -1
}

// List returns the list at a path of keys.
func (a *Answer) List(keys ...string) []any {
	l, _ := a.Get(keys...).([]any)
	return l
}

// Raw sends bytes unchanged, and returns what arrives until the server closes the connection, or
// within has passed.
func Raw(address, request string, within time.Duration) (string, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(within)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, request); err != nil {
		return "", err
	}
	text, err := io.ReadAll(conn)
	if len(text) > 0 {
		err = nil
	}
	return string(text), err
}

// Line returns a raw request with an unmodified target.
func Line(method, target, token, body string, head ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: keyturn\r\nConnection: close\r\n", method, target)
	if token != "" {
		fmt.Fprintf(&b, "X-Vault-Token: %s\r\n", token)
	}
	if body != "" {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(body))
	}
	for pair := range slices.Chunk(head, 2) {
		fmt.Fprintf(&b, "%s: %s\r\n", pair[0], pair[1])
	}
	return b.String() + "\r\n" + body
}

// StatusOf returns the status of a raw answer, or 0.
func StatusOf(raw string) int {
	var n int
	if _, err := fmt.Sscanf(raw, "HTTP/1.1 %d", &n); err != nil {
		return 0
	}
	return n
}
