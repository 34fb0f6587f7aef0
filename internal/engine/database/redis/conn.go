package redis

import (
	"context"
	"sync"
	"time"

	"github.com/redis/go-redis/v9/logging"

	"github.com/keyturn/keyturn/internal/engine/database"
)

// A conn is a pool of sessions of one administrator at one server, or at all servers of a cluster
// or behind Sentinels.
type conn struct {
	plan
	calls database.Calls
	slots chan struct{} // one element for each running call, which has a session at each server; nil: no limit

	mu     sync.Mutex // guards the rest
	idle   map[string][]*session
	asked  []server // who named the others last
	known  []server // of a cluster, as of the last look
	closed bool
}

func open(p plan) *conn {
	logging.Disable() // errors say it all
	c := &conn{plan: p, idle: map[string][]*session{}}
	if p.maxOpen > 0 {
		c.slots = make(chan struct{}, p.maxOpen)
	}
	return c
}

// atServer is an error of one of several servers.
type atServer struct {
	where string // "server 10.0.0.1:6379 (1 of 3 failed)"
	err   error
}

func (e *atServer) Error() string { return e.where + ": " + e.err.Error() }
func (e *atServer) Unwrap() error { return e.err }

// session returns one of the pool that is still good, or a new one.
func (c *conn) session(ctx context.Context, to server) (*session, error) {
	for {
		s := c.take(to.address)
		if s == nil {
			return c.login(ctx, to)
		}
		if !s.turned(ctx) {
			return s, nil
		}
		s.shut()
	}
}

// take returns an idle session, or nil. Those that are too old are closed.
func (c *conn) take(address string) *session {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.idle[address]) > 0 {
		list := c.idle[address]
		s := list[len(list)-1]
		c.idle[address] = list[:len(list)-1]
		if c.config.ConnLifetime == 0 || time.Since(s.opened) <= c.config.ConnLifetime {
			return s
		}
		s.shut()
	}
	return nil
}

func (c *conn) give(s *session, good bool) {
	if s == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	address := s.server.address
	if !good || s.broken || c.closed || len(c.idle[address]) >= c.maxIdle {
		s.shut()
		return
	}
	c.idle[address] = append(c.idle[address], s)
}

// Close cancels what runs and releases the sessions.
func (c *conn) Close() error {
	c.calls.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, list := range c.idle {
		for _, s := range list {
			s.shut()
		}
	}
	c.idle = nil
	return nil
}
