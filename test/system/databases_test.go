//go:build integration

package system

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyturn/keyturn/test/await"
	"github.com/keyturn/keyturn/test/harness"
	"github.com/keyturn/keyturn/test/mariatest"
	"github.com/keyturn/keyturn/test/pgtest"
	"github.com/keyturn/keyturn/test/redistest"
)

// A kind is a database with its configuration and the client to log in with.
type kind struct {
	config, role []string // arguments of vault write
	slow         []string // creation_statements that take three seconds; nil if there are none
	login        func(name, password string) error
	users        func() []string // the issued users
	running      func() bool     // whether a create is in flight
	expiring     bool            // the database itself refuses expired users
	stop, start  func()
}

func mariaKind(t *testing.T) kind {
	s := mariatest.Start(t)
	s.Exec(t, `CREATE DATABASE app; CREATE TABLE app.accounts (id int); CREATE ROLE app_readonly; GRANT SELECT ON app.* TO app_readonly;
CREATE USER 'keyturn'@'%' IDENTIFIED BY 'lender-password'; GRANT CREATE USER, PROCESS, CONNECTION ADMIN ON *.* TO 'keyturn'@'%';
GRANT SELECT, UPDATE ON mysql.* TO 'keyturn'@'%'; GRANT app_readonly TO 'keyturn'@'%' WITH ADMIN OPTION;`)
	query := func(name, password, sql string) (string, error) {
		cmd := exec.Command("mariadb", "--no-defaults", "-h", s.Host, "-P", strconv.Itoa(s.Port), "-u", name, "-BNe",
			sql)
		cmd.Env = []string{"MYSQL_PWD=" + password, "PATH=/usr/bin:/bin"}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	admin := func(sql string) string {
		out, err := query(mariatest.Admin, mariatest.Password, sql)
		if err != nil {
			t.Fatalf("%s: %v: %s", sql, err, out)
		}
		return out
	}
	return kind{
		config: []string{
			"plugin_name=mysql-database-plugin", "connection_url={{username}}:{{password}}@tcp(" + s.Addr() + ")/",
			"username=keyturn", "password=lender-password", "allowed_roles=*",
		},
		role: []string{"creation_statements=CREATE USER '{{name}}'@'%' IDENTIFIED BY '{{password}}'; GRANT " +
			"app_readonly TO '{{name}}'@'%'; SET DEFAULT ROLE app_readonly FOR '{{name}}'@'%';"},
		slow: []string{"creation_statements=BEGIN NOT ATOMIC DO SLEEP(3); CREATE USER '{{name}}'@'%' IDENTIFIED BY " +
			"'{{password}}'; END"},
		login: func(name, password string) error {
			_, err := query(name, password, "SELECT * FROM app.accounts")
			return err
		},
		users: func() []string { return strings.Fields(admin("SELECT User FROM mysql.user WHERE User LIKE 'v-%'")) },
		running: func() bool {
			return strings.TrimSpace(admin("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE "+
				"'%SLEEP(3)%' AND ID <> CONNECTION_ID()")) == "1"
		},
		stop: s.Stop, start: func() { start(t, s.Start) },
	}
}

func postgresKind(t *testing.T) kind {
	_, k := postgresServer(t)
	return k
}

func postgresServer(t *testing.T) (*pgtest.Server, kind) {
	s := pgtest.Start(t, pgtest.Options{})
	s.Exec(t, "postgres", `CREATE TABLE accounts (id int); CREATE ROLE app_readonly NOLOGIN; GRANT SELECT ON accounts TO app_readonly;
CREATE ROLE keyturn LOGIN CREATEROLE PASSWORD 'lender-password'; GRANT app_readonly TO keyturn WITH ADMIN OPTION;`)
	return s, kind{
		config: []string{
			"plugin_name=postgresql-database-plugin",
			"connection_url=postgresql://{{username}}:{{password}}@" + s.Addr() + "/postgres?sslmode=disable",
			"username=keyturn", "password=lender-password", "allowed_roles=*", "password_authentication=scram-sha-256",
		},
		role: []string{`creation_statements=CREATE ROLE "{{name}}" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}' IN ROLE app_readonly;`},
		slow: []string{`creation_statements=SELECT pg_sleep(3); CREATE ROLE "{{name}}" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}';`},
		login: func(name, password string) error {
			return exec.Command(s.Binary("psql"), "-qAtc", "SELECT * FROM accounts",
				s.UserDSN(name, password, "postgres")).Run()
		},
		expiring: true,
		users: func() []string {
			out, err := exec.Command(s.Binary("psql"), "-qAtc",
				"SELECT rolname FROM pg_roles WHERE rolname LIKE 'v-%'", s.DSN("postgres")).CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			return strings.Fields(string(out))
		},
		running: func() bool {
			return s.Int(t, "postgres",
				"SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'keyturn %'") == 1
		},
		stop: s.Stop, start: func() { start(t, s.Start) },
	}
}

func redisKind(t *testing.T) kind {
	s := redistest.Start(t, redistest.Options{})
	query := func(name, password string, words ...string) (string, error) {
		cmd := exec.Command("redis-cli",
			append([]string{"-e", "-h", s.Host, "-p", strconv.Itoa(s.Port), "--user", name}, words...)...)
		cmd.Env = []string{"REDISCLI_AUTH=" + password, "PATH=/usr/bin:/bin"}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	admin := func(words ...string) string {
		out, err := query(redistest.Admin, redistest.Password, words...)
		if err != nil {
			t.Fatalf("%v: %v: %s", words, err, out)
		}
		return out
	}
	admin("ACL", "SETUSER", "keyturn", "on", ">lender-password", "+acl", "+client", "+time")
	admin("ACL", "SAVE")
	return kind{
		config: []string{
			"plugin_name=redis-database-plugin", "host=" + s.Host, "port=" + strconv.Itoa(s.Port), "username=keyturn",
			"password=lender-password",
			"allowed_roles=*", "persistence_mode=ACLFILE",
		},
		role:  []string{`creation_statements=["~app:*", "+@read"]`},
		login: func(name, password string) error { _, err := query(name, password, "GET", "app:x"); return err },
		users: func() (all []string) {
			for word := range strings.FieldsSeq(admin("ACL", "USERS")) {
				if strings.HasPrefix(word, "v-") {
					all = append(all, word)
				}
			}
			return all
		},
		stop: s.Stop, start: func() { start(t, s.Start) },
	}
}

func start(t *testing.T, f func() error) {
	t.Helper()
	if err := f(); err != nil {
		t.Fatal(err)
	}
}

// issue is vault read of a role's credentials.
func issue(t *testing.T, s *harness.Server, role string) (name, password, lease string) {
	t.Helper()
	out, err := s.Command("vault", "read", "-format=json", "database/creds/"+role).CombinedOutput()
	var a struct {
		Lease string `json:"lease_id"`
		Data  struct{ Username, Password string }
	}
	if err != nil || json.Unmarshal(out, &a) != nil || a.Lease == "" {
		t.Fatalf("reading credentials: %v: %s", err, out)
	}
	return a.Data.Username, a.Data.Password, a.Lease
}

func run(t *testing.T, s *harness.Server, args ...string) string {
	t.Helper()
	out, err := s.Command("vault", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("vault %q: %v: %s", args, err, out)
	}
	return string(out)
}

// TestDatabases issues, uses, expires and revokes users of each kind of database, and kills the
// server in between.
func TestDatabases(t *testing.T) {
	for name, open := range map[string]func(*testing.T) kind{"postgres": postgresKind, "mariadb": mariaKind,
		"redis": redisKind} {
		t.Run(name, func(t *testing.T) {
			k := open(t)
			s := harness.Ready(t, harness.Options{Config: `outbound_allow = ["127.0.0.0/8"]`})
			run(t, s, "secrets", "enable", "database")
			run(t, s, append([]string{"write", "database/config/production"}, k.config...)...)
			for role, ttl := range map[string]string{"short": "3s", "long": "1h", "crowd0": "1h", "crowd1": "1h",
				"crowd2": "1h", "crowd3": "1h"} {
				run(t, s, append(
					[]string{"write", "database/roles/" + role, "db_name=production", "default_ttl=" + ttl,
						"max_ttl=2h"}, k.role...)...)
			}
			if shown := run(t, s, "read", "database/config/production"); strings.Contains(shown, "lender-password") {
				t.Errorf("the configuration shows its password:\n%s", shown)
			}
			t.Run("expiry", func(t *testing.T) { k.expires(t, s) })
			t.Run("revocation", func(t *testing.T) { k.revoked(t, s) })
			t.Run("killed", func(t *testing.T) { k.killed(t, s) })
			t.Run("killed in a crowd", func(t *testing.T) { k.killedInCrowd(t, s) })
			t.Run("killed while creating", func(t *testing.T) { k.killedCreating(t, s) })
			t.Run("database away", func(t *testing.T) { k.away(t, s) })
		})
	}
}

func (k kind) none(t *testing.T) {
	t.Helper()
	await.Eventually(t, "no users left", func() bool { return len(k.users()) == 0 })
}

func (k kind) expires(t *testing.T, s *harness.Server) {
	asked := time.Now()
	name, password, _ := issue(t, s, "short")
	if err := await.Within(asked.Add(3*time.Second), func() error { return k.login(name, password) }); err != nil {
		t.Fatalf("login: %v", err)
	}
	k.none(t)
	if k.login(name, password) == nil {
		t.Error("it logs in after its end")
	}
}

func (k kind) revoked(t *testing.T, s *harness.Server) {
	name, password, lease := issue(t, s, "long")
	if err := k.login(name, password); err != nil {
		t.Fatalf("login: %v", err)
	}
	run(t, s, "lease", "renew", lease)
	run(t, s, "lease", "revoke", lease)
	k.none(t)
	if k.login(name, password) == nil {
		t.Error("it logs in after its revocation")
	}
}

// killed has one lease end while the server is dead, and another live on.
func (k kind) killed(t *testing.T, s *harness.Server) {
	long, longPassword, lease := issue(t, s, "long")
	short, shortPassword, _ := issue(t, s, "short")
	s.Kill()
	<-time.After(4 * time.Second)
	if k.login(short, shortPassword) == nil == k.expiring {
		t.Errorf("with nobody to end it, its login works: %v", k.expiring)
	}
	s.StartServing(t)
	await.Eventually(t, "one user left", func() bool { return len(k.users()) == 1 })
	if k.login(short, shortPassword) == nil {
		t.Error("it logs in after its end")
	}
	if err := k.login(long, longPassword); err != nil {
		t.Errorf("the other: %v", err)
	}
	run(t, s, "lease", "revoke", lease)
	k.none(t)
}

func (k kind) killedCreating(t *testing.T, s *harness.Server) {
	if k.slow == nil {
		t.Skip("nothing takes long there")
	}
	run(t, s, append([]string{"write", "database/roles/slow", "db_name=production", "default_ttl=1h"}, k.slow...)...)
	reading := s.Command("vault", "read", "database/creds/slow")
	start(t, reading.Start)
	await.Eventually(t, "creating", k.running)
	s.Kill()
	_ = reading.Wait()
	s.StartServing(t)
	<-time.After(4 * time.Second) // by now, the create would have had its effect
	k.none(t)
	await.Eventually(t, "no lease left", func() bool {
		return s.Client(s.Root).Must(t, "LIST", "sys/leases/lookup/database/creds/slow", nil, 200, 404).Status == 404
	})
}

// killedInCrowd kills the server at a random moment while many users are created. The acknowledged
// users stay, and no user exists without a lease.
func (k kind) killedInCrowd(t *testing.T, s *harness.Server) {
	for round := range 4 {
		role := fmt.Sprintf("crowd%d", round) // revocations of an earlier round may still be running
		there := func() (n int64) {
			for _, name := range k.users() {
				if strings.Contains(name, role) {
					n++
				}
			}
			return n
		}
		var answered atomic.Int64
		var all sync.WaitGroup
		for range 24 {
			all.Go(func() {
				if a, err := s.Client(s.Root).Do("GET", "database/creds/"+role, nil); err == nil && a.Status == 200 {
					answered.Add(1)
				}
			})
		}
		<-time.After(time.Duration(5+25*round) * time.Millisecond)
		s.Kill()
		all.Wait()
		s.StartServing(t)
		n := there()
		if t.Logf("round %d: %d answered, %d there", round, answered.Load(), n); n < answered.Load() {
			t.Errorf("round %d: %d were answered and %d users are there", round, answered.Load(), n)
		}
		run(t, s, "lease", "revoke", "-prefix", "database/creds/"+role)
	}
	k.none(t)
}

func (k kind) away(t *testing.T, s *harness.Server) {
	issue(t, s, "short")
	k.stop()
	<-time.After(4 * time.Second)
	out, err := s.Command("vault", "read", "database/creds/long").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "cannot connect") {
		t.Errorf("without a database: %v: %s", err, out)
	}
	k.start()
	k.none(t)
}
