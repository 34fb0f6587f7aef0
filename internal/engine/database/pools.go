package database

import (
	"context"
	"sync"
	"time"

	"github.com/keyturn/keyturn/internal/cron"
	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/fault"
)

// pools holds one open [Conn] per configuration, opened by its first use. A
// configuration that has changed gets another, and the old one is closed when
// its last call has returned.
type pools struct {
	m *engine.Mount

	mu     sync.Mutex       // guards what follows, and the fields of each pool
	now    map[string]*pool // by configuration id
	old    map[*pool]struct{}
	closed bool
	// known has, by the row of a record, the rotation during which the password of before was
	// found to be the right one, just now: a login with the new one was refused, and is not tried
	// for each use.
	known map[string]refusal
}

type refusal struct {
	turn  uint32
	times int
	at    time.Time
}

// What was found out holds for a short while, because the change may still take place, and for
// longer each time that it was found again: databases lock accounts after some refused logins. A
// password that fails is doubted sooner.
const (
	knownFor        = 10 * time.Second
	knownLongest    = time.Hour
	doubtedAtLatest = 5 * time.Minute
)

// settled reports whether it was found out lately, and during that rotation, that the password of before is right.
func (s *pools) settled(row string, turn uint32) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.known[row]
	return f.turn == turn && f.times > 0 && time.Since(f.at) < cron.Backoff(f.times, knownFor, knownLongest)
}

// settle notes that; turn 0 says that no rotation is in flight any more.
func (s *pools) settle(row string, turn uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch f := s.known[row]; {
	case turn == 0:
		delete(s.known, row)
	case f.turn == turn:
		s.known[row] = refusal{turn, f.times + 1, time.Now()}
	default:
		s.known[row] = refusal{turn, 1, time.Now()}
	}
}

// doubt has the next use find out again, unless that was done a short while ago.
func (s *pools) doubt(row string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f, ok := s.known[row]; ok && (f.times == 1 || time.Since(f.at) >= cron.Backoff(f.times, knownFor, doubtedAtLatest)) {
		f.at = time.Time{}
		s.known[row] = f
	}
}

type pool struct {
	conn     Conn
	revision int
	users    int
}

func newPools(m *engine.Mount) *pools {
	return &pools{m: m, now: map[string]*pool{}, old: map[*pool]struct{}{}, known: map[string]refusal{}}
}

// use returns the configuration's pool for one call, which ends with done.
func (s *pools) use(ctx context.Context, p *Provider, c *connection) (conn Conn, done func(), err error) {
	s.mu.Lock()
	o, after, err := s.openLocked(ctx, p, c)
	if err == nil {
		o.users++
	}
	s.mu.Unlock()
	if err != nil {
		return nil, nil, err
	}
	after()
	return o.conn, func() { s.release(o) }, nil
}

// openLocked finds or opens a pool. Opening does no I/O.
func (s *pools) openLocked(ctx context.Context, p *Provider, c *connection) (o *pool, after func(), err error) {
	if s.closed {
		return nil, nil, fault.New("database.pool", fault.Unavailable, "the mount is being closed; try again")
	}
	if o = s.now[c.ID]; o != nil && o.revision >= c.Revision { // a newer one: c was read before it changed
		return o, func() {}, nil
	}
	conn, err := p.Connect(ctx, c.config(s.m))
	if err != nil {
		return nil, nil, err
	}
	after = s.retireLocked(c.ID)
	o = &pool{conn: conn, revision: c.Revision}
	s.now[c.ID] = o
	return o, after, nil
}

func (s *pools) release(o *pool) {
	s.mu.Lock()
	o.users--
	_, retired := s.old[o]
	last := retired && o.users == 0
	if last {
		delete(s.old, o)
	}
	s.mu.Unlock()
	if last {
		s.shut(o)
	}
}

// retire takes a configuration's pool out of use.
func (s *pools) retire(id string) {
	s.mu.Lock()
	after := s.retireLocked(id)
	s.mu.Unlock()
	after()
}

// retireLocked takes the pool out of use and returns what is to be done
// without the lock: closing it, if nobody uses it.
func (s *pools) retireLocked(id string) (after func()) {
	o := s.now[id]
	delete(s.now, id)
	switch {
	case o == nil:
		return func() {}
	case o.users > 0:
		s.old[o] = struct{}{}
		return func() {}
	}
	return func() { s.shut(o) }
}

func (s *pools) close() {
	s.mu.Lock()
	s.closed = true
	var all []*pool
	for _, o := range s.now {
		all = append(all, o)
	}
	for o := range s.old {
		all = append(all, o)
	}
	clear(s.now)
	clear(s.old)
	s.mu.Unlock()
	// Each takes up to a second, and the mount must be closed within one.
	var wait sync.WaitGroup
	for _, o := range all {
		wait.Go(func() { s.shut(o) })
	}
	wait.Wait()
}

// shut closes a pool. It is over either way, so that an error is the log's.
func (s *pools) shut(o *pool) {
	if err := o.conn.Close(); err != nil {
		s.m.Log.Warn("closing a pool of connections", "error", err)
	}
}
