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

// startWithThings starts a server with the engine "things" at m/.
func startWithThings(t *testing.T, change ...func(c *core.Config)) *coretest.Server {
	t.Helper()
	s := coretest.Start(t, change...)
	s.Must(route.Write, "sys/mounts/m", `{"type":"things"}`)
	return s
}

// wantAlive checks how many things exist after some time. It runs in a bubble.
func wantAlive(t *testing.T, s *coretest.Server, after time.Duration, want int) {
	t.Helper()
	time.Sleep(after)
	synctest.Wait()
	if got := s.Things.Alive(); len(got) != want {
		t.Errorf("alive are %q, want %d", got, want)
	}
}

func TestLeaseLives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startWithThings(t)
		a := s.Must(route.Read, "m/creds/r", `{"ttl":"10m"}`)
		if a.TTL != 600 || !strings.HasPrefix(a.LeaseID, "m/creds/r/") || a.Data["attempt"] == "" {
			t.Errorf("lent: %s", a.Body)
		}
		time.Sleep(5 * time.Minute)
		r := s.Must(route.Write, "sys/leases/renew", `{"lease_id":"`+a.LeaseID+`","increment":"20m"}`)
		if r.TTL != 1200 || r.LeaseID != a.LeaseID {
			t.Errorf("renewed: %s", r.Body)
		}
		wantAlive(t, s, 19*time.Minute, 1)
		wantAlive(t, s, 2*time.Minute, 0)
		s.Refused(route.Write, "sys/leases/renew", `{"lease_id":"`+a.LeaseID+`"}`, fault.Invalid, "was not found")
		if n := s.Stats(); n.Leases != 0 || n.Undone != 1 {
			t.Errorf("counted are %+v", n)
		}
		s.Stop()
	})
}

// TestLeaseBounds: the role, the mount, the system and the token limit a lease, and the answer
// says which of them has shortened it.
func TestLeaseBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startWithThings(t, func(c *core.Config) { c.DefaultTTL, c.MaxTTL = 2*time.Hour, 6*time.Hour })
		if a := s.Must(route.Read, "m/creds/r", `{"ttl":"7h"}`); a.TTL != 6*3600 || len(a.Warnings) != 1 ||
			!strings.Contains(a.Warnings[0], "capped to 6h") {
			t.Errorf("beyond the system's: %d s, %q", a.TTL, a.Warnings)
		}
		short := s.Must(route.Read, "m/creds/short", `{"ttl":"5m"}`).LeaseID
		if a := s.Must(route.Write, "sys/leases/renew", `{"lease_id":"`+short+`"}`); a.TTL != 600 {
			t.Errorf("renewed by the role's TTL: %d s", a.TTL)
		}
		if a := s.Must(route.Write, "sys/leases/renew", `{"lease_id":"`+short+`","increment":"3h"}`); a.TTL != 3600 ||
			len(a.Warnings) != 1 {
			t.Errorf("renewed past the role's maximum: %d s, %q", a.TTL, a.Warnings)
		}
		fixed := s.Must(route.Read, "m/creds/r", `{"fixed":true}`).LeaseID
		s.Refused(route.Write, "sys/leases/renew", `{"lease_id":"`+fixed+`"}`, fault.Invalid, "is not renewable")

		tok := s.Must(route.Write, "auth/token/create", `{"ttl":"30m"}`).Auth["client_token"].(string)
		a := s.MustDo(coretest.Request{Op: route.Read, Path: "m/creds/r", Token: tok})
		if len(a.Warnings) != 1 || !strings.Contains(a.Warnings[0], "will end with its token") {
			t.Errorf("warnings %q", a.Warnings)
		}
		s.Must(route.Write, "sys/policies/acl/issue", `{"policy":"path \"m/*\" { capabilities = [\"read\"] }"}`)
		batch := s.Must(route.Write, "auth/token/create",
			`{"ttl":"30m","type":"batch","policies":["issue"]}`).Auth["client_token"].(string)
		if a := s.MustDo(coretest.Request{Op: route.Read, Path: "m/creds/r", Token: batch}); a.TTL != 1800 {
			t.Errorf("a batch token's lease lives for %d s, and the token for 1800", a.TTL)
		}
		before := len(s.Things.Alive())
		wantAlive(t, s, 31*time.Minute, before-2) // those of the tokens
		s.Stop()
	})
}

// TestCreateFails: whether or not a failed create had an effect, nothing is issued, and nothing is
// left in the end.
func TestCreateFails(t *testing.T) {
	for _, effect := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := startWithThings(t)
			s.Things.Create(fault.New("things", fault.Upstream, "the target is away"), effect)
			s.Refused(route.Read, "m/creds/r", "", fault.Upstream, "the target is away")
			s.Things.Create(nil, false)
			wantAlive(t, s, 2*time.Minute, 0)
			s.Refused(route.Read, "m/creds/unknown", "", fault.Invalid, "unknown role")
			s.Stop()
		})
	}
}

// TestStoreFailsWhileIssuing: at each commit of a request for a lease, the store fails or the
// server dies, with and without storing the commit. What was created is issued or revoked.
func TestStoreFailsWhileIssuing(t *testing.T) {
	for _, mode := range []faulty.Mode{faulty.NotStored, faulty.Stored} {
		for _, dies := range []bool{false, true} {
			for n := range 4 {
				synctest.Test(t, func(t *testing.T) {
					s := startWithThings(t)
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
						lost = 1 // granted, but the answer is lost: the lease lasts until it expires
					}
					if err == nil && !slices.Equal(got, []string{a.LeaseID}) || err != nil && len(got) > lost {
						t.Errorf("mode %d, dies %v, at %d: answered %v, alive are %q", mode, dies, n, err, got)
					}
					wantAlive(t, s, 20*time.Minute, 0)
					s.Stop()
				})
			}
		}
	}
}

func TestRevoking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startWithThings(t)
		issue := func(role string) string { return s.Must(route.Read, "m/creds/"+role, "").LeaseID }
		one := issue("a")
		s.Must(route.Write, "sys/leases/revoke", `{"lease_id":"`+one+`","sync":true}`)
		wantAlive(t, s, 0, 0)
		s.Must(route.Write, "sys/leases/revoke/"+one, "") // revoking is repeatable
		for range 3 {
			issue("a")
			issue("b")
		}
		s.Must(route.Write, "sys/leases/revoke-prefix/m/creds/a", "")
		wantAlive(t, s, 10*time.Second, 3)
		s.Must(route.Write, "sys/leases/revoke-prefix/m", `{"sync":true}`)
		wantAlive(t, s, 0, 0)

		s.Things.Undo(errors.New("away"))
		issue("c")
		_, err := s.Do(coretest.Request{
			Op: route.Write, Path: "sys/leases/revoke-prefix/m/creds/c", Body: `{"sync":true}`,
		})
		if err == nil {
			t.Error("a revocation that failed is a success")
		}
		if a := s.Must(route.Write, "sys/leases/revoke-force/m/creds/c", ""); len(a.Warnings) == 0 {
			t.Error("what is left behind is not spoken of")
		}
		if got := s.Must(route.Read, "sys/leases/count", "").Data["lease_count"]; got != 0.0 {
			t.Errorf("%v leases are left", got)
		}
		wantAlive(t, s, time.Minute, 1) // force leaves the thing
		s.Stop()
	})
}

// TestTokenEndsItsLeases: when a token ends, its children and all their leases are revoked.
func TestTokenEndsItsLeases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startWithThings(t)
		login := func(tok, body string) string {
			return s.MustDo(coretest.Request{
				Op: route.Write, Path: "auth/token/create", Token: tok, Body: body,
			}).Auth["client_token"].(string)
		}
		parent := login("", `{"ttl":"1h"}`)
		child := login(parent, `{"ttl":"1h"}`)
		for _, tok := range []string{parent, child} {
			s.MustDo(coretest.Request{Op: route.Read, Path: "m/creds/r", Token: tok})
		}
		s.Must(route.Write, "auth/token/revoke", `{"token":"`+parent+`"}`)
		wantAlive(t, s, 30*time.Second, 0)
		s.RefusedDo(coretest.Request{Op: route.Read, Path: "m/creds/r", Token: child}, fault.Denied,
			"permission denied")
		s.Stop()
	})
}

// TestScheduledWork: work that an engine has scheduled is done in time, also after a restart.
func TestScheduledWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startWithThings(t)
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

// TestJobsContinueAfterCrash: a job continues after a crash at any of its commits.
func TestJobsContinueAfterCrash(t *testing.T) {
	for n := range 8 {
		synctest.Test(t, func(t *testing.T) {
			s := startWithThings(t)
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
