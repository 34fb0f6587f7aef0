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

// static begins a role with what is changed of svc. It runs in a bubble, which begins at midnight, 1 January 2000, a Saturday.
func static(t *testing.T, o awstest.Options, more fields) *world {
	t.Helper()
	w := open(t, o, enginetest.Config{})
	w.aws.AddUser(awstest.Account, "svc")
	w.Must(t, route.Write, "static-roles/svc", with(svc, more))
	return w
}

// TestStaticSchedule: by cron, in UTC, within a window; the grace follows from the shortest time between two.
//
// https://github.com/openbao/openbao/issues/3637
func TestStaticSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := static(t, awstest.Options{}, fields{"rotation_period": nil, "grace_period": nil, "idle_period": nil, "inactive_period": nil, "rotation_schedule": "0 3,5 * * *", "rotation_window": "1h"})
		first, _ := w.given("svc")
		a := w.Must(t, route.Read, "static-creds/svc", nil)
		if a.Data["expiration"] != "2000-01-01T03:00:00Z" || a.Data["rotation_period"] != float64(7200) || a.Data["rotation_schedule"] != "0 3,5 * * *" || a.Data["rotation_window"] != float64(3600) {
			t.Errorf("answer %s", a.Text)
		}
		time.Sleep(3*time.Hour + time.Minute)
		second, _ := w.given("svc")
		time.Sleep(2 * time.Hour) // one hour of grace, half an hour inactive
		third, _ := w.given("svc")
		if first == second || second == third {
			t.Errorf("keys %s, %s, %s at 0, 3 and 5 o'clock", first, second, third)
		}
		// What cannot be done within the window waits for the next time.
		time.Sleep(20 * time.Hour)
		w.aws.Inject(awstest.Fault{Action: "CreateAccessKey", Mode: awstest.Denied})
		time.Sleep(4 * time.Hour) // until five o'clock and six minutes
		w.aws.Clear()
		time.Sleep(2 * time.Hour)
		if id, _ := w.given("svc"); id == third {
			t.Error("it is not tried again within the window")
		}
		// Another way to say when replaces the first.
		w.Must(t, route.Write, "static-roles/svc", fields{"rotation_period": "6h"})
		if a := w.Must(t, route.Read, "static-roles/svc", nil); a.Data["rotation_schedule"] != nil || a.Data["rotation_period"] != float64(21600) {
			t.Errorf("the role reads %s", a.Text)
		}
	})
}

// TestStaticWindowMissed: a server that was down over the window does not rotate outside of it.
func TestStaticWindowMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := static(t, awstest.Options{}, fields{"rotation_period": nil, "grace_period": nil, "inactive_period": nil, "rotation_schedule": "0 3 * * *", "rotation_window": "1h"})
		first, _ := w.given("svc")
		time.Sleep(2 * time.Hour)
		w.Stop()
		time.Sleep(4 * time.Hour)
		w.Reopen(t)
		time.Sleep(time.Hour)
		if id, _ := w.given("svc"); id != first {
			t.Error("it was rotated outside of its window")
		}
		time.Sleep(21 * time.Hour)
		if id, _ := w.given("svc"); id == first {
			t.Error("it was not rotated at the next time")
		}
	})
}

// TestStaticRestarts: starting again rotates nothing that is not due, and what is due once.
//
// https://github.com/hashicorp/vault/pull/29537
// https://github.com/hashicorp/vault-plugin-secrets-openldap/pull/156
// https://developer.hashicorp.com/vault/docs/v1.19.x/updates/important-changes
func TestStaticRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := static(t, awstest.Options{}, nil)
		first, _ := w.given("svc")
		for range 5 {
			time.Sleep(time.Hour)
			w.Reopen(t)
		}
		if id, _ := w.given("svc"); id != first {
			t.Error("starting again has rotated the key")
		}
		w.Stop()
		time.Sleep(100 * time.Hour)
		w.Reopen(t)
		time.Sleep(time.Minute)
		if n := w.aws.Calls("CreateAccessKey"); n != 2 {
			t.Errorf("%d keys were made, want the first, and one after four periods of rest", n)
		}
	})
}

// TestStaticFailureIsQueued: a rotation that fails is tried again, and the answer is the old key until then.
//
// https://github.com/hashicorp/vault/pull/23673
func TestStaticFailureIsQueued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := static(t, awstest.Options{}, nil)
		first, _ := w.given("svc")
		w.aws.Inject(awstest.Fault{Action: "CreateAccessKey", Mode: awstest.Denied})
		time.Sleep(26 * time.Hour)
		if id, _ := w.given("svc"); id != first {
			t.Error("another key is given out")
		}
		a := w.Must(t, route.Read, "static-roles/svc", nil)
		if a.Data["failures"].(float64) < 5 || !strings.Contains(a.Data["last_error"].(string), "AccessDenied") || len(a.Warnings) != 1 {
			t.Errorf("the role reads %s, %q", a.Text, a.Warnings)
		}
		if at := w.Must(t, route.Read, "static-creds/svc", nil).Data["ttl"].(float64); at < 1 {
			t.Errorf("an overdue key has a ttl of %v", at)
		}
		w.aws.Clear()
		time.Sleep(time.Hour)
		if id, _ := w.given("svc"); id == first {
			t.Error("it was not tried again")
		}
		if a := w.Must(t, route.Read, "static-roles/svc", nil); a.Data["failures"] != nil {
			t.Errorf("after a success: %s", a.Text)
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

// TestStaticByRequestAlone: no rotation by itself, and readers still learn when to read again.
//
// https://github.com/hashicorp/vault/issues/27165
// https://github.com/openbao/openbao/issues/284
func TestStaticByRequestAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := static(t, awstest.Options{}, fields{"rotation_period": nil, "disable_automated_rotation": true})
		first, _ := w.given("svc")
		time.Sleep(50 * time.Hour)
		if id, _ := w.given("svc"); id != first {
			t.Error("it was rotated by itself")
		}
		a := w.Must(t, route.Read, "static-creds/svc", nil)
		if a.Data["ttl"] != float64(300) || a.Data["rotation_period"] == nil || a.Data["expiration"] != nil {
			t.Errorf("answer %s", a.Text)
		}
		w.Must(t, route.Write, "rotate-role/svc", nil)
		if id, _ := w.given("svc"); id == first {
			t.Error("it was not rotated by request")
		}
		w.Refused(t, route.Write, "rotate-role/none", nil, fault.Invalid, "unknown static role")
		w.Refused(t, route.Read, "static-creds/none", nil, fault.Invalid, "unknown static role")
	})
}

// TestLostKey: a key whose creation's answer was lost is found and deleted, at once if it is listed, and
// when it lands late; somebody else's key of the same minutes is not.
//
// https://github.com/hashicorp/vault-plugin-secrets-azure/pull/266
func TestLostKey(t *testing.T) {
	for _, tt := range []struct {
		name string
		f    awstest.Fault
	}{
		{"done, the answer lost", awstest.Fault{Mode: awstest.Lost}},
		{"done, the answer malformed", awstest.Fault{Mode: awstest.Malformed}},
		{"done four minutes later", awstest.Fault{Mode: awstest.Late, Wait: 4 * time.Minute}},
		{"not done", awstest.Fault{Mode: awstest.Before}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := static(t, awstest.Options{ListLag: 5 * time.Second}, nil)
				first, _ := w.given("svc")
				tt.f.Action, tt.f.Times = "CreateAccessKey", 1
				w.aws.Inject(tt.f)
				time.Sleep(10 * time.Second)
				if _, err := w.Do(route.Write, "rotate-role/svc", nil); err == nil {
					t.Error("a rotation without an answer succeeds")
				}
				if id, _ := w.given("svc"); id != first {
					t.Error("the key before is not given out any more")
				}
				time.Sleep(20 * time.Minute)
				second, _ := w.given("svc")
				if got := w.keys(); second == first || !slices.Equal(got, []string{first, second}) {
					t.Errorf("keys %q, given out is %s, before %s", got, second, first)
				}
			})
		})
	}
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
		w.Refused(t, route.Write, "rotate-role/svc", fields{"replace_key": first}, fault.Invalid, "is the key that is given out now")
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
