package aws_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/engine/aws"
	"github.com/keyturn/keyturn/internal/engine/aws/awstest"
	"github.com/keyturn/keyturn/internal/engine/enginetest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
)

var svc = fields{"username": "svc", "rotation_period": "24h", "grace_period": "4h", "idle_period": "90m",
	"inactive_period": "1h", "propagation_checks": 2, "propagation_settle": "1s"}

// given reads what a static role gives out, which must work.
func (w *world) given(role string) (id, secret string) {
	w.t.Helper()
	a := w.Must(w.t, route.Read, "static-creds/"+role, nil)
	id, _ = a.Data["access_key"].(string)
	secret, _ = a.Data["secret_key"].(string)
	if !w.aws.Works(id, secret) {
		w.t.Errorf("what %s gives out does not work: %s", role, id)
	}
	return id, secret
}

func (w *world) keys() (ids []string) {
	for _, k := range w.aws.Keys(awstest.Account, "svc") {
		id := k.ID
		if k.Inactive {
			id += " inactive"
		}
		ids = append(ids, id)
	}
	return ids
}

// TestStaticRole: a key is rotated by its period and on request, by the same path, and the one
// before lives while it is used.
//
// https://github.com/Infisical/infisical/issues/2402
func TestStaticRole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, awstest.Options{KeyLag: 3 * time.Second, ListLag: 3 * time.Second}, enginetest.Config{})
		w.aws.AddUser(awstest.Account, "svc")
		before, _ := w.aws.AddKey(awstest.Account, "svc")
		w.aws.Use(before)
		w.Must(t, route.Write, "static-roles/svc", svc)
		first, secret := w.given("svc")
		if got := w.keys(); len(got) != 2 || got[0] != before {
			t.Errorf("keys %q: the one from before must live on", got)
		}
		a := w.Must(t, route.Read, "static-creds/svc", nil)
		if a.Data["rotation_period"] != float64(86400) || a.Data["ttl"] != float64(300) || a.Lease != nil {
			t.Errorf("answer %s", a.Text)
		}
		// Somebody goes on with the key from before.
		for range 6 {
			time.Sleep(time.Hour)
			w.aws.Use(before)
		}
		if got := w.keys(); len(got) != 2 || got[0] != before {
			t.Errorf("keys %q: one in use was taken away", got)
		}
		if a := w.Must(t, route.Read, "static-roles/svc", nil); len(a.Warnings) != 1 ||
			!strings.Contains(a.Warnings[0], before) {
			t.Errorf("warnings %q, want one of the key in use", a.Warnings)
		}
		w.Refused(t, route.Write, "rotate-role/svc", nil, fault.Unavailable, "replace_key="+before)
		time.Sleep(2*time.Hour + time.Minute)
		if got := w.keys(); len(got) != 2 || got[0] != before+" inactive" {
			t.Errorf("keys %q: one out of use must be inactive", got)
		}
		time.Sleep(time.Hour + time.Minute)
		if got := w.keys(); len(got) != 1 || got[0] != first {
			t.Errorf("keys %q: one out of use must be gone", got)
		}
		time.Sleep(16 * time.Hour) // past the period
		second, _ := w.given("svc")
		if second == first || !w.aws.Works(first, secret) {
			t.Error("it was not rotated, or without grace")
		}
		time.Sleep(6 * time.Hour)
		if w.aws.Works(first, secret) {
			t.Error("the first key works after its grace")
		}
		w.Must(t, route.Write, "rotate-role/svc", nil)
		if third, _ := w.given("svc"); third == second {
			t.Error("it was not rotated on request")
		}
		// A shorter period counts at once.
		w.Must(t, route.Write, "static-roles/svc", fields{"rotation_period": "12h"})
		time.Sleep(12*time.Hour + time.Minute)
		fourth, _ := w.given("svc")
		if fourth == second {
			t.Error("a shorter period has no effect")
		}
		w.Must(t, route.Delete, "static-roles/svc", nil)
		if _, err := w.Do(route.Read, "static-roles/svc", nil); !fault.Is(err, fault.NotFound) {
			t.Errorf("a deleted role reads %v", err)
		}
		time.Sleep(8 * time.Hour) // the key before is brought to its end
		if got := w.keys(); len(got) != 1 || got[0] != fourth {
			t.Errorf("keys %q: the one that was given out last stays alone", got)
		}
		if n := w.Work(t); n != 0 {
			t.Errorf("%d due items are left", n)
		}
		if strings.Contains(w.log.String(), secret) || strings.Contains(strings.Join(w.Events(), ""), secret) {
			t.Error("the log or an event holds a secret key")
		}
	})
}

// TestOnboarding never destroys a key.
//
// https://github.com/hashicorp/vault/pull/20536
func TestOnboarding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, awstest.Options{}, enginetest.Config{})
		w.aws.AddUser(awstest.Account, "svc")
		w.Refused(t, route.Write, "static-roles/svc", with(svc, fields{"username": nil}), fault.Invalid,
			`field "username" is required`)
		w.Refused(t, route.Write, "static-roles/svc", with(svc, fields{"username": "absent"}), fault.Invalid,
			"there is no user absent")
		w.Refused(t, route.Write, "static-roles/svc", with(svc, fields{"username": awstest.Admin}), fault.Invalid,
			"config/rotate-root")
		w.Refused(t, route.Write, "static-roles/svc", with(svc, fields{"rotation_period": nil}), fault.Invalid,
			`is required`)
		w.Refused(t, route.Write, "static-roles/svc", with(svc, fields{"grace_period": "24h"}), fault.Invalid,
			`field "grace_period"`)
		w.Refused(t, route.Write, "static-roles/svc", with(svc, fields{"rotation_schedule": "0 3 * * *"}),
			fault.Invalid, `exclude`)
		one, _ := w.aws.AddKey(awstest.Account, "svc")
		two, secret := w.aws.AddKey(awstest.Account, "svc")
		w.Refused(t, route.Write, "static-roles/svc", svc, fault.Invalid,
			"two access keys, as many as AWS allows: "+one)
		w.Refused(t, route.Write, "static-roles/svc", with(svc, fields{"access_key": two}), fault.Invalid,
			`belong together`)
		w.Refused(t, route.Write, "static-roles/svc", with(svc, fields{"access_key": two, "secret_key": "wrong"}),
			fault.Invalid, `field "secret_key"`)
		w.Refused(t, route.Write, "static-roles/svc",
			with(svc, fields{"access_key": awstest.ID, "secret_key": awstest.Secret}), fault.Invalid,
			`field "access_key"`)
		if got := w.keys(); len(got) != 2 || w.Work(t) != 0 {
			t.Errorf("after refusals: keys %q, %d due items", got, w.Work(t))
		}
		a := w.Must(t, route.Write, "static-roles/svc", with(svc, fields{"access_key": two, "secret_key": secret}))
		if len(a.Warnings) != 1 || !strings.Contains(a.Warnings[0], one) {
			t.Errorf("warnings %q", a.Warnings)
		}
		if id, _ := w.given("svc"); id != two {
			t.Error("the pair that was given is not given out")
		}
		w.Refused(t, route.Write, "static-roles/again", svc, fault.Invalid, `by the static role "svc" already`)
		for range 30 {
			w.aws.Use(one)
			time.Sleep(time.Hour)
		}
		if got := w.keys(); len(got) != 2 || got[0] != one || got[1] != two {
			t.Errorf("keys %q: one in use was taken away", got)
		}
		if a := w.Must(t, route.Read, "static-roles/svc", nil); len(a.Warnings) != 2 ||
			!strings.Contains(a.Warnings[0], one) {
			t.Errorf("an overdue rotation warns %q", a.Warnings)
		}
		w.Must(t, route.Write, "rotate-role/svc", fields{"replace_key": one})
		if id, _ := w.given("svc"); id == two {
			t.Error("it was not rotated")
		}
	})
}

// TestOtherAccount: a user of another account, by a role there.
func TestOtherAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, awstest.Options{}, enginetest.Config{})
		const other = "999999999999"
		w.aws.AddUser(other, "svc")
		w.aws.AddRole(other,
			awstest.Role{Name: "manage", Trusts: []string{awstest.Account}, ExternalID: "x1", Admin: true})
		body := with(svc, fields{"assume_role_arn": "arn:aws:iam::" + other + ":role/manage"})
		w.Refused(t, route.Write, "static-roles/svc", body, fault.Upstream, "AccessDenied")
		w.Must(t, route.Write, "static-roles/svc", with(body, fields{"external_id": "x1"}))
		first, _ := w.given("svc")
		if keys := w.aws.Keys(other, "svc"); len(keys) != 1 || keys[0].ID != first {
			t.Errorf("keys %+v", keys)
		}
		time.Sleep(31 * time.Hour)
		if second, _ := w.given("svc"); second == first || len(w.aws.Keys(other, "svc")) != 1 {
			t.Errorf("keys %+v", w.aws.Keys(other, "svc"))
		}
	})
}

// TestReplaceKeyThatIsGivenOut: a server that is suspended before it deletes a key to make room
// deletes none that another server gives out by then.
// TestNewKeyIsDeletedInAWS: somebody deletes the new key while the previous one is in its grace
// period. The previous key is kept, the alert says how to go back to it, and that works.
func TestNewKeyIsDeletedInAWS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, awstest.Options{}, enginetest.Config{})
		w.aws.AddUser(awstest.Account, "svc")
		w.Must(t, route.Write, "static-roles/svc", svc)
		first, secret := w.given("svc")
		w.Refused(t, route.Write, "rotate-role/svc", fields{"roll_back": true}, fault.Conflict, "no rotation")
		w.Must(t, route.Write, "rotate-role/svc", nil)
		second, _ := w.given("svc")
		w.aws.DropKey(awstest.Account, "svc", second)
		time.Sleep(36 * time.Hour)
		if !w.aws.Works(first, secret) {
			t.Fatal("the previous key was deleted, and the new one does not exist")
		}
		alerts := ""
		for status, err := range w.Engine.(engine.Rotator).Rotations().Statuses(t.Context()) {
			alerts += fmt.Sprint(status.Alert, err)
		}
		if !strings.Contains(alerts, "write rotate-role/svc with roll_back=true") {
			t.Errorf("the alerts are %q", alerts)
		}
		w.Refused(t, route.Write, "rotate-role/svc", fields{"roll_back": true, "replace_key": first}, fault.Invalid,
			"give one of them")
		w.Must(t, route.Write, "rotate-role/svc", fields{"roll_back": true})
		if id, _ := w.given("svc"); id != first {
			t.Errorf("%s is given out, want %s", id, first)
		}
		time.Sleep(24 * time.Hour)
		if !w.aws.Works(first, secret) {
			t.Error("the key that is given out does not work")
		}
		w.Must(t, route.Write, "rotate-role/svc", nil)
	})
}

// TestRestoredKeyIsDeletedInAWS: after a rollback, somebody deletes the key that is published
// again. The other key is kept until replace_key names it.
func TestRestoredKeyIsDeletedInAWS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, awstest.Options{}, enginetest.Config{})
		w.aws.AddUser(awstest.Account, "svc")
		w.Must(t, route.Write, "static-roles/svc", svc)
		first, _ := w.given("svc")
		w.Must(t, route.Write, "rotate-role/svc", nil)
		second, _ := w.given("svc")
		w.Must(t, route.Write, "rotate-role/svc", fields{"roll_back": true})
		w.aws.DropKey(awstest.Account, "svc", first)
		time.Sleep(36 * time.Hour)
		for status, err := range w.Engine.(engine.Rotator).Rotations().Statuses(t.Context()) {
			if err != nil || strings.Contains(status.Alert, "roll_back") {
				t.Errorf("the alert is %q, %v: nothing is left to roll back", status.Alert, err)
			}
		}
		w.Refused(t, route.Write, "rotate-role/svc", nil, fault.Unavailable, "send replace_key="+second)
		if _, err := w.Do(route.Write, "rotate-role/svc", fields{"replace_key": second}); err != nil {
			time.Sleep(time.Minute) // it is verified that the key is deleted
			w.Must(t, route.Write, "rotate-role/svc", nil)
		}
		if third, _ := w.given("svc"); third == first || third == second {
			t.Errorf("%s is given out", third)
		}
	})
}

func TestReplaceKeyThatIsGivenOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := enginetest.Memory()
		w := open(t, awstest.Options{}, enginetest.Config{Store: store})
		w.aws.AddUser(awstest.Account, "svc")
		w.Must(t, route.Write, "static-roles/svc", svc)
		first, secret := w.given("svc")
		theirs, theirSecret := w.aws.AddKey(awstest.Account, "svc")
		other := enginetest.Open(t, aws.Type, enginetest.Config{Store: store, Host: func(h *engine.Host) {
			h.Dial = w.aws.Watched(t, func(form url.Values, call func()) error {
				call()
				if form.Get("Action") == "ListAccessKeys" && theirSecret != "" {
					adopted := with(svc, fields{"access_key": theirs, "secret_key": theirSecret})
					theirSecret = ""
					w.Must(t, route.Delete, "static-roles/svc", nil)
					w.Must(t, route.Write, "static-roles/svc", adopted)
				}
				return nil
			})
		}})
		if _, err := other.Do(route.Write, "rotate-role/svc", fields{"replace_key": theirs}); !fault.Is(err,
			fault.Conflict) {
			t.Errorf("the request was answered %v", err)
		}
		if id, _ := w.given("svc"); id != theirs || !w.aws.Works(first, secret) {
			t.Errorf("%s is given out, want %s", id, theirs)
		}
	})
}
