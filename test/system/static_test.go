//go:build integration

package system

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyturn/keyturn/test/await"
	"github.com/keyturn/keyturn/test/harness"
)

const staticLines = `
vault write database/static-roles/app-svc db_name=production username=svc rotation_period=24h
vault read database/static-creds/app-svc
vault write -f database/rotate-role/app-svc
vault write -f database/rotate-root/production
vault read -field=username database/static-creds/app-svc
`

// staticCreds is vault read of what a static role gives out, without a process for each: it is asked often.
func staticCreds(c *harness.Client, role string) (name, password string, err error) {
	a, err := c.Do("GET", "database/static-creds/"+role, nil)
	if err != nil {
		return "", "", err
	}
	if a.Status != 200 {
		return "", "", errors.New(a.Text("errors"))
	}
	return a.Text("data", "username"), a.Text("data", "password"), nil
}

// static is a server that manages users of people at a real PostgreSQL.
func static(t *testing.T) (*harness.Server, kind, func(sql string)) {
	t.Helper()
	pg, k := postgresServer(t)
	exec := func(sql string) { pg.Exec(t, "postgres", sql) }
	exec(`CREATE ROLE svc LOGIN PASSWORD 'before'; CREATE ROLE svc_a LOGIN PASSWORD 'before'; CREATE ROLE svc_b LOGIN PASSWORD 'before'; GRANT app_readonly TO svc, svc_a, svc_b`)
	s := harness.Ready(t, harness.Options{Config: `outbound_allow = ["127.0.0.0/8"]`})
	run(t, s, "secrets", "enable", "database")
	run(t, s, append([]string{"write", "database/config/production"}, k.config...)...)
	return s, k, exec
}

// TestStaticCommands types what the documentation shows.
func TestStaticCommands(t *testing.T) {
	s, k, _ := static(t)
	out := typed(t, s, staticLines)
	for _, want := range []string{"Success! Data written to: database/static-roles/app-svc", "last_vault_rotation", "rotation_period", "password", "ttl"} {
		if !strings.Contains(out, want) {
			t.Errorf("the output lacks %q:\n%s", want, out)
		}
	}
	var a struct {
		Data struct{ Username, Password string }
	}
	text := run(t, s, "read", "-format=json", "database/static-creds/app-svc")
	if err := json.Unmarshal([]byte(text), &a); err != nil || a.Data.Username != "svc" {
		t.Fatalf("%v: %s", err, text)
	}
	if err := k.login("svc", a.Data.Password); err != nil {
		t.Errorf("what was read does not log in: %v", err)
	}
	for user, was := range map[string]string{"svc": "before", "keyturn": "lender-password"} {
		if k.login(user, was) == nil {
			t.Errorf("%s still has the password from before", user)
		}
	}
}

// TestStaticKills kills the server while it rotates: every 5 s by itself, and as fast as it can when it is told to, the
// administrator's own password as well. What is read from it logs in, whenever that is, and at the end everything is as one.
func TestStaticKills(t *testing.T) {
	kills := 20
	if testing.Short() {
		kills = 4
	}
	s, k, _ := static(t)
	run(t, s, "write", "database/static-roles/app-svc", "db_name=production", "username=svc", "rotation_period=5s")
	run(t, s, "write", "database/static-roles/app-two", "db_name=production", "username=svc_a", "alternate_username=svc_b", "rotation_period=5s")
	var reads, turns atomic.Int64
	for round := range kills {
		var all sync.WaitGroup
		quit := make(chan struct{})
		loop := func(f func(c *harness.Client)) {
			all.Go(func() {
				c := s.Client(s.Root)
				for {
					select {
					case <-quit:
						return
					default:
						f(c)
					}
				}
			})
		}
		for _, path := range []string{"rotate-role/app-svc", "rotate-role/app-two", "rotate-root/production"} {
			loop(func(c *harness.Client) {
				if a, err := c.Do("POST", "database/"+path, nil); err == nil && a.Status < 300 {
					turns.Add(1)
				}
			})
		}
		<-time.After(time.Duration(200+rand.IntN(1500)) * time.Millisecond)
		s.Kill()
		close(quit)
		all.Wait()
		if err := errors.Join(s.Launch(), s.Serves()); err != nil {
			t.Fatalf("round %d: starting again: %v", round, err)
		}
		c := s.Client(s.Root)
		for _, role := range []string{"app-svc", "app-two"} {
			await.Eventually(t, role+" logs in", func() bool {
				name, password, err := staticCreds(c, role)
				if err != nil {
					return false
				}
				if k.login(name, password) == nil {
					reads.Add(1)
					return true
				}
				// A turn may have come between reading and logging in.
				_, again, err := staticCreds(c, role)
				if err == nil && again == password {
					t.Errorf("round %d: %s of %s is given out, and does not log in", round, name, role)
					return true
				}
				return false
			})
		}
	}
	for _, role := range []string{"app-svc", "app-two"} {
		run(t, s, "write", "-f", "database/rotate-role/"+role)
		name, password, err := staticCreds(s.Client(s.Root), role)
		if err != nil || k.login(name, password) != nil {
			t.Errorf("after all, %s of %s does not log in: %v", name, role, err)
		}
	}
	run(t, s, "write", "-f", "database/rotate-root/production")
	t.Logf("%d kills, %d turns acknowledged, %d passwords read and logged in with", kills, turns.Load(), reads.Load())
	if int(turns.Load()) < kills {
		t.Errorf("only %d turns in %d rounds: the test tests nothing", turns.Load(), kills)
	}
}
