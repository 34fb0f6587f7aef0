package database

import (
	"context"
	"sync"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/fault"
)

// pools holds one open [Conn] for each connection, opened by the first use. A connection that has
// changed gets another, and the old one is closed when its last call has returned.
type pools struct {
	m *engine.Mount

	mu      sync.Mutex       // guards what follows, and the fields of each pool
	open    map[string]*pool // by the connection's id
	retired map[*pool]struct{}
	closed  bool
}

type pool struct {
	conn     Conn
	revision int
	calls    int // that use it now
}

func newPools(m *engine.Mount) *pools {
	return &pools{m: m, open: map[string]*pool{}, retired: map[*pool]struct{}{}}
}

// use returns the connection's pool for one call, which ends with done.
func (s *pools) use(ctx context.Context, p *Provider, c *connection) (conn Conn, done func(), err error) {
	s.mu.Lock()
	o, unlocked, err := s.openLocked(ctx, p, c)
	if err == nil {
		o.calls++
	}
	s.mu.Unlock()
	if err != nil {
		return nil, nil, err
	}
	unlocked()
	return o.conn, func() { s.release(o) }, nil
}

// openLocked finds or opens a pool. Opening does no I/O. The caller calls unlocked without the
// lock.
func (s *pools) openLocked(ctx context.Context, p *Provider, c *connection) (o *pool, unlocked func(), err error) {
	if s.closed {
		return nil, nil, fault.New("database.pool", fault.Unavailable, "the mount is being closed; try again")
	}
	if o = s.open[c.ID]; o != nil && o.revision >= c.Revision { // a newer one: c was read before it changed
		return o, func() {}, nil
	}
	conn, err := p.Connect(ctx, c.config(s.m))
	if err != nil {
		return nil, nil, err
	}
	unlocked = s.retireLocked(c.ID)
	o = &pool{conn: conn, revision: c.Revision}
	s.open[c.ID] = o
	return o, unlocked, nil
}

func (s *pools) release(o *pool) {
	s.mu.Lock()
	o.calls--
	_, retired := s.retired[o]
	last := retired && o.calls == 0
	if last {
		delete(s.retired, o)
	}
	s.mu.Unlock()
	if last {
		s.closeConn(o.conn)
	}
}

// retire takes a connection's pool out of use.
func (s *pools) retire(id string) {
	s.mu.Lock()
	unlocked := s.retireLocked(id)
	s.mu.Unlock()
	unlocked()
}

// retireLocked takes the pool out of use. The caller calls unlocked without the lock: it closes a
// pool that no call uses.
func (s *pools) retireLocked(id string) (unlocked func()) {
	o := s.open[id]
	delete(s.open, id)
	switch {
	case o == nil:
		return func() {}
	case o.calls > 0:
		s.retired[o] = struct{}{}
		return func() {}
	}
	return func() { s.closeConn(o.conn) }
}

func (s *pools) close() {
	s.mu.Lock()
	s.closed = true
	var all []*pool
	for _, o := range s.open {
		all = append(all, o)
	}
	for o := range s.retired {
		all = append(all, o)
	}
	clear(s.open)
	clear(s.retired)
	s.mu.Unlock()
	// Each takes up to a second, and the mount must be closed within one.
	var wait sync.WaitGroup
	for _, o := range all {
		wait.Go(func() { s.closeConn(o.conn) })
	}
	wait.Wait()
}

// closeConn closes a Conn. An error goes only to the log, because the Conn is unusable either way.
func (s *pools) closeConn(conn Conn) {
	if err := conn.Close(); err != nil {
		s.m.Log.Warn("closing a pool of connections", "error", err)
	}
}
