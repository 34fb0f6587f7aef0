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

// SetKey tells the accounts of the name by statements what their certificate is, or the key.
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

// LoginCertificate is Login by a certificate.
func (c *conn) LoginCertificate(ctx context.Context, name string, certificate tls.Certificate) (bool, error) {
	k := c.call("Login", "trying the login")
	if c.driver.TLS == nil {
		return false, database.MarkUnchanged(fault.New(k.op, fault.Unsupported, "the connection does not use TLS, so no certificate can be tested; give tls_ca, or tls=true in connection_url"))
	}
	by := func(newest uint16) func(*mysql.Config) {
		return func(config *mysql.Config) {
			config.Passwd, config.Logger = "", new(listener)
			config.TLS.Certificates, config.TLS.MaxVersion = []tls.Certificate{certificate}, newest
		}
	}
	ok, err := c.login(ctx, k, name, byCertificate, by(0))
	if fault.Is(err, fault.Upstream) { // why the connection is gone may be heard by the older version
		if works, again := c.login(ctx, k, name, byCertificate, by(tls.VersionTLS12)); again == nil {
			return works, nil
		}
	}
	return ok, err
}

// A listener hears of what the driver keeps to itself: that the server's TLS did not take the certificate.
type listener struct{ refused atomic.Bool }

// Print is what the driver calls.
func (l *listener) Print(all ...any) {
	if database.NotTaken(fmt.Sprint(all...)) {
		l.refused.Store(true)
	}
}
