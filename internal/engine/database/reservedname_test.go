package database_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/engine/enginetest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/storage/faulty"
)

// TestNamesMadeAgain: a template without {{random}} is taken with a warning, and what its name
// already belongs to stays: the user of another lease, and one that was there before.
func TestNamesMadeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := ready(t, enginetest.Config{})
		a := w.Must(t, route.Write, "config/prod", fields{"username_template": "v-{{.RoleName}}"})
		if len(a.Warnings) != 1 ||
			!strings.Contains(a.Warnings[0], `username_template makes the same name again, such as "v-role"`) {
			t.Errorf("warnings %q", a.Warnings)
		}
		name, password, lease := w.issue("ro")
		w.Refused(t, route.Read, "creds/ro", nil, fault.Invalid, "there is a user v-ro already")
		time.Sleep(5 * time.Minute)
		if err := w.fake.Login(name, password); err != nil {
			t.Errorf("the user of the first lease: %v", err)
		}
		if err := w.Revoke(lease); err != nil {
			t.Fatal(err)
		}
		_, _, lease = w.issue("ro")

		// An operator forgets the lease and removes the user: the name is free.
		w.fake.RemoveUser("v-ro")
		time.Sleep(5 * time.Minute)
		_, _, second := w.issue("ro")
		if err := w.Revoke(lease); err != nil {
			t.Fatal(err)
		}
		if got := w.fake.Users(); len(got) != 1 || got[0] != "v-ro" {
			t.Errorf("the users are %q after the older lease's end", got)
		}
		if err := w.Revoke(second); err != nil {
			t.Fatal(err)
		}
		w.fake.AddUser("v-ro", "theirs")
		w.Refused(t, route.Read, "creds/ro", nil, fault.Invalid, "there is a user v-ro already")
		time.Sleep(time.Hour)
		if got := w.fake.Users(); len(got) != 1 || len(w.IDs(t)) != 0 {
			t.Errorf("users %q, leases %q", got, w.IDs(t))
		}
	})
}

// TestNameTakenAtDeath: the process dies in a create whose name another lease has, or whose own
// user was created. The first stays, the second goes, and the name is free after that.
func TestNameTakenAtDeath(t *testing.T) {
	for _, step := range []string{"reserved", "created"} {
		for _, taken := range []bool{true, false} {
			if taken && step == "created" {
				continue
			}
			t.Run(step, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					dies := false
					w := ready(t, enginetest.Config{Between: func(at string) error {
						if dies && at == step {
							return errors.New("the process died")
						}
						return nil
					}})
					w.Must(t, route.Write, "config/prod", fields{"username_template": "v-{{.RoleName}}"})
					var first string
					if taken {
						_, _, first = w.issue("ro")
					}
					dies = true
					if _, err := w.Do(route.Read, "creds/ro", nil); err == nil {
						t.Fatal("it was to die")
					}
					dies = false
					w.Reopen(t)
					time.Sleep(10 * time.Minute)
					if got := w.fake.Users(); taken != (len(got) == 1) {
						t.Errorf("another lease has the name: %v; the users are %q", taken, got)
					}
					if got := w.IDs(t); taken != (len(got) == 1) {
						t.Errorf("another lease has the name: %v; the leases are %q", taken, got)
					}
					if taken {
						if err := w.Revoke(first); err != nil {
							t.Fatal(err)
						}
					}
					w.issue("ro")
				})
			})
		}
	}
}

// TestNameTakenAtOnce: of many requests at once one gets the name, and whatever becomes of the
// others does not end it.
func TestNameTakenAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := ready(t, enginetest.Config{})
		w.Must(t, route.Write, "config/prod", fields{"username_template": "v-{{.RoleName}}"})
		won := make(chan bool, 8)
		for range cap(won) {
			go func() {
				_, err := w.Do(route.Read, "creds/ro", nil)
				won <- err == nil
			}()
		}
		n := 0
		for range cap(won) {
			if <-won {
				n++
			}
		}
		time.Sleep(10 * time.Minute)
		if users := w.fake.Users(); n != 1 || len(users) != 1 || len(w.IDs(t)) != 1 {
			t.Errorf("%d requests got the name; users %q, leases %q", n, users, w.IDs(t))
		}
	})
}

// A name is free as soon as its user is gone, and one that no template makes again is not kept.
func TestNameIsFreed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := ready(t, enginetest.Config{})
		w.issue("ro")
		if n := w.keys("taken/"); n != 0 {
			t.Errorf("%d random names are kept", n)
		}
		w.Must(t, route.Write, "config/prod", fields{"username_template": "v-{{.RoleName}}"})
		for range 3 {
			_, _, lease := w.issue("ro")
			if err := w.Revoke(lease); err != nil {
				t.Fatal(err)
			}
			if n := w.keys("taken/"); n != 0 {
				t.Errorf("%d names are kept whose users are gone", n)
			}
		}
	})
}

// The undo of an attempt that has not taken its name yet comes back at the attempt's end, because
// the attempt may still take it.
func TestAttemptMayStillTakeItsName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dies := false
		w := ready(t, enginetest.Config{Between: func(at string) error {
			if dies && at == "reserved" {
				return errors.New("the process died")
			}
			return nil
		}})
		w.Must(t, route.Write, "config/prod", fields{"username_template": "v-{{.RoleName}}"})
		dies = true
		if _, err := w.Do(route.Read, "creds/ro", nil); err == nil {
			t.Fatal("it was to die")
		}
		dies = false
		if err := w.Revoke(w.IDs(t)[0]); err != nil {
			t.Fatal(err)
		}
		w.want(0, 1)
		time.Sleep(time.Minute)
		w.want(0, 0)
	})
}

// An attempt that does not get its name leaves nothing, whatever the reason is.
func TestNameThatIsNotTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := faulty.New(enginetest.Memory(), 1)
		w := ready(t, enginetest.Config{Store: st})
		w.Must(t, route.Write, "config/prod", fields{"username_template": "v-{{.RoleName}}"})
		w.fake.SetDown(true)
		w.Refused(t, route.Read, "creds/ro", nil, fault.Upstream, "down")
		time.Sleep(time.Second)
		w.want(0, 0)
		w.fake.SetDown(false)
		st.Inject(faulty.Fault{Prefix: "mount/" + enginetest.UUID + "/taken/", Err: storage.ErrConflict})
		w.Refused(t, route.Read, "creds/ro", nil, fault.Invalid, "at this moment")
		time.Sleep(time.Second)
		w.want(0, 0)
	})
}
