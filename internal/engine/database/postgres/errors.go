package postgres

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/fault"
)

// tooLate is what the server is made to say when a create comes after its deadline.
const tooLate = "keyturn: this attempt came after its deadline"

// states are the SQLSTATEs that users meet, in words, with what to do.
var states = map[string][2]string{
	"08P01": {"it does not keep to the protocol", "check that the address is a PostgreSQL server's"},
	"0A000": {"not supported by this version", "correct the statement"},
	"22012": {"division by zero", "correct the statement"},
	"22023": {"invalid value", "correct the statement"},
	"22P02": {"a value of the wrong form", "correct the statement"},
	"25001": {"not within a transaction", "take it out: statements run in one"},
	"25006": {"it takes no changes", "connect to the primary, as by target_session_attrs=read-write in connection_url, or see the server's default_transaction_read_only"},
	"28000": {"login not allowed", "see whether the user has LOGIN, and pg_hba.conf a line for this machine, user, database and encryption"},
	"28P01": {"wrong password, no such user, or its VALID UNTIL has passed", "check username and password"},
	"2BP01": {"the user still has privileges or objects", "take them away by hand or in revocation_statements"},
	"3D000": {"no such database", "correct the statement"},
	"3F000": {"no such schema", "correct the statement"},
	"42501": {"the administrator may not do that", "give it CREATEROLE, and what the statement grants WITH GRANT OPTION, roles WITH ADMIN OPTION"},
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
	"53300": {"too many connections", "lower max_open_connections, or raise the server's max_connections or the administrator's CONNECTION LIMIT"},
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

// explain makes a fault of an error of a call. done is how many statements had succeeded.
func (c *conn) explain(k call, done int, err error) error {
	if err == nil {
		return nil
	}
	f := &fault.Error{Op: k.op, Kind: fault.Upstream}
	known := k.classify(f, done, err)
	if _, before := errors.AsType[*uncertain](err); before {
		known = false
	}
	text := err.Error()
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Detail != "" {
		text += " (" + pg.Detail + ")"
	}
	f.Err = &fault.Error{Op: k.doing, Kind: f.Kind, Err: errors.New(k.scrub(text))}
	if onlyThis(err) {
		f = database.MarkRefused(f)
	}
	if known && !k.steps {
		return database.MarkUnchanged(f)
	}
	return f
}

// classify sets kind and message, and reports whether the database is surely unchanged.
func (k call) classify(f *fault.Error, done int, err error) (unchanged bool) {
	_, early := errors.AsType[*notSent](err)
	pg, answered := errors.AsType[*pgconn.PgError](err)
	_, connecting := errors.AsType[*pgconn.ConnectError](err)
	switch {
	case errors.Is(err, errClosed), errors.Is(err, context.Canceled):
		f.Kind, f.Msg = fault.Unavailable, k.doing+" was canceled"
	case fault.Is(err, fault.Denied):
		f.Kind, f.Msg = fault.Denied, fault.Message(err)
		return true
	case connecting:
		f.Kind, f.Msg = k.unconnected(err)
		return true
	case answered && pooled(pg) && strings.HasPrefix(pg.Code, "08"):
		f.Msg = "the pooler before PostgreSQL refused " + k.doing + ": " + k.poolerSays(pg)
		return early
	case errors.Is(err, errStandby):
		f.Msg = "PostgreSQL is a standby, which takes no changes; connect to the primary: name all servers in connection_url and say target_session_attrs=read-write"
		return true
	case answered && strings.Contains(pg.Message, tooLate):
		f.Kind, f.Msg = fault.Timeout, k.doing+" reached PostgreSQL after the attempt's deadline and was not done: compare the server's clock with this machine's, or see what delays the connection"
		return true
	case errors.Is(err, context.DeadlineExceeded):
		f.Kind, f.Msg = fault.Timeout, k.doing+" took too long: see what blocks it in pg_stat_activity"
	case answered && pg.Code == "57014":
		f.Kind, f.Msg = fault.Timeout, k.ended(pg)
	case answered:
		f.Msg = k.refused(done, pg)
	case fault.Is(err, fault.TooLarge):
		f.Msg = k.doing + ": " + fault.Message(err)
	default:
		f.Msg = "the connection to PostgreSQL was lost while " + k.doing
	}
	// A FATAL error may have met a session whose work was done, and a PANIC a commit that the server
	// finds in its log when it has started again.
	return early || answered && !endsSession(pg)
}

// endsSession reports whether the server ends the session with this error, or all of them.
func endsSession(pg *pgconn.PgError) bool {
	return pg.SeverityUnlocalized == "FATAL" || pg.SeverityUnlocalized == "PANIC"
}

// onlyThis reports whether the server answers, and objects only to what it was asked. The
// others speak of the server as a whole: it takes no session, is a standby, has no room,
// is going down, or is broken.
func onlyThis(err error) bool {
	_, connecting := errors.AsType[*pgconn.ConnectError](err)
	pg, answered := errors.AsType[*pgconn.PgError](err)
	if connecting || !answered || endsSession(pg) || len(pg.Code) != 5 {
		return false
	}
	return pg.Code != "25006" && !slices.Contains([]string{"08", "53", "57", "58", "XX"}, pg.Code[:2])
}

// refused says which statement PostgreSQL refused, and why.
func (k call) refused(done int, pg *pgconn.PgError) string {
	what := k.doing
	if k.field != "" {
		what = fmt.Sprintf("statement %d of %s", max(1, done-k.preamble+1), k.field)
	}
	return fmt.Sprintf("PostgreSQL refused %s: %s%s", what, k.quoted(pg), state(pg))
}

// quoted is the name that the server objects to, if it stands in the role's own statements.
func (k call) quoted(pg *pgconn.PgError) string {
	for i, part := range strings.Split(pg.Message, `"`) {
		if i%2 == 1 && nameable.MatchString(part) && slices.ContainsFunc(k.texts, func(t string) bool { return strings.Contains(t, part) }) {
			return part + ": "
		}
	}
	return ""
}

var nameable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]{0,62}$`)

// ended says what ended a statement that was not ended by us. The server's words are in its language, so that they may not tell.
func (k call) ended(pg *pgconn.PgError) string {
	if strings.Contains(pg.Message, "statement timeout") {
		return k.doing + " took longer than the server's statement_timeout; raise that for the administrator: ALTER ROLE … SET statement_timeout = '60s', or statement_timeout in connection_url"
	}
	return k.doing + " was ended by the server: by its statement_timeout, or by pg_cancel_backend; raise the one, or see who ran the other"
}

func state(pg *pgconn.PgError) string {
	known, ok := states[pg.Code]
	if !ok {
		known[1] = "the server's words are in the log"
	}
	return verdict(pg) + "; " + known[1]
}

// verdict is what the server says, without what to do.
func verdict(pg *pgconn.PgError) string {
	known, ok := states[pg.Code]
	if !ok {
		return "SQLSTATE " + pg.Code
	}
	return fmt.Sprintf("%s (SQLSTATE %s)", known[0], pg.Code)
}

// sqlState returns the SQLSTATE that the server answered, or "".
func sqlState(err error) string {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code
	}
	return ""
}
