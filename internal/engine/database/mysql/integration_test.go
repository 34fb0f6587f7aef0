//go:build integration && unix

package mysql

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/engine/database/databasetest"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/test/mariatest"
)

const (
	create = `CREATE USER '{{name}}'@'%' IDENTIFIED BY '{{password}}'`
	guide  = create + `; GRANT SELECT ON app.* TO '{{name}}'@'%';`
	drop   = `DROP USER '{{name}}'@'%';`
)

// The administrator of the documentation, which is no superuser, but has the privileges to create
// users.
const (
	adminUser     = "keyturn"
	adminPassword = "admin-password"
	adminSQL      = `CREATE DATABASE app; CREATE TABLE app.accounts (id int);
CREATE USER 'keyturn'@'%' IDENTIFIED BY 'admin-password';
GRANT CREATE USER, PROCESS, CONNECTION ADMIN ON *.* TO 'keyturn'@'%';
GRANT SELECT ON mysql.user TO 'keyturn'@'%';
GRANT SELECT ON app.* TO 'keyturn'@'%' WITH GRANT OPTION;`
)

func configOf(s *mariatest.Server, username, password string) database.Config {
	return database.Config{URL: secret.Text("{{username}}:{{password}}@tcp(" + s.Addr() + ")/"), Username: username,
		Password: secret.Text(password)}
}

func target(s *mariatest.Server, c database.Config) databasetest.Target {
	return databasetest.Target{
		Provider: Provider, Config: c, Network: true,
		Creation: []string{guide}, Revocation: []string{drop},
		Broken:      []string{create, `SELECT '{{password}}' FROM no.table`},
		Password:    []string{`ALTER USER '{{username}}'@'%' IDENTIFIED BY '{{password}}'`},
		BadPassword: []string{`ALTER USER '{{username}}'@'%' IDENTIFIED '{{password}}'`},
		Keyed:       []string{`CREATE USER '{{name}}'@'%' REQUIRE SUBJECT '{{subject}}'`},
		Rekeyed:     []string{`ALTER USER '{{username}}'@'%' REQUIRE SUBJECT '{{subject}}'`},
		Effect: func(m []byte) bool {
			return bytes.Contains(m, []byte("CREATE USER")) || bytes.Contains(m, []byte("REVOKE ALL")) ||
				bytes.Contains(m, []byte("DROP USER")) || bytes.Contains(m, []byte("ALTER USER"))
		},
		Slow: func(d time.Duration) []string {
			return []string{fmt.Sprintf("BEGIN NOT ATOMIC DO SLEEP(%f); %s; END", d.Seconds(), create)}
		},
		Login: s.Login,
		Exists: func(ctx context.Context, name string) (bool, error) {
			n, err := s.Int(ctx, "SELECT COUNT(*) FROM mysql.user WHERE User = ?", name)
			return n > 0, err
		},
		Shut: map[string]func(*testing.T, string){
			"another host":   execute(s, "RENAME USER '%[1]s'@'%%' TO '%[1]s'@'10.9.%%'"),
			"REQUIRE SSL":    execute(s, "ALTER USER '%[1]s'@'%%' REQUIRE SSL"),
			"REQUIRE X509":   execute(s, "ALTER USER '%[1]s'@'%%' REQUIRE X509"),
			"ACCOUNT LOCK":   execute(s, "ALTER USER '%[1]s'@'%%' ACCOUNT LOCK"),
			"a closer host":  execute(s, "CREATE USER '%[1]s'@'127.0.0.1' IDENTIFIED BY 'x' REQUIRE SSL"),
			"REQUIRE CIPHER": execute(s, "ALTER USER '%[1]s'@'%%' REQUIRE CIPHER 'x'"),
		},
		Bring: map[string]func(*testing.T, string){
			"another host": execute(s, "RENAME USER '%[1]s'@'10.9.%%' TO '%[1]s'@'%%'"),
			"REQUIRE SSL":  execute(s, "ALTER USER '%[1]s'@'%%' REQUIRE NONE"),
			"REQUIRE X509": execute(s, "ALTER USER '%[1]s'@'%%' REQUIRE NONE"),
			"ACCOUNT LOCK": execute(s, "ALTER USER '%[1]s'@'%%' ACCOUNT UNLOCK"),
		},
		Stop:  func() error { s.Stop(); return nil },
		Start: s.Start,
	}
}

func execute(s *mariatest.Server, format string) func(*testing.T, string) {
	return func(t *testing.T, name string) { s.Exec(t, fmt.Sprintf(format, name)) }
}

func TestConformance(t *testing.T) {
	s := mariatest.Start(t)
	s.Exec(t, adminSQL)
	t.Run("admin",
		func(t *testing.T) { databasetest.Run(t, target(s, configOf(s, mariatest.Admin, mariatest.Password))) })
	t.Run("keyturn", func(t *testing.T) {
		limited := target(s, configOf(s, adminUser, adminPassword))
		// Statements that are common with Vault, although the second one would suffice.
		limited.Revocation = []string{`REVOKE ALL PRIVILEGES, GRANT OPTION FROM '{{name}}'@'%'; ` + drop}
		databasetest.Run(t, limited)
	})
}

// TestFailover checks that a pooled session of a server that became a replica is not used again.
func TestFailover(t *testing.T) {
	old, promoted := mariatest.Start(t), mariatest.Start(t)
	for _, s := range []*mariatest.Server{old, promoted} {
		s.Exec(t, adminSQL)
	}
	databasetest.RunFailover(t, target(old, configOf(old, adminUser, adminPassword)), promoted.Addr(),
		func() { old.Exec(t, "SET GLOBAL read_only = 1") })
}
