package database_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/engine/enginetest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
)

// TestReuse: a token that reads again is given its user again, while that lives.
//
// https://github.com/hashicorp/vault/issues/5475
func TestReuse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := ready(t, enginetest.Config{})
		w.Refused(t, route.Write, "roles/ro", fields{"reuse": "always"}, fault.Invalid, `field "reuse"`)
		w.Must(t, route.Write, "roles/ro", fields{"reuse": "token"})
		name, password, lease := w.issue("ro")
		for range 3 {
			time.Sleep(time.Minute)
			if n, p, l := w.issue("ro"); n != name || p != password || l != lease {
				t.Errorf("the same token was given %s of %s, after %s of %s", n, l, name, lease)
			}
		}
		w.want(1, 1)
		w.Reopen(t) // it is kept on disk
		if n, _, _ := w.issue("ro"); n != name {
			t.Error("a restart forgot it")
		}
		time.Sleep(25 * time.Minute) // into the last tenth
		second, _, other := w.issue("ro")
		if second == name {
			t.Error("it was given out though it ends soon")
		}
		time.Sleep(3 * time.Minute)
		w.want(1, 1)
		if n, _, _ := w.issue("ro"); n != second {
			t.Error("the end of the first lease took the second")
		}
		if err := w.Revoke(other); err != nil {
			t.Fatal(err)
		}
		if n := w.keys("again/"); n != 0 {
			t.Errorf("%d are kept after the last lease", n)
		}
		third, _, _ := w.issue("ro")
		if third == second {
			t.Error("a revoked user was given out")
		}
		// Another life of the role's name is another role.
		w.Must(t, route.Delete, "roles/ro", nil)
		w.Must(t, route.Write, "roles/ro", with(ro, fields{"reuse": "token"}))
		if n, _, _ := w.issue("ro"); n == third {
			t.Error("the user of a deleted role was given out")
		}
		w.Must(t, route.Write, "roles/ro", fields{"reuse": ""})
		if n, _, _ := w.issue("ro"); n == third {
			t.Error("it is given out though the role does not say so")
		}
		time.Sleep(3 * time.Hour)
		w.want(0, 0)
		if n := w.keys("again/"); n != 0 {
			t.Errorf("%d are kept after all leases", n)
		}
	})
}
