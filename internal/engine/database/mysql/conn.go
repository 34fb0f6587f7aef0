package mysql

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/fault"
)

// cancelGrace limits how long ending the session of a canceled call may take.
const cancelGrace = 500 * time.Millisecond

// A conn is a pool of sessions of one administrator.
type conn struct {
	prepared
	connector  connector
	pool       *sql.DB
	calls      database.Calls
	generation *atomic.Int64 // sessions of an earlier generation are not used again
}

func open(p prepared) (*conn, error) {
	d, err := mysql.NewConnector(p.driver)
	if err != nil {
		return nil, fault.New("mysql.Connect", fault.Invalid,
			"connection_url cannot be used; check user, address and parameters")
	}
	c := &conn{prepared: p, generation: new(atomic.Int64)}
	c.connector = connector{d, c.generation}
	c.pool = sql.OpenDB(c.connector)
	c.pool.SetMaxOpenConns(p.open)
	c.pool.SetMaxIdleConns(p.idle)
	c.pool.SetConnMaxLifetime(p.config.ConnLifetime)
	return c, nil
}

// A connector opens sessions that know their ID at the server.
type connector struct {
	driver.Connector
	generation *atomic.Int64
}

// full is the set of interfaces that a connection of the driver implements and database/sql looks
// for.
type full interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.NamedValueChecker
	driver.Pinger
	driver.QueryerContext
	driver.SessionResetter
	driver.Validator
}

type session struct {
	full
	id         uint64
	readOnly   bool // whether the server was read-only when the session was opened
	generation *atomic.Int64
	born       int64 // the generation when the session was opened
}

// ResetSession is called before the pool reuses a session. It refuses a session whose server has
// become read-only, because that is now a replica, whose users and locks may differ from those of
// the primary.
func (s *session) ResetSession(ctx context.Context) error {
	if s.born < s.generation.Load() {
		return driver.ErrBadConn
	}
	if err := s.full.ResetSession(ctx); err != nil {
		return err
	}
	if s.readOnly {
		return nil
	}
	_, readOnly, err := s.state(ctx)
	if readOnly {
		s.generation.Add(1)
	}
	if err != nil || readOnly {
		return driver.ErrBadConn
	}
	return nil
}

func (c connector) Connect(ctx context.Context) (driver.Conn, error) {
	born := c.generation.Load()
	d, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, &connectError{err}
	}
	// the driver implements full; the first test would fail otherwise
	s := &session{full: d.(full), generation: c.generation, born: born}
	if s.id, s.readOnly, err = s.state(ctx); err != nil {
		_ = d.Close()
		return nil, &connectError{err}
	}
	return s, nil
}

// state returns the ID of the session, and whether its server is read-only. Newer servers answer
// ON or OFF.
func (s *session) state(ctx context.Context) (id uint64, readOnly bool, err error) {
	rows, err := s.QueryContext(ctx, "SELECT CONNECTION_ID(), @@GLOBAL.read_only NOT IN ('0', 'OFF')", nil)
	if err != nil {
		return 0, false, err
	}
	defer rows.Close()
	row := make([]driver.Value, 2)
	if err := rows.Next(row); err != nil {
		return 0, false, err
	}
	for i, v := range row {
		if b, ok := v.([]byte); ok {
			row[i] = string(b)
		}
	}
	id, err = strconv.ParseUint(fmt.Sprint(row[0]), 10, 64)
	return id, fmt.Sprint(row[1]) == "1", err
}

// withSession runs f with a session of the pool. If the context ends meanwhile, the session is
// killed, with the statement that it still runs at the server.
func (c *conn) withSession(ctx context.Context, f func(ctx context.Context, s *sql.Conn) error) error {
	ctx, end, err := c.calls.Begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	session, err := c.pool.Conn(ctx)
	if err != nil {
		return &database.NotSent{Err: database.WithCause(ctx, err)}
	}
	defer session.Close()
	var id uint64
	if err := session.Raw(func(d any) error { id = sessionID(d); return nil }); err != nil {
		return &database.NotSent{Err: database.WithCause(ctx, err)}
	}
	err = database.WithCause(ctx, f(ctx, session))
	if ctx.Err() != nil {
		c.kill(ctx, id)
	}
	return err
}

func sessionID(d any) uint64 { return d.(*session).id }

// discard closes a session whose state has changed, so that it is not used again.
func discard(s *sql.Conn) { _ = s.Raw(func(any) error { return driver.ErrBadConn }) }

// kill ends a session through another one, because closing the connection does not end a running
// statement.
func (c *conn) kill(ctx context.Context, id uint64) {
	soon, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelGrace)
	defer cancel()
	d, err := c.connector.Connect(soon)
	if err != nil {
		return // the revocation of the lease ends the session with SettleAttempt
	}
	defer d.Close()
	_, _ = d.(*session).ExecContext(soon, fmt.Sprintf("KILL CONNECTION %d", id), nil)
}

// runRepeatable is withSession for an f that may run twice. It retries if the session is dead,
// because the server was restarted or an idle connection was cut.
func (c *conn) runRepeatable(ctx context.Context, f func(ctx context.Context, s *sql.Conn) error) error {
	return c.retry(ctx, f, func(error) bool { return true })
}

// runOnce is withSession for an f that must not run twice. It retries only if nothing was sent.
func (c *conn) runOnce(ctx context.Context, f func(ctx context.Context, s *sql.Conn) error) error {
	return c.retry(ctx, f, database.IsNotSent)
}

// retry retries several times, because several sessions may have died together, and once more with
// a new session if the server is read-only.
func (c *conn) retry(ctx context.Context, f func(ctx context.Context, s *sql.Conn) error,
	mayRetry func(error) bool) error {
	var sent, renewed bool
	for try := 0; ; try++ {
		err := c.withSession(ctx, f)
		if readOnly(err) {
			c.generation.Add(1) // all sessions are to that server
			if !renewed && ctx.Err() == nil && untouched(err) {
				renewed = true
				continue
			}
		}
		if err == nil || try >= 3 || ctx.Err() != nil || !lost(err) || !mayRetry(err) {
			if err != nil && sent {
				return &database.Uncertain{Err: err}
			}
			return err
		}
		early := database.IsNotSent(err)
		sent = sent || !early
	}
}

// values queries one row of two whole numbers or booleans.
func values(ctx context.Context, s *sql.Conn, query string, args ...any) (a, b sql.NullInt64, err error) {
	err = s.QueryRowContext(ctx, query, args...).Scan(&a, &b)
	return a, b, err
}

// Close cancels the running calls and closes the sessions, within a second.
func (c *conn) Close() error {
	c.calls.Close()
	if err := c.pool.Close(); err != nil { // does not wait for sessions in use
		return fault.Wrap("mysql.Close", fault.Upstream, errors.New(c.call("Close", "closing").scrub(err.Error())))
	}
	return nil
}
