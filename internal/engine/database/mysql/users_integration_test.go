//go:build integration && unix

package mysql

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/engine/database/databasetest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/test/await"
	"github.com/keyturn/keyturn/test/mariatest"
	"github.com/keyturn/keyturn/test/tlstest"
)

func connect(t *testing.T, c database.Config) *conn {
	t.Helper()
	opened, err := Provider.Connect(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = opened.Close() })
	return opened.(*conn)
}

func accounts(t *testing.T, s *mariatest.Server, name string) int64 {
	t.Helper()
	n, err := s.Int(t.Context(), "SELECT COUNT(*) FROM mysql.user WHERE User = ?", name)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestStoppedInTheMiddle checks that the user is gone whichever statement fails, and that the
// rollback statements run.
func TestStoppedInTheMiddle(t *testing.T) {
	s := mariatest.Start(t)
	s.Exec(t, adminSQL)
	c := connect(t, configOf(s, adminUser, adminPassword))
	parts := []string{create, "CREATE USER '{{name}}'@'10.%' IDENTIFIED BY '{{password}}'",
		"GRANT SELECT ON app.* TO '{{name}}'@'%'", "GRANT SELECT ON app.* TO '{{name}}'@'10.%'"}
	for at := range len(parts) + 1 {
		u := databasetest.NewUser()
		statements := append(append([]string{}, parts[:at]...), "GRANT SELECT ON secret.* TO '{{name}}'@'%'")
		err := c.Create(t.Context(), u, append(statements, parts[at:]...), []string{"DROP USER '{{name}}'@'10.%'"})
		if !fault.Is(err, fault.Upstream) || !database.Unchanged(err) {
			t.Errorf("failing at %d: %v, unchanged %v", at, err, database.Unchanged(err))
		}
		if n := accounts(t, s, u.Name); n != 0 {
			t.Errorf("failing at %d left %d accounts", at, n)
		}
	}
}

// TestSeveralHosts checks that without statements all accounts of a name are changed and dropped.
func TestSeveralHosts(t *testing.T) {
	s := mariatest.Start(t)
	s.Exec(t, adminSQL)
	c := connect(t, configOf(s, adminUser, adminPassword))
	u := databasetest.NewUser()
	if err := c.Create(t.Context(), u,
		[]string{create, "CREATE USER '{{name}}'@'127.0.0.1' IDENTIFIED BY '{{password}}'"}, nil); err != nil {
		t.Fatal(err)
	}
	next := secret.Text("next-password")
	if err := c.SetPassword(t.Context(), u.Name, next, nil); err != nil {
		t.Fatal(err)
	}
	if n, err := s.Int(t.Context(), "SELECT COUNT(DISTINCT authentication_string) FROM mysql.user WHERE User = ?",
		u.Name); err != nil || n != 1 {
		t.Errorf("%d passwords, %v", n, err)
	}
	if ok, err := c.Login(t.Context(), u.Name, next); err != nil || !ok {
		t.Errorf("login: %v, %v", ok, err)
	}
	if _, err := c.Drop(t.Context(), u.Name, database.DropOptions{}); err != nil || accounts(t, s, u.Name) != 0 {
		t.Errorf("dropping: %v, %d left", err, accounts(t, s, u.Name))
	}
}

// TestStatementsThatMissAnAccount checks statements that drop only one of two accounts, or one
// that does not exist: the other accounts are dropped, and the report says so. Statements that
// drop no user leave it.
func TestStatementsThatMissAnAccount(t *testing.T) {
	s := mariatest.Start(t)
	s.Exec(t, adminSQL)
	c := connect(t, configOf(s, adminUser, adminPassword))
	const near = "CREATE USER '{{name}}'@'127.0.0.1' IDENTIFIED BY '{{password}}'"
	for _, tt := range []struct {
		creation   []string
		revocation string
		remains    bool
	}{
		{[]string{create, near}, drop, false},
		{[]string{near}, drop, false},
		{[]string{near}, "REVOKE ALL PRIVILEGES, GRANT OPTION FROM '{{name}}'@'%'; DROP USER IF EXISTS '{{name}}'@'%'",
			false},
		{[]string{create, near}, "ALTER USER '{{name}}'@'%' ACCOUNT LOCK", true},
	} {
		u := databasetest.NewUser()
		if err := c.Create(t.Context(), u, tt.creation, nil); err != nil {
			t.Fatal(err)
		}
		r, err := c.Drop(t.Context(), u.Name, database.DropOptions{Statements: []string{tt.revocation}})
		if err != nil || r.Remains != tt.remains || r.Insufficient == tt.remains ||
			(accounts(t, s, u.Name) > 0) != tt.remains {
			t.Errorf("%q by %q: %+v, %v, %d accounts left", tt.creation, tt.revocation, r, err, accounts(t, s, u.Name))
		}
	}
	u := databasetest.NewUser()
	if err := c.Create(t.Context(), u, []string{near}, nil); err != nil {
		t.Fatal(err)
	}
	_, err := c.Drop(t.Context(), u.Name,
		database.DropOptions{Statements: []string{"REVOKE ALL PRIVILEGES, GRANT OPTION FROM '{{name}}'@'%'"}})
	if !database.Refused(err) {
		t.Errorf("statements that drop no one and fail: %v, want it refused", err)
	}
}

// TestDefiner checks that a user that is a DEFINER is not dropped, neither by the role's
// statements nor by the default ones, until the object is dropped.
func TestDefiner(t *testing.T) {
	s := mariatest.Start(t)
	s.Exec(t, adminSQL+`
CREATE ROLE app_rw; GRANT ALL ON app.* TO app_rw; GRANT app_rw TO 'keyturn'@'%' WITH ADMIN OPTION;
GRANT SELECT, UPDATE ON mysql.* TO 'keyturn'@'%';
CREATE DATABASE far; CREATE TABLE far.things (id int); GRANT ALL ON far.* TO 'keyturn'@'%' WITH GRANT OPTION;`)
	c := connect(t, configOf(s, adminUser, adminPassword))
	byRole := []string{create, "GRANT app_rw TO '{{name}}'@'%'", "SET DEFAULT ROLE app_rw FOR '{{name}}'@'%'"}
	byGrant := []string{create, "GRANT ALL ON far.* TO '{{name}}'@'%'"}
	for _, tt := range []struct {
		creation         []string
		make, what, away string
	}{
		{byRole, "CREATE TRIGGER app.t BEFORE INSERT ON app.accounts FOR EACH ROW SET @a = 1", "trigger app.t",
			"DROP TRIGGER app.t"},
		{byRole, "CREATE VIEW app.v AS SELECT * FROM app.accounts", "view app.v", "DROP VIEW app.v"},
		{byRole, "CREATE PROCEDURE app.p() SELECT 1", "procedure app.p", "DROP PROCEDURE app.p"},
		{byRole, "CREATE FUNCTION app.f() RETURNS int RETURN 1", "function app.f", "DROP FUNCTION app.f"},
		{byRole, "CREATE EVENT app.e ON SCHEDULE EVERY 1 DAY DO SELECT 1", "event app.e", "DROP EVENT app.e"},
		{byGrant, "CREATE TRIGGER far.t BEFORE INSERT ON far.things FOR EACH ROW SET @a = 1", "trigger far.t",
			"DROP TRIGGER far.t"},
		{byRole, "CREATE SQL SECURITY INVOKER VIEW app.v AS SELECT * FROM app.accounts", "", "DROP VIEW app.v"},
		{byRole, "CREATE DEFINER = CURRENT_ROLE VIEW app.v AS SELECT * FROM app.accounts", "",
			"SELECT * FROM app.v; DROP VIEW app.v"},
	} {
		for _, statements := range [][]string{nil, {"REVOKE ALL PRIVILEGES, GRANT OPTION FROM '{{name}}'@'%'", drop}} {
			u := databasetest.NewUser()
			if err := c.Create(t.Context(), u, tt.creation, nil); err != nil {
				t.Fatal(err)
			}
			as(t, s, u, tt.make)
			_, err := c.Drop(t.Context(), u.Name, database.DropOptions{Statements: statements})
			if tt.what != "" {
				if !database.Refused(err) || !strings.Contains(fault.Message(err), tt.what) ||
					accounts(t, s, u.Name) != 1 {
					t.Errorf("%s, by %q: %v; want it refused because of the %s", tt.make, statements, err, tt.what)
				}
				s.Exec(t, tt.away)
				_, err = c.Drop(t.Context(), u.Name, database.DropOptions{Statements: statements})
			} else {
				s.Exec(t, tt.away)
			}
			if err != nil || accounts(t, s, u.Name) != 0 {
				t.Errorf("%s, by %q, without it: %v, %d accounts left", tt.make, statements, err,
					accounts(t, s, u.Name))
			}
		}
	}
	// The statements may drop the object themselves.
	u := databasetest.NewUser()
	if err := c.Create(t.Context(), u, byGrant, nil); err != nil {
		t.Fatal(err)
	}
	as(t, s, u, "CREATE VIEW far.own AS SELECT * FROM far.things")
	if _, err := c.Drop(t.Context(), u.Name,
		database.DropOptions{Statements: []string{"DROP VIEW IF EXISTS far.own", drop}}); err != nil {
		t.Errorf("statements that drop the view first: %v", err)
	}
}

func TestGrantLines(t *testing.T) {
	for line, want := range map[string][2][]string{
		"GRANT `app_rw` TO `u`@`%`":                                {{"`app_rw`"}, nil},
		"GRANT `a`@`%`,`b`@`%` TO `u`@`%` WITH ADMIN OPTION":       {{"`a`@`%`", "`b`@`%`"}, nil},
		"GRANT SELECT, CREATE VIEW ON `app`.* TO `u`@`%`":          {nil, {"SELECT", "CREATE VIEW"}},
		"GRANT SELECT (`a`, `b`), TRIGGER ON `app`.`t` TO `u`@`%`": {nil, {"SELECT", "`b`)", "TRIGGER"}},
		"SET DEFAULT ROLE `app_rw` FOR `u`@`%`":                    {nil, nil},
	} {
		roles, privileges := grant(line)
		if diff := cmp.Diff(want, [2][]string{roles, privileges}, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s:\n%s", line, diff)
		}
	}
}

// as runs SQL as a user.
func as(t *testing.T, s *mariatest.Server, u database.User, query string) {
	t.Helper()
	db, err := s.Open(u.Name, u.Password.RevealString())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), query); err != nil {
		t.Fatalf("%q as the user: %v", query, err)
	}
}

// TestSessionsEnd checks that the sessions of a user end with it if requested.
//
// https://github.com/hashicorp/vault/issues/10681
// https://github.com/hashicorp/vault/pull/8668
func TestSessionsEnd(t *testing.T) {
	s := mariatest.Start(t)
	s.Exec(t, adminSQL)
	c := connect(t, configOf(s, adminUser, adminPassword))
	for _, terminate := range []bool{false, true} {
		u := databasetest.NewUser()
		if err := c.Create(t.Context(), u, []string{guide}, nil); err != nil {
			t.Fatal(err)
		}
		db, err := s.Open(u.Name, u.Password.RevealString())
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		session, err := db.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer session.Close()
		r, err := c.Drop(t.Context(), u.Name,
			database.DropOptions{Statements: []string{drop}, TerminateSessions: terminate})
		if err != nil || (len(r.Notes) == 1) != terminate {
			t.Errorf("dropping: %+v, %v", r, err)
		}
		if _, err := session.ExecContext(t.Context(), "SELECT 1"); (err != nil) != terminate {
			t.Errorf("terminate_sessions %v: the session says %v", terminate, err)
		}
	}
}

// TestRoutinesAndSettings checks that a routine is one statement, and that a changed session is
// not used again.
func TestRoutinesAndSettings(t *testing.T) {
	s := mariatest.Start(t)
	s.Exec(t, "CREATE DATABASE app")
	config := configOf(s, mariatest.Admin, mariatest.Password)
	config.MaxOpen = 1
	c := connect(t, config)
	u := databasetest.NewUser()
	err := c.Create(t.Context(), u, []string{
		"SET SESSION sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES'; USE app",
		"CREATE PROCEDURE greet() BEGIN SELECT 'a;b'; SELECT 2; END;", "CALL greet()", create,
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	again := databasetest.NewUser()
	again.Password = secret.Text(`a\'b"`)
	if err := c.Create(t.Context(), again, []string{create}, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Login(t.Context(), again.Name, `a\'b"`); err != nil {
		t.Errorf("a password in a session after one with another sql_mode: %v", err)
	}
}

// TestErrorsQuoteNothing checks that errors do not show the password, even if the server quotes a
// part of the statement.
func TestErrorsQuoteNothing(t *testing.T) {
	s := mariatest.Start(t)
	c := connect(t, configOf(s, mariatest.Admin, mariatest.Password))
	u := databasetest.NewUser()
	u.Password = secret.Text("Canary" + strings.Repeat("y", 90) + "Canary")
	for _, bad := range []string{"SYNTAX '{{password}}'", "SELECT CAST('{{password}}' AS INT) FROM no.no",
		"SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = '{{password}}'"} {
		err := c.Create(t.Context(), u, []string{bad}, nil)
		if err == nil || strings.Contains(err.Error(), "Canary") || strings.Contains(fault.Message(err), "Canary") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// TestNoLocalFile checks that statements cannot read files of Keyturn's machine. With LOAD DATA
// LOCAL, the server asks the driver for a file.
func TestNoLocalFile(t *testing.T) {
	s := mariatest.Start(t, "--local-infile=1")
	s.Exec(t, "CREATE DATABASE app; CREATE TABLE app.stolen (line TEXT)")
	c := connect(t, configOf(s, mariatest.Admin, mariatest.Password))
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte("not yours\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	err := c.Create(t.Context(), databasetest.NewUser(),
		[]string{"LOAD DATA LOCAL INFILE '" + path + "' INTO TABLE app.stolen", create}, nil)
	if err == nil {
		t.Error("the statement succeeded")
	}
	if n, err := s.Int(t.Context(), "SELECT COUNT(*) FROM app.stolen"); err != nil || n != 0 {
		t.Errorf("%d lines of the file are in the database, %v", n, err)
	}
}

func TestTLS(t *testing.T) {
	certs := tlstest.Certificates(t)
	ca := certs.PEM
	s := mariatest.Start(t, "--ssl-cert="+certs.Cert, "--ssl-key="+certs.Key, "--ssl-ca="+certs.CA)
	s.Exec(t, "CREATE USER 'tls'@'%' IDENTIFIED BY 'tls-password' REQUIRE SSL; "+
		"GRANT SELECT ON mysql.user TO 'tls'@'%'")
	s.Exec(t, "CREATE USER 'certified'@'%' IDENTIFIED BY 'tls-password' REQUIRE X509; GRANT SELECT ON mysql.user TO "+
		"'certified'@'%'")
	certified := func(c *database.Config) { c.TLSCA, c.Username = ca, "certified" }
	var bundle []byte
	for _, path := range []string{certs.Cert, certs.Key} {
		part, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		bundle = append(bundle, part...)
	}
	for name, tt := range map[string]struct {
		edit func(*database.Config)
		want string // in the error; "": it works
	}{
		"verified": {func(c *database.Config) { c.TLSCA = ca }, ""},
		"unknown CA": {func(c *database.Config) { c.Extra = map[string]string{"tls_server_name": "127.0.0.1"} },
			"known authority"},
		"wrong name": {func(c *database.Config) {
			c.TLSCA, c.Extra = ca,
				map[string]string{"tls_server_name": "other"}
		}, "another name"},
		"not verified": {func(c *database.Config) { c.Extra = map[string]string{"tls_skip_verify": "true"} }, ""},
		"by the URL": {func(c *database.Config) {
			c.URL = secret.Text(c.URL.RevealString() + "?tls=skip-verify")
		}, ""},
		"no client's certificate": {certified, "wrong username"},
		"a client's certificate": {func(c *database.Config) {
			certified(c)
			c.Hidden = map[string]secret.Value{"tls_certificate_key": secret.New(bundle)}
		}, ""},
		"none": {func(*database.Config) {}, "wrong username"},
	} {
		c := configOf(s, "tls", "tls-password")
		tt.edit(&c)
		ctx, cancel := context.WithTimeout(t.Context(), await.Patience)
		err := connect(t, c).Verify(ctx)
		cancel()
		if tt.want == "" && err != nil || tt.want != "" &&
			(err == nil || !strings.Contains(fault.Message(err), tt.want)) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

// TestAnonymousGoesBefore checks that a login proves nothing if an anonymous account with a more
// specific host gets it.
func TestAnonymousGoesBefore(t *testing.T) {
	s := mariatest.Start(t)
	s.Exec(t, adminSQL+"CREATE USER 'svc'@'%' IDENTIFIED BY 'right'")
	c := connect(t, configOf(s, adminUser, adminPassword))
	if ok, err := c.Login(t.Context(), "svc", secret.Text("right")); err != nil || !ok {
		t.Errorf("before: %v, %v", ok, err)
	}
	if err := c.Verify(t.Context()); err != nil { // the administrator could not log in afterwards either
		t.Fatal(err)
	}
	s.Exec(t, "CREATE USER ''@'127.0.0.1'")
	if ok, err := c.Login(t.Context(), "svc", secret.Text("right")); ok || !fault.Is(err, fault.Unsupported) ||
		!strings.Contains(fault.Message(err), "anonymous") {
		t.Errorf("after: %v, %v; want Unsupported because of the anonymous account", ok, err)
	}
}

// TestWhyRefused checks that the message names the actual cause. Error 1045 is about the login
// while connecting, and about privileges for a GRANT.
func TestWhyRefused(t *testing.T) {
	s := mariatest.Start(t)
	s.Exec(t, adminSQL+"CREATE USER 'plain'@'%' IDENTIFIED BY 'plain-password'; CREATE ROLE kept_back; CREATE USER "+
		"'socket'@'%' IDENTIFIED VIA unix_socket")
	c := connect(t, configOf(s, adminUser, adminPassword))
	for statement, want := range map[string]string{
		"GRANT SELECT ON *.* TO '{{name}}'@'%'":      "ON *.*, WITH GRANT OPTION",
		"GRANT SELECT ON secret.* TO '{{name}}'@'%'": "in the database (error 1044); GRANT it",
		"GRANT nosuch TO '{{name}}'@'%'":             "no such role",
		"GRANT kept_back TO '{{name}}'@'%'":          "GRANT it the role WITH ADMIN OPTION",
		"FLUSH PRIVILEGES":                           "GRANT it RELOAD",
		"SELECT nosuch FROM app.accounts":            "no such column",
		"SELECT * FROM secret.accounts":              "GRANT it what the statement needs there",
	} {
		err := c.Create(t.Context(), databasetest.NewUser(), []string{create, statement}, nil)
		if got := fault.Message(err); !strings.Contains(got, want) || strings.Contains(got, "wrong username") {
			t.Errorf("%s: %q, want it to say %q", statement, got, want)
		}
	}
	if err := c.SetPassword(t.Context(), "absent", secret.Text("password"), nil); !strings.Contains(fault.Message(err),
		"there is no user absent in MySQL; create it first") {
		t.Errorf("a user that does not exist: %v", err)
	}
	nowhere, preferred := configOf(s, adminUser, adminPassword), configOf(s, adminUser, adminPassword)
	nowhere.URL = secret.Text(nowhere.URL.RevealString() + "nowhere")
	preferred.URL = secret.Text(preferred.URL.RevealString() + "?tls=preferred")
	for _, tt := range []struct {
		config database.Config
		want   string
	}{
		{configOf(s, adminUser, "wrong"), "wrong username or password (error 1045)"},
		{configOf(s, "plain", "plain-password"), "GRANT SELECT ON mysql.user"},
		{configOf(s, "socket", "any"), "the account takes no passwords (error 1698)"},
		{nowhere, "may not use the database in connection_url"},
		{preferred, ""},
	} {
		if got := fault.Message(connect(t, tt.config).Verify(t.Context())); !strings.Contains(got, tt.want) ||
			tt.want == "" && got != "" {
			t.Errorf("got %q, want it to say %q", got, tt.want)
		}
	}
}
