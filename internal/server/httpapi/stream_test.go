package httpapi

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/core"
)

// streaming is a door that answers with lines until it is told to end.
func streaming(t *testing.T, h2 bool, lines chan string, ended chan error) (*http.Server, *http.Client, string) {
	t.Helper()
	b := &backend{answer: &core.Answer{Status: 200,
		ContentType: "text/plain", Stream: func(ctx context.Context, send func([]byte) error) error {
			for {
				select {
				case <-ctx.Done():
					ended <- nil
					return nil
				case line := <-lines:
					if err := send([]byte(line)); err != nil {
						ended <- err
						return err
					}
				}
			}
		}}}
	cfg := b.config()
	// A request may take a moment only: a stream is not bound by that.
	cfg.Settings.MaxTime = 50 * time.Millisecond
	s := New(cfg).Server(Timeouts{ReadHeader: time.Minute, Write: 50 * time.Millisecond, Idle: time.Minute})
	s.Protocols = new(http.Protocols)
	s.Protocols.SetHTTP1(!h2)
	s.Protocols.SetUnencryptedHTTP2(h2)
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = s.Serve(socket) }() // it ends with the test
	t.Cleanup(func() { s.Close() })
	transport := &http.Transport{Protocols: s.Protocols}
	t.Cleanup(transport.CloseIdleConnections)
	return s, &http.Client{Transport: transport}, "http://" + socket.Addr().String() + "/v1/sys/monitor"
}

// TestStream sends each piece at once, for longer than a request may take, and ends when the
// client goes or the server shuts down.
func TestStream(t *testing.T) {
	for name, h2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			lines, ended := make(chan string), make(chan error, 1)
			s, client, url := streaming(t, h2, lines, ended)
			res, err := client.Get(url)
			if err != nil {
				t.Fatal(err)
			}
			if res.StatusCode != 200 || res.Header.Get("Content-Type") != "text/plain" || (res.ProtoMajor == 2) != h2 {
				t.Errorf("%s %d %v", res.Proto, res.StatusCode, res.Header)
			}
			in := bufio.NewReader(res.Body)
			for range 3 {
				lines <- "a line\n"
				if line, err := in.ReadString('\n'); err != nil || line != "a line\n" {
					t.Fatalf("%q, %v", line, err)
				}
				<-time.After(60 * time.Millisecond) // longer than any bound of a request
			}
			res.Body.Close()
			if err := <-ended; err != nil {
				t.Errorf("the client went: %v", err)
			}
			if res, err = client.Get(url); err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if err := s.Shutdown(t.Context()); err != nil {
				t.Errorf("shutting down: %v", err)
			}
			if err := <-ended; err != nil {
				t.Errorf("the server went: %v", err)
			}
		})
	}
}
