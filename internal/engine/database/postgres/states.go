package postgres

import (
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
)

// states maps the common SQLSTATEs to a text and what to do.
var states = map[string][2]string{
	"08P01": {"it does not keep to the protocol", "check that the address is a PostgreSQL server's"},
	"0A000": {"not supported by this version", "correct the statement"},
	"22012": {"division by zero", "correct the statement"},
	"22023": {"invalid value", "correct the statement"},
	"22P02": {"a value of the wrong form", "correct the statement"},
	"25001": {"not within a transaction", "remove it: statements run in one"},
	"25006": {"it takes no changes", "connect to the primary, as by target_session_attrs=read-write in " +
		"connection_url, or see the server's default_transaction_read_only"},
	"28000": {"login not allowed",
		"see whether the user has LOGIN, and pg_hba.conf a line for this machine, user, database and encryption"},
	"28P01": {"wrong password, no such user, or its VALID UNTIL has passed", "check username and password"},
	"2BP01": {"the user still has privileges or objects", "take them away by hand or in revocation_statements"},
	"3D000": {"no such database", "correct the statement"},
	"3F000": {"no such schema", "correct the statement"},
	"42501": {"the administrator may not do that",
		"give it CREATEROLE, and what the statement grants WITH GRANT OPTION, roles WITH ADMIN OPTION"},
	"42601": {"syntax error", "correct the statement"},
	"42602": {"an invalid name", "correct the statement"},
	"42703": {"no such column", "correct the statement"},
	"42704": {"no such role, object or setting", "correct the statement"},
	"42710": {"it exists already", "correct the statement"},
	"42939": {"a name that is reserved", "correct the statement"},
	"42P01": {"no such table", "correct the statement"},
	"42P06": {"that schema exists already", "correct the statement"},
	"42883": {"no such function", "correct the statement"},
	"53100": {"its disk is full", "make room there"},
	"53200": {"it is out of memory", "try again"},
	"53300": {"too many connections",
		"lower max_open_connections, or raise the server's max_connections or the administrator's CONNECTION LIMIT"},
	"54000": {"a limit of the server was passed", "grant membership in one role instead of many privileges"},
	"55000": {"it is not in a state for that", "see the server's log"},
	"55006": {"it is in use", "try again"},
	"55P02": {"a setting that cannot be changed now", "correct the statement"},
	"55P03": {"a lock was not to be had", "try again; see who holds it in pg_locks, and the server's lock_timeout"},
	"57014": {"canceled", "see the server's statement_timeout, and who ran pg_cancel_backend"},
	"57P01": {"the server is shutting down, or ended the session", "try again"},
	"57P02": {"the server crashed", "try again"},
	"57P03": {"the server is starting, or a standby that takes no sessions", "try again"},
	"57P05": {"the server ended an idle session", "try again"},
	"58P01": {"a file of the server is missing", "see the server's log"},
	"P0001": {"an exception that the statement raises", "see the server's log for its words"},
	"XX000": {"an internal error", "see the server's log"},
}

func state(pg *pgconn.PgError) string {
	known, ok := states[pg.Code]
	if !ok {
		known[1] = "the server's words are in the log"
	}
	return verdict(pg) + "; " + known[1]
}

// verdict is the text for an error of the server, without what to do.
func verdict(pg *pgconn.PgError) string {
	known, ok := states[pg.Code]
	if !ok {
		return "SQLSTATE " + pg.Code
	}
	return fmt.Sprintf("%s (SQLSTATE %s)", known[0], pg.Code)
}
