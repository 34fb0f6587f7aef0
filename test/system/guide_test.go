//go:build integration

package system

import (
	"encoding/json"
	"errors"
	"os/exec"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/keyturn/keyturn/test/await"
	"github.com/keyturn/keyturn/test/harness"
	"github.com/keyturn/keyturn/test/pgtest"
)

// The guide's lines, unchanged except for the address of the database.
const (
	guideStatic = `
# Enable KV v2 (versioned) secrets engine
vault secrets enable -version=2 -path=static kv
# Store a third-party API key
vault kv put static/stripe/production \
api_key=sk_live_current_key \
rotated_at="2026-03-09T00:00:00Z" \
next_rotation="2026-04-08T00:00:00Z"
# Read the current version
vault kv get static/stripe/production
# After rotation, store the new key (old version preserved)
vault kv put static/stripe/production \
api_key=sk_live_new_rotated_key \
rotated_at="2026-04-08T00:00:00Z" \
next_rotation="2026-05-08T00:00:00Z"
# Roll back to previous version if needed
vault kv rollback -version=1 static/stripe/production
`
	guideDatabase = `
# Enable the database secrets engine
vault secrets enable database
# Configure the PostgreSQL connection
vault write database/config/production \
plugin_name=postgresql-database-plugin \
allowed_roles="app-readonly,app-readwrite" \
connection_url="postgresql://{{username}}:{{password}}@db.example.com:5432/myapp" \
username="vault_admin" \
password="vault_admin_password"
# Create a read-only role with 30-minute credentials
vault write database/roles/app-readonly \
db_name=production \
creation_statements="CREATE ROLE \"{{name}}\" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'; GRANT SELECT ON ALL TABLES IN SCHEMA public TO \"{{name}}\";" \
revocation_statements="DROP ROLE IF EXISTS \"{{name}}\";" \
default_ttl=30m \
max_ttl=2h
# Application requests database credentials
vault read database/creds/app-readonly
`
	guidePolicy = `
path "aws/creds/deploy-service" {
capabilities = ["read"]
}
path "database/creds/app-readonly" {
capabilities = ["read"]
}
`
)

// typed runs lines in a shell, in which vault is a link to keyturn.
func typed(t *testing.T, s *harness.Server, lines string) string {
	t.Helper()
	cmd := exec.Command("bash", "-euo", "pipefail", "-c", lines)
	cmd.Dir, cmd.Env = s.Dir, s.Environ()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s\n%v\n%s", lines, err, out)
	}
	return string(out)
}

// refused runs a command that must fail with a permission denied.
func refused(t *testing.T, s *harness.Server, token string, args ...string) {
	t.Helper()
	cmd := s.Command("vault", args...)
	cmd.Env = append(cmd.Env, "VAULT_TOKEN="+token)
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "403") || !strings.Contains(string(out), "permission denied") {
		t.Errorf("vault %s: %v\n%s\nwant a 403", strings.Join(args, " "), err, out)
	}
}

func TestGuideStaticSecrets(t *testing.T) {
	t.Parallel()
	s := harness.Ready(t, harness.Options{})
	out := typed(t, s, guideStatic)
	for _, want := range []string{"Success! Enabled the kv secrets engine at: static/", "sk_live_current_key",
		"2026-04-08T00:00:00Z"} {
		if !strings.Contains(out, want) {
			t.Errorf("the output lacks %q:\n%s", want, out)
		}
	}
	for version, want := range map[string]string{"0": "sk_live_current_key", "1": "sk_live_current_key",
		"2": "sk_live_new_rotated_key", "3": "sk_live_current_key"} {
		if got := typed(t, s,
			"vault kv get -version="+version+
				" -field=api_key static/stripe/production"); strings.TrimSpace(got) != want {
			t.Errorf("version %s: %q, want %q", version, got, want)
		}
	}
}

func TestGuideDatabaseCredentials(t *testing.T) {
	t.Parallel()
	pg := pgtest.Start(t, pgtest.Options{})
	for name, rights := range map[string]string{"superuser": "SUPERUSER", "createrole": "CREATEROLE"} {
		t.Run(name, func(t *testing.T) {
			pg.Exec(t, "postgres", `DROP DATABASE IF EXISTS myapp`)
			pg.Exec(t, "postgres", `DROP ROLE IF EXISTS vault_admin`)
			pg.Exec(t, "postgres", `CREATE ROLE vault_admin LOGIN `+rights+` PASSWORD 'vault_admin_password'`)
			pg.Exec(t, "postgres", `CREATE DATABASE myapp`)
			pg.Exec(t, "myapp", `CREATE TABLE orders (id int PRIMARY KEY); INSERT INTO orders VALUES (7);
				GRANT ALL ON ALL TABLES IN SCHEMA public TO vault_admin WITH GRANT OPTION`)
			guideDatabaseOn(t, pg)
		})
	}
}

func guideDatabaseOn(t *testing.T, pg *pgtest.Server) {
	s := harness.Ready(t, harness.Options{Config: `outbound_allow = ["127.0.0.0/8"]`})
	typed(t, s, guideStatic)
	out := typed(t, s, strings.ReplaceAll(guideDatabase, "db.example.com:5432", pg.Addr()))
	for _, want := range []string{"database/creds/app-readonly/", "lease_duration", "30m", "username", "password"} {
		if !strings.Contains(out, want) {
			t.Errorf("the output lacks %q:\n%s", want, out)
		}
	}
	if n := roles(t, pg); n != 1 {
		t.Errorf("%d roles after reading credentials once", n)
	}
	// The module's policy allows a deploy-service token to read these, and nothing else.
	typed(t, s, "vault policy write deploy-service - <<'EOT'\n"+guidePolicy+"EOT\n")
	token := strings.TrimSpace(typed(t, s, "vault token create -policy=deploy-service -field=token"))
	creds := s.Command("vault", "read", "-format=json", "database/creds/app-readonly")
	creds.Env = append(creds.Env, "VAULT_TOKEN="+token)
	text, err := creds.Output()
	if err != nil {
		t.Fatalf("reading as deploy-service: %v\n%s", err, text)
	}
	var got struct {
		LeaseID  string `json:"lease_id"`
		Duration int    `json:"lease_duration"`
		Data     struct{ Username, Password string }
	}
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if got.Duration != 1800 {
		t.Errorf("the lease lasts %d s", got.Duration)
	}
	readsOnly(t, pg.UserDSN(got.Data.Username, got.Data.Password, "myapp"))
	for _, args := range [][]string{
		{"read", "database/creds/app-readwrite"}, {"read", "database/config/production"},
		{"read", "database/roles/app-readonly"},
		{"write", "database/creds/app-readonly", "a=b"}, {"list", "database/roles"},
		{"kv", "get", "static/stripe/production"},
		{"read", "sys/mounts"}, {"list", "sys/leases/lookup/database/creds/app-readonly"},
		{"read", "sys/policies/acl/deploy-service"},
	} {
		refused(t, s, token, args...)
	}
	listed := typed(t, s, "vault list sys/leases/lookup/database/creds/app-readonly")
	if _, id, _ := strings.Cut(got.LeaseID, "app-readonly/"); !strings.Contains(listed, id) {
		t.Errorf("lease %s is not listed:\n%s", id, listed)
	}
	// The guide's DROP ROLE fails on its own, because the role has privileges.
	typed(t, s, "vault lease revoke "+got.LeaseID)
	await.Eventually(t, "the revoked role is gone", func() bool { return roles(t, pg) == 1 })
	if _, err := pgx.Connect(t.Context(), pg.UserDSN(got.Data.Username, got.Data.Password, "myapp")); err == nil {
		t.Error("a revoked user can log in")
	}
	typed(t, s, "vault lease revoke -prefix database/creds/app-readonly")
	await.Eventually(t, "no role is left", func() bool { return roles(t, pg) == 0 })
}

func roles(t *testing.T, pg *pgtest.Server) int64 {
	t.Helper()
	return pg.Int(t, "postgres", `SELECT count(*) FROM pg_roles WHERE rolname LIKE 'v-%'`)
}

func readsOnly(t *testing.T, dsn string) {
	t.Helper()
	c, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatalf("logging in with the credentials: %v", err)
	}
	defer c.Close(t.Context())
	var id int
	if err := c.QueryRow(t.Context(), "SELECT id FROM orders").Scan(&id); err != nil || id != 7 {
		t.Errorf("reading: %d, %v", id, err)
	}
	_, err = c.Exec(t.Context(), "INSERT INTO orders VALUES (8)")
	if denied, ok := errors.AsType[*pgconn.PgError](err); !ok || denied.Code != "42501" {
		t.Errorf("writing: %v, want insufficient privilege", err)
	}
}
