package postgres

import (
	"context"
	"crypto/tls"
	"errors"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
)

// SetKey runs statements about a user's key. PostgreSQL itself keeps nothing of one: without statements
// there is nothing to do for a user who is there.
func (c *conn) SetKey(ctx context.Context, name string, key database.Key, statements []string) error {
	k := c.call("SetKey", "changing the key")
	if err := database.CheckGivenName(k.op, name); err != nil {
		return err
	}
	if len(statements) == 0 {
		there, err := c.present(ctx, name)
		if err == nil && !there {
			return database.MarkUnchanged(fault.New(k.op, fault.NotFound, "there is no user %s in PostgreSQL; make it first, or correct username", name))
		}
		return c.explain(k, 0, err)
	}
	values, err := c.values(name, secret.Value{}, time.Time{})
	if err != nil {
		return invalid(k.op, err)
	}
	key.Fill(values)
	k.field, k.texts = "rotation_statements", statements
	s, err := compile(k.field, statements, values)
	if err != nil {
		return invalid(k.op, err)
	}
	return about(ctx, c, k, name, s)
}

// LoginCertificate opens a session by a certificate. Whether the server asks for one at all, pg_hba.conf
// says: a server that does not leaves nothing to be known.
func (c *conn) LoginCertificate(ctx context.Context, name string, certificate tls.Certificate) (bool, error) {
	k := c.call("Login", "trying the login")
	if err := database.CheckGivenName(k.op, name); err != nil {
		return false, err
	}
	config := c.pool.ConnConfig.Config.Copy()
	config.User, config.Password = name, ""
	plain := config.TLSConfig == nil
	ok, err := false, error(nil)
	if !plain {
		config.TLSConfig.Certificates, config.Fallbacks = []tls.Certificate{certificate}, nil
		if ok, err = c.login(ctx, k, config); fault.Is(err, fault.Upstream) { // why the connection is gone may be heard by the older version
			config.TLSConfig.MaxVersion = tls.VersionTLS12
			if works, again := c.login(ctx, k, config); again == nil || errors.Is(again, errNotTaken) {
				ok, err = works, again
			}
		}
	}
	if plain || errors.Is(err, errNoTLS) {
		return false, database.MarkUnchanged(fault.New(k.op, fault.Unsupported, "the connection does not use TLS, so no certificate can be tested; give tls_ca, or sslmode in connection_url, for a server that has TLS"))
	}
	if errors.Is(err, errNotTaken) {
		return false, nil
	}
	if err == nil && !ok { // a password was asked for: 28P01
		return false, database.MarkUnchanged(fault.New(k.op, fault.Unsupported, "PostgreSQL asks %s for a password; give it a line hostssl … cert in pg_hba.conf", name))
	}
	return ok, err
}

// How a login by a certificate ends before PostgreSQL hears of it.
var (
	errNotTaken = errors.New("the certificate was not taken")
	errNoTLS    = errors.New("the server has no TLS")
)

// overTLS finds these in the error of a login without password.
func overTLS(config *pgconn.Config, err error) error {
	switch {
	case err == nil || config.Password != "":
		return nil
	case database.NotTaken(err.Error()):
		return errNotTaken
	case strings.Contains(err.Error(), "server refused TLS connection"):
		return errNoTLS
	}
	return nil
}
