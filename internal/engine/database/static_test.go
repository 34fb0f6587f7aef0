package database_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/engine/database/databasetest"
	"github.com/keyturn/keyturn/internal/engine/enginetest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage"
)

const oldPassword = "canary-before"

// withUsers has the connection prod, and users that people made.
func withUsers(t *testing.T, c enginetest.Config, names ...string) *world {
	t.Helper()
	w := open(t, c)
	w.Must(t, route.Write, "config/prod", with(prod, fields{"allowed_roles": "*"}))
	for _, n := range names {
		w.fake.AddUser(n, oldPassword)
	}
	return w
}

var svc = fields{"db_name": "prod", "username": "svc", "rotation_period": "1h"}

// given reads what a static role gives out, which must work.
func (w *world) given(role string) (name, password string) {
	w.t.Helper()
	name, password, err := w.tried(role)
	if err != nil {
		w.t.Error(err)
	}
	return name, password
}

// tried reads what a role gives out, and logs in by it.
func (w *world) tried(role string) (name, password string, err error) {
	w.t.Helper()
	a := w.Must(w.t, route.Read, "static-creds/"+role, nil)
	name, _ = a.Data["username"].(string)
	password, _ = a.Data["password"].(string)
	if text, ok := a.Data["client_certificate"].(string); ok {
		if !w.takes(name, text, a.Data["private_key"].(string)) {
			err = fmt.Errorf("what %s gives out is refused, warnings %q", role, a.Warnings)
		}
		return name, text, err
	}
	if err = w.fake.Login(name, password); err != nil {
		err = fmt.Errorf("what %s gives out: %w, warnings %q", role, err, a.Warnings)
	}
	return name, password, err
}

// TestStaticRoleTurns: by its period, and on request.
func TestStaticRoleTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := withUsers(t, enginetest.Config{}, "svc")
		w.Must(t, route.Write, "static-roles/svc", svc)
		if err := w.fake.Login("svc", oldPassword); err == nil {
			t.Error("the password from before works after the import")
		}
		a := w.Must(t, route.Read, "static-creds/svc", nil)
		if a.Data["username"] != "svc" || a.Data["ttl"] != float64(3600) ||
			a.Data["rotation_period"] != float64(3600) ||
			a.Data["last_vault_rotation"] != time.Now().UTC().Format(time.RFC3339Nano) || a.Lease != nil {
			t.Errorf("answer %s, lease %v", a.Text, a.Lease)
		}
		_, first := w.given("svc")
		time.Sleep(20 * time.Minute)
		if a := w.Must(t, route.Read, "static-creds/svc", nil); a.Data["ttl"] != float64(2400) ||
			a.Data["password"] != first {
			t.Errorf("after 20 minutes: %s", a.Text)
		}
		time.Sleep(40*time.Minute + time.Second)
		_, second := w.given("svc")
		if second == first || w.fake.Login("svc", first) == nil {
			t.Error("it was not rotated after its period")
		}
		// A change of the period counts at once, from the last turn.
		w.Must(t, route.Write, "static-roles/svc", fields{"rotation_period": "10m"})
		time.Sleep(10 * time.Minute)
		if _, third := w.given("svc"); third == second {
			t.Error("it was not rotated after its shorter period")
		}
		w.Must(t, route.Write, "rotate-role/svc", nil)
		_, fourth := w.given("svc")
		time.Sleep(9 * time.Minute)
		if _, now := w.given("svc"); now != fourth {
			t.Error("a turn on request does not begin the period anew")
		}
		w.Must(t, route.Delete, "static-roles/svc", nil)
		if err := w.fake.Login("svc", fourth); err != nil {
			t.Error("the user lost its password with the role")
		}
		if n := w.keys("static/") + w.keys("owned/"); n != 0 {
			t.Errorf("%d keys are left", n)
		}
		for _, event := range w.Events() {
			for _, secret := range []string{first, second, fourth, oldPassword} {
				if strings.Contains(event, secret) {
					t.Errorf("an event holds a password: %s", event)
				}
			}
		}
	})
}

func TestStaticRolesRefused(t *testing.T) {
	w := withUsers(t, enginetest.Config{}, "svc", "svc-b")
	for _, tt := range []struct {
		body fields
		want string
	}{
		{fields{}, `field "db_name" is required`},
		{with(svc, fields{"username": nil}), `field "username" is required`},
		{with(svc, fields{"username": "a b"}), `field "username"`},
		{with(svc, fields{"rotation_period": nil}),
			`one of the fields "rotation_period" and "rotation_schedule" is required`},
		{with(svc, fields{"rotation_period": "4s"}), "less than 5s"},
		{with(svc, fields{"rotation_schedule": "0 3 * * *"}), "exclude each other"},
		{with(svc, fields{"rotation_window": "1h"}), "needs rotation_schedule"},
		{with(svc, fields{"db_name": "absent"}), `there is no connection "absent"`},
		{with(svc, fields{"username": databasetest.FakeAdmin}), "rotate-root/prod"},
		{with(svc, fields{"alternate_username": "svc"}), "a different user"},
		{with(svc, fields{"credential_type": "rsa_private_key"}),
			`field "rotation_statements": with credential_type rsa_private_key`},
		{with(svc, fields{"credential_config": fields{"key_bits": "2048"}}), `field "credential_config"`},
		{with(svc, fields{"rotation_statements": "BROKEN"}), "rotation_statements is broken"},
		{with(svc, fields{"skip_import_rotation": true, "password": "wrong"}),
			`field "password": the database refuses it`},
		{with(svc, fields{"self_managed_password": oldPassword}), `field "self_managed_password"`},
	} {
		w.Refused(t, route.Write, "static-roles/bad", tt.body, fault.Invalid, tt.want)
	}
	if n := w.keys("static/") + w.keys("owned/"); n != 0 {
		t.Errorf("%d keys were stored", n)
	}
	w.Must(t, route.Write, "static-roles/svc", svc)
	w.Refused(t, route.Write, "static-roles/other", svc, fault.Invalid, `by the static role "svc" already`)
	w.Refused(t, route.Write, "static-roles/svc", fields{"username": "svc-b"}, fault.Invalid, "cannot change")
	w.Refused(t, route.Write, "rotate-role/absent", nil, fault.Invalid, "unknown role")
	w.Refused(t, route.Read, "static-creds/absent", nil, fault.Invalid, "unknown role")
	w.Must(t, route.Write, "config/prod", fields{"allowed_roles": "none"})
	w.Refused(t, route.Write, "rotate-role/svc", nil, fault.Upstream, "not an allowed role")
	w.given("svc")
}

// TestSkipImport: nothing is changed before the first turn, and nothing comes early.
//
// https://github.com/hashicorp/vault/pull/29537
// https://github.com/hashicorp/vault-plugin-secrets-openldap/pull/156
// https://developer.hashicorp.com/vault/docs/v1.19.x/updates/important-changes
// https://github.com/hashicorp/vault/issues/30610
// https://github.com/hashicorp/vault/pull/29093
func TestSkipImport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := withUsers(t, enginetest.Config{}, "svc", "known")
		w.Must(t, route.Write, "static-roles/svc", with(svc, fields{"skip_import_rotation": true}))
		w.Must(t, route.Write, "static-roles/known",
			with(svc, fields{"username": "known", "skip_import_rotation": true, "password": oldPassword}))
		w.Refused(t, route.Read, "static-creds/svc", nil, fault.Invalid, "is not known yet")
		if _, p := w.given("known"); p != oldPassword {
			t.Error("a known password is not given out")
		}
		time.Sleep(59 * time.Minute)
		w.Reopen(t) // nothing that is missing is overdue
		time.Sleep(30 * time.Second)
		if err := w.fake.Login("svc", oldPassword); err != nil {
			t.Error("it was rotated early")
		}
		time.Sleep(time.Minute)
		w.given("svc")
		if _, p := w.given("known"); p == oldPassword {
			t.Error("it was not rotated at its time")
		}
	})
}

// TestStaticSchedule: by cron in UTC, with the hints that agents need.
//
// https://github.com/openbao/openbao/issues/3637
func TestStaticSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // begins at midnight, 2000-01-01, a Saturday
		w := withUsers(t, enginetest.Config{}, "svc")
		w.Must(t, route.Write, "static-roles/svc",
			with(svc, fields{"rotation_period": nil, "rotation_schedule": "0 3 * * SUN", "rotation_window": "1h"}))
		a := w.Must(t, route.Read, "static-creds/svc", nil)
		if a.Data["rotation_schedule"] != "0 3 * * SUN" || a.Data["rotation_window"] != float64(3600) ||
			a.Data["ttl"] != float64(27*3600) || a.Data["rotation_period"] != float64(27*3600) {
			t.Errorf("answer %s", a.Text)
		}
		time.Sleep(27*time.Hour + time.Minute)
		a = w.Must(t, route.Read, "static-creds/svc", nil)
		if a.Data["rotation_period"] != float64(7*24*3600) {
			t.Errorf("answer %s", a.Text)
		}
	})
}

// TestAlternatingUsers: a turn never touches the user that was given out last.
//
// https://github.com/hashicorp/vault/issues/18738
func TestAlternatingUsers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := withUsers(t, enginetest.Config{}, "svc", "svc-b")
		w.Must(t, route.Write, "static-roles/svc", with(svc, fields{"alternate_username": "svc-b"}))
		user, password := w.given("svc")
		for range 5 {
			time.Sleep(time.Hour + time.Second)
			next, fresh := w.given("svc")
			if next == user {
				t.Fatalf("%s was turned twice in a row", user)
			}
			if err := w.fake.Login(user, password); err != nil {
				t.Errorf("%s, given out before, was cut off", user)
			}
			user, password = next, fresh
		}
	})
}

// TestStaticRoleFailures come in pairs: not done, and done but not told.
//
// https://github.com/hashicorp/vault/issues/21857
// https://github.com/hashicorp/vault/issues/7502
// https://github.com/hashicorp/vault/issues/7222
func TestStaticRoleFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := withUsers(t, enginetest.Config{}, "svc")
		w.fake.SetDown(true)
		w.Refused(t, route.Write, "static-roles/svc", svc, fault.Upstream, "down")
		if n := w.keys("static/") + w.keys("owned/") + w.Work(t); n != 0 {
			t.Errorf("%d keys are left of an import that surely failed", n)
		}
		w.fake.SetDown(false)
		w.fake.LoseReplies(1)
		a := w.Must(t, route.Write, "static-roles/svc", svc)
		if len(a.Warnings) != 1 || !strings.Contains(a.Warnings[0], "not known") {
			t.Errorf("warnings %q", a.Warnings)
		}
		_, first := w.given("svc")
		if a := w.Must(t, route.Read, "static-roles/svc", nil); a.Data["failures"] != nil {
			t.Errorf("after a read found out: %s", a.Text)
		}
		time.Sleep(time.Hour - time.Second)
		w.fake.SetDown(true)
		time.Sleep(3 * time.Hour)
		if a := w.Must(t, route.Read, "static-creds/svc", nil); a.Data["password"] != first ||
			a.Data["ttl"].(float64) < 1 || a.Data["ttl"].(float64) > 60 {
			t.Errorf("while it is down: %s", a.Text)
		}
		if a := w.Must(t, route.Read, "static-roles/svc", nil); a.Data["failures"].(float64) < 8 ||
			len(a.Warnings) == 0 {
			t.Errorf("after three hours down: %s, %q", a.Text, a.Warnings)
		}
		w.fake.SetDown(false)
		time.Sleep(time.Hour + time.Second)
		if _, now := w.given("svc"); now == first {
			t.Error("it was not made up for")
		}
		// Statements that do nothing: the old password is put back, or was never gone.
		_, before := w.given("svc")
		w.Must(t, route.Write, "static-roles/svc", fields{"rotation_statements": "NOTHING"})
		w.Refused(t, route.Write, "rotate-role/svc", nil, fault.Upstream, "check rotation_statements")
		if _, now := w.given("svc"); now != before {
			t.Error("a password that does not work is given out")
		}
		// A password that is refused is made anew in the end.
		w.Must(t, route.Write, "static-roles/svc", fields{"rotation_statements": "FAIL"})
		for range 4 {
			w.Refused(t, route.Write, "rotate-role/svc", nil, fault.Upstream, "refused")
			w.given("svc")
		}
		w.Must(t, route.Write, "static-roles/svc", fields{"rotation_statements": ""})
		w.Must(t, route.Write, "rotate-role/svc", nil)
		w.given("svc")
		if log := w.log.String(); strings.Contains(log, before) || strings.Contains(log, oldPassword) {
			t.Error("the log holds a password")
		}
	})
}

// TestRotateRoot: on request and by itself; a password that was rotated away never comes back by a
// write.
//
// https://github.com/hashicorp/vault/issues/7143
// https://github.com/hashicorp/vault/issues/27294
// https://github.com/redhat-cop/vault-config-operator/issues/131
func TestRotateRoot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := ready(t, enginetest.Config{})
		name, password, _ := w.issue("ro")
		w.Must(t, route.Write, "rotate-root/prod", nil)
		if err := w.fake.Login(databasetest.FakeAdmin, databasetest.FakePassword); err == nil {
			t.Error("the old password works")
		}
		w.issue("ro")
		if err := w.fake.Login(name, password); err != nil {
			t.Error("a user that was lent before was cut off")
		}
		if text := w.Must(t, route.Read, "config/prod", nil).Text; strings.Contains(text, "Pw-") {
			t.Errorf("the read shows a password: %s", text)
		}
		// A file that is applied again brings the old password, and must not win.
		w.Refused(t, route.Write, "config/prod", prod, fault.Invalid, "rotate-root has replaced this password")
		w.Refused(t, route.Write, "config/prod", with(prod, fields{"verify_connection": false}), fault.Invalid,
			"rotate-root has replaced this password")
		w.Must(t, route.Write, "config/prod", with(prod, fields{"password": nil, "allowed_roles": "*"}))
		w.issue("ro")

		// The pair of failures.
		w.fake.SetDown(true)
		w.Refused(t, route.Write, "rotate-root/prod", nil, fault.Upstream, "down")
		w.fake.SetDown(false)
		w.issue("ro")
		w.fake.LoseReplies(1)
		w.Refused(t, route.Write, "rotate-root/prod", nil, fault.Upstream, "lost")
		w.issue("ro") // finds out first
		w.Must(t, route.Write, "rotate-root/prod", nil)

		// By itself.
		w.Must(t, route.Write, "config/prod", fields{"rotation_period": "24h"})
		before := slices.Clone(w.Events())
		time.Sleep(24*time.Hour + time.Second)
		if n := len(w.Events()) - len(before); n < 1 {
			t.Error("it was not rotated at its time")
		}
		w.issue("ro")
		time.Sleep(3 * time.Hour)
		w.want(0, 0) // all that was lent is revoked by whatever password
		w.Must(t, route.Write, "config/hidden",
			with(prod, fields{"connection_url": "fake://admin:" + inURL + "@db", "verify_connection": false}))
		w.Refused(t, route.Write, "rotate-root/hidden", nil, fault.Invalid, "written into connection_url")
		w.Refused(t, route.Write, "rotate-root/absent", nil, fault.Invalid, "no connection")
	})
}

// TestStalePasswordStaysRefused: however often the administrator's password was changed since, the
// one that was written first does not come back.
func TestStalePasswordStaysRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := ready(t, enginetest.Config{})
		for range 40 {
			w.Must(t, route.Write, "rotate-root/prod", nil)
		}
		w.Refused(t, route.Write, "config/prod", prod, fault.Invalid, "rotate-root has replaced this password")
	})
}

// TestSelfManaged: a user changes its own password, and the connection has no other.
func TestSelfManaged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, enginetest.Config{})
		w.fake.AddUser("svc", oldPassword)
		w.Refused(t, route.Write, "config/own", with(prod, fields{"self_managed": true}), fault.Invalid,
			`field "self_managed"`)
		w.Must(t, route.Write, "config/own",
			fields{"plugin_name": "fake-database-plugin", "connection_url": prod["connection_url"],
				"allowed_roles": "*", "self_managed": true})
		w.Refused(t, route.Write, "static-roles/svc", with(svc, fields{"db_name": "own"}), fault.Invalid,
			`field "self_managed_password" is required`)
		w.Refused(t, route.Write, "static-roles/svc",
			with(svc, fields{"db_name": "own", "self_managed_password": "wrong"}), fault.Invalid,
			`field "self_managed_password"`)
		w.Must(t, route.Write, "static-roles/svc",
			with(svc, fields{"db_name": "own", "self_managed_password": oldPassword}))
		_, first := w.given("svc")
		w.fake.LoseReplies(1)
		time.Sleep(time.Hour + time.Second)
		if _, second := w.given("svc"); second == first || first == oldPassword {
			t.Error("it was not rotated")
		}
	})
}

// An account that does not get in from here loses its working password to nobody: the new one is
// given out, and whoever writes or reads the role is told that it could not be tried.
func TestShutOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := withUsers(t, enginetest.Config{}, "svc", "kept")
		w.fake.Shut("svc", true)
		w.fake.Shut("kept", true)
		told := func(what string, a *enginetest.Answer) {
			t.Helper()
			if len(a.Warnings) != 1 || !strings.Contains(a.Warnings[0], "could not be tested") &&
				!strings.Contains(a.Warnings[0], "without a try") || !strings.Contains(a.Warnings[0], "from here") {
				t.Errorf("%s: warnings %q, want one that it could not be tried", what, a.Warnings)
			}
		}
		read := func(role string) string {
			t.Helper()
			a := w.Must(t, route.Read, "static-creds/"+role, nil)
			told("static-creds/"+role, a)
			told("static-roles/"+role, w.Must(t, route.Read, "static-roles/"+role, nil))
			return a.Data["password"].(string)
		}
		told("the write", w.Must(t, route.Write, "static-roles/svc", svc))
		first := read("svc")
		if !w.fake.Has("svc", first) {
			t.Error("what is given out is not the user's password")
		}
		time.Sleep(61 * time.Minute)
		synctest.Wait()
		if second := read("svc"); second == first || !w.fake.Has("svc", second) {
			t.Error("after a rotation, what is given out is not the user's new password")
		}
		told("rotate-role", w.Must(t, route.Write, "rotate-role/svc", nil))

		told("the write of a known password", w.Must(t, route.Write, "static-roles/kept",
			with(svc, fields{"username": "kept", "skip_import_rotation": true, "password": oldPassword})))
		if got := read("kept"); got != oldPassword || !w.fake.Has("kept", oldPassword) {
			t.Errorf("the password was %q and is given out as %q", oldPassword, got)
		}
		w.fake.Shut("svc", false)
		w.Must(t, route.Write, "rotate-role/svc", nil)
		if a := w.Must(t, route.Read, "static-creds/svc", nil); len(a.Warnings) != 0 {
			t.Errorf("once it gets in: warnings %q", a.Warnings)
		}
	})
}

// The reply to the change of such an account's password is lost: it is set again, since no login
// can tell.
func TestShutOutReplyLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := withUsers(t, enginetest.Config{}, "svc")
		w.fake.Shut("svc", true)
		w.Must(t, route.Write, "static-roles/svc", svc)
		for _, down := range []bool{false, true} {
			if w.fake.LoseReplies(1); down {
				w.fake.SetDown(true)
			}
			_, _ = w.Do(route.Write, "rotate-role/svc", nil)
			w.fake.SetDown(false)
			time.Sleep(5 * time.Minute)
			a := w.Must(t, route.Read, "static-creds/svc", nil)
			if !w.fake.Has("svc", a.Data["password"].(string)) {
				t.Errorf("database away %v: what is given out is not the user's password", down)
			}
			w.fake.LoseReplies(0)
		}
	})
}

// A user that was dropped in the database is not given out, once a rotation has failed because of
// that; a reader is warned of any other failure.
func TestReadOfADroppedUser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := withUsers(t, enginetest.Config{}, "svc")
		w.Must(t, route.Write, "static-roles/svc", svc)
		w.setRules(func(_, _ string) error { return errors.New("too simple") })
		_, _ = w.Do(route.Write, "rotate-role/svc", nil)
		if a := w.Must(t, route.Read, "static-creds/svc", nil); len(a.Warnings) != 1 ||
			!strings.Contains(a.Warnings[0], "failed") {
			t.Errorf("warnings %q", a.Warnings)
		}
		w.setRules(nil)
		w.fake.RemoveUser("svc")
		_, _ = w.Do(route.Write, "rotate-role/svc", nil)
		w.Refused(t, route.Read, "static-creds/svc", nil, fault.Invalid, "dropped it")
		w.fake.AddUser("svc", oldPassword)
		w.Must(t, route.Write, "rotate-role/svc", nil)
		if a := w.Must(t, route.Read, "static-creds/svc", nil); len(a.Warnings) != 0 {
			t.Errorf("warnings %q", a.Warnings)
		}
	})
}

// What a static role says of itself, and what it is refused for.
func TestStaticRoleIsShown(t *testing.T) {
	w := withUsers(t, enginetest.Config{}, "svc", "other")
	w.Must(t, route.Write, "static-roles/pair", with(svc, fields{"alternate_username": "other"}))
	if a := w.Must(t, route.Read, "static-roles/pair", nil); a.Data["username"] != "svc" ||
		a.Data["alternate_username"] != "other" {
		t.Errorf("shown as %s", a.Text)
	}
	if events := strings.Join(w.Events(), "\n"); !strings.Contains(events, `"username":"svc"`) {
		t.Errorf("no event names the user: %s", events)
	}
	if a := w.Must(t, route.Write, "static-roles/pair",
		fields{"disable_automated_rotation": true}); len(a.Warnings) != 1 ||
		!strings.Contains(a.Warnings[0], "rotate-role/pair alone") {
		t.Errorf("warnings %q", a.Warnings)
	}
	w.Refused(t, route.Write, "static-roles/none",
		with(svc, fields{"username": "nobody", "skip_import_rotation": true, "password": oldPassword}), fault.Invalid,
		`there is no user "nobody"`)
	w.Must(t, route.Write, "config/own", ownConfig)
	own := with(svc, fields{"db_name": "own", "self_managed_password": oldPassword})
	w.Refused(t, route.Write, "static-roles/own", with(own, fields{"alternate_username": "other"}), fault.Invalid,
		"cannot alternate")
	w.Refused(t, route.Write, "static-roles/pair", fields{"rotation_statements": "{{nme}}"}, fault.Invalid,
		"{{nme}} is not a placeholder")
	w.Must(t, route.Delete, "static-roles/pair", nil)
	w.Must(t, route.Delete, "static-roles/pair", nil) // there is none any more
	w.fake.SetDown(true)
	w.Refused(t, route.Write, "static-roles/svc",
		with(svc, fields{"skip_import_rotation": true, "password": oldPassword}), fault.Upstream, "down")
	w.fake.SetDown(false)
	// Of one whose password nobody knows yet, the times can be changed.
	w.Must(t, route.Write, "static-roles/svc", with(svc, fields{"skip_import_rotation": true}))
	w.Must(t, route.Write, "static-roles/svc", fields{"rotation_period": "2h"})
	w.Refused(t, route.Read, "static-creds/svc", nil, fault.Invalid, "is not known yet")
	// A schedule without a rotation yet has no period but the time that is left.
	w.Must(t, route.Delete, "static-roles/svc", nil)
	w.fake.AddUser("svc", oldPassword)
	w.Must(t, route.Write, "static-roles/svc",
		with(svc, fields{"rotation_period": nil, "rotation_schedule": "0 0 * * SAT", "skip_import_rotation": true,
			"password": oldPassword}))
	if a := w.Must(t, route.Read, "static-creds/svc", nil); a.Data["rotation_period"] != a.Data["ttl"] ||
		a.Data["ttl"].(float64) < 1 {
		t.Errorf("before the first rotation: %s", a.Text)
	}
	// The connection lost its administrator: the role does not become another kind of role.
	w.Must(t, route.Delete, "config/prod", nil)
	w.Must(t, route.Write, "config/prod", ownConfig)
	w.Refused(t, route.Write, "static-roles/svc", fields{"self_managed_password": oldPassword}, fault.Invalid,
		"cannot be given to an existing role")
}

// A stored role that is damaged is an error, and no empty role.
func TestDamagedStaticRole(t *testing.T) {
	w := withUsers(t, enginetest.Config{}, "svc")
	w.Must(t, route.Write, "static-roles/svc", svc)
	key := "mount/" + enginetest.UUID + "/static/svc"
	e, err := w.View.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	row := strings.Replace(string(e.Value), `"users":["svc"]`, `"users":7`, 1)
	if row == string(e.Value) {
		t.Fatalf("nothing to damage in %s", row)
	}
	if _, err := w.View.Commit(t.Context(), storage.Set(key, []byte(row))); err != nil {
		t.Fatal(err)
	}
	for path, op := range map[string]route.Op{"static-roles/svc": route.Read, "static-creds/svc": route.Read,
		"rotate-role/svc": route.Write} {
		if _, err := w.Do(op, path, nil); !fault.Is(err, fault.Internal) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// A reader of a role whose connection was deleted is given what there is, also after a failure.
func TestStaticCredsWithoutConnection(t *testing.T) {
	w := withUsers(t, enginetest.Config{}, "svc")
	w.Must(t, route.Write, "static-roles/svc", svc)
	w.setRules(func(_, _ string) error { return errors.New("too simple") })
	_, _ = w.Do(route.Write, "rotate-role/svc", nil)
	w.Must(t, route.Delete, "config/prod", nil)
	if a := w.Must(t, route.Read, "static-creds/svc", nil); len(a.Warnings) != 1 ||
		!strings.Contains(a.Warnings[0], "too simple") {
		t.Errorf("warnings %q", a.Warnings)
	}
}

// Writes of a role whose rotations fail do not bring the next attempt forward. Only a password
// that works does.
func TestFailingStaticRoleWaitsThroughWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := withUsers(t, enginetest.Config{}, "self")
		w.Must(t, route.Write, "config/own", ownConfig)
		own := with(svc, fields{"db_name": "own", "username": "self", "self_managed_password": oldPassword})
		w.Must(t, route.Write, "static-roles/self", own)
		w.setRules(func(_, _ string) error { return errors.New("too simple") })
		time.Sleep(4 * time.Hour)
		if a := w.Must(t, route.Read, "static-roles/self", nil); len(a.Warnings) != 1 ||
			!strings.Contains(a.Warnings[0], "the next one is at 2000-01-01T") {
			t.Errorf("warnings %q", a.Warnings)
		}
		due := func() string { return string(w.Rows(t, "due/")) }
		before := due()
		w.Must(t, route.Write, "static-roles/self", fields{"rotation_statements": "A"})
		// a file that is applied again
		w.Must(t, route.Write, "static-roles/self", fields{"self_managed_password": oldPassword})
		if after := due(); after != before {
			t.Errorf("the due items were\n%sand are\n%s", before, after)
		}
		w.fake.AddUser("self", "by-hand")
		w.Must(t, route.Write, "static-roles/self", fields{"self_managed_password": "by-hand"})
		if due() == before {
			t.Error("after a password that works was given, the next attempt waits as before")
		}
		w.setRules(nil)
	})
}

// The database's reason is given where a user changes its own password, and each login is by the
// user itself.
func TestSelfManagedFailure(t *testing.T) {
	w := withUsers(t, enginetest.Config{}, "self")
	w.Must(t, route.Write, "config/own", ownConfig)
	w.Must(t, route.Write, "static-roles/self",
		with(svc, fields{"db_name": "own", "username": "self", "self_managed_password": oldPassword}))
	w.Must(t, route.Write, "static-roles/self", fields{"rotation_statements": "FAIL"})
	w.Refused(t, route.Write, "rotate-role/self", nil, fault.Upstream, "refused a statement")
	if w.wasTold(prod["connection_url"].(string), "") {
		t.Error("something was asked by nobody")
	}
}
