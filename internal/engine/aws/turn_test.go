package aws_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/engine/aws/awstest"
	"github.com/keyturn/keyturn/internal/engine/enginetest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
)

// static begins a role with what is changed of svc. It runs in a bubble, which begins at midnight,
// 1 January 2000, a Saturday.
func static(t *testing.T, o awstest.Options, more fields) *world {
	t.Helper()
	w := open(t, o, enginetest.Config{})
	w.aws.AddUser(awstest.Account, "svc")
	w.Must(t, route.Write, "static-roles/svc", with(svc, more))
	return w
}

// TestStaticSchedule: by cron, in UTC, within a window; the grace follows from the shortest time
// between two.
//
// https://github.com/openbao/openbao/issues/3637
func TestStaticSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := static(t, awstest.Options{},
			fields{"rotation_period": nil, "grace_period": nil, "idle_period": nil, "inactive_period": nil,
				"rotation_schedule": "0 3,5 * * *", "rotation_window": "1h"})
		first, _ := w.given("svc")
		a := w.Must(t, route.Read, "static-creds/svc", nil)
		if a.Data["expiration"] != "2000-01-01T03:00:00Z" || a.Data["rotation_period"] != float64(7200) ||
			a.Data["rotation_schedule"] != "0 3,5 * * *" || a.Data["rotation_window"] != float64(3600) {
			t.Errorf("answer %s", a.Text)
		}
		time.Sleep(3*time.Hour + time.Minute)
		second, _ := w.given("svc")
		time.Sleep(2 * time.Hour) // one hour of grace, half an hour inactive
		third, _ := w.given("svc")
		if first == second || second == third {
			t.Errorf("keys %s, %s, %s at 0, 3 and 5 o'clock", first, second, third)
		}
		// Another way to say when replaces the first.
		w.Must(t, route.Write, "static-roles/svc", fields{"rotation_period": "6h"})
		if a := w.Must(t, route.Read, "static-roles/svc", nil); a.Data["rotation_schedule"] != nil ||
			a.Data["rotation_period"] != float64(21600) {
			t.Errorf("the role reads %s", a.Text)
		}
	})
}

// TestStaticFailureIsTold: a rotation that fails is told of, and the answer is the old key until
// it has succeeded.
//
// https://github.com/hashicorp/vault/pull/23673
func TestStaticFailureIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := static(t, awstest.Options{}, nil)
		first, _ := w.given("svc")
		w.aws.Inject(awstest.Fault{Action: "CreateAccessKey", Mode: awstest.Denied})
		time.Sleep(26 * time.Hour)
		if id, _ := w.given("svc"); id != first {
			t.Error("another key is given out")
		}
		a := w.Must(t, route.Read, "static-roles/svc", nil)
		if a.Data["failures"].(float64) < 5 || !strings.Contains(a.Data["last_error"].(string), "AccessDenied") ||
			len(a.Warnings) != 1 {
			t.Errorf("the role reads %s, %q", a.Text, a.Warnings)
		}
		if at := w.Must(t, route.Read, "static-creds/svc", nil).Data["ttl"].(float64); at < 1 {
			t.Errorf("an overdue key has a ttl of %v", at)
		}
	})
}

// TestStaticAnswersAreStable: the same key, the same answer, but for ttl.
func TestStaticAnswersAreStable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := static(t, awstest.Options{}, nil)
		read := func() string {
			a := w.Must(t, route.Read, "static-creds/svc", nil)
			delete(a.Data, "ttl")
			text, err := json.Marshal(a.Data)
			if err != nil {
				t.Fatal(err)
			}
			return string(text)
		}
		before := read()
		time.Sleep(7 * time.Hour)
		if got := read(); got != before {
			t.Errorf("%s, before %s", got, before)
		}
	})
}

// TestStaticByRequestAlone: readers of what is not rotated by itself still learn when to read
// again.
//
// https://github.com/hashicorp/vault/issues/27165
// https://github.com/openbao/openbao/issues/284
func TestStaticByRequestAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := static(t, awstest.Options{}, fields{"rotation_period": nil, "disable_automated_rotation": true})
		time.Sleep(50 * time.Hour)
		a := w.Must(t, route.Read, "static-creds/svc", nil)
		if a.Data["ttl"] != float64(300) || a.Data["rotation_period"] == nil || a.Data["expiration"] != nil {
			t.Errorf("answer %s", a.Text)
		}
		w.Refused(t, route.Write, "rotate-role/none", nil, fault.Invalid, "unknown static role")
		w.Refused(t, route.Read, "static-creds/none", nil, fault.Invalid, "unknown static role")
	})
}

// TestSomebodyElsesKey came in the minutes in which ours may have been made, and is used.
func TestSomebodyElsesKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := static(t, awstest.Options{}, nil)
		first, _ := w.given("svc")
		w.aws.Inject(awstest.Fault{Action: "CreateAccessKey", Mode: awstest.Before, Times: 1})
		_, _ = w.Do(route.Write, "rotate-role/svc", nil)
		theirs, _ := w.aws.MakeKey(awstest.Account, "svc")
		w.aws.Use(theirs)
		time.Sleep(20 * time.Hour)
		if got := w.keys(); !slices.Equal(got, []string{first, theirs}) {
			t.Errorf("keys %q: want the first, and %s, which is not ours", got, theirs)
		}
		if a := w.Must(t, route.Read, "static-roles/svc", nil); !strings.Contains(a.Text, theirs) {
			t.Errorf("the role does not say what it waits for: %s", a.Text)
		}
		w.Refused(t, route.Write, "rotate-role/svc", fields{"replace_key": first}, fault.Invalid,
			"is the key that is published now")
	})
}

// TestDeadBeforeDeleted: a key is deleted once AWS refuses it, and not before.
//
// https://github.com/hashicorp/vault/issues/27477
func TestDeadBeforeDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := static(t, awstest.Options{DeadLag: 3 * time.Hour}, nil)
		first, _ := w.given("svc")
		w.Must(t, route.Write, "rotate-role/svc", nil)
		time.Sleep(6*time.Hour + 30*time.Minute) // inactive after four hours
		if got := w.keys(); !slices.Contains(got, first+" inactive") {
			t.Errorf("keys %q: one that works is deleted", got)
		}
		time.Sleep(3 * time.Hour)
		if got := w.keys(); len(got) != 1 {
			t.Errorf("keys %q", got)
		}
	})
}
