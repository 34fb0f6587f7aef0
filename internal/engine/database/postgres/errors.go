package postgres

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/fault"
)

// tooLate is what the server is made to say when a create comes after its deadline.
const tooLate = "keyturn: this attempt came after its deadline"

// states are the SQLSTATEs that users meet, in words, with what to do.
var states = map[string][2]string{
	"08P01": {"protocol violation", "check that the address is a PostgreSQL server's"},
	"22023": {"invalid value", "correct the statement"},
	"25006": {"it takes no changes", "connect to the primary, as by target_session_attrs=read-write in connection_url, or see the server's default_transaction_read_only"},
	"28000": {"login not allowed", "check username and the server's pg_hba.conf"},
	"28P01": {"wrong password", "check username and password"},
	"2BP01": {"the user still has privileges or objects", "take them away by hand or in revocation_statements"},
	"3D000": {"no such database", "check the database in connection_url"},
	"3F000": {"no such schema", "correct the statement"},
	"42501": {"not allowed", "give the administrator CREATEROLE, and GRANT OPTION on what the statements grant"},
	"42601": {"syntax error", "correct the statement"},
	"42704": {"no such object or role", "correct the statement"},
	"42710": {"it exists already", "check the username template"},
	"42P01": {"no such table", "correct the statement"},
	"42883": {"no such function", "correct the statement"},
	"53300": {"too many connections", "lower max_open_connections, or raise the server's max_connections"},
	"54000": {"a limit of the server was passed", "grant membership in one role instead of many privileges"},
	"55P03": {"a lock was not to be had", "try again"},
	"57014": {"canceled", "try again; see what blocks it in pg_stat_activity"},
	"57P01": {"the server is shutting down", "try again"},
	"57P02": {"the server crashed", "try again"},
	"57P03": {"the server is starting", "try again"},
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
	case connecting && !answered && errors.Is(err, context.DeadlineExceeded):
		f.Kind, f.Msg = fault.Timeout, "cannot connect to PostgreSQL: it does not answer in time; check host and port in connection_url, and what lies between"
		return true
	case connecting && !answered:
		f.Msg = "cannot connect to PostgreSQL: " + unreachable(err)
		return true
	case connecting && answered:
		f.Msg = fmt.Sprintf("cannot connect to PostgreSQL: %s", state(pg))
		return true
	case errors.Is(err, errStandby):
		f.Msg = "PostgreSQL is a standby, which takes no changes; connect to the primary: name all servers in connection_url and say target_session_attrs=read-write"
		return true
	case answered && strings.Contains(pg.Message, tooLate):
		f.Kind, f.Msg = fault.Timeout, k.doing+" reached PostgreSQL after the attempt's deadline and was not done: compare the server's clock with this machine's, or see what delays the connection"
		return true
	case errors.Is(err, context.DeadlineExceeded), answered && pg.Code == "57014":
		f.Kind, f.Msg = fault.Timeout, k.doing+" took too long: see what blocks it in pg_stat_activity"
	case answered:
		f.Msg = k.refused(done, pg)
	case fault.Is(err, fault.TooLarge):
		f.Msg = k.doing + ": " + fault.Message(err)
	default:
		f.Msg = "the connection to PostgreSQL was lost while " + k.doing
	}
	// A FATAL error may have met a session whose work was done.
	return early || answered && pg.SeverityUnlocalized != "FATAL"
}

// onlyThis reports whether the server answers, and objects only to what it was asked. The
// others speak of the server as a whole: it takes no session, is a standby, has no room,
// is going down, or is broken.
func onlyThis(err error) bool {
	_, connecting := errors.AsType[*pgconn.ConnectError](err)
	pg, answered := errors.AsType[*pgconn.PgError](err)
	if connecting || !answered || pg.SeverityUnlocalized == "FATAL" || pg.SeverityUnlocalized == "PANIC" || len(pg.Code) != 5 {
		return false
	}
	return pg.Code != "25006" && !slices.Contains([]string{"08", "53", "57", "58", "XX"}, pg.Code[:2])
}

// refused says which statement PostgreSQL refused, and why.
func (k call) refused(done int, pg *pgconn.PgError) string {
	if k.field == "" {
		return fmt.Sprintf("PostgreSQL refused %s: %s", k.doing, state(pg))
	}
	return fmt.Sprintf("PostgreSQL refused statement %d of %s: %s", max(1, done-k.preamble+1), k.field, state(pg))
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

// unreachable says in our words why there is no connection.
func unreachable(err error) string {
	_, authority := errors.AsType[x509.UnknownAuthorityError](err)
	_, hostname := errors.AsType[x509.HostnameError](err)
	_, invalid := errors.AsType[x509.CertificateInvalidError](err)
	switch {
	case fault.Is(err, fault.TooLarge):
		return fault.Message(err)
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nothing listens there; check host and port in connection_url"
	case authority:
		return "its certificate is not signed by a known authority; give tls_ca"
	case hostname:
		return "its certificate is for another name; check the host in connection_url, or say sslmode=verify-ca"
	case invalid:
		return "its certificate is not valid; renew it"
	case strings.Contains(err.Error(), "refused TLS"):
		return "the server has no TLS; say sslmode=disable in connection_url, or switch TLS on there"
	case strings.Contains(err.Error(), "hostname resolving"), strings.Contains(err.Error(), "no such host"):
		return "the host's name cannot be resolved; check connection_url"
	}
	return "the log has the reason; check host, port and sslmode in connection_url"
}

// sqlState returns the SQLSTATE that the server answered, or "".
func sqlState(err error) string {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code
	}
	return ""
}
