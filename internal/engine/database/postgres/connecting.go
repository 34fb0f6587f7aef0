package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/fault"
)

var fields = database.Fields{
	Address: "host and port in connection_url", Authority: "tls_ca",
	Name: "the host in connection_url, or say sslmode=verify-ca",
	Pair: "tls_certificate and private_key", TLS: "sslmode in connection_url",
}

const cannot = "cannot connect to PostgreSQL: "

// connectFailure returns the kind and message of an error of connecting.
func (k call) connectFailure(err error) (fault.Kind, string) {
	pg, answered := errors.AsType[*pgconn.PgError](err)
	switch why, wrongKind := wrongServerKind(err); {
	case answered && fromPooler(pg):
		return fault.Upstream, "cannot connect to the pooler before PostgreSQL: " + k.poolerFailure(pg)
	case answered:
		return fault.Upstream, cannot + k.loginFailure(pg)
	case wrongKind:
		return fault.Upstream, cannot + why
	case errors.Is(err, context.DeadlineExceeded):
		return fault.Timeout,
			cannot + "it does not answer in time; check host and port in connection_url, and what lies between"
	}
	return fault.Upstream, cannot + unreachable(err)
}

// wrongServerKind says that no server is of the kind that target_session_attrs requires, if that
// is the error.
func wrongServerKind(err error) (string, bool) {
	for _, e := range []error{pgconn.ErrReadOnlyConnection, pgconn.ErrStandbyConnection} {
		if errors.Is(err, e) {
			return "it is a standby or read-only, and target_session_attrs in connection_url asks for one that " +
				"takes changes; name the primary, or all servers", true
		}
	}
	for _, e := range []error{pgconn.ErrReadWriteConnection, pgconn.ErrPrimaryConnection} {
		if errors.Is(err, e) {
			return "it is the primary, and target_session_attrs in connection_url asks for a standby, which takes " +
				"no changes; say read-write", true
		}
	}
	return "", false
}

// loginFailure says why the server refuses the session.
func (k call) loginFailure(pg *pgconn.PgError) string {
	to := &k.at.pool.ConnConfig.Config
	if name, ok := k.parameter(pg); ok {
		return fmt.Sprintf("%s (SQLSTATE %s); correct it, or remove it from connection_url", name, pg.Code)
	}
	switch pg.Code {
	case "3D000":
		return "there is no database " + k.scrub(to.Database) +
			" (SQLSTATE 3D000); correct it in connection_url, where upper and lower case differ"
	case "42501":
		return "the user may not use the database " + k.scrub(to.Database) +
			" (SQLSTATE 42501); GRANT CONNECT ON DATABASE … TO it"
	}
	if _, ok := states[pg.Code]; !ok || slices.Contains([]string{"22", "42", "55"}, pg.Code[:min(2, len(pg.Code))]) {
		return fmt.Sprintf("the server does not take a parameter of connection_url, or refuses the login (SQLSTATE "+
			"%s); check the parameters after ?, and the log for its words", pg.Code)
	}
	return state(pg)
}

// parameter finds the parameter of connection_url that the server refuses. It names only
// parameters that connection_url sets, because any other word may be part of a password.
func (k call) parameter(pg *pgconn.PgError) (string, bool) {
	const options = "options"
	params := k.at.pool.ConnConfig.RuntimeParams
	for _, name := range slices.Sorted(maps.Keys(params)) {
		if strings.Contains(pg.Message, `"`+name+`"`) {
			return "the server does not take the parameter " + k.scrub(name), true
		}
	}
	for i, name := range strings.Split(pg.Message, `"`) {
		if i%2 == 1 && name != "" && strings.Contains(params[options], name) {
			return "the server does not take " + k.scrub(name) + " in the parameter options", true
		}
	}
	return "", false
}

// fromPooler reports whether an error comes from a pooler. Errors of PostgreSQL itself name the
// place in its source.
func fromPooler(pg *pgconn.PgError) bool { return pg.File == "" && pg.Routine == "" }

// poolerMessages maps the messages of PgBouncer to ours.
var poolerMessages = []struct{ says, means string }{
	{"statement pooling", "it runs in statement mode, where there are no transactions; use pool_mode transaction or " +
		"session, or connect to PostgreSQL itself"},
	{"unsupported startup parameter", "it does not take a parameter of connection_url; remove that, or name it in " +
		"ignore_startup_parameters of the pooler"},
	{"does not exist", "it has no such database; correct connection_url, or name it in [databases] of the pooler"},
	{"no such database", "it has no such database; correct connection_url, or name it in [databases] of the pooler"},
	{"no such user", "it does not know the user; the pooler has its own list, auth_file or auth_query"},
	{"authentication failed",
		"it refuses username or password; the pooler has its own list of them, auth_file or auth_query"},
	{"auth failed", "it refuses username or password; the pooler has its own list of them, auth_file or auth_query"},
	{"login failed", "it cannot log in to PostgreSQL behind it; see the pooler's log"},
	{"login has been failing", "it cannot log in to PostgreSQL behind it; see the pooler's log"},
	{"cannot connect to server", "it does not reach PostgreSQL behind it; see the pooler's log"},
	{"server_lifetime", "it has no connection to PostgreSQL; see the pooler's log"},
	{"query_wait_timeout", "no connection to PostgreSQL was free in time; see in the pooler's log whether it " +
		"reaches PostgreSQL, or raise default_pool_size of the pooler"},
	{"no more connections allowed",
		"it has too many clients; raise max_client_conn of the pooler, or lower max_open_connections"},
	{"too many connections",
		"it has too many clients; raise max_client_conn of the pooler, or lower max_open_connections"},
	{"paus", "it is paused, or shutting down; RESUME it"},
	{"shut", "it is paused, or shutting down; try again"},
}

func (k call) poolerFailure(pg *pgconn.PgError) string {
	for _, p := range poolerMessages {
		if !strings.Contains(pg.Message, p.says) {
			continue
		}
		if _, name, ok := strings.Cut(pg.Message, "unsupported startup parameter: "); ok {
			if _, ours := k.at.pool.ConnConfig.RuntimeParams[name]; ours {
				return fmt.Sprintf("%s (SQLSTATE %s)",
					strings.Replace(p.means, "a parameter", "the parameter "+k.scrub(name), 1), pg.Code)
			}
		}
		return fmt.Sprintf("%s (SQLSTATE %s)", p.means, pg.Code)
	}
	return fmt.Sprintf(
		"what answers there, such as PgBouncer, is not PostgreSQL itself (SQLSTATE %s); its log has the reason",
		pg.Code)
}

// unreachable says why there is no connection. If several connections were attempted, the last
// error that explains something counts, because an earlier attempt may have been without TLS.
func unreachable(err error) string {
	tried := attempts(err)
	for i := len(tried) - 1; i >= 0; i-- {
		text := tried[i].Error()
		switch {
		case strings.Contains(text, "refused TLS"):
			if i > 0 {
				continue
			}
			return "the server has no TLS; say sslmode=disable in connection_url, or switch TLS on there"
		case strings.Contains(text, "require_auth"):
			return "the server asks for another way to log in than require_auth in " +
				"connection_url; correct that, or remove it"
		case strings.Contains(text, "channel binding"):
			return "channel_binding=require in connection_url needs TLS and scram-sha-256; remove it, or give the " +
				"server both"
		case strings.Contains(text, "does not support SCRAM"), strings.Contains(text, "unexpected message"),
			strings.Contains(text, "protocol error"), strings.Contains(text, "invalid message"), strings.Contains(text,
				"invalid body length"):
			return "what listens there does not speak PostgreSQL's protocol; check host and port in connection_url"
		}
		if why, ok := fields.Unreachable(tried[i]); ok {
			return why
		}
	}
	return "the log has the reason; check host, port and sslmode in connection_url"
}

// attempts returns the errors of all connection attempts, in their order.
func attempts(err error) []error {
	for e := err; e != nil; e = errors.Unwrap(e) {
		if many, ok := e.(interface{ Unwrap() []error }); ok {
			return many.Unwrap()
		}
	}
	return []error{err}
}
