//go:build integration && unix

package postgres

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/engine/database/databasetest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/test/pgtest"
)

const guideDrop = `DROP ROLE IF EXISTS "{{name}}";`

// adminSQL creates the administrator of the guide. It is no superuser, but has CREATEROLE, and the
// grant option on what its roles grant.
const adminSQL = `
CREATE ROLE vault_admin WITH LOGIN CREATEROLE PASSWORD 'vault_admin_password';
CREATE ROLE app_owner;
`

const tablesSQL = `
CREATE TABLE public.accounts (id serial PRIMARY KEY, name text); CREATE TABLE public.orders (id int);
ALTER TABLE public.accounts OWNER TO app_owner;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO vault_admin WITH GRANT OPTION;
`

func configOf(s *pgtest.Server, username, password string) database.Config {
	return database.Config{URL: secret.Text("postgresql://{{username}}:{{password}}@" + s.Addr() +
		"/postgres?sslmode=disable"), Username: username, Password: secret.Text(password)}
}

func target(s *pgtest.Server, c database.Config) databasetest.Target {
	return databasetest.Target{
		Provider: Provider, Config: c, Network: true, Expires: true,
		Creation: []string{guide}, Revocation: []string{guideDrop},
		Broken:      []string{`CREATE ROLE "{{name}}"; SELECT '{{password}}'::int`},
		Password:    []string{`ALTER ROLE "{{username}}" WITH PASSWORD '{{password}}'`},
		BadPassword: []string{`SELECT '{{password}}'::int`},
		Keyed:       []string{`CREATE ROLE "{{name}}" LOGIN; COMMENT ON ROLE "{{name}}" IS '{{public_key}} {{subject}}'`},
		Rekeyed:     []string{`COMMENT ON ROLE "{{username}}" IS '{{public_key}} {{subject}}'`},
		Slow: func(d time.Duration) []string {
			return []string{fmt.Sprintf(`SELECT pg_sleep(%f)`, d.Seconds()), guide}
		},
		Login: func(ctx context.Context, name, password string) error {
			conn, err := pgx.Connect(ctx, s.UserDSN(name, password, "postgres"))
			if err != nil {
				return err
			}
			return conn.Close(ctx)
		},
		Exists: func(ctx context.Context, name string) (is bool, err error) {
			conn, err := pgx.Connect(ctx, s.DSN("postgres"))
			if err != nil {
				return false, err
			}
			defer conn.Close(ctx)
			err = conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", name).Scan(&is)
			return is, err
		},
		Shut: map[string]func(*testing.T, string){
			"NOLOGIN":     alter(s, "NOLOGIN"),
			"VALID UNTIL": alter(s, "VALID UNTIL '2001-01-01'"),
		},
		Bring: map[string]func(*testing.T, string){
			"NOLOGIN":     alter(s, "LOGIN"),
			"VALID UNTIL": alter(s, "VALID UNTIL 'infinity'"),
		},
		Stop:  func() error { s.Stop(); return nil },
		Start: s.Start,
	}
}

func alter(s *pgtest.Server, what string) func(*testing.T, string) {
	return func(t *testing.T, name string) { s.Exec(t, "postgres", `ALTER ROLE "`+name+`" WITH `+what) }
}

// TestLoginWithoutPassword checks that a login proves nothing about a password if pg_hba.conf
// trusts the user or has no line for it.
func TestLoginWithoutPassword(t *testing.T) {
	s := pgtest.Start(t, pgtest.Options{HBA: []string{"host all trusted all trust", "host all kept_out all reject"}})
	s.Exec(t, "postgres", adminSQL+"CREATE ROLE trusted LOGIN PASSWORD 'right'; CREATE ROLE kept_out LOGIN PASSWORD "+
		"'right'; CREATE ROLE normal LOGIN PASSWORD 'right'")
	c, err := Provider.Connect(t.Context(), configOf(s, "vault_admin", "vault_admin_password"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, name := range []string{"trusted", "kept_out"} {
		for _, password := range []string{"right", "wrong"} {
			if ok, err := c.Login(t.Context(), name, secret.Text(password)); ok || !fault.Is(err, fault.Unsupported) {
				t.Errorf("%s with the %s password: %v, %v; want Unsupported", name, password, ok, err)
			}
		}
	}
	if ok, err := c.Login(t.Context(), "normal", secret.Text("right")); err != nil || !ok {
		t.Errorf("a user that needs a password: %v, %v", ok, err)
	}
}

func TestConformance(t *testing.T) {
	for _, admin := range []struct{ name, user, password string }{
		{"superuser", pgtest.Superuser, pgtest.Password},
		{"vault_admin", "vault_admin", "vault_admin_password"},
	} {
		t.Run(admin.name, func(t *testing.T) {
			s := pgtest.Start(t, pgtest.Options{})
			s.Exec(t, "postgres", adminSQL)
			c := configOf(s, admin.user, admin.password)
			databasetest.Run(t, target(s, c))
			t.Run("verifiers", func(t *testing.T) {
				c.PasswordAuthentication = "scram-sha-256"
				scram := target(s, c)
				scram.Crowd = 50
				databasetest.Run(t, scram)
			})
		})
	}
}

// TestFailover checks that a pooled session of a server that became a standby is not used again.
func TestFailover(t *testing.T) {
	old, promoted := pgtest.Start(t, pgtest.Options{}), pgtest.Start(t, pgtest.Options{})
	for _, s := range []*pgtest.Server{old, promoted} {
		s.Exec(t, "postgres", adminSQL)
	}
	databasetest.RunFailover(t, target(old, configOf(old, "vault_admin", "vault_admin_password")), promoted.Addr(),
		func() {
			old.Exec(t, "postgres", "ALTER SYSTEM SET default_transaction_read_only = on")
			old.Exec(t, "postgres", "SELECT pg_reload_conf()")
			for old.Int(t, "postgres", "SELECT count(*) FROM pg_settings, pg_sleep(0.01) WHERE name = "+
				"'default_transaction_read_only' AND setting = 'on'") == 0 {
				t.Log("the server has not read its configuration yet")
			}
		})
}
