// Package awstest gives tests of the engine an AWS: the faithful server of demonstrations,
// reached without sockets, so that it works in a synctest bubble.
package awstest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/demo/awsserver"
)

// The administrator of every server, and its key. Account is its account's number.
const (
	Admin   = "keyturn"
	ID      = "AKIAIOSFODNN7EXAMPLE"
	Secret  = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
	Account = awsserver.Account
	// URL is the address of both APIs.
	URL = "http://aws.test"
)

// What the server is told.
type (
	Options = awsserver.Options
	Fault   = awsserver.Fault
	Role    = awsserver.Role
	Key     = awsserver.Key
	Kept    = awsserver.Kept
	Mode    = awsserver.Mode
)

// The modes of faults.
const (
	Before    = awsserver.Before
	Lost      = awsserver.Lost
	Throttle  = awsserver.Throttle
	Malformed = awsserver.Malformed
	Slow      = awsserver.Slow
	Late      = awsserver.Late
	Denied    = awsserver.Denied
	Lie       = awsserver.Lie
)

// A Server is AWS for one test.
type Server struct {
	*awsserver.Server
	p *pipes
}

// Start serves until the test ends.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	s := awsserver.New(o)
	s.AddAdmin(Account, Admin, ID, Secret)
	return &Server{s, serve(t, s)}
}

// serve serves over pipes until the test ends.
func serve(t testing.TB, handler http.Handler) *pipes {
	p := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
	h := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = h.Serve(p) }()
	t.Cleanup(func() { _ = h.Close(); _ = p.Close(); <-ended })
	return p
}

// Watched is the same server, whose calls pass watch: it is told of the parameters, and makes the
// call. An error cuts the connection.
func (s *Server) Watched(t testing.TB, watch func(form url.Values, call func()) error) func(ctx context.Context,
	network, address string) (net.Conn, error) {
	t.Helper()
	p := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		form, perr := url.ParseQuery(string(body))
		if err != nil || perr != nil {
			panic(http.ErrAbortHandler) // the client has gone
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		if watch(form, func() { s.ServeHTTP(w, r) }) != nil {
			panic(http.ErrAbortHandler)
		}
	}))
	return func(ctx context.Context, _, _ string) (net.Conn, error) { return p.dial(ctx) }
}

// Dial connects to the server, whatever the address.
func (s *Server) Dial(ctx context.Context, _, _ string) (net.Conn, error) { return s.p.dial(ctx) }

// Restore gives a user keys as they were on another server.
func (s *Server) Restore(accountID, name string, keys ...Kept) {
	awsserver.Restore(s.Server, accountID, name, keys...)
}

// pipes is a listener whose connections are made in memory.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

// Accept waits for the next connection.
func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

// Close ends Accept, and refuses connections.
func (p *pipes) Close() error { p.once.Do(func() { close(p.done) }); return nil }

// Addr is not the address of anything.
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

func (p *pipes) dial(ctx context.Context) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p.conns <- theirs:
		return ours, nil
	case <-p.done:
		return nil, &net.OpError{Op: "dial", Err: errors.New("refused")}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
