package core_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/core"
	"github.com/keyturn/keyturn/internal/core/coretest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage/faulty"
)

// lending is a server with the engine of things at m/.
func lending(t *testing.T, change ...func(c *core.Config)) *coretest.Server {
	t.Helper()
	s := coretest.Start(t, change...)
	s.Must(route.Write, "sys/mounts/m", `{"type":"things"}`)
	return s
}

// alive checks how many things there are, once time has passed. It runs in a bubble.
func alive(t *testing.T, s *coretest.Server, after time.Duration, want int) {
	t.Helper()
	time.Sleep(after)
	synctest.Wait()
	if got := s.Things.Alive(); len(got) != want {
		t.Errorf("alive are %q, want %d", got, want)
	}
}

func TestLeaseLives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := lending(t)
		a := s.Must(route.Read, "m/creds/r", `{"ttl":"10m"}`)
		if a.TTL != 600 || !strings.HasPrefix(a.LeaseID, "m/creds/r/") || a.Data["attempt"] == "" {
			t.Errorf("lent: %s", a.Body)
		}
		time.Sleep(5 * time.Minute)
		if r := s.Must(route.Write, "sys/leases/renew", `{"lease_id":"`+a.LeaseID+`","increment":"20m"}`); r.TTL != 1200 || r.LeaseID != a.LeaseID {
			t.Errorf("renewed: %s", r.Body)
		}
		alive(t, s, 19*time.Minute, 1)
		alive(t, s, 2*time.Minute, 0)
		s.Refused(route.Write, "sys/leases/renew", `{"lease_id":"`+a.LeaseID+`"}`, fault.Invalid, "was not found")
		if n := s.Stats(); n.Leases != 0 || n.Undone != 1 {
			t.Errorf("counted are %+v", n)
		}
		s.Stop()
	})
}

// TestLeaseBounds: role, mount, system and token bound a lease, and the answer says which of them has cut it.
func TestLeaseBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := lending(t, func(c *core.Config) { c.DefaultTTL, c.MaxTTL = 2*time.Hour, 6*time.Hour })
		if a := s.Must(route.Read, "m/creds/r", `{"ttl":"7h"}`); a.TTL != 6*3600 || len(a.Warnings) != 1 || !strings.Contains(a.Warnings[0], "capped to 6h") {
			t.Errorf("beyond the system's: %d s, %q", a.TTL, a.Warnings)
		}
		short := s.Must(route.Read, "m/creds/short", `{"ttl":"5m"}`).LeaseID
		if a := s.Must(route.Write, "sys/leases/renew", `{"lease_id":"`+short+`"}`); a.TTL != 600 {
			t.Errorf("renewed by the role's TTL: %d s", a.TTL)
		}
		if a := s.Must(route.Write, "sys/leases/renew", `{"lease_id":"`+short+`","increment":"3h"}`); a.TTL != 3600 || len(a.Warnings) != 1 {
			t.Errorf("renewed past the role's maximum: %d s, %q", a.TTL, a.Warnings)
		}
		fixed := s.Must(route.Read, "m/creds/r", `{"fixed":true}`).LeaseID
		s.Refused(route.Write, "sys/leases/renew", `{"lease_id":"`+fixed+`"}`, fault.Invalid, "is not renewable")

		tok := s.Must(route.Write, "auth/token/create", `{"ttl":"30m"}`).Auth["client_token"].(string)
		a := s.MustDo(coretest.Request{Op: route.Read, Path: "m/creds/r", Token: tok})
		if len(a.Warnings) != 1 || !strings.Contains(a.Warnings[0], "will end with its token") {
			t.Errorf("warnings %q", a.Warnings)
		}
		s.Must(route.Write, "sys/policies/acl/lend", `{"policy":"path \"m/*\" { capabilities = [\"read\"] }"}`)
		batch := s.Must(route.Write, "auth/token/create", `{"ttl":"30m","type":"batch","policies":["lend"]}`).Auth["client_token"].(string)
		if a := s.MustDo(coretest.Request{Op: route.Read, Path: "m/creds/r", Token: batch}); a.TTL != 1800 {
			t.Errorf("a batch token's lease lives for %d s, and the token for 1800", a.TTL)
		}
		before := len(s.Things.Alive())
		alive(t, s, 31*time.Minute, before-2) // those of the tokens
		s.Stop()
	})
}

// TestCreateFails: in pairs, a create that failed and had no effect, and one that failed and had. Nothing is lent, and nothing is
// left in the end.
func TestCreateFails(t *testing.T) {
	for _, effect := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := lending(t)
			s.Things.Create(fault.New("things", fault.Upstream, "the target is away"), effect)
			s.Refused(route.Read, "m/creds/r", "", fault.Upstream, "the target is away")
			s.Things.Create(nil, false)
			alive(t, s, 2*time.Minute, 0)
			s.Refused(route.Read, "m/creds/unknown", "", fault.Invalid, "unknown role")
			s.Stop()
		})
	}
}

// TestStoreFailsWhileLending: at each commit of a request for a lease the store fails, or the server dies, stored and not. What
// was created is lent or undone.
func TestStoreFailsWhileLending(t *testing.T) {
	for _, mode := range []faulty.Mode{faulty.NotStored, faulty.Stored} {
		for _, dies := range []bool{false, true} {
			for n := range 4 {
				synctest.Test(t, func(t *testing.T) {
					s := lending(t)
					if dies {
						s.Store.CrashAfter(n, mode)
					} else {
						s.Store.Inject(faulty.Fault{After: n, Mode: mode})
					}
					a, err := s.Do(coretest.Request{Op: route.Read, Path: "m/creds/r", Body: `{"ttl":"10m"}`})
					synctest.Wait()
					if dies {
						s.Restart()
					} else {
						s.Store.Clear()
					}
					time.Sleep(5 * time.Minute)
					synctest.Wait()
					got := s.Things.Alive()
					lost := 0
					if dies && mode == faulty.Stored {
						lost = 1 // it may be granted, and the answer lost: then it lives until its time
					}
					if err == nil && !slices.Equal(got, []string{a.LeaseID}) || err != nil && len(got) > lost {
						t.Errorf("mode %d, dies %v, at %d: answered %v, alive are %q", mode, dies, n, err, got)
					}
					alive(t, s, 20*time.Minute, 0)
					s.Stop()
				})
			}
		}
	}
}

func TestRevoking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := lending(t)
		lend := func(role string) string { return s.Must(route.Read, "m/creds/"+role, "").LeaseID }
		one := lend("a")
		s.Must(route.Write, "sys/leases/revoke", `{"lease_id":"`+one+`","sync":true}`)
		alive(t, s, 0, 0)
		s.Must(route.Write, "sys/leases/revoke/"+one, "") // again
		for range 3 {
			lend("a")
			lend("b")
		}
		s.Must(route.Write, "sys/leases/revoke-prefix/m/creds/a", "")
		alive(t, s, 10*time.Second, 3)
		s.Must(route.Write, "sys/leases/revoke-prefix/m", `{"sync":true}`)
		alive(t, s, 0, 0)

		s.Things.Undo(errors.New("away"))
		lend("c")
		if _, err := s.Do(coretest.Request{Op: route.Write, Path: "sys/leases/revoke-prefix/m/creds/c", Body: `{"sync":true}`}); err == nil {
			t.Error("a revocation that failed is a success")
		}
		if a := s.Must(route.Write, "sys/leases/revoke-force/m/creds/c", ""); len(a.Warnings) == 0 {
			t.Error("what is left behind is not spoken of")
		}
		if got := s.Must(route.Read, "sys/leases/count", "").Data["lease_count"]; got != 0.0 {
			t.Errorf("%v leases are left", got)
		}
		alive(t, s, time.Minute, 1) // left behind, as it was said
		s.Stop()
	})
}

// TestTokenEndsItsLeases: with a token end its children and all that they were lent.
func TestTokenEndsItsLeases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := lending(t)
		login := func(tok, body string) string {
			return s.MustDo(coretest.Request{Op: route.Write, Path: "auth/token/create", Token: tok, Body: body}).Auth["client_token"].(string)
		}
		parent := login("", `{"ttl":"1h"}`)
		child := login(parent, `{"ttl":"1h"}`)
		for _, tok := range []string{parent, child} {
			s.MustDo(coretest.Request{Op: route.Read, Path: "m/creds/r", Token: tok})
		}
		s.Must(route.Write, "auth/token/revoke", `{"token":"`+parent+`"}`)
		alive(t, s, 30*time.Second, 0)
		s.RefusedDo(coretest.Request{Op: route.Read, Path: "m/creds/r", Token: child}, fault.Denied, "permission denied")
		s.Stop()
	})
}

// TestWorkOfEngines: what an engine has scheduled is done at its time, after a restart, too.
func TestWorkOfEngines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := lending(t)
		s.Must(route.Write, "m/later/first", "")
		s.Must(route.Write, "m/later/second", "")
		s.Restart()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		got := s.Things.Worked()
		if len(got) < 2 || !slices.Contains(got, "job/first") || !slices.Contains(got, "job/second") {
			t.Errorf("worked on %q", got)
		}
		s.Stop()
	})
}

// TestJobsGoOn: a job that was begun goes on after a crash at any of its commits.
func TestJobsGoOn(t *testing.T) {
	for n := range 8 {
		synctest.Test(t, func(t *testing.T) {
			s := lending(t)
			for i := range 5 {
				s.Must(route.Read, fmt.Sprintf("m/creds/r%d", i), "")
			}
			s.Store.CrashAfter(n, faulty.Stored)
			_, err := s.Do(coretest.Request{Op: route.Write, Path: "sys/leases/revoke-prefix/m"})
			synctest.Wait()
			s.Restart()
			time.Sleep(5 * time.Minute)
			synctest.Wait()
			if left := len(s.Things.Alive()); left != 0 && (err == nil || n > 0) {
				t.Errorf("crash at %d: answered %v, and %d things are left", n, err, left)
			}
			s.Stop()
		})
	}
}
