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

// tooLate is the error that the fence raises when a create comes after its deadline.
const tooLate = "keyturn: this attempt came after its deadline"

// explain converts an error of a call to a fault. done is the number of statements that succeeded.
func (k call) explain(done int, err error) error {
	if err == nil {
		return nil
	}
	f := &fault.Error{Op: k.op, Kind: fault.Upstream}
	known := k.classify(f, done, err)
	if _, before := errors.AsType[*database.Uncertain](err); before {
		known = false
	}
	text := err.Error()
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Detail != "" {
		text += " (" + pg.Detail + ")"
	}
	f.Err = &fault.Error{Op: k.doing, Kind: f.Kind, Err: errors.New(k.scrub(text))}
	if code := sqlState(err); code != "" {
		f = database.MarkCode(f, "SQLSTATE "+code)
	}
	if refusalOnly(err) {
		f = database.MarkRefused(f)
	}
	if known && !k.steps {
		return database.MarkUnchanged(f)
	}
	return f
}

// classify sets kind and message, and reports whether the database is certainly unchanged.
func (k call) classify(f *fault.Error, done int, err error) (unchanged bool) {
	early := database.IsNotSent(err)
	pg, answered := errors.AsType[*pgconn.PgError](err)
	_, connecting := errors.AsType[*pgconn.ConnectError](err)
	switch {
	case errors.Is(err, database.ErrClosed), errors.Is(err, context.Canceled):
		f.Kind, f.Msg = fault.Unavailable, k.doing+" was canceled"
	case fault.Is(err, fault.Denied):
		f.Kind, f.Msg = fault.Denied, fault.Message(err)
		return true
	case connecting:
		f.Kind, f.Msg = k.connectFailure(err)
		return true
	case answered && fromPooler(pg) && strings.HasPrefix(pg.Code, "08"):
		f.Msg = "the pooler before PostgreSQL refused " + k.doing + ": " + k.poolerFailure(pg)
		return early
	case errors.Is(err, errStandby):
		f.Msg = "PostgreSQL is a standby, which takes no changes; connect to the primary: name all servers in " +
			"connection_url and say target_session_attrs=read-write"
		return true
	case answered && strings.Contains(pg.Message, tooLate):
		f.Kind, f.Msg = fault.Timeout, k.doing+" reached PostgreSQL after the attempt's deadline and was not done: "+
			"compare the server's clock with this machine's, or see what delays the connection"
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
	// A FATAL error may come after the session did its work. After a PANIC, the server may find
	// the commit in its log when it starts again.
	return early || answered && !endsSession(pg)
}

// endsSession reports whether the server ends this session, or all sessions, with the error.
func endsSession(pg *pgconn.PgError) bool {
	return pg.SeverityUnlocalized == "FATAL" || pg.SeverityUnlocalized == "PANIC"
}

// refusalOnly reports whether the server refused only this statement. Other errors concern the
// server as a whole: it accepts no session, is a standby, has no room, shuts down, or is broken.
func refusalOnly(err error) bool {
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

// quoted returns the name that the server complains about, if the role's own statements contain
// it.
func (k call) quoted(pg *pgconn.PgError) string {
	for i, part := range strings.Split(pg.Message, `"`) {
		if i%2 == 1 && nameable.MatchString(part) &&
			slices.ContainsFunc(k.texts, func(t string) bool { return strings.Contains(t, part) }) {
			return part + ": "
		}
	}
	return ""
}

var nameable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]{0,62}$`)

// ended says what ended a statement that Keyturn did not cancel. The message of the server may be
// in another language, so that the cause may stay open.
func (k call) ended(pg *pgconn.PgError) string {
	if strings.Contains(pg.Message, "statement timeout") {
		return k.doing + " took longer than the server's statement_timeout; raise that for the administrator: ALTER " +
			"ROLE … SET statement_timeout = '60s', or statement_timeout in connection_url"
	}
	return k.doing + " was ended by the server: by its statement_timeout, or by pg_cancel_backend; raise the one, " +
		"or see who ran the other"
}
