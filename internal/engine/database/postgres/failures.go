package postgres

import (
	"context"
	"errors"
	"slices"

	"github.com/jackc/pgx/v5/pgconn"
)

// errSerialized makes a change wait for its turn, because others collided while it waited for a
// session.
var errSerialized = errors.New("changes go in single file now")

var errClosed = errors.New("the connection to the database was closed")

var errStandby = errors.New("the server is a standby: it can be read and not changed")

// readOnly reports whether the server of the session refuses changes, because it became a standby
// after a fail-over or is configured to. A new session may reach another server.
func readOnly(err error) bool { return errors.Is(err, errStandby) || sqlState(err) == "25006" }

// standby is SQL that is true on a standby. The sessions of a standby say nothing about those of
// its primary.
const standby = "pg_catalog.pg_is_in_recovery()"

// uncertain is an error of the second attempt of a call, whose first attempt may have had its
// effect.
type uncertain struct{ err error }

func (e *uncertain) Error() string { return e.err.Error() }
func (e *uncertain) Unwrap() error { return e.err }

// lost reports whether the session failed, and not the statement.
func lost(err error) bool {
	if _, connecting := errors.AsType[*pgconn.ConnectError](err); connecting || errors.Is(err, errClosed) || errors.Is(err, errSerialized) {
		return false
	}
	pg, answered := errors.AsType[*pgconn.PgError](err)
	return !answered || slices.Contains([]string{"57P01", "57P02", "57P05"}, pg.Code) // the server shuts down, has crashed, or ended an idle session
}

// notSent is an error that occurred before anything was sent to the server.
type notSent struct{ err error }

func (e *notSent) Error() string { return e.err.Error() }
func (e *notSent) Unwrap() error { return e.err }

// cause adds the cause of the context's end to an error that it caused.
func cause(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if reason := context.Cause(ctx); reason != nil && !errors.Is(err, reason) {
		return errors.Join(err, reason)
	}
	return err
}

var errBroken = errors.New("the session broke while it was idle")

// collided reports whether the server rolled a transaction back only because of another one.
func collided(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return false
	}
	switch pg.Code {
	case "40001", "40P01": // serialization failure, deadlock
		return true
	case "XX000": // two GRANTs on one object, for which there is no other code
		return pg.Message == "tuple concurrently updated" || pg.Message == "tuple concurrently deleted"
	}
	return false
}

// sqlState returns the SQLSTATE that the server answered, or "".
func sqlState(err error) string {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code
	}
	return ""
}
