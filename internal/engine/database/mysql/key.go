package mysql

import (
	"context"
	"crypto/tls"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
)

// SetKey runs the statements that set the certificate or key of the user's accounts.
func (c *conn) SetKey(ctx context.Context, name string, key database.Key, statements []string) error {
	k := c.call("SetKey", "changing the key")
	if err := database.CheckGivenName(k.op, name); err != nil {
		return err
	}
	v := fillings(name, secret.Value{}, time.Time{})
	key.Fill(v)
	k.field = "rotation_statements"
	return c.alter(ctx, k, name, statements, v, nil)
}

// LoginCertificate is Login with a certificate.
func (c *conn) LoginCertificate(ctx context.Context, name string, certificate tls.Certificate) (bool, error) {
	k := c.call("Login", "trying the login")
	if c.driver.TLS == nil {
		return false, database.MarkUnchanged(fault.New(k.op, fault.Unsupported,
			"the connection does not use TLS, so no certificate can be tested; give tls_ca, or tls=true in "+
				"connection_url"))
	}
	with := func(newest uint16) func(*mysql.Config) {
		return func(config *mysql.Config) {
			config.Passwd, config.Logger = "", new(tlsLogger)
			config.TLS.Certificates, config.TLS.MaxVersion = []tls.Certificate{certificate}, newest
		}
	}
	ok, err := c.login(ctx, k, name, byCertificate, with(0))
	if fault.Is(err, fault.Upstream) { // with TLS 1.2, the reason for the lost connection may arrive
		if retryOK, retryErr := c.login(ctx, k, name, byCertificate, with(tls.VersionTLS12)); retryErr == nil {
			return retryOK, nil
		}
	}
	return ok, err
}

// A tlsLogger finds in the driver's log that the server's TLS refused the certificate, which is
// not in the error.
type tlsLogger struct{ refused atomic.Bool }

// Print is called by the driver.
func (l *tlsLogger) Print(all ...any) {
	if database.NotTaken(fmt.Sprint(all...)) {
		l.refused.Store(true)
	}
}
