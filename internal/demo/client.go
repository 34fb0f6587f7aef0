package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// A client uses the server's HTTP API with one token. It ignores the environment, so that the demo
// never calls a real server.
type client struct {
	url   string
	token string
	http  *http.Client
}

// maxAnswer limits an answer. It is larger than any answer to the demo.
const maxAnswer = 4 << 20

// as returns a client with another token.
func (c *client) as(token string) *client {
	return &client{url: c.url, token: token, http: c.http}
}

// do sends a request and decodes the data of the answer into out, which may be nil.
func (c *client) do(ctx context.Context, method, path string, in, out any) error {
	return c.raw(ctx, method, path, in, &struct {
		Data any `json:"data"`
	}{out})
}

// raw sends a request and decodes the whole answer into out.
func (c *client) raw(ctx context.Context, method, path string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	r, err := http.NewRequestWithContext(ctx, method, c.url+"/v1/"+path, body)
	if err != nil {
		return err
	}
	r.Header.Set("X-Vault-Request", "true")
	if c.token != "" {
		r.Header.Set("X-Vault-Token", c.token)
	}
	response, err := c.http.Do(r)
	if err != nil {
		return fmt.Errorf("asking the server: %w", err)
	}
	defer func() { _ = response.Body.Close() }() // it was only read
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("reading the server's answer: %w", err)
	}
	if response.StatusCode >= 300 {
		return refusal(method, path, response.Status, text)
	}
	if len(text) == 0 {
		return nil
	}
	if err := json.Unmarshal(text, out); err != nil {
		return fmt.Errorf("reading the answer to %s %s: %w", method, path, err)
	}
	return nil
}

// refusal returns the error for an answer that is not a success.
func refusal(method, path, status string, text []byte) error {
	var said struct {
		Errors []string `json:"errors"`
	}
	if json.Unmarshal(text, &said) == nil && len(said.Errors) > 0 {
		status += ": " + strings.Join(said.Errors, "; ")
	}
	return fmt.Errorf("%s %s: the server answered %s", method, path, status)
}
