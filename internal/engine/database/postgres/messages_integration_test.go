//go:build integration && unix

package postgres

import (
	"context"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/test/await"
	"github.com/keyturn/keyturn/test/mariatest"
	"github.com/keyturn/keyturn/test/pgtest"
)

// verify returns the message of an error of connecting.
func verify(t *testing.T, c database.Config) string {
	t.Helper()
	conn, err := Provider.Connect(t.Context(), c)
	if err != nil {
		return fault.Message(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), await.Patience)
	defer cancel()
	return fault.Message(conn.Verify(ctx))
}

// TestWhyNoConnection checks that the message names the actual cause, and not a more common one.
func TestWhyNoConnection(t *testing.T) {
	s := pgtest.Start(t, pgtest.Options{})
	maria := mariatest.Start(t)
	s.Exec(t, "postgres", adminSQL)
	s.Exec(t, "postgres", "CREATE DATABASE closed")
	s.Exec(t, "postgres", "REVOKE CONNECT ON DATABASE closed FROM PUBLIC")
	s.Exec(t, "postgres", "CREATE DATABASE readonly")
	s.Exec(t, "postgres", "ALTER DATABASE readonly SET default_transaction_read_only = on")
	s.Exec(t, "postgres", "CREATE ROLE expired LOGIN PASSWORD 'vault_admin_password' VALID UNTIL '2001-01-01'")
	for rest, want := range map[string]string{
		s.Addr() + "/readonly?target_session_attrs=read-write":                 "target_session_attrs",
		s.Addr() + "/readonly?target_session_attrs=read-write&sslmode=disable": "target_session_attrs",
		s.Addr() + "/postgres?target_session_attrs=standby":                    "target_session_attrs",
		s.Addr() + "/postgres?sslmode=require":                                 "has no TLS",
		s.Addr() + "/nowhere?sslmode=disable":                                  "there is no database nowhere",
		s.Addr() + "/closed":                                                   "GRANT CONNECT",
		s.Addr() + "/postgres?keepalives=1":                                    `"keepalives"`,
		s.Addr() + "/postgres?currentSchema=app":                               `"currentSchema", which is not supported: say search_path`,
		s.Addr() + "/postgres?nosuch=1":                                        "the parameter nosuch",
		s.Addr() + "/postgres?statement_timeout=abc":                           "the parameter statement_timeout",
		s.Addr() + "/postgres?options=-c%20nosuch%3D1":                         "nosuch in the parameter options",
		s.Addr() + "/postgres?target_session_attrs=readwrite":                  "choose one of any, read-write",
		s.Addr() + "/postgres?connect_timeout=abc":                             "connect_timeout",
		s.Addr() + "/postgres?sslmode=disable&channel_binding=require":         "channel_binding",
		s.Addr() + "/postgres?require_auth=md5":                                "require_auth",
		maria.Addr() + "/postgres":                                             "does not speak PostgreSQL's protocol",
	} {
		c := configOf(s, "vault_admin", "vault_admin_password")
		c.URL = secret.Text("postgresql://{{username}}:{{password}}@" + rest)
		if got := verify(t, c); !strings.Contains(got, want) {
			t.Errorf("%s: %q, want it to say %q", strings.Replace(rest, s.Addr(), "", 1), got, want)
		}
	}
	if got := verify(t, configOf(s, "expired", "vault_admin_password")); !strings.Contains(got, "VALID UNTIL") {
		t.Errorf("an administrator that has expired: %q", got)
	}
}

// TestWhyRefused checks that the message names the statement, the name in it, and what to do.
func TestWhyRefused(t *testing.T) {
	b := newTestServer(t, pgtest.Options{})
	config := configOf(b.Server, "vault_admin", "vault_admin_password")
	config.URL = secret.Text(config.URL.RevealString() + "&statement_timeout=2000")
	c, err := Provider.Connect(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for statement, want := range map[string]string{
		"SELECT pg_sleep(60)":          "statement_timeout",
		"CREATE ROLE vault_admin":      "statement 3 of creation_statements: vault_admin: it exists already",
		`GRANT nosuch TO "{{name}}"`:   "nosuch: no such role",
		`GRANT postgres TO "{{name}}"`: "WITH ADMIN OPTION",
		"GRANT CONNECT ON DATABASE nodb TO vault_admin": "nodb: no such database (SQLSTATE 3D000); correct the " +
			"statement",
		"SELECT nosuch FROM accounts": "nosuch: no such column",
	} {
		err := c.Create(t.Context(), newUser(), []string{guide, statement}, nil)
		if got := fault.Message(err); !strings.Contains(got, want) {
			t.Errorf("%s: %q, want it to say %q", statement, got, want)
		}
		if n := strings.Count(err.Error(), "ERROR:"); n != 1 {
			t.Errorf("%s: the server's message is %d times in %q, want once", statement, n, err)
		}
	}
	if err := c.SetPassword(t.Context(), "absent", secret.Text("password"), nil); !strings.Contains(fault.Message(err),
		"there is no user absent in PostgreSQL; create it first") {
		t.Errorf("a user that does not exist: %v", err)
	}
}

// TestGrantsThatGrantNothing checks that warnings of the server are reported for calls that
// succeed, without secrets, and that notices are not.
func TestGrantsThatGrantNothing(t *testing.T) {
	b := newTestServer(t, pgtest.Options{})
	c := b.connect("vault_admin", "vault_admin_password")
	var warnings []string
	ctx := database.OnWarning(t.Context(), func(text string) { warnings = append(warnings, text) })
	u := newUser()
	statements := []string{
		guide, "DROP TABLE IF EXISTS nosuch", `GRANT ALL ON DATABASE postgres TO "{{name}}"`,
		`DO $$ BEGIN RAISE WARNING 'the password is {{password}}'; END $$`,
	}
	if err := c.Create(ctx, u, statements, nil); err != nil {
		t.Fatal(err)
	}
	if len(warnings) != 2 || !strings.Contains(warnings[0], "01007") ||
		!strings.Contains(warnings[0], "WITH GRANT OPTION") {
		t.Errorf("warnings %q", warnings)
	}
	if strings.Contains(strings.Join(warnings, ""), u.Password.RevealString()) {
		t.Errorf("warnings show the password: %q", warnings)
	}
	warnings = nil
	if err := c.Create(ctx, newUser(), []string{guide}, nil); err != nil || len(warnings) != 0 {
		t.Errorf("a user without warnings: %q, %v", warnings, err)
	}
	if err := c.SetPassword(ctx, u.Name, secret.Text("another-password"),
		[]string{`ALTER ROLE "{{name}}" PASSWORD '{{password}}'; GRANT ALL ON DATABASE postgres TO "{{name}}"`}); err != nil || len(warnings) != 1 {
		t.Errorf("changing a password: %q, %v", warnings, err)
	}
}

// TestPooler checks that messages of PgBouncer are not taken for PostgreSQL's, and that a user
// that it does not know proves nothing.
func TestPooler(t *testing.T) {
	b := newTestServer(t, pgtest.Options{})
	b.Exec(t, "postgres",
		"CREATE ROLE svc LOGIN PASSWORD 'svc-password'; GRANT SELECT ON accounts TO vault_admin WITH GRANT OPTION")
	known := map[string]string{"vault_admin": "vault_admin_password", "svc": "svc-password"}
	at := func(address, rest string) database.Config {
		c := configOf(b.Server, "vault_admin", "vault_admin_password")
		c.URL = secret.Text("postgresql://{{username}}:{{password}}@" + address + rest)
		return c
	}
	address := b.Bouncer(t, "statement", known)
	c, err := Provider.Connect(t.Context(), at(address, "/postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	u := newUser()
	if err := c.Create(t.Context(), u, []string{guide}, nil); err != nil {
		t.Fatal(err)
	}
	if err := c.Disable(t.Context(), u.Name); err != nil {
		t.Error(err)
	}
	_, err = c.Drop(t.Context(), u.Name, database.DropOptions{Statements: []string{guideDrop}})
	if !strings.Contains(fault.Message(err), "statement mode") {
		t.Errorf("revoking what needs a transaction: %v, want it to name statement mode", err)
	}
	if _, err := c.Drop(t.Context(), u.Name, database.DropOptions{}); err != nil {
		t.Errorf("revoking in one message: %v", err)
	}
	if err := c.SetPassword(t.Context(), "svc", secret.Text("another-password"), nil); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"svc", "vault_unknown"} {
		if ok, err := c.Login(t.Context(), name, secret.Text("another-password")); ok ||
			!fault.Is(err, fault.Unsupported) {
			t.Errorf("the login of %s: %v, %v; want Unsupported", name, ok, err)
		}
	}
	for rest, want := range map[string]string{
		"/postgres?statement_timeout=5000": "the parameter statement_timeout of connection_url; remove that, or " +
			"name it in ignore_startup_parameters",
		"/nowhere": "no such database",
	} {
		if got := verify(t, at(address, rest)); !strings.Contains(got, want) {
			t.Errorf("%s: %q, want it to say %q", rest, got, want)
		}
	}
	wrong := at(address, "/postgres")
	wrong.Password = secret.Text("wrong-password")
	if got := verify(t, wrong); !strings.Contains(got, "auth_file") {
		t.Errorf("a wrong password: %q", got)
	}
}
