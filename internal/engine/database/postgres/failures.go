package postgres

import (
	"errors"
	"slices"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/keyturn/keyturn/internal/engine/database"
)

// errSerialized makes a change wait for its turn, because others collided while it waited for a
// session.
var errSerialized = errors.New("changes go in single file now")

var errStandby = errors.New("the server is a standby: it can be read and not changed")

// readOnly reports whether the server of the session refuses changes, because it became a standby
// after a fail-over or is configured to. A new session may reach another server.
func readOnly(err error) bool { return errors.Is(err, errStandby) || sqlState(err) == "25006" }

// standby is SQL that is true on a standby. The sessions of a standby say nothing about those of
// its primary.
const standby = "pg_catalog.pg_is_in_recovery()"

// lost reports whether the session failed, and not the statement.
func lost(err error) bool {
	if _, connecting := errors.AsType[*pgconn.ConnectError](err); connecting || errors.Is(err, database.ErrClosed) ||
		errors.Is(err, errSerialized) {
		return false
	}
	pg, answered := errors.AsType[*pgconn.PgError](err)
	// the server shuts down, has crashed, or ended an idle session
	return !answered || slices.Contains([]string{"57P01", "57P02", "57P05"}, pg.Code)
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
