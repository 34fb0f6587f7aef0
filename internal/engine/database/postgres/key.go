package postgres

import (
	"context"
	"crypto/tls"
	"errors"
	"time"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
)

// SetKey runs the statements for a user's key. PostgreSQL itself stores no key, so that without
// statements there is nothing to do for an existing user.
func (c *conn) SetKey(ctx context.Context, name string, key database.Key, statements []string) error {
	k := c.call("SetKey", "changing the key")
	if err := database.CheckGivenName(k.op, name); err != nil {
		return err
	}
	if len(statements) == 0 {
		there, err := c.roleExists(ctx, name)
		if err == nil && !there {
			return database.MarkUnchanged(fault.New(k.op, fault.NotFound,
				"there is no user %s in PostgreSQL; create it first, or correct username", name))
		}
		return k.explain(0, err)
	}
	values, err := c.values(name, secret.Value{}, time.Time{})
	if err != nil {
		return database.NotStarted(k.op, err)
	}
	key.Fill(values)
	k.field = "rotation_statements"
	return runForUser(ctx, c, k, name, statements, values)
}

// LoginCertificate opens a session with a certificate. If pg_hba.conf does not ask for a
// certificate, the login proves nothing.
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
		// with TLS 1.2, the reason for the lost connection may arrive
		if ok, err = c.login(ctx, k, config); fault.Is(err, fault.Upstream) {
			config.TLSConfig.MaxVersion = tls.VersionTLS12
			if retryOK, retryErr := c.login(ctx, k, config); retryErr == nil ||
				errors.Is(retryErr, errCertificateRefused) {
				ok, err = retryOK, retryErr
			}
		}
	}
	if plain || errors.Is(err, errNoTLS) {
		return false, database.MarkUnchanged(fault.New(k.op, fault.Unsupported,
			"the connection does not use TLS, so no certificate can be tested; give tls_ca, or sslmode in "+
				"connection_url, for a server that has TLS"))
	}
	if errors.Is(err, errCertificateRefused) {
		return false, nil
	}
	if err == nil && !ok { // the server asked for a password (28P01)
		return false, database.MarkUnchanged(fault.New(k.op, fault.Unsupported,
			"PostgreSQL asks %s for a password; give it a line hostssl … cert in pg_hba.conf", name))
	}
	return ok, err
}
