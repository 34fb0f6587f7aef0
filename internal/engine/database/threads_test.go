package database_test

import (
	"errors"
	"flag"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/engine/database/databasetest"
	"github.com/keyturn/keyturn/internal/engine/enginetest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
)

// What has hurt users of other servers; docs/lessons.md is the whole list.

// TestRefusedPasswordIsMadeAnew: the database does not take the password that a turn has begun
// with. The same one is not sent for ever, the old one is given out meanwhile, the role says why,
// and a password policy that was corrected counts for the next try.
//
// https://github.com/hashicorp/vault/pull/28989
// https://github.com/hashicorp/vault-plugin-secrets-openldap/pull/56
func TestRefusedPasswordIsMadeAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := withUsers(t, enginetest.Config{}, "svc")
		weak := fields{"credential_config": fields{"password_policy": "weak-"}}
		w.Must(t, route.Write, "static-roles/svc", with(svc, weak))
		_, before := w.given("svc")
		sent := map[string]int{}
		w.setRules(func(_, password string) error {
			if sent[password]++; strings.HasPrefix(password, "Pw-weak-") {
				return errors.New("the password is too weak")
			}
			return nil
		})
		time.Sleep(25 * time.Hour)
		synctest.Wait() // a try may be due at this very moment
		if len(sent) < 10 {
			t.Errorf("%d passwords were tried in a day: %v", len(sent), sent)
		}
		for password, times := range sent {
			if times > 3 {
				t.Errorf("%q was sent %d times", password, times)
			}
		}
		if _, now := w.given("svc"); now != before {
			t.Error("another password is given out")
		}
		if a := w.Must(t, route.Read, "static-roles/svc", nil); !strings.Contains(fmt.Sprint(a.Data["last_error"]),
			"too weak") || len(a.Warnings) != 1 {
			t.Errorf("the role reads %s, %q", a.Text, a.Warnings)
		}
		w.Must(t, route.Write, "static-roles/svc", fields{"credential_config": fields{"password_policy": "strong-"}})
		w.Must(t, route.Write, "rotate-role/svc", nil)
		if _, now := w.given("svc"); !strings.HasPrefix(now, "Pw-strong-") {
			t.Errorf("the first password after the policy was corrected is %q", now)
		}

		// The administrator's, likewise.
		w.Must(t, route.Write, "config/prod", fields{"password_policy": "weak-"})
		w.Refused(t, route.Write, "rotate-root/prod", nil, fault.Upstream, "too weak")
		w.Must(t, route.Write, "config/prod", fields{"password_policy": "strong-"})
		w.Must(t, route.Write, "rotate-root/prod", nil)
		if err := w.fake.Login(databasetest.FakeAdmin, databasetest.FakePassword); err == nil {
			t.Error("the administrator's old password works")
		}
	})
}

// changes counts how often passwords change.
func (w *world) changes() func() int {
	var mu sync.Mutex
	n := 0
	w.setRules(func(string, string) error { mu.Lock(); defer mu.Unlock(); n++; return nil })
	return func() int { mu.Lock(); defer mu.Unlock(); return n }
}

// TestNoTurnIsLeftOver: of a turn that failed, and whose role was deleted, nothing comes later in
// a new role of the name.
//
// https://github.com/hashicorp/vault/pull/12563
// https://github.com/hashicorp/vault-plugin-secrets-openldap/pull/28
func TestNoTurnIsLeftOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := withUsers(t, enginetest.Config{}, "svc")
		w.Must(t, route.Write, "static-roles/svc", svc)
		w.fake.SetDown(true)
		time.Sleep(90 * time.Minute)
		if a := w.Must(t, route.Read, "static-roles/svc", nil); a.Data["failures"] == nil {
			t.Errorf("nothing has failed: %s", a.Text)
		}
		w.fake.SetDown(false)
		w.Must(t, route.Delete, "static-roles/svc", nil)
		w.Must(t, route.Write, "static-roles/svc", with(svc, fields{"skip_import_rotation": true}))
		n := w.changes()
		time.Sleep(59 * time.Minute)
		if n() != 0 || w.Work(t) != 1 {
			t.Errorf("%d turns came early in a new role of the old name, %d due items", n(), w.Work(t))
		}
	})
}

var update = flag.Bool("update", false, "write testdata anew")

// TestRecordsOfBefore: what earlier versions have stored is read by this one, gives out the same
// passwords, and turns at its time, not at the start of a newer version; one that was imported and
// never turned, too. A record that a version reads otherwise than it was meant fails here;
// testdata is added to, never changed.
//
// https://github.com/hashicorp/vault-plugin-secrets-openldap/pull/156
// https://github.com/hashicorp/vault/pull/29537
// https://developer.hashicorp.com/vault/docs/v1.19.x/updates/important-changes
func TestRecordsOfBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // always begins at the same moment
		const file = "testdata/records-1.txt"
		w := open(t, enginetest.Config{Host: knownPasswords})
		w.fake.AddUser("svc", "Pw-generated-canary-")
		w.fake.AddUser("known", oldPassword)
		if *update {
			w.Must(t, route.Write, "config/prod", with(prod, fields{"allowed_roles": "*", "rotation_period": "24h"}))
			w.Must(t, route.Write, "roles/ro", ro)
			w.Must(t, route.Write, "static-roles/svc", svc)
			w.Must(t, route.Write, "static-roles/known",
				with(svc, fields{"username": "known", "skip_import_rotation": true, "password": oldPassword}))
			w.Save(t, file, "mount/"+enginetest.UUID+"/", "due/")
			return
		}
		w.Restore(t, file)
		n := w.changes() // before the engine is at work
		w.Reopen(t)
		for _, role := range []string{"svc", "known"} {
			w.given(role)
		}
		w.issue("ro")
		time.Sleep(59 * time.Minute)
		if n() != 0 {
			t.Errorf("%d turns came early", n())
		}
		time.Sleep(2 * time.Minute)
		if n() != 2 {
			t.Errorf("%d turns at their time, want two", n())
		}
		time.Sleep(23 * time.Hour)
		if err := w.fake.Login(databasetest.FakeAdmin, databasetest.FakePassword); err == nil {
			t.Error("the administrator's password was not rotated")
		}
	})
}

// TestPairedRolesNeverTurnTogether: two static roles whose schedules are twelve hours apart stay
// so, though the server and the database are away at their times.
//
// https://github.com/hashicorp/vault/issues/18738
func TestPairedRolesNeverTurnTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := withUsers(t, enginetest.Config{}, "blue", "green")
		turned := map[string]time.Time{}
		for user, schedule := range map[string]string{"blue": "0 3 * * *", "green": "0 15 * * *"} {
			w.Must(t, route.Write, "static-roles/"+user,
				fields{"db_name": "prod", "username": user, "rotation_schedule": schedule, "rotation_window": "1h",
					"skip_import_rotation": true, "password": oldPassword})
		}
		count := 0
		w.setRules(func(user, _ string) error {
			for other, at := range turned {
				if other != user && time.Since(at) < 11*time.Hour {
					t.Errorf("%s turns %s after %s", user, time.Since(at), other)
				}
			}
			turned[user] = time.Now()
			count++
			return nil
		})
		for range 5 {
			time.Sleep(2 * time.Hour)
			w.Stop()
			time.Sleep(14*time.Hour + 30*time.Minute) // past both, and out of the windows
			w.Reopen(t)
			time.Sleep(31*time.Hour + 30*time.Minute) // a day with both, and half an hour
		}
		synctest.Wait() // the last rotation has written count
		if count < 10 {
			t.Errorf("%d turns in ten days, want those of every other day", count)
		}
	})
}

// TestNothingIsIgnoredInSilence: a field that a role or a connection does not have, or that comes
// too late, is warned of, and a value that is not known is refused, so that nobody relies on what
// has no effect.
//
// https://github.com/hashicorp/vault/issues/30610
// https://github.com/hashicorp/vault/pull/29093
func TestNothingIsIgnoredInSilence(t *testing.T) {
	w := withUsers(t, enginetest.Config{}, "svc")
	w.WarnsOfUnknown(t, "skip_imports_rotation",
		map[string]fields{"config/prod": with(prod, fields{"allowed_roles": "*"}), "roles/ro": ro,
			"static-roles/svc": svc})
	w.Refused(t, route.Write, "static-roles/other", with(svc, fields{"credential_type": "fingerprint"}), fault.Invalid,
		`field "credential_type"`)
	if a := w.Must(t, route.Write, "static-roles/svc", fields{"skip_import_rotation": true}); len(a.Warnings) != 1 ||
		!strings.Contains(a.Warnings[0], "skip_import_rotation") {
		t.Errorf("skip_import_rotation for a role that was imported: warnings %q", a.Warnings)
	}
}

// TestUserThatIsGoneIsRevoked: somebody has dropped a user by hand. Its lease ends at its time, or
// at once when it is revoked, also if the role's statements cannot bear that.
//
// https://github.com/hashicorp/vault/issues/6058
// https://github.com/hashicorp/vault/issues/3410
func TestUserThatIsGoneIsRevoked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := ready(t, enginetest.Config{})
		w.Must(t, route.Write, "roles/app-fails", with(ro, fields{"revocation_statements": []string{"FAIL", "DROP"}}))
		for _, role := range []string{"ro", "app-fails"} {
			name, _, id := w.issue(role)
			w.fake.RemoveUser(name)
			began := time.Now()
			if err := w.Revoke(id); err != nil || time.Since(began) > time.Second {
				t.Errorf("%s: revoking took %s, %v", role, time.Since(began), err)
			}
			name, _, _ = w.issue(role)
			w.fake.RemoveUser(name)
		}
		time.Sleep(30*time.Minute + time.Second)
		w.want(0, 0)
	})
}

// Once a revocation of a role that hung has succeeded, its users do not wait for each other any
// more.
func TestRoleThatHangsNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := ready(t, enginetest.Config{})
		var leases []string
		for range 4 {
			_, _, lease := w.issue("ro")
			leases = append(leases, lease)
		}
		w.slow = func(database.DropOptions) error { return fault.New("fake", fault.Timeout, "revoking took too long") }
		if err := w.Revoke(leases[0]); err == nil {
			t.Fatal("it did not hang")
		}
		w.slow = nil
		if err := w.Revoke(leases[1]); err != nil {
			t.Fatal(err)
		}
		w.slow = func(database.DropOptions) error { time.Sleep(5 * time.Second); return nil }
		done := make(chan error)
		for _, lease := range leases[2:] {
			go func() { done <- w.Revoke(lease) }()
		}
		for range leases[2:] {
			if err := <-done; err != nil {
				t.Errorf("two at once: %v", err)
			}
		}
	})
}
