package redis

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/keyturn/keyturn/internal/engine/database"
)

// idleName is what sessions are called that run no create.
const idleName = "keyturn"

var errClosed = errors.New("the connection to the database was closed")

// A conn is a pool of sessions of one administrator.
type conn struct {
	plan
	calls database.Calls
	slots chan struct{} // one element for each session in use; nil: no limit

	mu     sync.Mutex // guards the rest
	idle   []*session
	closed bool
}

func open(p plan) *conn {
	c := &conn{plan: p}
	if p.maxOpen > 0 {
		c.slots = make(chan struct{}, p.maxOpen)
	}
	return c
}

// connectError is an error of opening a session.
type connectError struct{ err error }

func (e *connectError) Error() string { return e.err.Error() }
func (e *connectError) Unwrap() error { return e.err }

// notSent is an error that came before anything was sent that could have an effect.
type notSent struct{ err error }

func (e *notSent) Error() string { return e.err.Error() }
func (e *notSent) Unwrap() error { return e.err }

// uncertain is an error of a call that was tried before, and may have had its effect then.
type uncertain struct{ err error }

func (e *uncertain) Error() string { return e.err.Error() }
func (e *uncertain) Unwrap() error { return e.err }

// connect opens a connection to the server, with nobody logged in.
func (c *conn) connect(ctx context.Context) (*session, error) {
	n, err := c.dial(ctx, "tcp", c.address)
	if err != nil {
		return nil, &connectError{err}
	}
	if c.tls != nil {
		t := tls.Client(n, c.tls)
		if err := t.HandshakeContext(ctx); err != nil {
			n.Close()
			return nil, &connectError{err}
		}
		n = t
	}
	return &session{net: n, read: bufio.NewReader(n), opened: time.Now()}, nil
}

// login opens a session of the administrator.
func (c *conn) login(ctx context.Context) (*session, error) {
	s, err := c.connect(ctx)
	if err != nil {
		return nil, err
	}
	auth := []string{"AUTH", c.username, c.config.Password.RevealString()}
	switch {
	case c.config.Password.Empty():
		auth = []string{"PING"} // a server without passwords, which only its network protects
	case c.username == "":
		auth = slices.Delete(auth, 1, 2)
	}
	if _, err := s.do(ctx, auth); err != nil {
		s.net.Close()
		return nil, &connectError{err}
	}
	if _, err := s.do(ctx, []string{"CLIENT", "SETNAME", idleName}); err != nil {
		s.net.Close()
		return nil, &connectError{err}
	}
	if s.role, err = s.ask(ctx); err != nil {
		s.net.Close()
		return nil, &connectError{err}
	}
	return s, nil
}

// ask returns the server's role, "master" or "replica", or "" where something between does not let the question through.
// Whoever has logged in may ask it.
func (s *session) ask(ctx context.Context) (role string, err error) {
	replies, err := s.do(ctx, []string{"HELLO", "2"})
	if _, answered := errors.AsType[*answer](err); answered {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	list := replies[0].list
	for i := 0; i+1 < len(list); i += 2 {
		if list[i].text == "role" {
			return list[i+1].text, nil
		}
	}
	return "", nil
}

// turned reports whether the session's server has another role than when the session was opened: after a fail-over it is
// a replica, which would take changes of its list without an error, and tell nobody of them.
func (s *session) turned(ctx context.Context) bool {
	role, err := s.ask(ctx)
	return err != nil || role != s.role
}

// with runs f with a session of the pool. fresh asks for a new one.
func (c *conn) with(ctx context.Context, fresh bool, f func(ctx context.Context, s *session) error) error {
	ctx, end, err := c.calls.Begin(ctx)
	if err != nil {
		return &notSent{err}
	}
	defer end()
	if c.slots != nil {
		select {
		case c.slots <- struct{}{}:
			defer func() { <-c.slots }()
		case <-ctx.Done():
			return &notSent{cause(ctx, ctx.Err())}
		}
	}
	s := c.take(fresh)
	if s != nil && s.turned(ctx) {
		s.net.Close()
		s = c.take(true) // closes them all
	}
	if s == nil {
		if s, err = c.login(ctx); err != nil {
			return &notSent{cause(ctx, err)}
		}
	}
	err = cause(ctx, f(ctx, s))
	s.broken = s.broken || readOnly(err)
	c.give(s, ctx.Err() == nil)
	return err
}

// take returns an idle session, or nil. Those that are too old, or all where a fresh one is asked for, are closed.
func (c *conn) take(fresh bool) *session {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.idle) > 0 {
		s := c.idle[len(c.idle)-1]
		c.idle = c.idle[:len(c.idle)-1]
		if old := c.config.ConnLifetime > 0 && time.Since(s.opened) > c.config.ConnLifetime; !fresh && !old {
			return s
		}
		s.net.Close()
	}
	return nil
}

func (c *conn) give(s *session, good bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !good || s.broken || c.closed || len(c.idle) >= c.maxIdle {
		s.net.Close()
		return
	}
	c.idle = append(c.idle, s)
}

// repeatable is with, once more with a fresh session where the first turned out to be dead – the server was restarted,
// or an idle connection was cut – or its server to be read-only.
func (c *conn) repeatable(ctx context.Context, f func(ctx context.Context, s *session) error) error {
	return c.again(ctx, f, func(error) bool { return true })
}

// unsent is with, once more where nothing was sent that could have an effect.
func (c *conn) unsent(ctx context.Context, f func(ctx context.Context, s *session) error) error {
	return c.again(ctx, f, func(err error) bool {
		_, early := errors.AsType[*notSent](err)
		return early
	})
}

func (c *conn) again(ctx context.Context, f func(ctx context.Context, s *session) error, may func(error) bool) error {
	err := c.with(ctx, false, f)
	stale := readOnly(err)
	if err == nil || ctx.Err() != nil || !stale && (!lost(err) || !may(err)) {
		return err
	}
	_, early := errors.AsType[*notSent](err)
	if err = c.with(ctx, true, f); err != nil && !early && !stale {
		return &uncertain{err}
	}
	return err
}

// readOnly reports whether the session's server changes nothing: it became a replica after a fail-over. A new
// session may reach another server.
func readOnly(err error) bool {
	said, ok := errors.AsType[*answer](err)
	return ok && said.at == 0 && said.word() == "READONLY"
}

// lost reports whether the session, rather than what it was asked, failed.
func lost(err error) bool {
	if _, connecting := errors.AsType[*connectError](err); connecting {
		return false
	}
	_, network := errors.AsType[net.Error](err)
	return network || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed)
}

// cause adds why the context ended to an error that came of it.
func cause(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if why := context.Cause(ctx); why != nil && !errors.Is(err, why) {
		return errors.Join(err, why)
	}
	return err
}

// Close cancels what runs and releases the sessions.
func (c *conn) Close() error {
	c.calls.Close(errClosed)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, s := range c.idle {
		s.net.Close()
	}
	c.idle = nil
	return nil
}
