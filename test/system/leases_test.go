//go:build integration

package system

import (
	"sync"
	"testing"
	"time"

	"github.com/keyturn/keyturn/test/await"
	"github.com/keyturn/keyturn/test/harness"
	"github.com/keyturn/keyturn/test/pgtest"
)

// TestKillWhileIssuing kills the server fifty times while eight clients read credentials with a
// TTL of five seconds. Fifteen seconds after the last restart, the database has no issued user:
// users that were created but never granted are revoked like expired ones. A busy machine may miss
// the limit once; then the kills are repeated.
func TestKillWhileIssuing(t *testing.T) {
	kills := 50
	if testing.Short() {
		kills = 5
	}
	pg := pgtest.Start(t, pgtest.Options{})
	pg.Exec(t, "postgres", "CREATE TABLE public.orders(n int)")
	s := harness.Ready(t, harness.Options{Level: "error", Config: `outbound_allow = ["127.0.0.0/8"]`})
	root := s.Client(s.Root)
	root.Must(t, "POST", "sys/mounts/database", object{"type": "database"})
	root.Must(t, "PUT", "database/config/production", object{
		"plugin_name": "postgresql-database-plugin", "allowed_roles": "short", "username": pgtest.Superuser,
		"password":             pgtest.Password,
		"connection_url":       "postgresql://{{username}}:{{password}}@" + pg.Addr() + "/postgres?sslmode=disable",
		"max_open_connections": 8,
	})
	root.Must(t, "PUT", "database/roles/short", object{
		"db_name": "production", "default_ttl": "5s", "max_ttl": "5s",
		"creation_statements":   `CREATE ROLE "{{name}}" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'; GRANT SELECT ON ALL TABLES IN SCHEMA public TO "{{name}}";`,
		"revocation_statements": `DROP ROLE IF EXISTS "{{name}}";`,
	})

	users := func() int64 { return pg.Int(t, "postgres", "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'v-%'") }
	killAndSettle(t, s, kills, users)
}

// killAndSettle kills the server so many times while it issues credentials, and waits until none
// of their users is left after the last restart.
func killAndSettle(t *testing.T, s *harness.Server, kills int, users func() int64) {
	t.Helper()
	lent := 0
	for range kills {
		lent += issueUntilKilled(s)
		if err := s.Launch(); err != nil {
			t.Fatal(err)
		}
		if err := s.Serves(); err != nil {
			t.Fatal(err)
		}
	}
	restarted := time.Now()
	if lent < kills {
		t.Fatalf("only %d credentials were lent in %d rounds: the test tests nothing", lent, kills)
	}
	left := users()
	await.Eventually(t, "no users left", func() bool { return users() == 0 })
	took := time.Since(restarted).Round(time.Millisecond)
	t.Logf("%d credentials lent over %d kills; %d users at the last restart, none after %v", lent, kills, left, took)
}

// issueUntilKilled reads credentials with eight clients until the server is killed, and returns
// the number of issued users.
func issueUntilKilled(s *harness.Server) int {
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		lent int
	)
	some := make(chan struct{}, 64)
	for range 8 {
		wg.Go(func() {
			c := s.Client(s.Root)
			for {
				a, err := c.Do("GET", "database/creds/short", nil)
				if err != nil {
					return
				}
				if a.Status == 200 {
					mu.Lock()
					lent++
					mu.Unlock()
				}
				select {
				case some <- struct{}{}:
				default:
				}
			}
		})
	}
	for range 12 {
		select {
		case <-some:
		case <-time.After(await.Patience):
		}
	}
	s.Kill()
	wg.Wait()
	return lent
}
