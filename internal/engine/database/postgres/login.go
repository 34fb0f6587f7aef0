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

// Login opens a session as the user, past the pool, and closes it.
func (c *conn) Login(ctx context.Context, name string, password secret.Value) (bool, error) {
	k := c.call("Login", "trying the login", password)
	if err := database.CheckGivenName(k.op, name); err != nil {
		return false, err
	}
	config := c.pool.ConnConfig.Config.Copy()
	config.User, config.Password = name, password.RevealString()
	var heard greeting
	config.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		heard = greeting{from: r}
		return pgproto3.NewFrontend(&heard, w)
	}
	ok, err := c.login(ctx, k, config)
	if ok && heard.unasked() {
		return false, cannotTry(k, name, "the server accepts it without a password, as with trust in pg_hba.conf; write scram-sha-256 there so that passwords are checked", nil)
	}
	return ok, err
}

func (c *conn) login(ctx context.Context, k call, config *pgconn.Config) (bool, error) {
	name := config.User
	ctx, end, err := c.turns.begin(ctx)
	if err != nil {
		return false, c.explain(k, 0, err)
	}
	defer end()
	s, err := pgconn.ConnectConfig(ctx, config)
	if why := overTLS(config, err); why != nil {
		return false, why
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pooled(pg) && unknownThere(pg) {
		if name == c.pool.ConnConfig.User {
			return false, nil
		}
		return false, cannotTry(k, name, "the pooler before it has its own list of users and passwords; give it an auth_query, or connect to PostgreSQL itself", err)
	}
	switch sqlState(err) {
	case "":
	case "28P01": // wrong, expired, or of nobody
		return false, c.conclusive(ctx, k, name, err)
	case "28000":
		there, lerr := c.present(ctx, name)
		if lerr != nil || !there {
			return false, c.explain(k, 0, lerr)
		}
		return false, cannotTry(k, name, "it has no LOGIN, or pg_hba.conf has no line for it; give it what it lacks if logins from here are meant", err)
	case "42501", "53300": // who was let in may not use this database, or there is no room
		return true, nil
	}
	if err != nil {
		return false, c.explain(k, 0, cause(ctx, err))
	}
	soon, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWords)
	defer cancel()
	_ = s.Close(soon)
	return true, nil
}

// unknownThere reports whether a pooler does not know the user or the password: it need not have heard of a new one.
func unknownThere(pg *pgconn.PgError) bool {
	return strings.HasPrefix(pg.Code, "28") || slices.ContainsFunc([]string{"no such user", "authentication failed", "auth failed"}, func(says string) bool { return strings.Contains(pg.Message, says) })
}

// cannotTry is the error for a user whose login proves nothing from here.
func cannotTry(k call, name, why string, err error) error {
	f := fault.New(k.op, fault.Unsupported, "%s cannot log in to PostgreSQL, or not with a password, from here: %s", name, why)
	if err != nil {
		f.Err = errors.New(k.scrub(err.Error()))
	}
	return database.MarkUnchanged(f)
}

// conclusive returns nil where a refused login means what it says. PostgreSQL answers the same to whose time is over.
func (c *conn) conclusive(ctx context.Context, k call, name string, refused error) error {
	if name == c.pool.ConnConfig.User {
		return nil // it could log in from here when this connection was configured
	}
	var until string
	err := c.repeatable(ctx, func(ctx context.Context, s *pgconn.PgConn) error {
		rows, err := ask(ctx, s, "SELECT rolvaliduntil::pg_catalog.text FROM pg_catalog.pg_roles WHERE rolvaliduntil <= pg_catalog.now() AND rolname = "+text(name))
		until = one(rows)
		return err
	})
	if err != nil || until == "" {
		return c.explain(k, 0, err)
	}
	return cannotTry(k, name, "its VALID UNTIL has passed, "+until+"; ALTER ROLE … VALID UNTIL 'infinity'", refused)
}

// A greeting remembers the beginning of what a server says.
type greeting struct {
	from io.Reader
	head []byte
}

// Read hands on what the server says.
func (g *greeting) Read(b []byte) (int, error) {
	n, err := g.from.Read(b)
	if miss := 9 - len(g.head); miss > 0 {
		g.head = append(g.head, b[:min(n, miss)]...)
	}
	return n, err
}

// unasked reports whether the server let the user in by its first message, AuthenticationOk.
func (g *greeting) unasked() bool {
	return len(g.head) == 9 && g.head[0] == 'R' && binary.BigEndian.Uint32(g.head[5:]) == 0
}
