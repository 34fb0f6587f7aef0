package mysql

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/fault"
)

// lastWords is how long ending what a canceled call has left running may take.
const lastWords = 500 * time.Millisecond

var errClosed = errors.New("the connection to the database was closed")

// A conn is a pool of sessions of one administrator.
type conn struct {
	plan
	connector connector
	pool      *sql.DB
	calls     database.Calls
	fresh     *atomic.Int64 // sessions that were opened before it went up are not used again
}

func open(p plan) (*conn, error) {
	d, err := mysql.NewConnector(p.driver)
	if err != nil {
		return nil, fault.New("mysql.Connect", fault.Invalid, "connection_url cannot be used; check user, address and parameters")
	}
	c := &conn{plan: p, fresh: new(atomic.Int64)}
	c.connector = connector{d, c.fresh}
	c.pool = sql.OpenDB(c.connector)
	c.pool.SetMaxOpenConns(p.open)
	c.pool.SetMaxIdleConns(p.idle)
	c.pool.SetConnMaxLifetime(p.config.ConnLifetime)
	return c, nil
}

// A connector opens sessions that know their id at the server.
type connector struct {
	driver.Connector
	fresh *atomic.Int64
}

// full is what a connection of the driver's can; database/sql looks for each.
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
	id       uint64
	readOnly bool // the server was, when the session was opened
	fresh    *atomic.Int64
	born     int64 // what fresh was
}

// ResetSession is what the pool calls before it hands out a session again. One whose server has become read-only is not: it is
// a replica now, and what it says of users and locks is nothing that its primary has said.
func (s *session) ResetSession(ctx context.Context) error {
	if s.born < s.fresh.Load() {
		return driver.ErrBadConn
	}
	if err := s.full.ResetSession(ctx); err != nil {
		return err
	}
	if s.readOnly {
		return nil
	}
	_, readOnly, err := s.ask(ctx)
	if readOnly {
		s.fresh.Add(1)
	}
	if err != nil || readOnly {
		return driver.ErrBadConn
	}
	return nil
}

func (c connector) Connect(ctx context.Context) (driver.Conn, error) {
	born := c.fresh.Load()
	d, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, &connectError{err}
	}
	s := &session{full: d.(full), fresh: c.fresh, born: born} // the driver's own promise; the first test finds it broken
	if s.id, s.readOnly, err = s.ask(ctx); err != nil {
		_ = d.Close()
		return nil, &connectError{err}
	}
	return s, nil
}

// ask returns the session's id and whether its server is read-only, which newer ones say in words.
func (s *session) ask(ctx context.Context) (id uint64, readOnly bool, err error) {
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

// connectError is an error of opening a session.
type connectError struct{ err error }

func (e *connectError) Error() string { return e.err.Error() }
func (e *connectError) Unwrap() error { return e.err }

// notSent is an error that came before anything was sent that could have an effect.
type notSent struct{ err error }

func (e *notSent) Error() string { return e.err.Error() }
func (e *notSent) Unwrap() error { return e.err }

// with runs f with a session of the pool. Where the context ended meanwhile, or f asks
// for it by an error of errSpent, the session ends, and with it what still runs of it at the server.
func (c *conn) with(ctx context.Context, f func(ctx context.Context, s *sql.Conn) error) error {
	ctx, end, err := c.calls.Begin(ctx)
	if err != nil {
		return &notSent{err}
	}
	defer end()
	held, err := c.pool.Conn(ctx)
	if err != nil {
		return &notSent{cause(ctx, err)}
	}
	defer held.Close()
	var id uint64
	if err := held.Raw(func(d any) error { id = d.(*session).id; return nil }); err != nil {
		return &notSent{cause(ctx, err)}
	}
	err = cause(ctx, f(ctx, held))
	if ctx.Err() != nil {
		c.kill(ctx, id)
	}
	return err
}

// spend closes a session whose state is not what the next user of it expects.
func spend(s *sql.Conn) { _ = s.Raw(func(any) error { return driver.ErrBadConn }) }

// kill ends a session by another one: closing the connection alone does not end what runs on it.
func (c *conn) kill(ctx context.Context, id uint64) {
	soon, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWords)
	defer cancel()
	d, err := c.connector.Connect(soon)
	if err != nil {
		return // the lease is undone anyway, with SettleAttempt
	}
	defer d.Close()
	_, _ = d.(*session).ExecContext(soon, fmt.Sprintf("KILL CONNECTION %d", id), nil)
}

// repeatable is with, once more where the session turned out to be dead: the server was restarted, or
// an idle connection was cut.
func (c *conn) repeatable(ctx context.Context, f func(ctx context.Context, s *sql.Conn) error) error {
	return c.again(ctx, f, func(error) bool { return true })
}

// unsent is with, once more where the session was known dead before anything was sent.
func (c *conn) unsent(ctx context.Context, f func(ctx context.Context, s *sql.Conn) error) error {
	return c.again(ctx, f, func(err error) bool {
		_, early := errors.AsType[*notSent](err)
		return early
	})
}

// again tries more than once, since several sessions may have died together, and once more by a new session where the
// server turned out to be read-only.
func (c *conn) again(ctx context.Context, f func(ctx context.Context, s *sql.Conn) error, may func(error) bool) error {
	var sent, renewed bool
	for try := 0; ; try++ {
		err := c.with(ctx, f)
		if readOnly(err) {
			c.fresh.Add(1) // all sessions lead to that server
			if !renewed && ctx.Err() == nil && untouched(err) {
				renewed = true
				continue
			}
		}
		if err == nil || try >= 3 || ctx.Err() != nil || !lost(err) || !may(err) {
			if err != nil && sent {
				return &uncertain{err}
			}
			return err
		}
		_, early := errors.AsType[*notSent](err)
		sent = sent || !early
	}
}

// uncertain is an error of a call that was tried before, and may have had its effect then.
type uncertain struct{ err error }

func (e *uncertain) Error() string { return e.err.Error() }
func (e *uncertain) Unwrap() error { return e.err }

// lost reports whether the session, rather than what it was asked, failed.
func lost(err error) bool {
	_, connecting := errors.AsType[*connectError](err)
	said := slices.ContainsFunc(verdicts, func(v error) bool { return errors.Is(err, v) })
	_, kept := errors.AsType[*definerError](err)
	return !connecting && !said && !kept && (number(err) == 0 || dying(err))
}

// readOnly reports whether the session's server changes nothing: it became a replica after a fail-over, or is a node of a
// cluster without a quorum. A new session may reach another server.
func readOnly(err error) bool { return slices.Contains([]uint16{1047, 1290, 1792, 1836}, number(err)) }

// untouched reports whether nothing was done before the statement that was refused.
func untouched(err error) bool {
	at, many := errors.AsType[*failed](err)
	return !many || at.at == 0
}

// dying reports whether the server says that it is going, or ended the session.
func dying(err error) bool {
	n := number(err)
	return n == 1053 || n == 1927 || n == 3169 || n == 4031
}

// number returns the number of the error that the server answered, or 0.
func number(err error) uint16 {
	if my, ok := errors.AsType[*mysql.MySQLError](err); ok {
		return my.Number
	}
	return 0
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

// values asks for one row of whole numbers and booleans.
func values(ctx context.Context, s *sql.Conn, query string, args ...any) (a, b sql.NullInt64, err error) {
	err = s.QueryRowContext(ctx, query, args...).Scan(&a, &b)
	return a, b, err
}

// Verify proves that a session can be had, and that it may look for users.
func (c *conn) Verify(ctx context.Context) error {
	k := c.call("Verify", "connecting")
	return c.explain(k, c.repeatable(ctx, func(ctx context.Context, s *sql.Conn) error {
		_, err := hosts(ctx, s, "keyturn")
		return err
	}))
}

// Close cancels what runs and releases the sessions, within a second.
func (c *conn) Close() error {
	c.calls.Close(errClosed)
	if err := c.pool.Close(); err != nil { // waits for nobody
		return fault.Wrap("mysql.Close", fault.Upstream, errors.New(c.call("Close", "closing").scrub(err.Error())))
	}
	return nil
}
