//go:build integration && unix

package database_test

import (
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/engine/database/postgres"
	"github.com/keyturn/keyturn/internal/engine/enginetest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/test/await"
	"github.com/keyturn/keyturn/test/pgtest"
)

type fields = map[string]any

// The guide's statements. The second one fails if the schema public has a table.
const (
	creation   = `CREATE ROLE "{{name}}" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'; GRANT SELECT ON ALL TABLES IN SCHEMA public TO "{{name}}";`
	revocation = `DROP ROLE IF EXISTS "{{name}}";`
)

const admin = `
CREATE ROLE vault_admin WITH LOGIN CREATEROLE PASSWORD 'vault_admin_password';
CREATE TABLE public.accounts (id int);
GRANT SELECT ON ALL TABLES IN SCHEMA public TO vault_admin WITH GRANT OPTION;`

type world struct {
	*enginetest.World
	t  *testing.T
	pg *pgtest.Server
}

func open(t *testing.T, c enginetest.Config) *world {
	t.Helper()
	pg := pgtest.Start(t, pgtest.Options{})
	pg.Exec(t, "postgres", admin)
	c.Log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	w := &world{enginetest.Open(t, database.New(postgres.Provider), c), t, pg}
	w.Must(t, route.Write, "config/production", fields{
		"plugin_name": "postgresql-database-plugin", "allowed_roles": "app-*", "username": "vault_admin",
		"password":                "vault_admin_password",
		"connection_url":          "postgresql://{{username}}:{{password}}@" + pg.Addr() + "/postgres?sslmode=disable",
		"password_authentication": "scram-sha-256",
	})
	w.Must(t, route.Write, "roles/app-readonly", fields{
		"db_name": "production", "creation_statements": creation, "revocation_statements": revocation,
		"default_ttl": "3s", "max_ttl": "1h",
	})
	return w
}

func (w *world) issue(role string) (name, password, lease string) {
	w.t.Helper()
	a := w.Must(w.t, route.Read, "creds/"+role, nil)
	return a.Data["username"].(string), a.Data["password"].(string), a.Lease.ID
}

func (w *world) login(name, password string) error {
	conn, err := pgx.Connect(w.t.Context(), w.pg.UserDSN(name, password, "postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(w.t.Context())
	_, err = conn.Exec(w.t.Context(), "SELECT * FROM public.accounts")
	return err
}

// users returns the number of issued users in the database.
func (w *world) users() int64 {
	return w.pg.Int(w.t, "postgres", "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'v-%'")
}

// TestGuideRole checks that a renewed user can log in after its first TTL and is gone after its
// last. The role then says that its statements do not suffice.
func TestGuideRole(t *testing.T) {
	w := open(t, enginetest.Config{})
	asked := time.Now()
	name, password, id := w.issue("app-readonly")
	login := func() error { return w.login(name, password) }
	if err := await.Within(asked.Add(3*time.Second), login); err != nil {
		t.Fatal(err)
	}
	asked = time.Now()
	if _, err := w.Renew(id, 8*time.Second); err != nil {
		t.Fatal(err)
	}
	first := time.Now().Add(4 * time.Second)
	await.Eventually(t, "after the first TTL", func() bool { return time.Now().After(first) })
	if err := await.Within(asked.Add(8*time.Second), login); err != nil {
		t.Errorf("after a renewal, past the first TTL: %v", err)
	}
	await.Eventually(t, "expired", func() bool { return w.users() == 0 && len(w.IDs(t)) == 0 })
	if a := w.Must(t, route.Read, "roles/app-readonly", nil); len(a.Warnings) != 1 ||
		!strings.Contains(a.Warnings[0], "2BP01") {
		t.Errorf("warnings %q, want one of 2BP01", a.Warnings)
	}
	w.Must(t, route.Write, "roles/app-readonly", fields{"revocation_statements": []string{}})
	_, _, id = w.issue("app-readonly")
	if err := w.Revoke(id); err != nil || w.users() != 0 {
		t.Errorf("revoking without statements: %v, %d users left", err, w.users())
	}
	if a := w.Must(t, route.Read, "roles/app-readonly", nil); a.Warnings != nil {
		t.Errorf("warnings %q of other statements", a.Warnings)
	}
}

// TestDeletedConnection checks that deleting a connection revokes its credentials, even if its
// name is used again.
//
// https://github.com/hashicorp/vault/issues/9420
func TestDeletedConnection(t *testing.T) {
	w := open(t, enginetest.Config{})
	_, _, id := w.issue("app-readonly")
	w.Must(t, route.Delete, "config/production", nil)
	w.Must(t, route.Write, "config/production", fields{
		"plugin_name": "postgresql-database-plugin", "connection_url": "postgresql://127.0.0.1:1/other",
		"username": "x", "password": "y", "verify_connection": false,
	})
	if err := w.Revoke(id); err != nil || w.users() != 0 {
		t.Errorf("revoking by the tombstone: %v, %d users left", err, w.users())
	}
}

// TestDyingWhileCreating kills the process during a create, and checks that its late effect is
// removed.
func TestDyingWhileCreating(t *testing.T) {
	w := open(t, enginetest.Config{})
	w.Must(t, route.Write, "roles/app-slow",
		fields{"db_name": "production", "creation_statements": []string{"SELECT pg_sleep(4)", creation},
			"revocation_statements": revocation})
	result := make(chan error, 1)
	go func() { _, err := w.Do(route.Read, "creds/app-slow", nil); result <- err }()
	await.Eventually(t, "creating", func() bool {
		return w.pg.Int(t, "postgres",
			"SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'keyturn %'") == 1
	})
	w.Reopen(t)
	if err := <-result; err == nil {
		t.Error("the create of a process that died succeeded")
	}
	await.Eventually(t, "undone", func() bool { return len(w.IDs(t)) == 0 })
	if n := w.users(); n != 0 {
		t.Errorf("%d users left", n)
	}
}

// TestCrowd issues two hundred users at once through four connections, and lets them expire.
func TestCrowd(t *testing.T) {
	w := open(t, enginetest.Config{})
	var all sync.WaitGroup
	for range 200 {
		all.Go(func() {
			if _, err := w.Do(route.Read, "creds/app-readonly", nil); err != nil && !fault.Is(err, fault.Timeout) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	await.Eventually(t, "all expired", func() bool { return w.users() == 0 && len(w.IDs(t)) == 0 })
}

// TestNoSecretInErrors checks that errors of a real server show no password.
func TestNoSecretInErrors(t *testing.T) {
	w := open(t, enginetest.Config{})
	_, err := w.Do(route.Write, "config/bad", fields{
		"plugin_name":    "postgresql-database-plugin",
		"connection_url": "postgresql://{{username}}:{{password}}@" + w.pg.Addr() + "/postgres?sslmode=disable",
		"username":       "vault_admin", "password": "canary-password",
	})
	if !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Message(err), "wrong password") {
		t.Errorf("a wrong password: %v", err)
	}
	w.Must(t, route.Write, "roles/app-leak",
		fields{"db_name": "production", "creation_statements": `CREATE ROLE "{{name}}"; SELECT '{{password}}'::int`})
	_, leak := w.Do(route.Read, "creds/app-leak", nil)
	for _, err := range []error{err, leak} {
		if err == nil || strings.Contains(err.Error(), "canary-password") || strings.Contains(err.Error(), "Pw-") {
			t.Errorf("the error is %v", err)
		}
	}
}
