package aws_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/engine/aws/awstest"
	"github.com/keyturn/keyturn/internal/engine/enginetest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
)

// root is a field of config/root.
func (w *world) root(field string) any {
	w.t.Helper()
	return w.Must(w.t, route.Read, "config/root", nil).Data[field]
}

// rotating opens a mount whose key of config/root is rotated by itself. It runs in a bubble, which
// begins at midnight.
func rotating(t *testing.T, o awstest.Options, c enginetest.Config, when fields) *world {
	t.Helper()
	w := open(t, o, c)
	w.Must(t, route.Write, "roles/r", with(deploy, fields{"propagation_checks": 0}))
	w.Must(t, route.Write, "config/root", when)
	return w
}

// TestRootPeriod: the key of config/root is replaced by itself, and what depends on it goes on.
//
// https://github.com/hashicorp/vault/issues/7143
// https://github.com/hashicorp/vault/issues/27294
func TestRootPeriod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := rotating(t, awstest.Options{KeyLag: 4 * time.Second, ListLag: 4 * time.Second}, enginetest.Config{},
			fields{"rotation_period": "6h"})
		a := w.Must(t, route.Read, "config/root", nil)
		if a.Data["rotation_period"] != float64(6*3600) || a.Data["next_root_rotation"] != "2000-01-01T06:00:00Z" ||
			a.Data["last_root_rotation"] != nil {
			t.Errorf("it reads %s", a.Text)
		}
		held := w.issue("creds/r", nil)
		seen := map[any]bool{awstest.ID: true}
		for turn := 1; turn <= 3; turn++ {
			time.Sleep(6*time.Hour + time.Minute)
			id := w.root("access_key")
			if seen[id] || w.aws.Works(awstest.ID, awstest.Secret) {
				t.Errorf("after turn %d the key is %v", turn, id)
			}
			seen[id] = true
			w.issue("creds/r", nil)
			if turn == 1 {
				w.Reopen(t) // which rotates nothing
			}
		}
		if keys := w.aws.Keys(awstest.Account, awstest.Admin); len(keys) != 1 {
			t.Errorf("keys %+v", keys)
		}
		if err := w.Revoke(held.Lease.ID); err != nil {
			t.Errorf("revoking what the first key has made: %v", err)
		}

		// Whoever rotates by hand need not rotate again soon.
		time.Sleep(5 * time.Hour)
		w.Must(t, route.Write, "config/rotate-root", nil)
		id := w.root("access_key")
		time.Sleep(5 * time.Hour)
		if got := w.root("access_key"); got != id {
			t.Errorf("after a rotation by hand it was replaced after less than the period: %v", got)
		}
		// A new time counts at once, and so does none.
		w.Must(t, route.Write, "config/root", fields{"rotation_schedule": "0 3 * * *", "rotation_window": "2h"})
		a = w.Must(t, route.Read, "config/root", nil)
		if a.Data["rotation_period"] != nil || a.Data["rotation_schedule"] != "0 3 * * *" ||
			a.Data["rotation_window"] != float64(7200) || !strings.Contains(a.Text, "T03:00:00Z") {
			t.Errorf("it reads %s", a.Text)
		}
		w.Must(t, route.Write, "config/root", fields{"disable_automated_rotation": true})
		a = w.Must(t, route.Read, "config/root", nil)
		if a.Data["disable_automated_rotation"] != true || a.Data["next_root_rotation"] != nil {
			t.Errorf("it reads %s", a.Text)
		}
		time.Sleep(30 * time.Hour)
		if got := w.root("access_key"); got != id || w.Work(t) != 0 {
			t.Errorf("it was replaced although that is turned off, or %d items are due", w.Work(t))
		}
		if strings.Contains(w.log.String(), awstest.Secret) {
			t.Error("the log holds a secret key")
		}
	})
}

// TestRootScheduleRefused: what cannot be is not stored.
func TestRootScheduleRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, awstest.Options{}, enginetest.Config{})
		for _, tt := range []struct {
			body fields
			want string
		}{
			{fields{"rotation_period": "1h", "rotation_schedule": "0 3 * * *"}, "exclude each other"},
			{fields{"rotation_period": "1s"}, "is less than"},
			{fields{"rotation_schedule": "whenever"}, "is not a schedule"},
			{fields{"rotation_schedule": "0 3 * * *", "rotation_window": "1m"}, "is less than"},
			{fields{"rotation_window": "2h"}, "needs rotation_schedule"},
			{fields{"access_key": "", "secret_key": "", "rotation_period": "1h"}, "no access_key"},
		} {
			w.Refused(t, route.Write, "config/root", tt.body, fault.Invalid, tt.want)
		}
		if a := w.Must(t, route.Read, "config/root", nil); a.Data["access_key"] != awstest.ID ||
			a.Data["rotation_period"] != nil || a.Data["rotation_schedule"] != nil || w.Work(t) != 0 {
			t.Errorf("after refusals it reads %s", a.Text)
		}
	})
}

// TestRootScheduleSparesKeys: nobody can be asked at the time of a schedule, so that a second key
// of the user's is never deleted to make room. The mount goes on with its key, says why, and
// rotates once there is room.
func TestRootScheduleSparesKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := rotating(t, awstest.Options{}, enginetest.Config{}, fields{"rotation_period": "1h"})
		theirs, _ := w.aws.AddKey(awstest.Account, awstest.Admin)
		time.Sleep(20 * time.Hour)
		a := w.Must(t, route.Read, "config/root", nil)
		if why, _ := a.Data["last_root_error"].(string); a.Data["access_key"] != awstest.ID ||
			!strings.Contains(why, theirs) {
			t.Errorf("it reads %s", a.Text)
		}
		if keys := w.aws.Keys(awstest.Account, awstest.Admin); len(keys) != 2 {
			t.Errorf("keys %+v", keys)
		}
		if n := strings.Count(w.log.String(), "a step of a rotation failed"); n < 10 || n > 40 {
			t.Errorf("%d failures in 20 hours", n)
		}
		w.issue("creds/r", nil)
		w.aws.DropKey(awstest.Account, awstest.Admin, theirs)
		time.Sleep(2 * time.Hour)
		a = w.Must(t, route.Read, "config/root", nil)
		if a.Data["access_key"] == awstest.ID || a.Data["last_root_error"] != nil {
			t.Errorf("once there is room, it reads %s", a.Text)
		}
	})
}
