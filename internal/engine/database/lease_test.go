package database_test

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/engine/database/databasetest"
	"github.com/keyturn/keyturn/internal/engine/enginetest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/storage/faulty"
)

func TestLendRenewExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := ready(t, enginetest.Config{})
		a := w.Must(t, route.Read, "creds/ro", nil)
		if len(a.Data) != 2 || a.Warnings != nil {
			t.Errorf("answer %s, warnings %q", a.Text, a.Warnings)
		}
		if ttl := a.Lease.Expires.Sub(a.Lease.Issued); ttl != 30*time.Minute || !a.Lease.Renewable ||
			a.Lease.Kind != "user" || !strings.HasPrefix(a.Lease.Target, "config/") {
			t.Errorf("lease %+v", a.Lease)
		}
		name, password := a.Data["username"].(string), a.Data["password"].(string)
		if !regexp.MustCompile(`^v-tester-ro-[a-z2-7]{20}-\d+$`).MatchString(name) {
			t.Errorf("the user's name is %q", name)
		}
		time.Sleep(29 * time.Minute)
		if _, err := w.Renew(a.Lease.ID, 0); err != nil {
			t.Fatal(err)
		}
		time.Sleep(29 * time.Minute) // past the first TTL
		if err := w.fake.Login(name, password); err != nil {
			t.Errorf("after a renewal: %v", err)
		}
		l, err := w.Renew(a.Lease.ID, 99*time.Hour)
		if err != nil || l.Expires.Sub(l.Issued) != 2*time.Hour {
			t.Errorf("renewed until %v after the issue, %v; want max_ttl", l.Expires.Sub(l.Issued), err)
		}
		time.Sleep(62*time.Minute + 2*time.Second)
		w.want(0, 0)
	})
}

func TestCredsRefused(t *testing.T) {
	w := ready(t, enginetest.Config{Host: knownPasswords})
	w.Must(t, route.Write, "roles/other", ro)
	w.Must(t, route.Write, "roles/app-nodb", with(ro, fields{"db_name": "absent"}))
	w.Must(t, route.Write, "roles/app-empty", with(ro, fields{"creation_statements": nil}))
	w.Must(t, route.Write, "roles/app-policy",
		with(ro, fields{"credential_config": fields{"password_policy": "absent"}}))
	w.Must(t, route.Write, "roles/app-fails", with(ro, fields{"creation_statements": []string{"CREATE", "FAIL"}}))
	w.Refused(t, route.Read, "creds/none", nil, fault.Invalid, "unknown role: none")
	w.Refused(t, route.Read, "creds/other", nil, fault.Upstream,
		`"other" is not an allowed role of connection "prod"; add it to allowed_roles`)
	w.Refused(t, route.Read, "creds/app-nodb", nil, fault.Invalid, `connection "absent", which does not exist`)
	w.Refused(t, route.Read, "creds/app-empty", nil, fault.Invalid, "has no creation_statements")
	w.Refused(t, route.Read, "creds/app-policy", nil, fault.Invalid, `no password policy "absent"`)
	w.want(0, 0)
	w.Refused(t, route.Read, "creds/app-fails", nil, fault.Upstream, "refused a statement")
}

// The policy of the role comes before the connection's.
func TestPasswordPolicies(t *testing.T) {
	w := ready(t, enginetest.Config{})
	w.Must(t, route.Write, "config/prod", fields{"password_policy": "of-conn-"})
	if _, pw, _ := w.issue("ro"); !strings.HasPrefix(pw, "Pw-of-conn-") {
		t.Errorf("password %q, want one by the connection's policy", pw)
	}
	w.Must(t, route.Write, "roles/ro", fields{"credential_config": fields{"password_policy": "of-role-"}})
	if _, pw, _ := w.issue("ro"); !strings.HasPrefix(pw, "Pw-of-role-") {
		t.Errorf("password %q, want one by the role's policy", pw)
	}
}

func TestUsernameTemplate(t *testing.T) {
	w := ready(t, enginetest.Config{})
	w.Must(t, route.Write, "config/prod",
		fields{"username_template": `{{ printf "app_%s_%s" (.RoleName | uppercase) (random 12) | truncate 20 }}`})
	if name, _, _ := w.issue("ro"); !regexp.MustCompile(`^app_RO_[a-z2-7]{12}$`).MatchString(name) {
		t.Errorf("name %q", name)
	}
}

// A create that surely had no effect is forgotten at once, even while the
// database is away. Each runs in a bubble.
func TestFailedCreateLeavesNothing(t *testing.T) {
	eachLogin(t, func(t *testing.T, w *world) {
		w.fake.SetDown(true)
		w.Refused(t, route.Read, "creds/ro", nil, fault.Upstream, "down")
		time.Sleep(time.Second)
		w.want(0, 0)
	})
}

// When the reply to a create is lost, the user is removed at once, and the
// lease forgotten only when no late effect can come any more. Each runs in a bubble.
func TestLostReply(t *testing.T) {
	eachLogin(t, func(t *testing.T, w *world) {
		w.fake.LoseReplies(1)
		w.Refused(t, route.Read, "creds/ro", nil, fault.Upstream, "lost")
		time.Sleep(time.Second)
		w.want(0, 1)
		time.Sleep(8 * time.Second)
		w.want(0, 0)
		if made, gone := w.fake.Counts(); made != 1 || gone != 1 {
			t.Errorf("%d users made and %d removed, want one each", made, gone)
		}
	})
}

// A process that dies at any step of issuing leaves nothing behind. Each runs in a bubble.
func TestDyingWhileIssuing(t *testing.T) {
	for _, step := range []string{"planned", "reserved", "created"} {
		var dying bool
		between := func(s string) error {
			if dying && s == step {
				return errDied
			}
			return nil
		}
		eachLoginOf(t, func() enginetest.Config { return enginetest.Config{Between: between} },
			func(t *testing.T, w *world) {
				dying = true
				if _, err := w.Do(route.Read, "creds/ro", nil); err != errDied {
					t.Fatalf("died at %s: %v", step, err)
				}
				dying = false
				w.Reopen(t)
				time.Sleep(10 * time.Second)
				w.want(0, 0)
				w.Must(t, route.Read, "creds/ro", nil)
				w.want(1, 1)
			})
	}
}

// A create that is still running when its process dies is ended, and what it
// makes late is removed.
func TestLateCreate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := ready(t, enginetest.Config{})
		w.Must(t, route.Write, "roles/app-slow",
			with(ro, fields{"creation_statements": []string{"SLEEP 7s", "CREATE"}}))
		go func() { _, _ = w.Do(route.Read, "creds/app-slow", nil) }()
		time.Sleep(5 * time.Second)
		w.want(0, 1)
		if err := w.Revoke(w.IDs(t)[0]); err != nil {
			t.Fatal(err)
		}
		w.want(0, 1) // it may still come
		time.Sleep(time.Minute)
		w.want(0, 0)
	})
}

// The database is away when leases end: they wait, and end when it is back.
//
// https://github.com/hashicorp/vault/issues/8602
func TestDatabaseAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := ready(t, enginetest.Config{})
		for range 20 {
			w.issue("ro")
		}
		w.fake.SetDown(true)
		time.Sleep(time.Hour)
		w.want(20, 20)
		w.fake.SetDown(false)
		time.Sleep(3 * time.Hour)
		w.want(0, 0)
	})
}

// A user is revoked by the role's statements of now, or, if the role is another one, by
// those that it was issued with.
func TestWhichStatementsRevoke(t *testing.T) {
	w := ready(t, enginetest.Config{})
	w.Must(t, route.Write, "roles/ro", fields{"revocation_statements": []string{"OLD", "DROP"}})
	revoke := func(id string, want []string, terminate bool) {
		t.Helper()
		if err := w.Revoke(id); err != nil {
			t.Fatal(err)
		}
		if got := w.lastDrop(); !slices.Equal(got.Statements, want) || got.TerminateSessions != terminate {
			t.Errorf("revoked by %q, terminating %v; want %q, %v", got.Statements, got.TerminateSessions, want,
				terminate)
		}
	}
	_, _, changed := w.issue("ro")
	w.Must(t, route.Write, "roles/ro",
		fields{"revocation_statements": []string{"NEW", "DROP"}, "terminate_sessions": true})
	revoke(changed, []string{"NEW", "DROP"}, true)

	_, _, deleted := w.issue("ro")
	_, _, replaced := w.issue("ro")
	w.Must(t, route.Delete, "roles/ro", nil)
	revoke(deleted, []string{"NEW", "DROP"}, true)
	w.Must(t, route.Write, "roles/ro", with(ro, fields{"revocation_statements": []string{"OF ANOTHER ROLE", "DROP"}}))
	revoke(replaced, []string{"NEW", "DROP"}, true)

	_, _, id := w.issue("ro")
	w.Must(t, route.Delete, "roles/ro", nil)
	revoke(id, []string{"OF ANOTHER ROLE", "DROP"}, false)
	w.Must(t, route.Write, "roles/ro", with(ro, fields{"revocation_statements": []string{"OF ANOTHER ROLE", "DROP"}}))
	w.Must(t, route.Write, "config/prod", fields{"terminate_sessions": true})
	_, _, id = w.issue("ro")
	revoke(id, []string{"OF ANOTHER ROLE", "DROP"}, true)
	w.want(0, 0)
}

// Statements that succeed and leave the user do not end the lease; correcting them does.
func TestUserRemains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := ready(t, enginetest.Config{})
		w.Must(t, route.Write, "roles/ro", fields{"revocation_statements": "SELECT 1"})
		_, _, id := w.issue("ro")
		if err := w.Revoke(id); !fault.Is(err, fault.Upstream) ||
			!strings.Contains(fault.Message(err), "still in the database") {
			t.Errorf("revoking: %v", err)
		}
		w.want(1, 1)
		if a := w.Must(t, route.Read, "roles/ro", nil); len(a.Warnings) != 1 ||
			strings.Contains(a.Warnings[0], w.fake.Users()[0]) {
			t.Errorf("warnings %q, want one for all users of the role", a.Warnings)
		}
		w.Must(t, route.Write, "roles/ro", fields{"revocation_statements": "DROP"})
		time.Sleep(time.Hour)
		w.want(0, 0)
	})
}

func TestRenewRefused(t *testing.T) {
	w := ready(t, enginetest.Config{})
	name, _, id := w.issue("ro")
	renew := func(kind fault.Kind, want string) {
		t.Helper()
		if _, err := w.Renew(id, time.Minute); !fault.Is(err, kind) || !strings.Contains(fault.Message(err), want) {
			t.Errorf("renewing: %v, want %v with %q", err, kind, want)
		}
	}
	w.setHook(func(string) error {
		return database.MarkUnchanged(fault.New("fake", fault.NotFound, "no user %s", name))
	})
	renew(fault.Invalid, "not in the database any more")
	w.setHook(func(string) error { return fault.New("fake", fault.Timeout, "slow") })
	renew(fault.Timeout, "slow")
	w.setHook(nil)
	w.Must(t, route.Delete, "config/prod", nil)
	renew(fault.Invalid, `connection "prod" was deleted`)
	w.Must(t, route.Delete, "roles/ro", nil)
	renew(fault.Invalid, `role "ro" was deleted`)
	w.Must(t, route.Write, "roles/ro", ro)
	renew(fault.Invalid, `role "ro" was deleted`)
}

// A deleted connection revokes what it has issued, and nothing else, and is
// forgotten after the last.
//
// https://github.com/hashicorp/vault/issues/9420
func TestTombstone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := ready(t, enginetest.Config{})
		w.issue("ro")
		w.Must(t, route.Delete, "config/prod", nil)
		w.Must(t, route.Delete, "config/prod", nil)
		if _, err := w.Do(route.Read, "config/prod", nil); !fault.Is(err, fault.NotFound) {
			t.Errorf("reading a deleted connection: %v, want not found", err)
		}
		w.Refused(t, route.Read, "creds/ro", nil, fault.Invalid, "does not exist")
		w.Refused(t, route.Write, "reset/prod", nil, fault.Invalid, "no connection")
		w.Reopen(t)
		time.Sleep(20 * time.Minute)
		if w.keys("conn/") != 1 || w.Work(t) != 1 {
			t.Errorf("%d configurations and %d due items, want the tombstone with its item", w.keys("conn/"),
				w.Work(t))
		}
		time.Sleep(11 * time.Minute)
		w.want(0, 0)
		if w.keys("conn/") != 0 || w.keys("config/") != 0 || w.Work(t) != 0 {
			t.Errorf("%d configurations and %d due items after the last lease, want none", w.keys("conn/"), w.Work(t))
		}
		if w.opens.Load() != w.shuts.Load() {
			t.Errorf("%d pools opened, %d closed", w.opens.Load(), w.shuts.Load())
		}
	})
}

// A name that is used again has nothing to do with what it named before.
func TestReusedName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := ready(t, enginetest.Config{})
		_, _, old := w.issue("ro")
		w.Must(t, route.Delete, "config/prod", nil)
		w.Must(t, route.Write, "config/prod",
			with(prod, fields{"password": "not this one", "verify_connection": false}))
		if w.keys("conn/") != 2 {
			t.Errorf("%d configurations, want the tombstone and the new one", w.keys("conn/"))
		}
		w.Must(t, route.Write, "roles/ro", fields{"revocation_statements": []string{"NEW", "DROP"}})
		if err := w.Revoke(old); err != nil {
			t.Errorf("revoking by the tombstone: %v", err)
		}
		if got := w.lastDrop().Statements; !slices.Equal(got, []string{"DROP"}) {
			t.Errorf("revoked by %q, want the statements of the old connection's days", got)
		}
		time.Sleep(time.Hour)
		if w.keys("conn/") != 1 || w.keys("config/") != 1 {
			t.Error("the new connection went with the tombstone")
		}
	})
}

// A connection is deleted between plan and create, or while the reservation is
// not there yet: what comes of it is revoked all the same.
func TestDeletedWhileIssuing(t *testing.T) {
	for _, step := range []string{"planned", "reserved"} {
		synctest.Test(t, func(t *testing.T) {
			var w *world
			w = ready(t, enginetest.Config{Between: func(s string) error {
				if s == step {
					_, err := w.Do(route.Delete, "config/prod", nil)
					return err
				}
				return nil
			}})
			w.Refused(t, route.Read, "creds/ro", nil, fault.Invalid, "deleted meanwhile")
			time.Sleep(30 * time.Minute)
			w.want(0, 0)
			if w.keys("conn/") != 0 {
				t.Error("the tombstone stays")
			}
		})
	}
}

// creating begins to create a user, in a bubble, which takes six seconds.
func (w *world) creating() (result chan error) {
	w.t.Helper()
	w.Must(w.t, route.Write, "roles/app-slow", with(ro, fields{"creation_statements": []string{"SLEEP 6s", "CREATE"}}))
	result = make(chan error)
	go func() { _, err := w.Do(route.Read, "creds/app-slow", nil); result <- err }()
	time.Sleep(time.Second)
	return result
}

// A change of the connection does not cut what runs on the old pool.
func TestChangeWhileCreating(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := ready(t, enginetest.Config{})
		result := w.creating()
		w.Must(t, route.Write, "config/prod", fields{"max_open_connections": 9})
		w.Must(t, route.Write, "reset/prod", nil)
		w.issue("ro")
		shut := w.shuts.Load()
		if err := <-result; err != nil {
			t.Errorf("the create that ran: %v", err)
		}
		synctest.Wait()
		if w.shuts.Load() != shut+1 {
			t.Errorf("the old pool was not closed after its last call: %d, then %d", shut, w.shuts.Load())
		}
	})
}

// Closing the mount ends what runs, within a second.
func TestCloseWhileCreating(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := ready(t, enginetest.Config{})
		result := w.creating()
		start := time.Now()
		if err := w.Engine.Close(); err != nil || time.Since(start) > time.Second {
			t.Errorf("Close = %v after %v", err, time.Since(start))
		}
		if err := <-result; !fault.Is(err, fault.Unavailable) {
			t.Errorf("the create that ran: %v, want unavailable", err)
		}
	})
}

// eachLogin runs a test, in a bubble, on the role ro as it lends passwords, and as it lends
// certificates.
func eachLogin(t *testing.T, f func(t *testing.T, w *world)) {
	eachLoginOf(t, func() enginetest.Config { return enginetest.Config{} }, f)
}

func eachLoginOf(t *testing.T, c func() enginetest.Config, f func(t *testing.T, w *world)) {
	t.Helper()
	for _, certificates := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := ready(t, c())
			if certificates {
				w.Must(t, route.Write, "roles/ro", certRole(t, 1000*time.Hour))
			}
			f(t, w)
		})
	}
}

// Many at once, on several roles, with the store failing in between: in the end
// nothing is left that no lease knows of. Each runs in a bubble.
func TestStoreFails(t *testing.T) {
	for _, mode := range []faulty.Mode{faulty.NotStored, faulty.Stored} {
		var st *faulty.Store
		fresh := func() enginetest.Config {
			st = faulty.New(enginetest.Memory(), 1)
			return enginetest.Config{Store: st}
		}
		eachLoginOf(t, fresh, func(t *testing.T, w *world) {
			st.Inject(faulty.Fault{Calls: faulty.Commits, Rate: 0.3, Times: -1, Mode: mode})
			var all sync.WaitGroup
			for range 40 {
				all.Go(func() { _, _ = w.Do(route.Read, "creds/ro", nil) })
			}
			all.Wait()
			st.Clear()
			w.Reopen(t)
			time.Sleep(6 * time.Hour)
			w.want(0, 0)
		})
	}
}

// The lease keeps no password, and stays small.
func TestWhatALeaseKeeps(t *testing.T) {
	w := ready(t, enginetest.Config{})
	_, password, id := w.issue("ro")
	e, err := w.View.Get(context.Background(), "lease/"+id)
	if err != nil {
		t.Fatal(err)
	}
	for _, canary := range []string{password, databasetest.FakePassword} {
		if strings.Contains(string(e.Value), canary) {
			t.Errorf("the lease keeps %q", canary)
		}
	}
	if len(e.Value) > 600 {
		t.Errorf("a lease is %d bytes: %s", len(e.Value), e.Value)
	}
}

// A lease whose connection is not in the store names what to do.
func TestConnectionLost(t *testing.T) {
	w := ready(t, enginetest.Config{})
	name, _, id := w.issue("ro")
	for e, err := range w.View.Scan(context.Background(), "mount/m/conn/", storage.PrefixEnd("mount/m/conn/")) {
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.View.Commit(context.Background(), storage.Remove(e.Key)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Revoke(id); !fault.Is(err, fault.Held) || !strings.Contains(fault.Message(err), name) ||
		!strings.Contains(fault.Message(err), "revoke-force") {
		t.Errorf("revoking: %v", err)
	}
}

func BenchmarkLend(b *testing.B) {
	fake := new(databasetest.Fake)
	w := enginetest.Open(b, database.New(fake.Provider()), enginetest.Config{})
	w.Must(b, route.Write, "config/prod", prod)
	w.Must(b, route.Write, "roles/ro", ro)
	for i := 0; b.Loop(); i++ {
		if _, err := w.Do(route.Read, "creds/ro", nil); err != nil {
			b.Fatal(fmt.Errorf("issuing the %dth: %w", i, err))
		}
	}
}

// A role that cannot be revoked – its statements leave the user, or fail – delays no user of
// another role on the same connection. Each of its users is tried again and again, and its
// lease says why.
//
// https://github.com/JiRaska/open-bank-oss/issues/9689
// https://github.com/JiRaska/open-bank-oss/issues/9696
func TestBadRoleDelaysNoOther(t *testing.T) {
	for name, statements := range map[string][]string{"leaves the user": {"SELECT 1"}, "fails": {"FAIL"}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := ready(t, enginetest.Config{})
				w.Must(t, route.Write, "roles/app-bad", with(ro, fields{"revocation_statements": statements}))
				bad := 1000
				if name == "fails" {
					bad = 100 // the difference is in one line
				}
				var stuck string
				for range bad {
					_, _, stuck = w.issue("app-bad")
				}
				var ends []time.Time
				for range 100 {
					a := w.Must(t, route.Read, "creds/ro", nil)
					ends = append(ends, a.Lease.Expires)
					time.Sleep(time.Minute)
				}
				// One look per good user, a second after its end.
				for i, end := range ends {
					time.Sleep(time.Until(end.Add(time.Second)))
					if got := len(w.fake.Users()); i >= len(ends)-30 && got > bad+len(ends)-1-i {
						t.Fatalf("%d users a second after the end of good one %d, want %d", got, i, bad+len(ends)-1-i)
					}
				}
				w.want(bad, bad)
				l, err := w.Leases.Lookup(t.Context(), stuck)
				if err != nil || l.Error == "" || l.Failing.IsZero() || l.Tries < 3 ||
					w.Leases.Stats.Waiting.Load() != int64(bad) {
					t.Errorf("the lease: %+v, %v; %d are counted as waiting", l, err, w.Leases.Stats.Waiting.Load())
				}
				time.Sleep(time.Hour)
				w.want(bad, bad)
				w.Must(t, route.Write, "roles/app-bad", fields{"revocation_statements": "DROP"})
				time.Sleep(67 * time.Minute)
				w.want(0, 0)
			})
		})
	}
}

// A role whose revocations hang while the database answers takes no more than one session, once
// that is known: users of other roles are revoked in time.
func TestHangingRoleDelaysNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := ready(t, enginetest.Config{})
		w.Must(t, route.Write, "roles/app-bad", with(ro, fields{"revocation_statements": []string{"WAIT", "DROP"}}))
		sessions := make(chan struct{}, 4)
		var over atomic.Bool
		w.slow = func(o database.DropOptions) error {
			deadline := time.After(time.Minute)
			select {
			case sessions <- struct{}{}:
				defer func() { <-sessions }()
			case <-deadline:
				return fault.New("fake", fault.Timeout, "no session is free")
			}
			if !over.Load() && slices.Contains(o.Statements, "WAIT") {
				<-deadline
				return fault.New("fake", fault.Timeout, "revoking took too long")
			}
			return nil
		}
		const bad, good = 300, 60
		for range bad {
			w.issue("app-bad")
		}
		time.Sleep(5 * time.Minute)
		for range good {
			w.issue("ro")
			time.Sleep(30 * time.Second)
		}
		// The bad ones fell due five minutes ago, and hung at first; now the good ones come.
		time.Sleep(2 * time.Second)
		for i := range good {
			if got, want := len(w.fake.Users()), bad+good-1-i; got > want {
				t.Fatalf("%d users, two seconds after the end of good one %d, want %d", got, i, want)
			}
			time.Sleep(30 * time.Second)
		}
		w.want(bad, bad)
		over.Store(true)
		time.Sleep(3 * time.Hour)
		w.want(0, 0)
	})
}

// A revocation that has begun ends access at once, whatever becomes of it: its statements fail,
// leave the user, or hang, and those of others of the role with them. The lease says that.
func TestRevocationEndsAccessFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := ready(t, enginetest.Config{})
		for _, statements := range []string{"FAIL", "NOTHING", "WAIT"} {
			w.Must(t, route.Write, "roles/app-bad", with(ro, fields{"revocation_statements": statements}))
			w.slow = func(o database.DropOptions) error {
				if !slices.Contains(o.Statements, "WAIT") {
					return nil
				}
				time.Sleep(time.Minute)
				return fault.New("fake", fault.Timeout, "revoking took too long")
			}
			var names, passwords, leases []string
			for range 20 {
				name, password, lease := w.issue("app-bad")
				names, passwords, leases = append(names, name), append(passwords, password), append(leases, lease)
			}
			for _, id := range leases {
				if err := w.Leases.End(t.Context(), id, false, time.Now()); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(3 * time.Minute) // the first few hang for a minute each before the role is known for it
			for i, name := range names {
				if w.fake.Login(name, passwords[i]) == nil {
					t.Errorf("%s: user %d can log in while its revocation fails", statements, i)
				}
			}
			l, err := w.Leases.Lookup(t.Context(), leases[0])
			if err != nil || !strings.Contains(l.Error, "cannot log in any more") {
				t.Errorf("%s: the lease says %+v, %v", statements, l, err)
			}
			w.Must(t, route.Write, "roles/app-bad", with(ro, nil))
			time.Sleep(3 * time.Hour)
			w.want(0, 0)
		}
	})
}

// TestConnectionChangedMeanwhile: what the database surely did not do is done once more where the
// connection has changed since, for the administrator's old password is refused once there is a
// new one. It is done no third time, at no other place, and not where it may have been done.
func TestConnectionChangedMeanwhile(t *testing.T) {
	sure := database.MarkUnchanged(fault.New("fake", fault.Upstream, "wrong password"))
	unsure := fault.New("fake", fault.Upstream, "the connection was lost")
	for name, tt := range map[string]struct {
		change fields // of the connection while the call is under way
		err    error
		always bool // also the second call fails
		calls  int
		fine   bool
	}{
		"changed":              {fields{"max_open_connections": 2}, sure, false, 2, true},
		"changed, fails again": {fields{"max_open_connections": 2}, sure, true, 2, false}, // and is changed again
		"not changed":          {nil, sure, false, 1, false},
		"perhaps done":         {fields{"max_open_connections": 2}, unsure, false, 1, false},
		"elsewhere":            {with(prod, fields{"connection_url": "fake://elsewhere"}), sure, false, 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := ready(t, enginetest.Config{})
			calls := 0
			w.setHook(func(call string) error {
				if call != "create" {
					return nil
				}
				if calls++; calls > 1 && !tt.always {
					return nil
				}
				if tt.change != nil {
					w.Must(t, route.Write, "config/prod", with(tt.change, fields{"max_idle_connections": calls}))
				}
				return tt.err
			})
			_, err := w.Do(route.Read, "creds/ro", nil)
			if (err == nil) != tt.fine || calls != tt.calls {
				t.Errorf("%d calls, %v; want %d", calls, err, tt.calls)
			}
			// Two writes were verified, and each pool is of the connection as it was then.
			if n := w.opens.Load(); tt.fine && n != 4 {
				t.Errorf("%d connections were made, want two to verify and two pools", n)
			}
		})
	}
}

// Where the database does not disable a user, it is dropped all the same, and an error says both.
func TestNotDisabled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := ready(t, enginetest.Config{})
		w.setHook(func(call string) error {
			if call == "disable" {
				return database.MarkRefused(fault.New("fake", fault.Upstream, "the administrator may not do that"))
			}
			return nil
		})
		_, _, lease := w.issue("ro")
		if err := w.Revoke(lease); err != nil {
			t.Error(err)
		}
		w.want(0, 0)
		w.Must(t, route.Write, "roles/ro", with(ro, fields{"revocation_statements": "FAIL"}))
		_, _, lease = w.issue("ro")
		if err := w.Revoke(lease); err == nil ||
			!strings.Contains(fault.Message(err), "can log in: the administrator may not do that") {
			t.Errorf("got %v", err)
		}
		// A server that is away is not asked for more.
		w.setHook(func(call string) error {
			if call == "drop" {
				t.Error("it was dropped without being disabled")
			}
			if call == "disable" {
				return fault.New("fake", fault.Upstream, "the server is away")
			}
			return nil
		})
		if err := w.Revoke(lease); err == nil {
			t.Error("it was revoked at a server that is away")
		}
		w.setHook(nil)
	})
}

// A renewal is bounded by the role as it is now, and says why there is none.
func TestRenewFollowsTheRole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := ready(t, enginetest.Config{})
		a := w.Must(t, route.Read, "creds/ro", nil)
		w.Must(t, route.Write, "roles/ro", fields{"default_ttl": "10m", "max_ttl": "1h"})
		if l, err := w.Renew(a.Lease.ID, 0); err != nil || time.Until(l.Expires) != 10*time.Minute {
			t.Errorf("renewed to %v, %v; want the role's new TTL", l, err)
		}
		w.setHook(func(call string) error {
			if call == "renew" {
				return database.MarkRefused(fault.New("fake", fault.Upstream, "not now"))
			}
			return nil
		})
		if _, err := w.Renew(a.Lease.ID, 0); err == nil || !strings.Contains(fault.Message(err), "not now") {
			t.Errorf("refused by the database: %v", err)
		}
		w.setHook(nil)
		w.Must(t, route.Delete, "roles/ro", nil)
		undo := engine.Undo{LeaseID: a.Lease.ID, Data: a.Lease.Data}
		if err := w.Engine.(engine.Undoer).Renew(t.Context(), undo, time.Now()); !fault.Is(err, fault.Invalid) ||
			!strings.Contains(fault.Message(err), "was deleted") {
			t.Errorf("renewed without a role: %v", err)
		}
		if _, _, err := w.Engine.(engine.Undoer).Bounds(t.Context(), undo); !fault.Is(err, fault.Invalid) ||
			!strings.Contains(fault.Message(err), "was deleted") {
			t.Errorf("the bounds of a role that is gone: %v", err)
		}
	})
}

// Whose fault a revocation's failure is, and whether the user can log in meanwhile, is said.
func TestRevocationFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := ready(t, enginetest.Config{})
		_, _, lease := w.issue("ro")
		for kind, alone := range map[fault.Kind]bool{fault.Invalid: true, fault.Upstream: false} {
			w.setHook(func(call string) error {
				if call == "drop" {
					return fault.New("fake", kind, "not now")
				}
				return nil
			})
			err := w.Revoke(lease)
			if err == nil || engine.IsLeaseOnly(err) != alone ||
				!strings.Contains(fault.Message(err), "not now; the user cannot log in any more") {
				t.Errorf("%v: %v, of this lease alone %v, want %v", kind, err, engine.IsLeaseOnly(err), alone)
			}
		}
		// Disabling hangs, and the server answers others: the user is dropped all the same. One
		// that does not answer is not asked.
		for _, answers := range []bool{false, true} {
			dropped := false
			w.setHook(func(call string) error {
				switch {
				case call == "disable":
					return fault.New("fake", fault.Timeout, "disabling took too long")
				case call == "verify" && !answers:
					return fault.New("fake", fault.Timeout, "the server hangs")
				case call == "drop":
					dropped = true
				}
				return nil
			})
			if err := w.Revoke(lease); (err == nil) != answers || dropped != answers {
				t.Errorf("the server answers %v: dropped %v, %v", answers, dropped, err)
			}
		}
		w.setHook(nil)
	})
}

// Whether a create has ended must be known before its user is dropped.
func TestAttemptThatCannotBeSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := ready(t, enginetest.Config{})
		w.fake.LoseReplies(1)
		w.setHook(func(call string) error {
			if call == "settle" {
				return fault.New("fake", fault.Upstream, "not now")
			}
			if call == "drop" || call == "disable" {
				t.Errorf("%s before the create was settled", call)
			}
			return nil
		})
		w.Refused(t, route.Read, "creds/ro", nil, fault.Upstream, "lost")
		time.Sleep(time.Minute)
		w.want(1, 1)
		w.setHook(nil)
		time.Sleep(time.Hour)
		w.want(0, 0)
	})
}
