package postgres

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/fault"
)

// A conn is a pool of sessions of one administrator in one database.
type conn struct {
	prepared
	sessions *pgxpool.Pool
	runner   *runner
	super    atomic.Bool // whether the session that was opened last is a superuser's
}

func open(ctx context.Context, p prepared) (*conn, error) {
	c := &conn{prepared: p, runner: &runner{alone: make(chan struct{}, 1)}}
	if p.idle < p.pool.MaxConns {
		p.pool.AfterRelease = func(*pgx.Conn) bool { return c.sessions.Stat().IdleConns() < p.idle }
	}
	p.pool.AfterConnect = func(_ context.Context, s *pgx.Conn) error {
		c.super.Store(s.PgConn().ParameterStatus("is_superuser") == "on")
		return nil
	}
	var err error
	if c.sessions, err = pgxpool.NewWithConfig(ctx, p.pool); err != nil {
		return nil, fault.Wrap("postgres.Connect", fault.Internal, p.admin.Error(err))
	}
	return c, nil
}

// withSession runs f with a session of the pool. If the context ends meanwhile, it closes the
// session, because a cancel request may still be on its way to it.
func (c *conn) withSession(ctx context.Context, f func(ctx context.Context, s *pgconn.PgConn) error) error {
	ctx, end, err := c.runner.calls.Begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	session, err := c.sessions.Acquire(ctx)
	if err != nil {
		return &database.NotSent{Err: database.WithCause(ctx, err)}
	}
	defer session.Release()
	err = database.WithCause(ctx, f(ctx, session.Conn().PgConn()))
	if ctx.Err() != nil {
		soon, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelGrace)
		defer cancel()
		_ = session.Conn().Close(soon)
	}
	return err
}

// runRepeatable is withSession for an f that may run twice. It retries once if the session is
// dead, because the server was restarted or an idle connection was cut, or if its server is
// read-only.
func (c *conn) runRepeatable(ctx context.Context, f func(ctx context.Context, s *pgconn.PgConn) error) error {
	return c.retry(ctx, f, func(error) bool { return true })
}

// runOnce is withSession for an f that must not run twice. It retries once if nothing was sent.
func (c *conn) runOnce(ctx context.Context, f func(ctx context.Context, s *pgconn.PgConn) error) error {
	return c.retry(ctx, f, database.IsNotSent)
}

func (c *conn) retry(ctx context.Context, f func(ctx context.Context, s *pgconn.PgConn) error,
	mayRetry func(error) bool) error {
	err := c.withSession(ctx, f)
	stale := readOnly(err) // nothing was changed, and all sessions are to that server
	if err == nil || ctx.Err() != nil || !stale && (!lost(err) || !mayRetry(err)) {
		return err
	}
	c.sessions.Reset()
	early := database.IsNotSent(err)
	if err = c.withSession(ctx, f); err != nil && !early && !stale {
		return &database.Uncertain{Err: err}
	}
	return err
}

// A result is the answer to one statement of a message.
type result struct {
	rows [][]string // at most maxRows
}

const maxRows = 4096

// send runs sql as one message of the simple protocol: in one round trip and one transaction,
// unless sql contains transaction commands. With an error it returns the results of the statements
// before the one that failed.
//
// send decides itself whether anything was sent, because pgconn also calls an error safe to retry
// when the connection breaks after a message.
func send(ctx context.Context, s *pgconn.PgConn, sql string) ([]result, error) {
	if ctx.Err() != nil {
		return nil, &database.NotSent{Err: ctx.Err()}
	}
	if s.IsClosed() {
		return nil, &database.NotSent{Err: errBroken}
	}
	delete(s.CustomData(), warningsKey)
	var all []result
	m := s.Exec(ctx, sql)
	for m.NextResult() {
		var one result
		r := m.ResultReader()
		for r.NextRow() {
			if len(one.rows) >= maxRows {
				continue
			}
			var row []string
			for _, v := range r.Values() {
				row = append(row, string(v))
			}
			one.rows = append(one.rows, row)
		}
		if _, err := r.Close(); err != nil {
			if rest := m.Close(); rest != nil && rest.Error() != err.Error() { // Close repeats the server's answer
				err = errors.Join(err, rest)
			}
			return all, err
		}
		all = append(all, one)
	}
	return all, m.Close()
}

// query runs a query of this package and returns the rows of its last statement.
func query(ctx context.Context, s *pgconn.PgConn, sql string) ([][]string, error) {
	results, err := send(ctx, s, sql)
	if err != nil || len(results) == 0 {
		return nil, err
	}
	return results[len(results)-1].rows, nil
}

// A message changes roles. It runs in one transaction.
type message struct {
	head       string // the fence of a create
	headers    int    // number of results of head
	body       string
	resets     bool // the session needs a reset afterwards
	repeatable bool
	warnings   []string // warnings of the server
}

// serialLock makes a transaction wait for the serialized changes of other nodes. It waits only
// briefly, because any user of the database can hold such a lock.
const serialLock = "SET LOCAL lock_timeout = '2s';\nSELECT " +
	"pg_catalog.pg_advisory_xact_lock(7738151096086654318);\nSET LOCAL lock_timeout = DEFAULT;\n"

const serialLockResults = 3

// noLock replaces serialLock in a serialized change that could not get the lock.
const noLock = "\n"

// change sends a message, and sends it again as long as the server answers that another
// transaction changed the same rows at the same time. It returns the results.
func (c *conn) change(ctx context.Context, m *message) (results []result, err error) {
	run := c.runOnce
	if m.repeatable {
		run = c.runRepeatable
	}
	err = c.inTurn(ctx, func(lock string) error {
		return run(ctx, func(ctx context.Context, s *pgconn.PgConn) (err error) {
			if lock == "" && c.runner.serialized() {
				return errSerialized
			}
			results, err = send(ctx, s, m.head+lock+m.body)
			m.warnings = warnings(s)
			if n := len(results); lock == serialLock && n > m.headers {
				results = slices.Delete(results, m.headers, min(n, m.headers+serialLockResults))
			}
			if m.resets && s.TxStatus() == 'I' {
				// The statements may have changed the session's role or settings.
				if _, err := send(ctx, s, "DISCARD ALL"); err != nil {
					_ = s.Close(ctx)
				}
			}
			return err
		})
	})
	return results, err
}

// inTurn runs f until it does not collide with another transaction. f must put lock before its
// changes; lock is "" if changes are not serialized.
func (c *conn) inTurn(ctx context.Context, f func(lock string) error) error {
	lockable := true
	for try := 1; ; try++ {
		release, serialized, err := c.runner.acquire(ctx)
		if err != nil {
			return &database.NotSent{Err: err}
		}
		lock := ""
		switch {
		case serialized && lockable:
			lock = serialLock
		case serialized:
			lock = noLock
		}
		err = f(lock)
		release()
		switch {
		case errors.Is(err, errSerialized):
			try-- // nothing was sent
		case err == nil || try == tries:
			return err
		case collided(err):
			c.runner.collision()
		case lock == serialLock && sqlState(err) == "55P03":
			lockable = false
		default:
			return err
		}
	}
}

// tries limits the attempts of a change. After the first collision all changes are serialized, so
// that further collisions are with transactions that are not Keyturn's.
const tries = 20

// Verify checks that a session can be opened, and that its server accepts changes.
func (c *conn) Verify(ctx context.Context) error {
	k := c.call("Verify", "connecting")
	return k.explain(0, c.runRepeatable(ctx, func(ctx context.Context, s *pgconn.PgConn) error {
		rows, err := query(ctx, s, "SELECT "+standby)
		if err == nil && singleValue(rows) == "t" {
			err = errStandby
		}
		return err
	}))
}

// Close cancels the running calls and closes the sessions, within a second.
func (c *conn) Close() error {
	closed := make(chan struct{})
	go func() { c.runner.calls.Close(); c.sessions.Close(); close(closed) }()
	select {
	case <-closed:
	case <-time.After(time.Second):
		c.log.Warn("closing the sessions of a database takes longer than a second; going on without")
	}
	return nil
}

// singleValue returns the single value of an answer, or "".
func singleValue(rows [][]string) string {
	if len(rows) == 0 || len(rows[0]) == 0 {
		return ""
	}
	return rows[0][0]
}
