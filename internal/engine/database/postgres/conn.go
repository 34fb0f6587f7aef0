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

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
)

// A conn is a pool of sessions of one administrator in one database.
type conn struct {
	plan
	sessions *pgxpool.Pool
	turns    *turns
	super    atomic.Bool // the last session that was opened is a superuser's
}

func open(ctx context.Context, p plan) (*conn, error) {
	c := &conn{plan: p, turns: newTurns()}
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

// A call is one call of the contract: what its errors say and must not say.
type call struct {
	op       string   // "postgres.Create"
	doing    string   // "creating the user"
	at       *plan    // where, for errors of connecting
	texts    []string // the statements as they were written, of which errors may quote
	field    string   // the field that holds the statements, if they are a user's
	steps    bool     // it sends several messages, so a failure proves nothing about the earlier ones
	preamble int      // results of the message that come before the user's statements
	secrets  []secret.Value
}

// call describes a call whose secrets are those of the connection and those given.
func (p *plan) call(op, doing string, secrets ...secret.Value) call {
	return call{op: "postgres." + op, doing: doing, at: p, secrets: append(secrets, p.known...)}
}

// scrub takes the call's secrets out of text.
func (k call) scrub(text string) string {
	var r secret.Redactor
	r.Know(k.secrets...)
	return r.Scrub(text)
}

// with runs f with a session of the pool, and closes the session if the context
// ended meanwhile: a cancel request may still be on its way to it.
func (c *conn) with(ctx context.Context, f func(ctx context.Context, s *pgconn.PgConn) error) error {
	ctx, end, err := c.turns.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	held, err := c.sessions.Acquire(ctx)
	if err != nil {
		return &notSent{cause(ctx, err)}
	}
	defer held.Release()
	err = cause(ctx, f(ctx, held.Conn().PgConn()))
	if ctx.Err() != nil {
		soon, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWords)
		defer cancel()
		_ = held.Conn().Close(soon)
	}
	return err
}

// repeatable is with, once more where the session turned out to be dead – the
// server was restarted, or an idle connection was cut – or its server to be read-only.
func (c *conn) repeatable(ctx context.Context, f func(ctx context.Context, s *pgconn.PgConn) error) error {
	return c.again(ctx, f, func(error) bool { return true })
}

// unsent is with, once more where the session was known dead before anything was sent.
func (c *conn) unsent(ctx context.Context, f func(ctx context.Context, s *pgconn.PgConn) error) error {
	return c.again(ctx, f, func(err error) bool {
		_, early := errors.AsType[*notSent](err)
		return early
	})
}

func (c *conn) again(ctx context.Context, f func(ctx context.Context, s *pgconn.PgConn) error, may func(error) bool) error {
	err := c.with(ctx, f)
	stale := readOnly(err) // then nothing was changed, and all sessions lead to that server
	if err == nil || ctx.Err() != nil || !stale && (!lost(err) || !may(err)) {
		return err
	}
	c.sessions.Reset()
	_, early := errors.AsType[*notSent](err)
	if err = c.with(ctx, f); err != nil && !early && !stale {
		return &uncertain{err}
	}
	return err
}

var errStandby = errors.New("the server is a standby: it can be read and not changed")

// readOnly reports whether the session's server changes nothing: it became a standby after a fail-over, or
// was told to. A new session may reach another server.
func readOnly(err error) bool { return errors.Is(err, errStandby) || sqlState(err) == "25006" }

// standby is SQL for whether the server is one. What a standby says of sessions says nothing of those at its primary.
const standby = "pg_catalog.pg_is_in_recovery()"

// uncertain is an error of a call that was tried before, and may have had its effect then.
type uncertain struct{ err error }

func (e *uncertain) Error() string { return e.err.Error() }
func (e *uncertain) Unwrap() error { return e.err }

// lost reports whether the session, rather than what it was asked, failed.
func lost(err error) bool {
	if _, connecting := errors.AsType[*pgconn.ConnectError](err); connecting || errors.Is(err, errClosed) || errors.Is(err, errCrowded) {
		return false
	}
	pg, answered := errors.AsType[*pgconn.PgError](err)
	return !answered || slices.Contains([]string{"57P01", "57P02", "57P05"}, pg.Code) // it goes down, crashed, or was tired of an idle session
}

// notSent is an error that came before anything was sent to the server.
type notSent struct{ err error }

func (e *notSent) Error() string { return e.err.Error() }
func (e *notSent) Unwrap() error { return e.err }

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

var errBroken = errors.New("the session broke while it was idle")

// A result is what one statement of a message yielded.
type result struct {
	rows [][]string // the first few
}

const fewRows = 4096

// send runs sql as one message of the simple protocol: one round trip, and one
// transaction unless the text says otherwise. With an error it returns the results of the
// statements before the one that failed.
//
// Whether anything was sent is decided here: pgconn calls errors safe to retry
// that it reports after a connection broke behind a message.
func send(ctx context.Context, s *pgconn.PgConn, sql string) ([]result, error) {
	if ctx.Err() != nil {
		return nil, &notSent{ctx.Err()}
	}
	if s.IsClosed() {
		return nil, &notSent{errBroken}
	}
	delete(s.CustomData(), noticed)
	var all []result
	m := s.Exec(ctx, sql)
	for m.NextResult() {
		var one result
		r := m.ResultReader()
		for r.NextRow() {
			if len(one.rows) >= fewRows {
				continue
			}
			var row []string
			for _, v := range r.Values() {
				row = append(row, string(v))
			}
			one.rows = append(one.rows, row)
		}
		if _, err := r.Close(); err != nil {
			if rest := m.Close(); rest != nil && rest.Error() != err.Error() { // it reports the server's answer again
				err = errors.Join(err, rest)
			}
			return all, err
		}
		all = append(all, one)
	}
	return all, m.Close()
}

// ask runs a query of ours and returns its last rows.
func ask(ctx context.Context, s *pgconn.PgConn, sql string) ([][]string, error) {
	results, err := send(ctx, s, sql)
	if err != nil || len(results) == 0 {
		return nil, err
	}
	return results[len(results)-1].rows, nil
}

// A message changes roles. It runs in one transaction.
type message struct {
	head       string // the fence of a create
	headers    int    // results of head
	body       string
	resets     bool // the session needs a reset afterwards
	repeatable bool
	warnings   []string // what the server warned of
}

// fileLock makes a transaction wait for those of other nodes that change in single file,
// too. Any user of the database can hold such a lock, so it is not waited for for long.
const fileLock = "SET LOCAL lock_timeout = '2s';\nSELECT pg_catalog.pg_advisory_xact_lock(7738151096086654318);\nSET LOCAL lock_timeout = DEFAULT;\n"

const fileLockResults = 3

// noLock is for those whose turn it is but who could not get the lock.
const noLock = "\n"

// change sends a message, and sends it again while the server answers that another
// transaction changed the same rows at the same time. It returns the results.
func (c *conn) change(ctx context.Context, m *message) (results []result, err error) {
	run := c.unsent
	if m.repeatable {
		run = c.repeatable
	}
	err = c.inTurn(ctx, func(lock string) error {
		return run(ctx, func(ctx context.Context, s *pgconn.PgConn) (err error) {
			if lock == "" && c.turns.crowded() {
				return errCrowded
			}
			results, err = send(ctx, s, m.head+lock+m.body)
			m.warnings = warnings(s)
			if n := len(results); lock == fileLock && n > m.headers {
				results = slices.Delete(results, m.headers, min(n, m.headers+fileLockResults))
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

// inTurn runs f until it does not collide with another transaction. lock is what
// f must put before its changes, "" where there is no need.
func (c *conn) inTurn(ctx context.Context, f func(lock string) error) error {
	lockable := true
	for try := 1; ; try++ {
		release, crowded, err := c.turns.take(ctx)
		if err != nil {
			return &notSent{err}
		}
		lock := ""
		switch {
		case crowded && lockable:
			lock = fileLock
		case crowded:
			lock = noLock
		}
		err = f(lock)
		release()
		switch {
		case errors.Is(err, errCrowded):
			try-- // nothing was tried
		case err == nil || try == tries:
			return err
		case collided(err):
			c.turns.collision()
		case lock == fileLock && sqlState(err) == "55P03":
			lockable = false
		default:
			return err
		}
	}
}

// tries is how often a change is tried at most. After the first collision all changes go
// in single file, so further ones come from others than Keyturn.
const tries = 20

// collided reports whether the server undid a transaction only because of
// another one.
func collided(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return false
	}
	switch pg.Code {
	case "40001", "40P01": // serialization failure, deadlock
		return true
	case "XX000": // two GRANTs on one object; there is no code of its own
		return pg.Message == "tuple concurrently updated" || pg.Message == "tuple concurrently deleted"
	}
	return false
}

// Verify proves that a session can be had, and of a server that can be changed.
func (c *conn) Verify(ctx context.Context) error {
	k := c.call("Verify", "connecting")
	return c.explain(k, 0, c.repeatable(ctx, func(ctx context.Context, s *pgconn.PgConn) error {
		rows, err := ask(ctx, s, "SELECT "+standby)
		if err == nil && one(rows) == "t" {
			err = errStandby
		}
		return err
	}))
}

// Close cancels what runs and releases the sessions, within a second.
func (c *conn) Close() error {
	c.turns.close()
	closed := make(chan struct{})
	go func() { c.sessions.Close(); close(closed) }()
	select {
	case <-closed:
	case <-time.After(time.Second):
		c.log.Warn("closing the sessions of a database takes longer than a second; going on without")
	}
	return nil
}
