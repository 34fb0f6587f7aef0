//go:build integration

package system

import (
	"encoding/json"
	"errors"
	"fmt"
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

// staticCreds is vault read of a static role's credentials, without a process for each of the many
// calls.
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

// static returns a server that rotates existing users of a real PostgreSQL.
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

// TestStaticCommands runs the commands of the documentation.
func TestStaticCommands(t *testing.T) {
	s, k, _ := static(t)
	out := typed(t, s, staticLines)
	for _, want := range []string{"Success! Data written to: database/static-roles/app-svc", "last_vault_rotation",
		"rotation_period", "password", "ttl"} {
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

// TestStaticKills kills the server while it rotates users every 5 s and on demand, and the
// administrator's password as well. Credentials that are read always work, and at the end
// everything is consistent.
//
// Each round has its own roles. If a kill interrupts a call of the database, rotations of that
// role are refused until the call's deadline, so that there would be nothing to kill.
func TestStaticKills(t *testing.T) {
	kills := 12
	if testing.Short() {
		kills = 4
	}
	s, k, exec := static(t)
	var reads, turns atomic.Int64
	var roles []string
	for round := range kills {
		alone, pair := fmt.Sprint("app-svc-", round), fmt.Sprint("app-two-", round)
		one, a, b := fmt.Sprint("svc_", round), fmt.Sprint("svc_a_", round), fmt.Sprint("svc_b_", round)
		exec(fmt.Sprintf("CREATE ROLE %s LOGIN; CREATE ROLE %s LOGIN; CREATE ROLE %s LOGIN; GRANT app_readonly TO "+
			"%[1]s, %[2]s, %[3]s", one, a, b))
		run(t, s, "write", "database/static-roles/"+alone, "db_name=production", "username="+one, "rotation_period=5s")
		run(t, s, "write", "database/static-roles/"+pair, "db_name=production", "username="+a, "alternate_username="+b,
			"rotation_period=5s")
		roles = append(roles, alone, pair)
		var all sync.WaitGroup
		quit := make(chan struct{})
		for _, path := range []string{"rotate-role/" + alone, "rotate-role/" + pair, "rotate-root/production"} {
			all.Go(func() {
				c := s.Client(s.Root)
				for {
					select {
					case <-quit:
						return
					default:
						if a, err := c.Do("POST", "database/"+path, nil); err == nil && a.Status < 300 {
							turns.Add(1)
						}
					}
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
		for _, role := range roles[max(0, len(roles)-6):] {
			// The role's password changes at the database before it is published, and a rotation
			// may come between reading and logging in. Therefore the login works soon, but not at
			// each moment.
			await.Eventually(t, role+" logs in", func() bool {
				name, password, err := staticCreds(c, role)
				return err == nil && k.login(name, password) == nil
			})
			reads.Add(1)
		}
	}
	c := s.Client(s.Root)
	// A call that a kill interrupted may still be running; until its deadline, a rotation is
	// refused.
	rotates := func(path string) {
		await.Eventually(t, path+" rotates", func() bool {
			a, err := c.Do("POST", "database/"+path, nil)
			return err == nil && a.Status < 300
		})
	}
	for _, role := range roles {
		rotates("rotate-role/" + role)
		await.Eventually(t, role+" logs in after all", func() bool {
			name, password, err := staticCreds(c, role)
			return err == nil && k.login(name, password) == nil
		})
	}
	rotates("rotate-root/production")
	t.Logf("%d kills, %d rotations acknowledged, %d passwords read and logged in with", kills, turns.Load(),
		reads.Load())
	if int(turns.Load()) < kills {
		t.Errorf("only %d rotations in %d rounds: the test tests nothing", turns.Load(), kills)
	}
}
