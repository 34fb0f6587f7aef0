package mysql

import (
	"context"
	"crypto/tls"
	"fmt"
	"strings"
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
		return false, database.MarkUnchanged(fault.New(k.op, fault.Unsupported, "the connection is made without TLS, so that no certificate can be tried; give tls_ca, or tls=true in connection_url"))
	}
	return c.login(ctx, k, name, func(config *mysql.Config) {
		config.Passwd, config.Logger = "", new(listener)
		config.TLS.Certificates = []tls.Certificate{certificate}
	})
}

// A listener hears of what the driver keeps to itself: that the server's TLS did not take the certificate, since
// its authority is not known there, or it has ended.
type listener struct{ alert atomic.Bool }

// Print is what the driver calls.
func (l *listener) Print(all ...any) {
	if strings.Contains(fmt.Sprint(all...), "remote error: tls: ") {
		l.alert.Store(true)
	}
}
