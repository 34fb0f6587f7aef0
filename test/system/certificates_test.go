//go:build integration

package system

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/test/await"
	"github.com/keyturn/keyturn/test/harness"
	"github.com/keyturn/keyturn/test/pgtest"
	"github.com/keyturn/keyturn/test/tlstest"
)

// middle returns a line that identifies a PEM text.
func middle(pem string) string {
	lines := strings.Split(strings.TrimSpace(pem), "\n")
	return lines[len(lines)/2]
}

// keyPairs plants private keys: an authority's, in valid and invalid roles, and issued ones.
func (c *canaries) keyPairs() {
	files := tlstest.Certificates(c.t)
	key, err := os.ReadFile(files.Key)
	if err != nil {
		c.t.Fatal(err)
	}
	c.Plant("authority's key", middle(string(key)))
	role := func(kind string, config object) object {
		return object{"db_name": "good", "max_ttl": "1h", "credential_type": kind, "credential_config": config,
			"creation_statements": `CREATE ROLE "{{name}}" LOGIN; COMMENT ON ROLE "{{name}}" IS '{{public_key}}'`}
	}
	signed := object{"ca_cert": files.PEM, "ca_private_key": string(key), "key_type": "ec"}
	c.good("POST", "database/roles/signed", role("client_certificate", signed))
	c.good("POST", "database/roles/paired", role("rsa_private_key", object{}))
	for what, config := range map[string]object{
		"no certificate":         {"ca_private_key": string(key), "key_type": "ec"},
		"the key as certificate": {"ca_cert": string(key), "ca_private_key": string(key), "key_type": "ec"},
		"a key that is cut":      {"ca_cert": files.PEM, "ca_private_key": string(key[:len(key)-40]), "key_type": "ec"},
		"the key as another's":   {"ca_cert": files.PEM, "ca_private_key": string(key), "key_type": middle(string(key))},
	} {
		if a := c.ask(c.root, "POST", "database/roles/bad", role("client_certificate", config)); a.Status != 400 {
			c.t.Errorf("%s: status %d, want 400", what, a.Status)
		}
	}
	c.good("GET", "database/roles/signed", nil)
	c.Plant("issued key of a certificate",
		middle(c.ask(c.root, "GET", "database/creds/signed", nil).Text("data", "private_key")))
	c.Plant("lent RSA key", middle(c.ask(c.root, "GET", "database/creds/paired", nil).Text("data", "rsa_private_key")))
	c.pg.Exec(c.t, "postgres", "CREATE ROLE canary_static LOGIN")
	static := role("client_certificate", signed)
	delete(static, "creation_statements")
	delete(static, "max_ttl")
	static["username"], static["rotation_period"] = "canary_static", "1h"
	c.good("POST", "database/static-roles/signed", static)
	c.good("GET", "database/static-roles/signed", nil)
	c.Plant("key of a static role",
		middle(c.ask(c.root, "GET", "database/static-creds/signed", nil).Text("data", "private_key")))
	c.good("POST", "database/rotate-role/signed", nil)
}

// TestCertificates issues certificates with the documented commands, and logs in with psql: during
// the lease, after a kill of the server, and not after revocation and expiry.
func TestCertificates(t *testing.T) {
	files := tlstest.Certificates(t)
	pg := pgtest.Start(t, pgtest.Options{TLS: &files, HBA: []string{"hostssl all keyturn 127.0.0.1/32 scram-sha-256",
		"hostssl all +app_readonly 127.0.0.1/32 cert"}})
	pg.Exec(t, "postgres", "CREATE ROLE app_readonly NOLOGIN; CREATE ROLE keyturn LOGIN CREATEROLE PASSWORD "+
		"'lender-password'; GRANT app_readonly TO keyturn WITH ADMIN OPTION;")
	s := harness.Ready(t, harness.Options{Config: `outbound_allow = ["127.0.0.0/8"]`})
	run(t, s, "secrets", "enable", "database")
	run(t, s, "write", "database/config/production", "plugin_name=postgresql-database-plugin", "allowed_roles=*",
		"username=keyturn", "password=lender-password",
		"connection_url=postgresql://{{username}}:{{password}}@"+pg.Addr()+"/postgres?sslmode=verify-full",
		"tls_ca=@"+files.CA)
	key, err := os.ReadFile(files.Key)
	if err != nil {
		t.Fatal(err)
	}
	for role, ttl := range map[string]string{"short": "3s", "long": "30m"} {
		run(t, s, "write", "database/roles/"+role, "db_name=production", "default_ttl="+ttl, "max_ttl=2h",
			"credential_type=client_certificate",
			"credential_config=key_type=ec", "credential_config=ca_cert="+files.PEM,
			"credential_config=ca_private_key="+string(key),
			`creation_statements=CREATE ROLE "{{name}}" WITH LOGIN VALID UNTIL '{{expiration}}' IN ROLE app_readonly;`)
	}
	if shown := run(t, s, "read", "database/roles/long"); strings.Contains(shown, middle(string(key))) ||
		!strings.Contains(shown, "client_certificate") {
		t.Errorf("the role reads\n%s", shown)
	}
	long, lease := certified(t, s, pg, files, "long")
	short, _ := certified(t, s, pg, files, "short")
	for _, login := range []func() error{long, short} {
		if err := login(); err != nil {
			t.Error(err)
		}
	}
	s.Kill()
	s.Start(t)
	await.Eventually(t, "the short user is refused", func() bool { return short() != nil })
	if err := long(); err != nil {
		t.Errorf("after a kill: %v", err)
	}
	run(t, s, "lease", "renew", lease)
	run(t, s, "lease", "revoke", lease)
	if err := long(); err == nil {
		t.Error("a revoked user logs in")
	}
	if n := pg.Int(t, "postgres", "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'v-%'"); n != 0 {
		t.Errorf("%d users are left", n)
	}
}

// certified reads a role's credentials, and returns a function that logs in with them.
func certified(t *testing.T, s *harness.Server, pg *pgtest.Server, files tlstest.Files,
	role string) (login func() error, lease string) {
	t.Helper()
	var a struct {
		Lease string `json:"lease_id"`
		Data  struct {
			Username    string
			Certificate string `json:"client_certificate"`
			Key         string `json:"private_key"`
		}
	}
	out := run(t, s, "read", "-format=json", "database/creds/"+role)
	if err := json.Unmarshal([]byte(out), &a); err != nil || a.Data.Certificate == "" {
		t.Fatalf("reading credentials: %v: %s", err, out)
	}
	cert, key := filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	for path, text := range map[string]string{cert: a.Data.Certificate, key: a.Data.Key} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return func() error {
		return exec.Command(pg.Binary("psql"), "-XAtc", "SELECT 1",
			"host=127.0.0.1 port="+strconv.Itoa(pg.Port)+" dbname=postgres user="+a.Data.Username+
				" sslmode=verify-full sslrootcert="+files.CA+" sslcert="+cert+" sslkey="+key).Run()
	}, a.Lease
}
