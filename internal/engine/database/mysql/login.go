package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/go-sql-driver/mysql"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
)

// Login opens a session as the user, outside of the pool, and closes it. It uses no database,
// because the user may not have the administrator's.
func (c *conn) Login(ctx context.Context, name string, password secret.Value) (bool, error) {
	return c.login(ctx, c.call("Login", "trying the login", password), name, byPassword, func(config *mysql.Config) {
		config.Passwd = password.RevealString()
	})
}

// A method is a way to log in.
type method uint8

const (
	byPassword method = iota
	byCertificate
)

// untestable maps the errors of a login that prove nothing about the password to their reason: the
// account accepts none, or none now.
var untestable = map[uint16]string{
	1129: "the server has blocked this machine after many errors of connections; FLUSH HOSTS there",
	1130: "the server lets nobody in from this machine's address; create an account for it if that is meant",
	1698: "the account takes no passwords; create it with one",
	1820: "its password has expired; ALTER USER … PASSWORD EXPIRE NEVER",
	1862: "its password has expired; ALTER USER … PASSWORD EXPIRE NEVER",
	3118: "the account is locked; ALTER USER … ACCOUNT UNLOCK",
	3955: "the account is locked after many failed logins; FLUSH PRIVILEGES, or ALTER USER … ACCOUNT UNLOCK",
	4150: "the account is locked after many failed logins; FLUSH PRIVILEGES, or ALTER USER … ACCOUNT UNLOCK",
	4151: "the account is locked; ALTER USER … ACCOUNT UNLOCK",
}

func (c *conn) login(ctx context.Context, k call, name string, how method, setCredential func(*mysql.Config)) (bool,
	error) {
	if err := database.CheckGivenName(k.op, name); err != nil {
		return false, err
	}
	ctx, end, err := c.calls.Begin(ctx)
	if err != nil {
		return false, k.explain(err)
	}
	defer end()
	config := c.driver.Clone()
	config.User, config.DBName, config.Params = name, "", nil
	setCredential(config)
	d, err := mysql.NewConnector(config)
	if err != nil {
		return false, k.explain(&connectError{err})
	}
	s, err := d.Connect(ctx)
	if l, ok := config.Logger.(*tlsLogger); ok && err != nil && (l.refused.Load() || database.NotTaken(err.Error())) {
		return false, nil
	}
	if err == nil {
		_ = s.Close()
		return true, nil
	}
	why, known := untestable[number(err)]
	switch {
	case known:
		return false, c.cannotTry(k, name, why, err)
	case number(err) == 1203, number(err) == 1226: // the user logged in, and has too many sessions
		return true, nil
	case slices.ContainsFunc(foreign, func(e error) bool { return errors.Is(err, e) }):
		return false,
			c.cannotTry(k, name,
				"Keyturn does not know the account's login method; give the account a password if that is "+
					"not intended", err)
	case number(err) == 1045:
		return false, c.conclusive(ctx, k, name, how, err)
	}
	return false, k.explain(&connectError{database.WithCause(ctx, err)})
}

// cannotTry is the error for a user whose login from this machine proves nothing.
func (c *conn) cannotTry(k call, name, why string, err error) error {
	f := fault.New(k.op, fault.Unsupported, "%s cannot log in to MySQL from here: %s", name, why)
	if err != nil {
		f.Err = errors.New(k.scrub(logged(err)))
	}
	return database.MarkUnchanged(f)
}

// conclusive returns nil if a refused login proves that the password is wrong: the account that
// the server has selected accepts passwords from here. The server gives the same answer (1045) to
// a login from the wrong host or without TLS.
func (c *conn) conclusive(ctx context.Context, k call, name string, how method, refused error) error {
	if name == c.driver.User {
		return nil // the administrator could log in from here when the connection was configured
	}
	var why string
	err := c.runRepeatable(ctx, func(ctx context.Context, s *sql.Conn) error {
		all, client, err := accountsOf(ctx, s, name)
		if slices.Contains([]uint16{1142, 1143}, number(err)) {
			why = "whether it can is not to be known; grant SELECT on mysql.user to the administrator"
			return nil
		}
		why = c.unfit(name, client, all, how)
		return err
	})
	if err != nil || why == "" {
		return k.explain(err)
	}
	return c.cannotTry(k, name, why, refused)
}

// An account is a user at a host.
type account struct{ user, host, plugin, tls string }

// accountsOf returns the accounts of a name and the anonymous ones, and the host that the server
// sees for this machine.
func accountsOf(ctx context.Context, s *sql.Conn, name string) (all []account, client string, err error) {
	rows, err := s.QueryContext(ctx, "SELECT User, Host, plugin, CAST(ssl_type AS CHAR), SUBSTRING_INDEX(USER(), "+
		"'@', -1) FROM mysql.user WHERE User IN (?, '')", name)
	if err != nil {
		return nil, "", err
	}
	defer rows.Close()
	for rows.Next() {
		var a account
		if err := rows.Scan(&a.user, &a.host, &a.plugin, &a.tls, &client); err != nil {
			return nil, "", err
		}
		all = append(all, a)
	}
	return all, client, rows.Err()
}

// passwordPlugins are the plugins whose accounts log in with a password that the server stores.
var passwordPlugins = []string{"", "mysql_native_password", "caching_sha2_password", "sha256_password", "ed25519"}

// unfit says why a login of the name from here proves nothing, or "". The server selects the
// account with the most specific host, and among those the one with a name.
func (c *conn) unfit(name, client string, all []account, how method) string {
	var best account
	exact := -1
	for _, a := range all {
		if e := exactness(a.host, client); e > exact || e >= 0 && e == exact && best.user == "" {
			best, exact = a, e
		}
	}
	there := slices.ContainsFunc(all, func(a account) bool { return a.user == name })
	withTLS := c.driver.TLS != nil && !c.driver.AllowFallbackToPlaintext
	switch {
	case !there:
		return "" // there is no account
	case exact < 0:
		return fmt.Sprintf("it has no account for this machine, which the server sees as %q; create one if logins "+
			"from here are intended", client)
	case best.user == "":
		return fmt.Sprintf("an anonymous account, ''@'%s', goes before its own; drop that", best.host)
	case best.tls != "" && !withTLS:
		return "the account asks for TLS, and this connection is made without; give tls_ca, or tls=true in " +
			"connection_url"
	case how == byPassword && (best.tls == "SPECIFIED" || best.tls == "X509"):
		return "the account asks for a certificate; use credential_type client_certificate, or drop REQUIRE"
	case how == byPassword && !slices.Contains(passwordPlugins, best.plugin):
		return fmt.Sprintf("the account logs in by the plugin %q; give it a password if that is not intended",
			best.plugin)
	}
	return ""
}

// exactness is how specific the host of an account is for a client. It is -1 if the host does not
// match, or if that is unknown.
func exactness(host, client string) int {
	const network, full = 1 << 10, 1 << 11
	if host == "" || host == "%" {
		return 0
	}
	addresses := []string{client}
	if client == "localhost" {
		addresses = append(addresses, "127.0.0.1", "::1")
	}
	for _, address := range addresses {
		switch changesSession := strings.IndexAny(host, "%_"); {
		case strings.EqualFold(host, address):
			return full
		case inNetwork(host, address):
			return network
		case changesSession >= 0 && like(strings.ToLower(host), strings.ToLower(address)):
			return changesSession
		}
	}
	return -1
}

// inNetwork parses 198.51.100.0/255.255.255.0 and 198.51.100.0/24.
func inNetwork(host, address string) bool {
	base, mask, ok := strings.Cut(host, "/")
	ip, err := netip.ParseAddr(address)
	if !ok || err != nil {
		return false
	}
	if p, err := netip.ParsePrefix(host); err == nil {
		return p.Contains(ip)
	}
	b, err1 := netip.ParseAddr(base)
	m, err2 := netip.ParseAddr(mask)
	if err1 != nil || err2 != nil || b.BitLen() != m.BitLen() || b.BitLen() != ip.BitLen() {
		return false
	}
	x, y, z := b.AsSlice(), m.AsSlice(), ip.AsSlice()
	for i := range x {
		if z[i]&y[i] != x[i] {
			return false
		}
	}
	return true
}

// like compares as the server does: % is any text, _ any byte, and a backslash escapes the next
// byte.
func like(pattern, s string) bool {
	star, mark := -1, 0 // where to continue after a %, which then matches one more byte of s
	for p, i := 0, 0; ; {
		switch {
		case p < len(pattern) && pattern[p] == '%':
			p++
			star, mark = p, i
			continue
		case p < len(pattern) && i < len(s):
			n := 1
			if pattern[p] == '\\' && p+1 < len(pattern) {
				n = 2
			}
			if pattern[p+n-1] == s[i] || n == 1 && pattern[p] == '_' {
				p, i = p+n, i+1
				continue
			}
		case p == len(pattern) && i == len(s):
			return true
		}
		if mark++; star < 0 || mark > len(s) {
			return false
		}
		p, i = star, mark
	}
}
