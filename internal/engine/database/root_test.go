package database_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/engine/database/databasetest"
	"github.com/keyturn/keyturn/internal/engine/enginetest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
)

// An administrator's password that cannot be changed is tried again at its times alone, however
// often its connection is written.
func TestFailingRootWaitsThroughWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := ready(t, enginetest.Config{})
		w.Must(t, route.Write, "config/prod", fields{"rotation_period": "1h", "root_rotation_statements": "FAIL"})
		n := w.changes()
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		tried := n()
		if tried < 3 {
			t.Fatalf("%d tries in an hour", tried)
		}
		a := w.Must(t, route.Read, "config/prod", nil)
		for range 20 {
			w.Must(t, route.Write, "config/prod", fields{"allowed_roles": "ro", "max_open_connections": 3})
			synctest.Wait()
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if now := n(); now != tried {
			t.Errorf("20 writes of something else made it try %d times", now-tried)
		}
		if b := w.Must(t, route.Read, "config/prod", nil); b.Data["last_root_error"] != a.Data["last_root_error"] ||
			b.Data["next_root_rotation"] != a.Data["next_root_rotation"] {
			t.Errorf("the writes changed %s to %s", a.Text, b.Text)
		}
		w.Must(t, route.Write, "config/prod", fields{"root_rotation_statements": ""})
		time.Sleep(time.Hour + time.Minute)
		w.issue("ro")
		if a := w.Must(t, route.Read, "config/prod", nil); a.Data["last_root_error"] != nil {
			t.Errorf("it is not tried again: %s", a.Text)
		}
	})
}

// hanging is ready, with a database that does not answer changes of passwords while it hangs.
func hanging(t *testing.T) (w *world, hangs *atomic.Bool) {
	hangs = new(atomic.Bool)
	w = &world{t: t, fake: new(databasetest.Fake), log: new(enginetest.Log),
		fate: func(call string) databasetest.Fate {
			if call == "set password" && hangs.Load() {
				return databasetest.Hang
			}
			return databasetest.Well
		}}
	w.open(enginetest.Config{})
	w.Must(t, route.Write, "config/prod", prod)
	w.Must(t, route.Write, "roles/ro", ro)
	return w, hangs
}

// It is not known whether the administrator's password was changed, and it was not: the old one
// goes on to be used, after one look, and the database is not asked for each use.
func TestRootUnknownGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, hangs := hanging(t)
		hangs.Store(true)
		if _, err := w.Do(route.Write, "rotate-root/prod", nil); err == nil {
			t.Fatal("a database that hangs has changed a password")
		}
		hangs.Store(false)
		before := len(w.sentAll())
		for range 10 {
			w.issue("ro")
		}
		if n := len(w.sentAll()) - before; n > 8 {
			t.Errorf("%d passwords were sent for ten uses", n)
		}
		if err := w.fake.Login(databasetest.FakeAdmin, databasetest.FakePassword); err != nil {
			t.Error("using it has changed the password")
		}
		time.Sleep(10 * time.Minute)
		w.issue("ro")
		if a := w.Must(t, route.Read, "config/prod", nil); a.Data["last_root_error"] != nil ||
			w.fake.Login(databasetest.FakeAdmin, databasetest.FakePassword) == nil {
			t.Errorf("it has not gone on: %s", a.Text)
		}
	})
}

// While it goes on to be unknown for long, a connection in use looks ever more rarely: each look
// is a login that the database refuses, and databases lock accounts after some.
func TestRootUnknownLooksEverMoreRarely(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, hangs := hanging(t)
		hangs.Store(true)
		_, _ = w.Do(route.Write, "rotate-root/prod", nil)
		known := map[string]bool{databasetest.FakePassword: true}
		for range 6 * 60 { // an hour of uses
			_, _ = w.Do(route.Read, "creds/ro", nil) // one that meets a try of the rotation is told to come again
			time.Sleep(10 * time.Second)
		}
		refused := 0
		for _, word := range w.sentAll() {
			if !known[word] {
				refused++
			}
		}
		if refused > 100 {
			t.Errorf("the new password was sent %d times in an hour", refused)
		}
		hangs.Store(false)
		time.Sleep(2 * time.Hour)
		w.issue("ro")
	})
}

// sentAll are all that was sent.
func (w *world) sentAll() (all []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, sent := range w.told {
		all = append(all, sent...)
	}
	return all
}

// A connection is deleted while its password is being changed: what was issued is revoked by
// whichever is right, and nothing is left.
func TestDeletedWhileRootTurns(t *testing.T) {
	for _, scheduled := range []bool{false, true} {
		for _, unknown := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				w := ready(t, enginetest.Config{})
				if scheduled {
					w.Must(t, route.Write, "config/prod", fields{"rotation_period": "24h"})
				}
				w.Must(t, route.Write, "rotate-root/prod", nil)
				w.issue("ro")
				if unknown {
					w.fake.LoseReplies(1)
					_, _ = w.Do(route.Write, "rotate-root/prod", nil)
				}
				if a := w.Must(t, route.Delete, "config/prod", nil); len(a.Warnings) == 1 != unknown {
					t.Errorf("unknown %v: warnings %q", unknown, a.Warnings)
				}
				time.Sleep(3 * time.Hour)
				w.want(0, 0)
				for _, prefix := range []string{"conn/", "config/", "root/", "rts/", "rth/", "rtj/"} {
					if n := w.keys(prefix); n != 0 {
						t.Errorf("unknown %v: %d keys of %s are left", unknown, n, prefix)
					}
				}
				if n := w.Work(t); n != 0 {
					t.Errorf("%d due items are left", n)
				}
			})
		}
	}
}

// All that rotates shows where it stands, by the path that requests use.
func TestRotating(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := withUsers(t, enginetest.Config{}, "svc")
		w.Must(t, route.Write, "static-roles/svc", svc)
		w.Must(t, route.Write, "rotate-root/prod", nil)
		w.fake.LoseReplies(1)
		if _, err := w.Do(route.Write, "rotate-role/svc", nil); err == nil {
			t.Error("a rotation without a reply is over")
		}
		var paths []string
		for s, err := range w.Engine.(engine.Rotator).Rotations().Statuses(context.Background()) {
			if err != nil || s.Summary == "" || (s.Alert != "") != strings.Contains(s.Path, "svc") {
				t.Errorf("%+v, %v", s, err)
			}
			paths = append(paths, s.Path)
		}
		slices.Sort(paths)
		if want := []string{"mount/config/prod", "mount/static-roles/svc"}; !slices.Equal(paths, want) {
			t.Errorf("%q, want %q", paths, want)
		}
	})
}

// TestLoginsThatFailMakeNothingAnew: a password was set, and then no login can be tried for a
// while. It is the one that is proven and given out in the end: another in its place would leave
// the database with one that nobody has.
func TestLoginsThatFailMakeNothingAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var away atomic.Bool
		w := &world{t: t, fake: new(databasetest.Fake), log: new(enginetest.Log),
			fate: func(call string) databasetest.Fate {
				if call == "login" && away.Load() {
					return databasetest.Before
				}
				return databasetest.Well
			}}
		w.open(enginetest.Config{})
		w.Must(t, route.Write, "config/prod", with(prod, fields{"allowed_roles": "*"}))
		w.fake.AddUser("svc", oldPassword)
		w.Must(t, route.Write, "static-roles/svc", with(svc, fields{"rotation_period": "24h"}))
		var mu sync.Mutex
		sent := map[string]bool{}
		w.setRules(func(_, password string) error { mu.Lock(); defer mu.Unlock(); sent[password] = true; return nil })
		away.Store(true)
		if _, err := w.Do(route.Write, "rotate-role/svc", nil); err == nil {
			t.Error("a rotation without a login succeeded")
		}
		time.Sleep(time.Hour)
		if a := w.Must(t, route.Read, "static-creds/svc", nil); len(a.Warnings) != 1 {
			t.Errorf("nothing warns a reader that the password may be another: %q", a.Warnings)
		}
		away.Store(false)
		time.Sleep(2 * time.Hour)
		_, password := w.given("svc")
		mu.Lock()
		defer mu.Unlock()
		if len(sent) != 1 || !sent[password] {
			t.Errorf("%d passwords were sent, and what is given out is one of them: %v", len(sent), sent[password])
		}
	})
}

// TestNewRootPasswordThatCannotBeTried: the administrator's new password is called refused only
// by a database that was asked and says so. While it takes no session, or does not answer, the
// rotation waits for it, and ends once it does.
func TestNewRootPasswordThatCannotBeTried(t *testing.T) {
	for _, answers := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			w := ready(t, enginetest.Config{})
			var set atomic.Bool
			w.setRules(func(string, string) error { set.Store(true); return nil })
			w.setHook(func(call string) error {
				if call != "verify" || !set.Load() {
					return nil
				}
				w.hang(!answers) // the login that follows
				return fault.New("fake", fault.Upstream, "there is no room for sessions")
			})
			_, err := w.Do(route.Write, "rotate-root/prod", nil)
			if err == nil || strings.Contains(fault.Message(err), "refuses the password") {
				t.Errorf("the database answers: %v; the rotation says %v", answers, err)
			}
			w.setHook(nil)
			w.hang(false)
			time.Sleep(2 * time.Hour)
			if err := w.fake.Login(databasetest.FakeAdmin, databasetest.FakePassword); err == nil {
				t.Errorf("the database answers: %v; the old password works", answers)
			}
			w.issue("ro")
		})
	}
}

// TestWriteEndsRotation: a write of a connection first ends the rotation of its password that is
// under way, so that nobody has to guess which password the writer means.
func TestWriteEndsRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := ready(t, enginetest.Config{})
		unfinished := func() error { return w.Engine.(engine.Keeper).Unfinished(context.Background()) }
		w.fake.LoseReplies(1)
		if _, err := w.Do(route.Write, "rotate-root/prod", nil); err == nil || unfinished() == nil {
			t.Fatalf("without a reply: %v, and it is over: %v", err, unfinished())
		}
		w.Must(t, route.Write, "config/prod", fields{"max_open_connections": 3})
		if err := unfinished(); err != nil {
			t.Errorf("after a write of the connection: %v", err)
		}
		if err := w.fake.Login(databasetest.FakeAdmin, databasetest.FakePassword); err == nil {
			t.Error("the password of before the rotation works")
		}
		w.issue("ro")
	})
}

// TestWriteWhileAnotherServerRotates: while another server changes the password, nobody knows
// which one works. A write of the connection is told so, and not that the connection does not
// work.
func TestWriteWhileAnotherServerRotates(t *testing.T) {
	st := enginetest.Memory()
	w := ready(t, enginetest.Config{Store: st})
	other := (&world{t: t, fake: w.fake, log: new(enginetest.Log)}).open(enginetest.Config{Store: st})
	w.setRules(func(_, password string) error {
		w.fake.SetRoot(password)
		defer w.fake.SetRoot(databasetest.FakePassword) // with which the call goes on
		other.Refused(t, route.Write, "config/prod", fields{"max_open_connections": 3}, fault.Unavailable,
			"may still be under way")
		return nil
	})
	w.Must(t, route.Write, "rotate-root/prod", nil)
	other.Must(t, route.Write, "config/prod", fields{"max_open_connections": 3})
	other.issue("ro")
}
