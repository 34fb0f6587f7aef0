//go:build integration && unix

package database_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	driver "github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"

	"github.com/keyturn/keyturn/internal/engine/database/mysql"
	"github.com/keyturn/keyturn/internal/engine/database/postgres"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/test/await"
	"github.com/keyturn/keyturn/test/mariatest"
	"github.com/keyturn/keyturn/test/pgtest"
	"github.com/keyturn/keyturn/test/tlstest"
)

// held is an issued certificate.
type held struct{ name, certificate, key, lease string }

func (w *world) hold(path string) held {
	w.t.Helper()
	a := w.Must(w.t, route.Read, path, nil)
	if a.Data["password"] != nil {
		w.t.Errorf("%s gives out a password", path)
	}
	h := held{name: a.Data["username"].(string), certificate: a.Data["client_certificate"].(string),
		key: a.Data["private_key"].(string)}
	if a.Lease != nil {
		h.lease = a.Lease.ID
	}
	return h
}

// files writes the certificate and key to files.
func (h held) files(t *testing.T) (cert, key string) {
	t.Helper()
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, text := range map[string]string{cert: h.certificate, key: h.key} {
		if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

func (h held) tls(t *testing.T, ca string) *tls.Config {
	t.Helper()
	pair, err := tls.X509KeyPair([]byte(h.certificate), []byte(h.key))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(ca))
	return &tls.Config{RootCAs: roots, ServerName: "127.0.0.1", Certificates: []tls.Certificate{pair}}
}

// signedBy returns the configuration of certificates that an authority signs.
func signedBy(t *testing.T, f tlstest.Files, more fields) fields {
	t.Helper()
	key, err := os.ReadFile(f.Key)
	if err != nil {
		t.Fatal(err)
	}
	c := fields{"ca_cert": f.PEM, "ca_private_key": string(key), "key_type": "ec"}
	for k, v := range more {
		c[k] = v
	}
	return fields{"credential_type": "client_certificate", "credential_config": c}
}

func hostssl(t *testing.T) (*place, tlstest.Files) {
	t.Helper()
	f := tlstest.Certificates(t)
	pg := pgtest.Start(t, pgtest.Options{TLS: &f, HBA: []string{"hostssl all vault_admin 127.0.0.1/32 scram-sha-256",
		"hostssl all +by_certificate 127.0.0.1/32 cert"}})
	pg.Exec(t, "postgres", admin+`CREATE ROLE by_certificate NOLOGIN; GRANT by_certificate TO vault_admin WITH ADMIN OPTION; GRANT SELECT ON public.accounts TO by_certificate;
CREATE ROLE svc LOGIN IN ROLE by_certificate; CREATE ROLE outside LOGIN PASSWORD 'x';`)
	w := with(t, postgres.Provider)
	w.pg = pg
	w.Must(t, route.Write, "config/production", fields{
		"plugin_name": "postgresql-database-plugin", "allowed_roles": "app-*", "username": "vault_admin",
		"password":       "vault_admin_password",
		"connection_url": "postgresql://{{username}}:{{password}}@" + pg.Addr() + "/postgres?sslmode=verify-full",
		"tls_ca":         f.PEM,
	})
	return &place{world: w}, f
}

// enters logs in to PostgreSQL with a certificate, as a user.
func (w *world) enters(h held, as, ca string) error {
	w.t.Helper()
	config, err := pgx.ParseConfig("postgresql://" + w.pg.Addr() + "/postgres")
	if err != nil {
		w.t.Fatal(err)
	}
	config.User, config.TLSConfig, config.Fallbacks = as, h.tls(w.t, ca), nil
	conn, err := pgx.ConnectConfig(w.t.Context(), config)
	if err != nil {
		return err
	}
	defer conn.Close(w.t.Context())
	_, err = conn.Exec(w.t.Context(), "SELECT * FROM public.accounts")
	return err
}

// TestPostgresCertificates checks that a user of PostgreSQL can log in only with its issued
// certificate, and not after the revocation.
func TestPostgresCertificates(t *testing.T) {
	w, f := hostssl(t)
	role := fields{
		"db_name": "production", "default_ttl": "1m", "max_ttl": "1h",
		"creation_statements": `CREATE ROLE "{{name}}" WITH LOGIN VALID UNTIL '{{expiration}}' IN ROLE by_certificate;`,
	}
	for _, kind := range []fields{{"key_type": "ec"}, {"key_type": "rsa", "signature_bits": 512},
		{"key_type": "ed25519"}, {"key_type": "ec", "key_bits": 521}} {
		w.Must(t, route.Write, "roles/app-cert", w.with(role, signedBy(t, f, kind)))
		h := w.hold("creds/app-cert")
		if err := w.enters(h, h.name, f.PEM); err != nil {
			t.Errorf("%v: logging in: %v", kind, err)
		}
		cert, key := h.files(t)
		psql := func() (string, error) {
			cmd := exec.Command(w.pg.Binary("psql"), "-XAtc", "SELECT current_user",
				"host=127.0.0.1 dbname=postgres sslmode=verify-full sslrootcert="+f.CA+" sslcert="+cert+" sslkey="+key+
					" user="+h.name+" port="+portOf(w.pg.Addr()))
			out, err := cmd.CombinedOutput()
			return strings.TrimSpace(string(out)), err
		}
		if out, err := psql(); err != nil || out != h.name {
			t.Errorf("%v: psql says %q, %v; want %s", kind, out, err, h.name)
		}
		other := w.hold("creds/app-cert")
		if err := w.enters(other, h.name, f.PEM); err == nil {
			t.Error("another user's certificate is taken")
		}
		if _, err := w.Renew(h.lease, 30*time.Minute); err != nil {
			t.Errorf("renewing: %v", err)
		}
		for _, h := range []held{h, other} {
			if err := w.Revoke(h.lease); err != nil {
				t.Fatal(err)
			}
			if err := w.enters(h, h.name, f.PEM); err == nil {
				t.Error("a revoked user is let in")
			}
		}
		if out, err := psql(); err == nil {
			t.Errorf("psql after the revocation says %q", out)
		}
	}
	if n := w.users(); n != 0 {
		t.Errorf("%d users are left", n)
	}
}

// TestPostgresStaticCertificate checks that the certificate of a static role is rotated and
// verified by a login. A certificate of an authority that the server does not know is not
// published.
func TestPostgresStaticCertificate(t *testing.T) {
	w, f := hostssl(t)
	static := fields{"db_name": "production", "username": "svc", "rotation_period": "1h"}
	w.Refused(t, route.Write, "static-roles/app-svc", w.with(static, signedBy(t, tlstest.Certificates(t), nil)),
		fault.Upstream, "refuses the new certificate of svc at login")
	w.Refused(t, route.Write, "static-roles/app-none",
		w.with(static, w.with(signedBy(t, f, nil), fields{"username": "absent"})), fault.Upstream,
		"there is no user absent")
	w.Must(t, route.Write, "static-roles/app-svc", w.with(static, signedBy(t, f, nil)))
	first := w.hold("static-creds/app-svc")
	w.Must(t, route.Write, "rotate-role/app-svc", nil)
	second := w.hold("static-creds/app-svc")
	if first.certificate == second.certificate {
		t.Error("it did not turn")
	}
	for _, h := range []held{first, second} {
		if err := w.enters(h, "svc", f.PEM); err != nil {
			t.Errorf("logging in: %v", err)
		}
	}
	if a := w.Must(t, route.Read, "static-roles/app-svc", nil); len(a.Warnings) != 1 ||
		!strings.Contains(a.Warnings[0], "the certificate before is taken by the database until") {
		t.Errorf("warnings %q, want one of the certificate before", a.Warnings)
	}
	// A user that the server asks for a password cannot be tested, and the answer says so.
	w.Must(t, route.Write, "static-roles/app-outside",
		w.with(static, w.with(signedBy(t, f, nil), fields{"username": "outside"})))
	if a := w.Must(t, route.Read, "static-roles/app-outside", nil); len(a.Warnings) != 1 ||
		!strings.Contains(a.Warnings[0], "give it a line hostssl") {
		t.Errorf("warnings %q, want one of pg_hba.conf", a.Warnings)
	}
}

func portOf(address string) string { return address[strings.LastIndex(address, ":")+1:] }

func mariaTLS(t *testing.T) (*place, *mariatest.Server, tlstest.Files) {
	t.Helper()
	f := tlstest.Certificates(t)
	s := mariatest.Start(t, "--ssl-ca="+f.CA, "--ssl-cert="+f.Cert, "--ssl-key="+f.Key)
	s.Exec(t, `CREATE DATABASE app; CREATE ROLE app_readonly; GRANT SELECT ON app.* TO app_readonly;
CREATE USER 'keyturn'@'%' IDENTIFIED BY 'lender-password'; GRANT CREATE USER, PROCESS, CONNECTION ADMIN ON *.* TO 'keyturn'@'%';
GRANT SELECT, UPDATE ON mysql.* TO 'keyturn'@'%'; GRANT app_readonly TO 'keyturn'@'%' WITH ADMIN OPTION;
CREATE USER 'svc'@'%' REQUIRE SUBJECT '/CN=nobody'; CREATE USER 'strange'@'%' REQUIRE SUBJECT '/CN=nobody'`)
	w := with(t, mysql.Provider)
	w.Must(t, route.Write, "config/production", fields{
		"plugin_name": "mysql-database-plugin", "connection_url": "{{username}}:{{password}}@tcp(" + s.Addr() + ")/",
		"allowed_roles": "app-*",
		"username":      "keyturn", "password": "lender-password", "tls_ca": f.PEM,
	})
	return &place{world: w}, s, f
}

// entersMaria logs in to MariaDB as a user, with or without a certificate.
func entersMaria(t *testing.T, s *mariatest.Server, h held, as, ca string) error {
	t.Helper()
	config := driver.NewConfig()
	config.Net, config.Addr, config.User = "tcp", s.Addr(), as
	if ca != "" {
		config.TLS = h.tls(t, ca)
	}
	d, err := driver.NewConnector(config)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(d)
	defer db.Close()
	ctx, cancel := context.WithTimeout(t.Context(), await.Patience)
	defer cancel()
	return db.PingContext(ctx)
}

// TestMariaCertificates checks that an account of MariaDB requires the subject of its issued
// certificate.
func TestMariaCertificates(t *testing.T) {
	w, s, f := mariaTLS(t)
	role := w.with(signedBy(t, f, nil), fields{"db_name": "production", "default_ttl": "1m", "max_ttl": "1h"})
	w.Refused(t, route.Write, "roles/app-cert",
		w.with(role, fields{"creation_statements": "CREATE USER '{{name}}'@'%' REQUIRE X509"}), fault.Invalid,
		"REQUIRE SUBJECT '{{subject}}'")
	w.Must(t, route.Write, "roles/app-cert", w.with(role, fields{
		"creation_statements": "CREATE USER '{{name}}'@'%' REQUIRE SUBJECT '{{subject}}'; GRANT app_readonly TO " +
			"'{{name}}'@'%'; SET DEFAULT ROLE app_readonly FOR '{{name}}'@'%';",
	}))
	h, other := w.hold("creds/app-cert"), w.hold("creds/app-cert")
	if err := entersMaria(t, s, h, h.name, f.PEM); err != nil {
		t.Errorf("logging in: %v", err)
	}
	if err := entersMaria(t, s, other, h.name, f.PEM); err == nil {
		t.Error("another user's certificate is taken")
	}
	if err := entersMaria(t, s, h, h.name, ""); err == nil {
		t.Error("a login without a certificate is taken")
	}
	cert, key := h.files(t)
	client := func() (string, error) {
		out, err := exec.Command("mariadb", "--no-defaults", "--protocol=tcp", "-h127.0.0.1", "-P"+portOf(s.Addr()),
			"-u"+h.name, "--ssl-ca="+f.CA, "--ssl-cert="+cert, "--ssl-key="+key, "-Nse",
			"SELECT SUBSTRING_INDEX(USER(), '@', 1)").CombinedOutput()
		return strings.TrimSpace(string(out)), err
	}
	if out, err := client(); err != nil || out != h.name {
		t.Errorf("mariadb says %q, %v; want %s", out, err, h.name)
	}
	for _, h := range []held{h, other} {
		if err := w.Revoke(h.lease); err != nil {
			t.Fatal(err)
		}
		if err := entersMaria(t, s, h, h.name, f.PEM); err == nil {
			t.Error("a revoked user is let in")
		}
	}
	if out, err := client(); err == nil {
		t.Errorf("mariadb after the revocation says %q", out)
	}
}

// TestMariaStaticCertificate checks that a rotation binds the account to the new certificate, and
// that the old one is dead immediately.
func TestMariaStaticCertificate(t *testing.T) {
	w, s, f := mariaTLS(t)
	if a := w.Must(t, route.Write, "static-roles/app-strange",
		w.with(signedBy(t, tlstest.Certificates(t), nil), fields{
			"db_name": "production", "username": "strange", "rotation_period": "1h",
			"rotation_statements": "ALTER USER '{{name}}'@'%' REQUIRE SUBJECT '{{subject}}'",
		})); len(a.Warnings) != 1 || !strings.Contains(a.Warnings[0], "refuses the new certificate of strange") {
		t.Errorf("warnings %q, want one of an authority that the server does not trust", a.Warnings)
	}
	w.Must(t, route.Write, "static-roles/app-svc", w.with(signedBy(t, f, nil), fields{
		"db_name": "production", "username": "svc", "rotation_period": "1h",
		"rotation_statements": "ALTER USER '{{name}}'@'%' REQUIRE SUBJECT '{{subject}}'",
	}))
	first := w.hold("static-creds/app-svc")
	if err := entersMaria(t, s, first, "svc", f.PEM); err != nil {
		t.Errorf("logging in: %v", err)
	}
	w.Must(t, route.Write, "rotate-role/app-svc", nil)
	second := w.hold("static-creds/app-svc")
	if err := entersMaria(t, s, second, "svc", f.PEM); err != nil {
		t.Errorf("logging in after a turn: %v", err)
	}
	if err := entersMaria(t, s, first, "svc", f.PEM); err == nil {
		t.Error("the certificate before is taken after a turn")
	}
	if a := w.Must(t, route.Read, "static-roles/app-svc", nil); a.Warnings != nil {
		t.Errorf("warnings %q", a.Warnings)
	}
}
