//go:build integration && unix

package postgres

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/test/await"
	"github.com/keyturn/keyturn/test/pgtest"
)

// testServer is a server with the guide's administrator and tables of other owners.
type testServer struct {
	*pgtest.Server
	t *testing.T
}

func newTestServer(t *testing.T, o pgtest.Options) testServer {
	s := pgtest.Start(t, o)
	s.Exec(t, "postgres", adminSQL+tablesSQL)
	return testServer{Server: s, t: t}
}

func (b testServer) connect(username, password string) database.Conn {
	b.t.Helper()
	c, err := Provider.Connect(b.t.Context(), configOf(b.Server, username, password))
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { c.Close() })
	return c
}

func newUser() database.User {
	id := make([]byte, 8)
	_, _ = rand.Read(id)
	return database.User{Name: "v-app-" + hex.EncodeToString(id),
		Password: secret.Text("pw-" + hex.EncodeToString(id)), Expires: time.Now().Add(time.Hour),
		Attempt: database.Attempt{ID: hex.EncodeToString(id), Deadline: time.Now().Add(await.Patience)}}
}

func (b testServer) create(c database.Conn, statements ...string) database.User {
	b.t.Helper()
	u := newUser()
	if err := c.Create(b.t.Context(), u, statements, nil); err != nil {
		b.t.Fatal(err)
	}
	return u
}

// as runs SQL as a user.
func (b testServer) as(u database.User, sql string) {
	b.t.Helper()
	ctx := b.t.Context()
	conn, err := pgx.Connect(ctx, b.UserDSN(u.Name, u.Password.RevealString(), "postgres"))
	if err != nil {
		b.t.Fatal(err)
	}
	defer conn.Close(ctx)
	if _, err := conn.PgConn().Exec(ctx, sql).ReadAll(); err != nil {
		b.t.Fatalf("%q as the user: %v", sql, err)
	}
}

func (b testServer) wantGone(u database.User) {
	b.t.Helper()
	if n := b.Int(b.t, "postgres", "SELECT count(*) FROM pg_roles WHERE rolname = '"+u.Name+"'"); n != 0 {
		b.t.Errorf("%s is still there", u.Name)
	}
}

// asEachAdmin runs a test as superuser and as the guide's administrator.
func asEachAdmin(t *testing.T, b testServer, f func(t *testing.T, b testServer, c database.Conn)) {
	for _, admin := range [][2]string{{pgtest.Superuser, pgtest.Password}, {"vault_admin", "vault_admin_password"}} {
		t.Run(admin[0], func(t *testing.T) {
			b := testServer{Server: b.Server, t: t}
			f(t, b, b.connect(admin[0], admin[1]))
		})
	}
}

// TestRevocation checks that a user is revoked whatever it owns or was granted, and that the
// report says what was necessary.
//
// https://github.com/hashicorp/vault/issues/1857
// https://github.com/hashicorp/vault/issues/1994
func TestRevocation(t *testing.T) {
	b := newTestServer(t, pgtest.Options{})
	asEachAdmin(t, b, func(t *testing.T, b testServer, c database.Conn) {
		for _, test := range []struct {
			name       string
			creation   []string
			revocation []string
			before     func(u database.User) // what the user does meanwhile
			notes      []string              // what the report must mention
		}{
			{name: "the guide's, with tables", creation: []string{guide}, revocation: []string{guideDrop},
				notes: []string{"privileges", "2BP01"}},
			{name: "our own, with tables", creation: []string{guide}},
			{name: "drop owned", creation: []string{guide},
				revocation: []string{`DROP OWNED BY "{{name}}"; DROP ROLE IF EXISTS "{{name}}";`},
				notes:      []string{"*"}},
			{name: "objects, the guide's", creation: []string{guide, `GRANT CREATE ON SCHEMA mine TO "{{name}}"`},
				revocation: []string{guideDrop}, before: func(u database.User) {
					b.as(u, `CREATE TABLE mine."it's`+u.Name+`" (n int); INSERT INTO mine."it's`+u.Name+
						`" VALUES (7); CREATE FUNCTION mine.f`+u.Name[6:]+`() RETURNS int LANGUAGE sql AS 'SELECT 1'`)
				}, notes: []string{"handed", "2BP01"}},
			{name: "objects, our own", creation: []string{guide, `GRANT CREATE ON SCHEMA mine TO "{{name}}"`},
				before: func(u database.User) { b.as(u, `CREATE TABLE mine."`+u.Name+`" (n int)`) },
				notes:  []string{"handed"}},
			{name: "all kinds of privileges", creation: []string{guide, `GRANT USAGE, CREATE ON SCHEMA mine TO "{{name}}"; GRANT TEMPORARY ON DATABASE postgres TO "{{name}}"; GRANT EXECUTE ON FUNCTION mine.fn(int, text) TO "{{name}}";
				GRANT USAGE ON SEQUENCE mine.seq TO "{{name}}"; GRANT USAGE ON TYPE mine.kind TO "{{name}}"; GRANT SELECT (a), UPDATE (b) ON mine."odd ""table" TO "{{name}}"; GRANT helpers TO "{{name}}"`},
				revocation: []string{guideDrop}, notes: []string{"privileges", "membership in helpers"}},
			{name: "grant option passed on",
				creation:   []string{guide, `GRANT SELECT ON mine.given TO "{{name}}" WITH GRANT OPTION`},
				revocation: []string{guideDrop},
				before:     func(u database.User) { b.as(u, `GRANT SELECT ON mine.given TO helpers`) },
				notes:      []string{"privileges"}},
			{name: "default privileges", creation: []string{guide,
				`ALTER DEFAULT PRIVILEGES IN SCHEMA mine GRANT SELECT ON TABLES TO "{{name}}"`},
				revocation: []string{guideDrop}, notes: []string{"2BP01"}},
			{name: "a member of us", creation: []string{guide, `GRANT vault_admin TO "{{name}}"`},
				revocation: []string{guideDrop}, notes: []string{"membership in vault_admin"}},
			{name: "a member of us, our own", creation: []string{guide, `GRANT vault_admin TO "{{name}}"`},
				notes: []string{"*"}},
			{name: "owns a schema", creation: []string{guide, `GRANT CREATE ON DATABASE postgres TO "{{name}}"`},
				revocation: []string{guideDrop}, before: func(u database.User) {
					b.as(u, `CREATE SCHEMA "`+u.Name+`"; CREATE TABLE "`+u.Name+`".t (n int)`)
				}, notes: []string{"handed"}},
		} {
			t.Run(test.name, func(t *testing.T) {
				b := testServer{Server: b.Server, t: t}
				b.Exec(t, "postgres", hostileSQL)
				u := b.create(c, test.creation...)
				if test.before != nil {
					test.before(u)
				}
				r, err := c.Drop(t.Context(), u.Name, database.DropOptions{Statements: test.revocation})
				if err != nil || r.Remains {
					t.Fatalf("%+v, %v", r, err)
				}
				b.wantGone(u)
				all := strings.Join(r.Notes, "\n")
				t.Log(all)
				for _, want := range test.notes {
					if want != "*" && !strings.Contains(all, want) {
						t.Errorf("the report does not mention %q: %q", want, r.Notes)
					}
				}
				if len(test.notes) == 0 && len(r.Notes) > 0 {
					t.Errorf("the report of a normal revocation has %q", r.Notes)
				}
				if again, err := c.Drop(t.Context(), u.Name,
					database.DropOptions{Statements: test.revocation}); err != nil || len(again.Notes) > 0 {
					t.Errorf("again: %+v, %v", again, err)
				}
			})
		}
		if n := b.Int(t, "postgres",
			`SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = 'mine' AND relname LIKE '%v-app-%'`); n != 2 {
			t.Errorf("%d tables of the users are left, want 2: revoking must not delete data", n)
		}
		b.Exec(t, "postgres", `DROP SCHEMA mine CASCADE`)
	})
}

// hostileSQL creates a schema with every kind of object on which privileges can be granted.
// vault_admin may grant them, but does not own them.
const hostileSQL = `
DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'helpers') THEN CREATE ROLE helpers; END IF; END $$;
CREATE SCHEMA IF NOT EXISTS mine; ALTER SCHEMA mine OWNER TO app_owner;
CREATE TABLE IF NOT EXISTS mine."odd ""table" (a int, b int); CREATE TABLE IF NOT EXISTS mine.given (a int); CREATE SEQUENCE IF NOT EXISTS mine.seq;
CREATE OR REPLACE FUNCTION mine.fn(int, text) RETURNS int LANGUAGE sql AS 'SELECT 1';
DO $$ BEGIN CREATE TYPE mine.kind AS ENUM ('a'); EXCEPTION WHEN duplicate_object THEN NULL; END $$;
GRANT ALL ON SCHEMA mine TO vault_admin WITH GRANT OPTION; GRANT ALL ON ALL TABLES IN SCHEMA mine TO vault_admin WITH GRANT OPTION;
GRANT ALL ON SEQUENCE mine.seq TO vault_admin WITH GRANT OPTION; GRANT ALL ON FUNCTION mine.fn(int, text) TO vault_admin WITH GRANT OPTION;
GRANT ALL ON TYPE mine.kind TO vault_admin WITH GRANT OPTION; GRANT ALL ON DATABASE postgres TO vault_admin WITH GRANT OPTION;
GRANT SELECT ON mine.given TO helpers; GRANT USAGE ON SCHEMA mine TO PUBLIC;
`

// TestGrantedBySomebodyElse checks privileges that another grantor must revoke. A superuser can
// act as the grantor; for the guide's administrator, the error names the grantor.
func TestGrantedBySomebodyElse(t *testing.T) {
	b := newTestServer(t, pgtest.Options{})
	const odd = `we"ird 'one`
	b.Exec(t, "postgres",
		`CREATE ROLE "we""ird 'one"; GRANT SELECT ON public.orders TO "we""ird 'one" WITH GRANT OPTION`)
	asEachAdmin(t, b, func(t *testing.T, b testServer, c database.Conn) {
		u := b.create(c, guide)
		b.Exec(t, "postgres", `SET ROLE "we""ird 'one"; GRANT SELECT ON public.orders TO "`+u.Name+`"`)
		r, err := c.Drop(t.Context(), u.Name, database.DropOptions{Statements: []string{guideDrop}})
		if strings.HasSuffix(t.Name(), "/postgres") {
			if err != nil || r.Remains {
				t.Fatalf("%+v, %v", r, err)
			}
			b.wantGone(u)
			return
		}
		if !fault.Is(err, fault.Upstream) || !strings.Contains(fault.Message(err), odd) {
			t.Fatalf("%+v, %v; want an error, and the grantor in the report", r, err)
		}
		// When the grantor has revoked, the next attempt succeeds.
		b.Exec(t, "postgres", `SET ROLE "we""ird 'one"; REVOKE ALL ON public.orders FROM "`+u.Name+`"`)
		if r, err = c.Drop(t.Context(), u.Name, database.DropOptions{Statements: []string{guideDrop}}); err != nil ||
			r.Remains {
			t.Fatalf("%+v, %v", r, err)
		}
		b.wantGone(u)
	})
}

func TestOtherDatabase(t *testing.T) {
	b := newTestServer(t, pgtest.Options{})
	b.Exec(t, "postgres", `CREATE DATABASE "other one"`)
	b.Exec(t, "other one", `CREATE TABLE t (n int)`)
	c := b.connect(pgtest.Superuser, pgtest.Password)
	u := b.create(c, guide)
	b.Exec(t, "other one", `GRANT SELECT ON t TO "`+u.Name+`"`)
	r, err := c.Drop(t.Context(), u.Name, database.DropOptions{Statements: []string{guideDrop}})
	if err == nil || !strings.Contains(fault.Message(err), `"other one"`) {
		t.Errorf("%+v, %v; want an error with the database's name", r, err)
	}
}

func TestStatementsThatLeaveTheUser(t *testing.T) {
	b := newTestServer(t, pgtest.Options{})
	asEachAdmin(t, b, func(t *testing.T, b testServer, c database.Conn) {
		u := b.create(c, guide)
		r, err := c.Drop(t.Context(), u.Name,
			database.DropOptions{Statements: []string{`ALTER ROLE "{{name}}" NOLOGIN`}})
		if err != nil || !r.Remains {
			t.Errorf("%+v, %v; want a report that the user remains", r, err)
		}
		if _, err := c.Drop(t.Context(), u.Name, database.DropOptions{}); err != nil {
			t.Error(err)
		}
	})
}

// TestTerminateSessions checks that the sessions of a user end with it if requested.
//
// https://github.com/hashicorp/vault/issues/10681
// https://github.com/hashicorp/vault/pull/8668
func TestTerminateSessions(t *testing.T) {
	b := newTestServer(t, pgtest.Options{})
	asEachAdmin(t, b, func(t *testing.T, b testServer, c database.Conn) {
		for _, statements := range [][]string{{guideDrop}, nil} {
			u := b.create(c, guide)
			ctx := t.Context()
			session, err := pgx.Connect(ctx, b.UserDSN(u.Name, u.Password.RevealString(), "postgres"))
			if err != nil {
				t.Fatal(err)
			}
			defer session.Close(ctx)
			r, err := c.Drop(ctx, u.Name, database.DropOptions{Statements: statements, TerminateSessions: true})
			if err != nil || !strings.Contains(strings.Join(r.Notes, "\n"), "ended 1") {
				t.Errorf("%+v, %v", r, err)
			}
			if _, err := session.Exec(ctx, "SELECT 1"); err == nil {
				t.Error("the session outlived its user")
			}
			b.wantGone(u)
		}
	})
}

// TestSessionsAreClean checks that a role's statements that change their session do not affect the
// next call.
func TestSessionsAreClean(t *testing.T) {
	b := newTestServer(t, pgtest.Options{})
	config := configOf(b.Server, pgtest.Superuser, pgtest.Password)
	config.MaxOpen = 1
	c, err := Provider.Connect(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b.create(c, guide, "SET ROLE app_owner", "SET application_name = 'strange'")
	u := b.create(c, guide) // app_owner could not
	if _, err := c.Drop(t.Context(), u.Name, database.DropOptions{}); err != nil {
		t.Error(err)
	}
	if n := b.Int(t, "postgres", "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'keyturn'"); n != 1 {
		t.Errorf("%d idle sessions named keyturn, want 1", n)
	}
}

// TestGrantsCollide creates many users at once with GRANT ON ALL TABLES, on two connections, as
// two nodes would have, and drops them with statements that suffice and with the guide's, which do
// not.
func TestGrantsCollide(t *testing.T) {
	const crowd = 500
	b := newTestServer(t, pgtest.Options{})
	asEachAdmin(t, b, func(t *testing.T, b testServer, c database.Conn) {
		conns := []database.Conn{c, b.connect("vault_admin", "vault_admin_password")}
		revocations := []string{`DROP OWNED BY "{{name}}"; DROP ROLE IF EXISTS "{{name}}";`, guideDrop}
		failed := make(chan error, crowd)
		began := time.Now()
		for i := range crowd {
			go func() {
				u := newUser()
				u.Attempt.Deadline = time.Now().Add(await.Patience)
				conn := conns[i%2]
				err := conn.Create(t.Context(), u, []string{guide}, nil)
				if err == nil {
					_, err = conn.Drop(t.Context(), u.Name,
						database.DropOptions{Statements: []string{revocations[i/2%2]}})
				}
				failed <- err
			}()
		}
		for range crowd {
			if err := <-failed; err != nil {
				t.Error(err)
			}
		}
		t.Logf("%d users in %v", crowd, time.Since(began))
		if n := b.Int(t, "postgres", "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'v-%'"); n != 0 {
			t.Errorf("%d users are left", n)
		}
	})
}

// TestServerNeverSeesThePassword logs all statements and checks the log.
func TestServerNeverSeesThePassword(t *testing.T) {
	b := newTestServer(t, pgtest.Options{Settings: map[string]string{"log_statement": "all"}})
	config := configOf(b.Server, pgtest.Superuser, pgtest.Password)
	config.PasswordAuthentication = "scram-sha-256"
	c, err := Provider.Connect(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	u := b.create(c, guide)
	changed := secret.Text("changed-" + u.Name)
	if err := c.SetPassword(t.Context(), u.Name, changed, nil); err != nil {
		t.Fatal(err)
	}
	log := b.LogTail(1 << 20)
	if !strings.Contains(log, u.Name) || strings.Contains(log, u.Password.RevealString()) ||
		strings.Contains(log, changed.RevealString()) {
		t.Error("the server's log has a password in it, or nothing at all")
	}
	// libpq must also accept the verifier.
	psql := exec.CommandContext(t.Context(), b.Binary("psql"), b.UserDSN(u.Name, changed.RevealString(), "postgres"),
		"-Atc", "SELECT count(*) >= 0 FROM public.orders")
	if out, err := psql.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "t" {
		t.Errorf("psql: %s, %v", out, err)
	}
}

func TestVerifyExplains(t *testing.T) {
	b := newTestServer(t, pgtest.Options{})
	for _, test := range []struct{ url, username, password, want string }{
		{"postgresql://{{username}}:{{password}}@127.0.0.1:1/none?sslmode=disable", "u", "p-canary",
			"nothing listens"},
		{"postgresql://{{username}}:{{password}}@" + b.Addr() + "/postgres?sslmode=disable", "postgres", "p-canary",
			"28P01"},
		{"postgresql://{{username}}:{{password}}@" + b.Addr() + "/none?sslmode=disable", "postgres", pgtest.Password,
			"3D000"},
		{"postgresql://{{username}}:{{password}}@" + b.Addr() + "/postgres?sslmode=require", "postgres",
			pgtest.Password, "no TLS"},
		{"postgresql://{{username}}:{{password}}@no-such-host.invalid/postgres", "postgres", pgtest.Password,
			"resolved"},
	} {
		c, err := Provider.Connect(t.Context(),
			database.Config{URL: secret.Text(test.url), Username: test.username, Password: secret.Text(test.password)})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		ctx, cancel := context.WithTimeout(t.Context(), await.Patience)
		defer cancel()
		err = c.Verify(ctx)
		if !fault.Is(err, fault.Upstream) || !strings.Contains(fault.Message(err), test.want) ||
			!database.Unchanged(err) || strings.Contains(fmt.Sprint(err), test.password) {
			t.Errorf("%s: %v, want Upstream and %q, unchanged, without the password", test.url, err, test.want)
		}
	}
}

// TestSessionsKept counts the sessions that stay open between calls.
func TestSessionsKept(t *testing.T) {
	b := newTestServer(t, pgtest.Options{})
	for _, test := range []struct {
		idle int
		want int64
	}{{0, 1}, {1, 1}, {-1, 0}} {
		config := configOf(b.Server, pgtest.Superuser, pgtest.Password)
		config.MaxIdle = test.idle
		c, err := Provider.Connect(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if err := c.Verify(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		const sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'keyturn'"
		got := b.Int(t, "postgres", sql)
		for until := time.Now().Add(3 * time.Second); got != test.want && time.Now().Before(until); {
			got = b.Int(t, "postgres", sql)
		}
		if got != test.want {
			t.Errorf("max_idle_connections=%d keeps %d sessions, want %d", test.idle, got, test.want)
		}
		c.Close()
		for until := time.Now().Add(3 * time.Second); b.Int(t, "postgres", sql) != 0; {
			if time.Now().After(until) {
				t.Fatal("sessions outlive Close")
			}
		}
	}
}

// TestDisabledWhateverTheUserDoes checks that an open transaction of a user, even one that has
// changed its own role, does not prevent Disable.
func TestDisabledWhateverTheUserDoes(t *testing.T) {
	b := newTestServer(t, pgtest.Options{})
	c := b.connect("vault_admin", "vault_admin_password")
	for _, open := range []string{"SELECT 1", "SELECT * FROM accounts", "ALTER ROLE CURRENT_USER PASSWORD 'mine'",
		"ALTER ROLE CURRENT_USER SET work_mem = '8MB'"} {
		u := b.create(c, guide)
		session, err := pgx.Connect(t.Context(), b.UserDSN(u.Name, u.Password.RevealString(), "postgres"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := session.PgConn().Exec(t.Context(), "BEGIN; "+open).ReadAll(); err != nil {
			t.Fatal(err)
		}
		if err := c.Disable(t.Context(), u.Name); err != nil {
			t.Errorf("a user in a transaction after %q: %v", open, err)
		}
		if conn, err := pgx.Connect(t.Context(),
			b.UserDSN(u.Name, u.Password.RevealString(), "postgres")); err == nil {
			conn.Close(t.Context())
			t.Errorf("a user in a transaction after %q can log in", open)
		}
		session.Close(t.Context())
		if r, err := c.Drop(t.Context(), u.Name, database.DropOptions{}); err != nil {
			t.Errorf("dropping: %+v, %v", r, err)
		}
		b.wantGone(u)
	}
}

// TestWhatKeepsAUser checks that the error for a user that cannot be dropped names the database in
// which it owns something.
func TestWhatKeepsAUser(t *testing.T) {
	b := newTestServer(t, pgtest.Options{})
	b.Exec(t, "postgres", "CREATE DATABASE elsewhere")
	c := b.connect("vault_admin", "vault_admin_password")
	u := b.create(c, guide)
	b.Exec(t, "elsewhere", "CREATE TABLE theirs (id int); ALTER TABLE theirs OWNER TO \""+u.Name+"\"")
	for _, statements := range [][]string{nil, {guideDrop}} {
		_, err := c.Drop(t.Context(), u.Name, database.DropOptions{Statements: statements})
		if !database.Refused(err) || !strings.Contains(fault.Message(err), "elsewhere") ||
			!strings.Contains(err.Error(), "in database elsewhere") {
			t.Errorf("by %q: %v, message %q", statements, err, fault.Message(err))
		}
	}
}
