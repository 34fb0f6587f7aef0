package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
)

// Login opens a session as the user, outside of the pool, and closes it.
func (c *conn) Login(ctx context.Context, name string, password secret.Value) (bool, error) {
	k := c.call("Login", "trying the login", password)
	if err := database.CheckGivenName(k.op, name); err != nil {
		return false, err
	}
	config := c.pool.ConnConfig.Config.Copy()
	config.User, config.Password = name, password.RevealString()
	var first greeting
	config.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		first = greeting{from: r}
		return pgproto3.NewFrontend(&first, w)
	}
	ok, err := c.login(ctx, k, config)
	if ok && first.noPasswordAsked() {
		return false, cannotTry(k, name, "the server accepts it without a password, as with trust in pg_hba.conf; "+
			"write scram-sha-256 there so that passwords are checked", nil)
	}
	return ok, err
}

func (c *conn) login(ctx context.Context, k call, config *pgconn.Config) (bool, error) {
	name := config.User
	ctx, end, err := c.runner.calls.Begin(ctx)
	if err != nil {
		return false, k.explain(0, err)
	}
	defer end()
	s, err := pgconn.ConnectConfig(ctx, config)
	if tlsErr := tlsFailure(config, err); tlsErr != nil {
		return false, tlsErr
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && fromPooler(pg) && unknownToPooler(pg) {
		if name == c.pool.ConnConfig.User {
			return false, nil
		}
		return false, cannotTry(k, name, "the pooler in front of it has its own list of users and passwords; give "+
			"it an auth_query, or connect to PostgreSQL itself", err)
	}
	switch sqlState(err) {
	case "":
	case "28P01": // wrong or expired password, or no such user
		return false, c.conclusive(ctx, k, name, err)
	case "28000":
		there, lerr := c.roleExists(ctx, name)
		if lerr != nil || !there {
			return false, k.explain(0, lerr)
		}
		return false, cannotTry(k, name, "it has no LOGIN, or pg_hba.conf has no line for it; give it what it lacks "+
			"if logins from here are intended", err)
	case "42501", "53300": // the user logged in, but may not use this database, or has too many sessions
		return true, nil
	}
	if err != nil {
		return false, k.explain(0, database.WithCause(ctx, err))
	}
	soon, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelGrace)
	defer cancel()
	_ = s.Close(soon)
	return true, nil
}

// unknownToPooler reports whether a pooler does not know the user or password. It may not know new
// ones.
func unknownToPooler(pg *pgconn.PgError) bool {
	return strings.HasPrefix(pg.Code, "28") ||
		slices.ContainsFunc([]string{"no such user", "authentication failed", "auth failed"},
			func(says string) bool { return strings.Contains(pg.Message, says) })
}

// cannotTry is the error for a user whose login from this machine proves nothing.
func cannotTry(k call, name, why string, err error) error {
	f := fault.New(k.op, fault.Unsupported,
		"%s cannot log in to PostgreSQL, or not with a password, from here: %s", name, why)
	if err != nil {
		f.Err = errors.New(k.scrub(err.Error()))
	}
	return database.MarkUnchanged(f)
}

// conclusive returns nil if a refused login proves that the password is wrong. PostgreSQL gives
// the same answer after VALID UNTIL.
func (c *conn) conclusive(ctx context.Context, k call, name string, refused error) error {
	if name == c.pool.ConnConfig.User {
		return nil // the administrator could log in from here when the connection was configured
	}
	var until string
	err := c.runRepeatable(ctx, func(ctx context.Context, s *pgconn.PgConn) error {
		rows, err := query(ctx, s, "SELECT rolvaliduntil::pg_catalog.text FROM pg_catalog.pg_roles WHERE "+
			"rolvaliduntil <= pg_catalog.now() AND rolname = "+quoteText(name))
		until = singleValue(rows)
		return err
	})
	if err != nil || until == "" {
		return k.explain(0, err)
	}
	return cannotTry(k, name, "its VALID UNTIL has passed, "+until+"; ALTER ROLE … VALID UNTIL 'infinity'", refused)
}

// A greeting records the first bytes that a server sends.
type greeting struct {
	from io.Reader
	head []byte
}

// Read passes on what the server sends.
func (g *greeting) Read(b []byte) (int, error) {
	n, err := g.from.Read(b)
	if miss := 9 - len(g.head); miss > 0 {
		g.head = append(g.head, b[:min(n, miss)]...)
	}
	return n, err
}

// noPasswordAsked reports whether the server asked for no password: its first message is
// AuthenticationOk.
func (g *greeting) noPasswordAsked() bool {
	return len(g.head) == 9 && g.head[0] == 'R' && binary.BigEndian.Uint32(g.head[5:]) == 0
}

// Errors of TLS, before PostgreSQL sees the login.
var (
	errCertificateRefused = errors.New("the certificate was not taken")
	errNoTLS              = errors.New("the server has no TLS")
)

// tlsFailure returns one of these for the error of a login without password, or nil.
func tlsFailure(config *pgconn.Config, err error) error {
	switch {
	case err == nil || config.Password != "":
		return nil
	case database.NotTaken(err.Error()):
		return errCertificateRefused
	case strings.Contains(err.Error(), "server refused TLS connection"):
		return errNoTLS
	}
	return nil
}
