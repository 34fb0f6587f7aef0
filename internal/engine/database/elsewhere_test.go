package database_test

import (
	"context"
	"errors"
	"fmt"
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
)

const elsewhere = "fake://{{username}}:{{password}}@elsewhere"

// TestSelfManagedElsewhere: the passwords of users are not sent to where a write of the connection
// leads, nor to where another life of its name does, unless they are given again.
func TestSelfManagedElsewhere(t *testing.T) {
	for _, again := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := open(t, enginetest.Config{})
			w.fake.AddUser("svc", oldPassword)
			own := fields{"plugin_name": "fake-database-plugin", "connection_url": prod["connection_url"],
				"allowed_roles": "*", "self_managed": true}
			w.Must(t, route.Write, "config/own", own)
			role := with(svc, fields{"db_name": "own", "self_managed_password": oldPassword})
			w.Must(t, route.Write, "static-roles/svc", role)
			_, before := w.given("svc")
			if again {
				w.Must(t, route.Delete, "config/own", nil)
				w.Must(t, route.Write, "config/own", with(own, fields{"connection_url": elsewhere}))
			} else {
				w.Must(t, route.Write, "config/own", fields{"connection_url": elsewhere})
			}
			w.Refused(t, route.Write, "rotate-role/svc", nil, fault.Invalid, `field "self_managed_password"`)
			time.Sleep(2 * time.Hour)
			if w.wasTold(elsewhere, before) {
				t.Errorf("again %v: the password of a user was sent elsewhere", again)
			}
			if _, now := w.given("svc"); now != before {
				t.Error("another password is given out")
			}
			w.Refused(t, route.Write, "static-roles/svc", fields{"self_managed_password": "wrong"}, fault.Invalid,
				"refuses it")
			w.Must(t, route.Write, "static-roles/svc", fields{"self_managed_password": before})
			w.Must(t, route.Write, "rotate-role/svc", nil)
			_, now := w.given("svc")
			if now == before {
				t.Error("it is not rotated any more")
			}
			// A file that is applied again, and then what a person has set.
			if a := w.Must(t, route.Write, "static-roles/svc",
				fields{"self_managed_password": before}); len(a.Warnings) != 1 {
				t.Errorf("warnings %q", a.Warnings)
			}
			if _, p := w.given("svc"); p != now {
				t.Error("a password of before is given out")
			}
			w.fake.AddUser("svc", "by hand")
			w.Must(t, route.Write, "static-roles/svc", fields{"self_managed_password": "by hand"})
			w.given("svc")
			w.Must(t, route.Write, "rotate-role/svc", nil)
			w.given("svc")
			if n := w.Work(t); n != 1 {
				t.Errorf("%d due items", n)
			}
		})
	}
}

// TestStaticElsewhere: what a user's password is or may be is not sent to where the connection
// leads now. There it gets a new one.
func TestStaticElsewhere(t *testing.T) {
	for _, unknown := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := withUsers(t, enginetest.Config{}, "svc")
			w.Must(t, route.Write, "static-roles/svc", svc)
			_, before := w.given("svc")
			if unknown {
				w.fake.LoseReplies(1)
				w.Refused(t, route.Write, "rotate-role/svc", nil, fault.Upstream, "lost")
			}
			w.Must(t, route.Write, "config/prod",
				with(prod, fields{"allowed_roles": "*", "connection_url": elsewhere}))
			w.Must(t, route.Read, "static-creds/svc", nil)
			w.Must(t, route.Write, "static-roles/svc", fields{"rotation_statements": "NOTHING"})
			w.Refused(t, route.Write, "rotate-role/svc", nil, fault.Upstream, "check rotation_statements")
			w.Must(t, route.Write, "static-roles/svc", fields{"rotation_statements": ""})
			w.Must(t, route.Write, "rotate-role/svc", nil)
			w.given("svc")
			old := w.sentTo(prod["connection_url"].(string))
			for _, password := range w.sentTo(elsewhere) {
				if password == before || password != databasetest.FakePassword && old[password] != "" {
					t.Errorf("unknown %v: a password of the user from before was sent elsewhere", unknown)
				}
			}
		})
	}
}

// sentTo are the passwords that were sent to a connection_url.
func (w *world) sentTo(url string) map[string]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := map[string]string{}
	for _, p := range w.told[url] {
		all[p] = p
	}
	return all
}

// TestReadsDoNotHang: while a database hangs in the middle of a change, readers are soon given the
// password from before, with a warning, and told to read again soon.
func TestReadsDoNotHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := withUsers(t, enginetest.Config{}, "svc")
		w.Must(t, route.Write, "static-roles/svc", svc)
		_, before := w.given("svc")
		w.hang(true)
		go func() { _, _ = w.Do(route.Write, "rotate-role/svc", nil) }()
		for range 30 { // in the try, and between tries
			time.Sleep(time.Second)
			var all sync.WaitGroup
			for range 5 {
				all.Go(func() {
					began := time.Now()
					a, err := w.Do(route.Read, "static-creds/svc", nil)
					if took := time.Since(began); took > 3*time.Second {
						t.Errorf("a read took %s", took)
					}
					if err != nil || a.Data["password"] != before || len(a.Warnings) != 1 ||
						a.Data["ttl"].(float64) > 60 {
						t.Errorf("it was given %+v, %v", a, err)
					}
				})
			}
			all.Wait()
		}
		w.hang(false)
		time.Sleep(2 * time.Minute)
		if _, now := w.given("svc"); now == before {
			t.Error("the change was not ended")
		}
		// The first change of all: there is nothing else to give out.
		w.fake.AddUser("new", oldPassword)
		w.hang(true)
		w.Must(t, route.Write, "static-roles/new", with(svc, fields{"username": "new"}))
		began := time.Now()
		if _, err := w.Do(route.Read, "static-creds/new", nil); err == nil || time.Since(began) > 3*time.Second {
			t.Errorf("%v after %s", err, time.Since(began))
		}
		w.hang(false)
		time.Sleep(5 * time.Minute) // it is tried with back-off
		w.given("new")
	})
}

// However often a role is read whose first password is not known to be set, it is set with
// back-off.
func TestReadsDoNotSetTheFirstPassword(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sets, logins atomic.Int32
		var lost atomic.Bool
		w := &world{t: t, fake: new(databasetest.Fake), log: new(enginetest.Log),
			fate: func(call string) databasetest.Fate {
				if call == "login" {
					logins.Add(1)
				}
				if call != "set password" {
					return databasetest.Well
				}
				if sets.Add(1); lost.Load() {
					return databasetest.Hang
				}
				return databasetest.Well
			}}
		w.open(enginetest.Config{})
		w.Must(t, route.Write, "config/prod", with(prod, fields{"allowed_roles": "*"}))
		w.fake.AddUser("svc", oldPassword)
		lost.Store(true)
		w.Must(t, route.Write, "static-roles/svc", svc)
		for range 60 {
			w.Refused(t, route.Read, "static-creds/svc", nil, fault.Unavailable, "")
			time.Sleep(10 * time.Second)
		}
		if n := sets.Load(); n > 10 {
			t.Errorf("the password was set %d times in ten minutes", n)
		}
		if n := logins.Load(); n > 40 {
			t.Errorf("the password that is perhaps set was tried %d times in 60 reads", n)
		}
		lost.Store(false)
		time.Sleep(time.Hour)
		w.given("svc")
	})
}

// firstUnknown has the static role svc, whose first password is not known to be set, and returns
// that. It was not set, so far.
func firstUnknown(w *world) (password string) {
	w.t.Helper()
	w.fake.LoseReplies(1)
	w.Must(w.t, route.Write, "static-roles/svc", svc)
	password = w.fake.Password("svc")
	w.fake.AddUser("svc", oldPassword)
	return password
}

// TestFirstPasswordTakesEffectLate: reads during the back-off try the first password no more than
// now and then. A server that has not tried it lately does so, and finds it in force.
func TestFirstPasswordTakesEffectLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := withUsers(t, enginetest.Config{}, "svc")
		password := firstUnknown(w)
		w.setRules(func(string, string) error { return errors.New("no password may change now") })
		w.Refused(t, route.Read, "static-creds/svc", nil, fault.Unavailable, "no password may change now")
		before := len(w.sentAll())
		w.Refused(t, route.Read, "static-creds/svc", nil, fault.Unavailable, "the next attempt is at")
		if n := len(w.sentAll()) - before; n != 0 {
			t.Errorf("a second read sent %d passwords", n)
		}
		w.fake.AddUser("svc", password)
		w.Reopen(t)
		if _, got := w.given("svc"); got != password {
			t.Errorf("the password is %q, want %q", got, password)
		}
	})
}

// TestFirstPasswordWaitsForRoot: the first password is not set again while the administrator's own
// password is being changed, and at once when that is over.
func TestFirstPasswordWaitsForRoot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := withUsers(t, enginetest.Config{}, "svc")
		firstUnknown(w)
		rootUnknown(w)
		w.Refused(t, route.Read, "static-creds/svc", nil, fault.Unavailable,
			"a change of the administrator's password is under way")
		if !w.fake.Has("svc", oldPassword) {
			t.Error("the first password was set meanwhile")
		}
		w.Must(t, route.Write, "rotate-root/prod", nil)
		w.given("svc")
	})
}

// TestStaleRootPassword: a file that is applied again in the middle of a rotation whose outcome is
// not known brings the password from before, and must not make the new one forgotten.
func TestStaleRootPassword(t *testing.T) {
	for _, verify := range []bool{true, false} {
		for _, down := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				w := ready(t, enginetest.Config{})
				w.fake.LoseReplies(1)
				w.Refused(t, route.Write, "rotate-root/prod", nil, fault.Upstream, "lost")
				w.fake.SetDown(down)
				_, _ = w.Do(route.Write, "config/prod", with(prod, fields{"verify_connection": verify}))
				if down { // otherwise the rotation has ended, and who does not want it tried is believed
					w.Refused(t, route.Write, "config/prod",
						with(prod, fields{"verify_connection": verify, "password": "of nobody"}), fault.Invalid,
						"does not work")
				}
				w.fake.SetDown(false)
				time.Sleep(10 * time.Minute)
				w.issue("ro")
				w.Must(t, route.Write, "rotate-root/prod", nil)
				w.issue("ro")
			})
		}
	}
	// Somebody has set it by hand: one that works is taken.
	synctest.Test(t, func(t *testing.T) {
		w := ready(t, enginetest.Config{})
		w.fake.LoseReplies(1)
		w.Refused(t, route.Write, "rotate-root/prod", nil, fault.Upstream, "lost")
		w.fake.SetRoot("by hand")
		w.Must(t, route.Write, "config/prod", with(prod, fields{"password": "by hand", "verify_connection": false}))
		w.issue("ro")
		if n := w.Work(t); n != 0 {
			t.Errorf("%d due items are left", n)
		}
	})
}

// TestReuseFollowsTheRole: a user that was made by what the role said before is not given out
// again, nor one of another life of its connection.
func TestReuseFollowsTheRole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := ready(t, enginetest.Config{})
		w.Must(t, route.Write, "roles/ro", fields{"reuse": "token"})
		first, _, _ := w.issue("ro")
		w.Must(t, route.Write, "roles/ro", fields{"creation_statements": []string{"CREATE", "LESS"}})
		second, _, _ := w.issue("ro")
		if second == first {
			t.Error("a user of what the role said before was given out again")
		}
		if n, _, _ := w.issue("ro"); n != second {
			t.Error("it is not given out again any more")
		}
		w.Must(t, route.Delete, "config/prod", nil)
		w.Must(t, route.Write, "config/prod", prod)
		third, _, _ := w.issue("ro")
		if third == second {
			t.Error("a user of a deleted connection was given out again")
		}
		w.Must(t, route.Write, "config/prod", with(prod, fields{"connection_url": elsewhere}))
		if n, _, _ := w.issue("ro"); n == third {
			t.Error("a user of where the connection led before was given out again")
		}
		w.Must(t, route.Write, "config/prod", fields{"allowed_roles": "app-*"})
		w.Refused(t, route.Read, "creds/ro", nil, fault.Upstream, "not an allowed role")
	})
}

// TestRenewOfAnotherConnection: statements of a role that is for another connection now are not
// run at the old one.
func TestRenewOfAnotherConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := ready(t, enginetest.Config{})
		_, _, lease := w.issue("ro")
		w.Must(t, route.Write, "config/other", prod)
		w.Must(t, route.Write, "roles/ro", fields{"db_name": "other"})
		if _, err := w.Renew(lease, time.Hour); !fault.Is(err, fault.Invalid) {
			t.Errorf("renewing: %v", err)
		}
		w.Must(t, route.Write, "roles/ro", fields{"db_name": "prod"})
		if _, err := w.Renew(lease, time.Hour); err != nil {
			t.Error(err)
		}
	})
}

// TestRotateRootHangs: a try that ran into its time is noted like any other, and readers of static
// roles do not wait for it.
func TestRotateRootHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := withUsers(t, enginetest.Config{Store: impatient{enginetest.Memory()}}, "svc")
		w.Must(t, route.Write, "static-roles/svc", svc)
		_, before := w.given("svc")
		w.hang(true)
		if _, err := w.Do(route.Write, "rotate-role/svc", nil); err == nil {
			t.Error("a database that hangs has turned")
		}
		if _, err := w.Do(route.Write, "rotate-root/prod", nil); err == nil {
			t.Error("a database that hangs has turned")
		}
		if a := w.Must(t, route.Read, "config/prod", nil); a.Data["last_root_error"] == nil {
			t.Errorf("the failure was not noted: %s", a.Text)
		}
		began := time.Now()
		a := w.Must(t, route.Read, "static-creds/svc", nil)
		if took := time.Since(began); took > 3*time.Second || a.Data["password"] != before || len(a.Warnings) != 1 {
			t.Errorf("after %s it was given %s, %q", took, a.Text, a.Warnings)
		}
		w.hang(false)
		time.Sleep(10 * time.Minute)
		w.given("svc")
		w.Must(t, route.Write, "rotate-root/prod", nil)
	})
}

// TestReadWhileRootTurns: the reply to a change was lost, and the administrator's own password is
// being changed, for long. What a reader is given then works: a login says which password does,
// and needs no administrator.
func TestReadWhileRootTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := withUsers(t, enginetest.Config{}, "svc")
		w.Must(t, route.Write, "static-roles/svc", svc)
		w.fake.LoseReplies(1)
		slow := make(chan struct{})
		w.setRules(func(user, _ string) error {
			if user == databasetest.FakeAdmin {
				<-slow
			}
			return nil
		})
		if _, err := w.Do(route.Write, "rotate-role/svc", nil); err == nil {
			t.Error("a turn without a reply is over")
		}
		var root sync.WaitGroup
		root.Go(func() { _, _ = w.Do(route.Write, "rotate-root/prod", nil) })
		synctest.Wait()
		w.given("svc")
		close(slow)
		root.Wait()
		w.given("svc")
	})
}

// impatient is a store that does nothing for who has given up.
type impatient struct{ storage.Store }

func (s impatient) Commit(ctx context.Context, b storage.Batch) (storage.Version, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	return s.Store.Commit(ctx, b)
}

// TestOneDatabaseTwoConnections: a user whose password another connection to the same database
// needs, or another role changes there, is not taken.
func TestOneDatabaseTwoConnections(t *testing.T) {
	w := withUsers(t, enginetest.Config{}, "svc", "boss")
	w.Must(t, route.Write, "config/second",
		with(prod, fields{"allowed_roles": "*", "username": "boss", "password": oldPassword}))
	w.Refused(t, route.Write, "static-roles/boss", with(svc, fields{"username": "boss"}), fault.Invalid,
		`rotate-root/second`)
	w.Must(t, route.Write, "static-roles/svc", svc)
	w.Refused(t, route.Write, "static-roles/other", with(svc, fields{"db_name": "second"}), fault.Invalid,
		`by the static role "svc" already`)
	w.given("svc")
	w.Must(t, route.Write, "config/third", with(prod, fields{"allowed_roles": "*"}))
	if a := w.Must(t, route.Write, "rotate-root/prod", nil); len(a.Warnings) != 1 {
		t.Errorf("nothing warns that another connection needs the password: %q", a.Warnings)
	} else if !strings.Contains(a.Warnings[0], "any more: third; give") {
		t.Errorf("the warning names others than those of the same administrator: %q", a.Warnings)
	}
	if a := w.Must(t, route.Write, "config/third",
		with(prod, fields{"connection_url": "fake://{{username}}:{{password}}@elsewhere",
			"verify_connection": false})); len(a.Warnings) != 0 {
		t.Errorf("warnings %q", a.Warnings)
	}
	if a := w.Must(t, route.Write, "rotate-root/prod", nil); len(a.Warnings) != 0 {
		t.Errorf("another database's administrator is warned of: %q", a.Warnings)
	}
}

// TestRotateRootWithoutEffect: statements that say they are done and change nothing cost nobody
// the connection, and nothing is forgotten.
func TestRotateRootWithoutEffect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := ready(t, enginetest.Config{})
		_, _, lease := w.issue("ro")
		w.Must(t, route.Write, "config/prod", fields{"root_rotation_statements": "NOTHING"})
		w.Refused(t, route.Write, "rotate-root/prod", nil, fault.Upstream, "check root_rotation_statements")
		w.issue("ro")
		if err := w.Revoke(lease); err != nil {
			t.Errorf("revoking: %v", err)
		}
		time.Sleep(3 * time.Hour)
		w.want(0, 0)
		w.issue("ro")
		w.Reopen(t)
		w.issue("ro")
		if err := w.fake.Login(databasetest.FakeAdmin, databasetest.FakePassword); err != nil {
			t.Error("the old password is not in force any more")
		}
		w.Must(t, route.Write, "config/prod", fields{"root_rotation_statements": ""})
		w.Must(t, route.Write, "rotate-root/prod", nil)
		if err := w.fake.Login(databasetest.FakeAdmin, databasetest.FakePassword); err == nil {
			t.Error("it does not change once the statements are right")
		}
		w.issue("ro")
	})
}

// TestDeletedUnderStaticRoles: who deletes a connection is told which static roles it leaves.
func TestDeletedUnderStaticRoles(t *testing.T) {
	w := withUsers(t, enginetest.Config{}, "svc")
	w.Must(t, route.Write, "static-roles/svc", svc)
	if a := w.Must(t, route.Delete, "config/prod", nil); len(a.Warnings) != 1 ||
		!strings.Contains(a.Warnings[0], `"svc"`) {
		t.Errorf("warnings %q", a.Warnings)
	}
	w.Refused(t, route.Write, "rotate-role/svc", nil, fault.Invalid, "no connection")
	w.Must(t, route.Write, "config/prod", with(prod, fields{"allowed_roles": "*"}))
	w.Must(t, route.Write, "rotate-role/svc", nil)
	w.given("svc")
	if n := w.Work(t); n != 2 { // the role, and the tombstone
		t.Errorf("%d due items", n)
	}
}

// What was opened for a rotation is closed, and so is the pool that knows the old password. Each
// runs in a bubble.
func TestRotationsLeaveNoConnectionOpen(t *testing.T) {
	open := func(w *world) int32 { return w.opens.Load() - w.shuts.Load() }
	for name, rotate := range map[string]func(w *world){
		"on request": func(w *world) { w.Must(w.t, route.Write, "rotate-root/prod", nil) },
		"by itself": func(w *world) {
			w.Must(w.t, route.Write, "config/prod", fields{"rotation_period": "1h"})
			w.issue("ro")
			time.Sleep(61 * time.Minute)
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := ready(t, enginetest.Config{})
			w.Must(t, route.Write, "roles/ro", fields{"default_ttl": "2h"})
			w.issue("ro")
			if rotate(w); open(w) != 0 {
				t.Errorf("%s: %d connections are open after it", name, open(w))
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		w := withUsers(t, enginetest.Config{}, "svc", "self")
		w.Must(t, route.Write, "config/own", ownConfig)
		w.Must(t, route.Write, "static-roles/self",
			with(svc, fields{"db_name": "own", "username": "self", "self_managed_password": oldPassword}))
		if open(w) != 0 {
			t.Errorf("%d connections of a user's own are open", open(w))
		}
		w.Must(t, route.Write, "static-roles/svc", svc)
		if w.Must(t, route.Write, "reset/prod", nil); open(w) != 0 {
			t.Errorf("%d connections are open after a reset", open(w))
		}
	})
}

// Once it was found out which password is the right one, no pool is opened by another.
func TestPoolAfterALostReply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := ready(t, enginetest.Config{})
		w.fake.LoseReplies(1)
		w.Refused(t, route.Write, "rotate-root/prod", nil, fault.Upstream, "lost")
		before := w.opens.Load()
		w.issue("ro")
		if n := w.opens.Load() - before; n != 2 {
			t.Errorf("%d connections were made, want one that tries the new password, and a pool", n)
		}
	})
}

// A connection that cannot be rotated is refused before anything is noted of a rotation.
func TestRootThatCannotRotate(t *testing.T) {
	w := open(t, enginetest.Config{})
	for want, body := range map[string]fields{
		"no username and password":  with(prod, fields{"password": nil, "verify_connection": false}),
		"does not use {{password}}": with(prod, fields{"connection_url": "fake://db"}),
	} {
		w.Must(t, route.Write, "config/prod", body)
		w.Refused(t, route.Write, "rotate-root/prod", nil, fault.Invalid, want)
		if n := w.keys("root/"); n != 0 {
			t.Errorf("%q: %d records of rotations", want, n)
		}
		w.Must(t, route.Delete, "config/prod", nil)
	}
}

// Where no password can be generated, the reason is given, and nothing changes.
func TestPasswordThatCannotBeGenerated(t *testing.T) {
	w := open(t, enginetest.Config{Host: knownPasswords})
	w.fake.AddUser("svc", oldPassword)
	w.Must(t, route.Write, "config/prod", with(prod, fields{"allowed_roles": "*", "password_policy": "absent"}))
	w.Refused(t, route.Write, "rotate-root/prod", nil, fault.Invalid, `no password policy "absent"`)
	w.Refused(t, route.Write, "static-roles/svc", svc, fault.Invalid, `no password policy "absent"`)
	if w.fake.Login(databasetest.FakeAdmin, databasetest.FakePassword) != nil ||
		w.fake.Login("svc", oldPassword) != nil {
		t.Error("a password was changed")
	}
}

// Many passwords are remembered as rotated away, and not all.
func TestRememberedPasswordsAreBounded(t *testing.T) {
	w := ready(t, enginetest.Config{})
	for i := range 40 {
		written := fmt.Sprint("by-hand-", i)
		w.fake.SetRoot(written)
		w.Must(t, route.Write, "config/prod", fields{"password": written})
		w.Must(t, route.Write, "rotate-root/prod", nil)
	}
	w.rewrite(func(row map[string]any) {
		if kept := row["root"].(map[string]any)["replaced"].([]any); len(kept) != 32 {
			t.Errorf("%d are remembered", len(kept))
		}
	})
	w.Refused(t, route.Write, "config/prod", fields{"password": "by-hand-39"}, fault.Invalid,
		"rotate-root has replaced")
}

// What an earlier version kept in a connection's row leaves it once there is a record.
func TestRowOfBeforeIsCleared(t *testing.T) {
	w := ready(t, enginetest.Config{})
	w.rewrite(func(row map[string]any) { row["root"] = map[string]any{"last": time.Now(), "why": "of before"} })
	w.Must(t, route.Write, "config/prod", fields{"rotation_period": "1h"})
	w.rewrite(func(row map[string]any) {
		if root, _ := row["root"].(map[string]any); root["last"] != nil || root["why"] != nil {
			t.Errorf("with no rotation under way: the row has %v", root)
		}
	})
	for name, act := range map[string]func(w *world){
		"rotated":   func(w *world) { w.Must(w.t, route.Write, "rotate-root/prod", nil) },
		"scheduled": func(w *world) { w.Must(w.t, route.Write, "config/prod", fields{"rotation_period": "1h"}) },
		"deleted":   func(w *world) { w.Must(w.t, route.Delete, "config/prod", nil) },
	} {
		w := ready(t, enginetest.Config{})
		w.rewrite(func(row map[string]any) {
			row["root"], row["fresh"] = map[string]any{"turn": true,
				"due": time.Now().Add(time.Hour)}, []byte("fresh-password")
		})
		act(w)
		w.rewrite(func(row map[string]any) {
			if root, _ := row["root"].(map[string]any); row["fresh"] != nil || root["turn"] != nil ||
				root["due"] != nil {
				t.Errorf("%s: the row has %v, and a password %v", name, root, row["fresh"] != nil)
			}
		})
	}
}

// A rotation on one server is known to others at their next use.
func TestRotationReachesOtherServers(t *testing.T) {
	st := enginetest.Memory()
	w := ready(t, enginetest.Config{Store: st})
	other := (&world{t: t, fake: w.fake, log: new(enginetest.Log)}).open(enginetest.Config{Store: st})
	other.issue("ro")
	w.Must(t, route.Write, "rotate-root/prod", nil)
	other.issue("ro")
}

// The record names the administrator of now.
func TestRecordNamesItsAdministrator(t *testing.T) {
	w := ready(t, enginetest.Config{})
	w.Must(t, route.Write, "rotate-root/prod", nil)
	w.Must(t, route.Write, "config/prod",
		fields{"username": "other", "password": oldPassword, "verify_connection": false})
	if rows := string(w.Rows(t, "mount/"+enginetest.UUID+"/root/")); !strings.Contains(rows, `"username":"other"`) {
		t.Errorf("the record is %s", rows)
	}
}

// A database to which no connection can be opened is an error of each request that needs one.
func TestConnectFailure(t *testing.T) {
	var down atomic.Bool
	fake := new(databasetest.Fake)
	p := fake.Provider()
	connect := p.Connect
	p.Connect = func(ctx context.Context, c database.Config) (database.Conn, error) {
		if down.Load() {
			return nil, fault.New("fake.Connect", fault.Upstream, "no way leads there")
		}
		return connect(ctx, c)
	}
	w := enginetest.Open(t, database.New(p), enginetest.Config{})
	w.Must(t, route.Write, "config/prod", with(prod, fields{"allowed_roles": "*"}))
	w.Must(t, route.Write, "config/own", ownConfig)
	w.Must(t, route.Write, "roles/ro", ro)
	for _, name := range []string{"svc", "self", "new"} {
		fake.AddUser(name, oldPassword)
	}
	self := with(svc, fields{"db_name": "own", "username": "self", "self_managed_password": oldPassword})
	w.Must(t, route.Write, "static-roles/svc", svc)
	w.Must(t, route.Write, "static-roles/self", self)
	w.Must(t, route.Write, "reset/prod", nil)
	down.Store(true)
	for path, body := range map[string]any{
		"config/second": with(prod, nil), "rotate-root/prod": nil, "rotate-role/svc": nil, "rotate-role/self": nil,
		"static-roles/new": with(svc,
			fields{"username": "new", "skip_import_rotation": true, "password": oldPassword}),
	} {
		if _, err := w.Do(route.Write, path, body); err == nil ||
			!strings.Contains(fault.Message(err), "no way leads there") {
			t.Errorf("%s: %v", path, err)
		}
	}
	w.Refused(t, route.Read, "creds/ro", nil, fault.Upstream, "no way leads there")
}

// Where leases cannot be counted nothing is decided by their number.
func TestLeasesThatCannotBeCounted(t *testing.T) {
	var fails atomic.Bool
	w := ready(t, enginetest.Config{Host: func(h *engine.Host) {
		count := h.LeaseCount
		h.LeaseCount = func(ctx context.Context, target string, limit int) (int, error) {
			if fails.Load() {
				return 0, fault.New("leases", fault.Unavailable, "they cannot be counted")
			}
			return count(ctx, target, limit)
		}
	}})
	_, _, lease := w.issue("ro")
	fails.Store(true)
	w.Refused(t, route.Write, "config/prod", with(prod, fields{"connection_url": elsewhere}), fault.Unavailable,
		"cannot be counted")
	w.Must(t, route.Delete, "config/prod", nil)
	if err := w.work("bury", "conn/"); err == nil || w.keys("conn/") != 1 {
		t.Errorf("the deleted connection was looked at: %v", err)
	}
	if err := w.Revoke(lease); err != nil {
		t.Error(err)
	}
}
