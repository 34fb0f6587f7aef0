package rotation_test

import (
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/route"
)

// TestRollbackToDeadKey: a key that the provider refuses is not published again, unless that is
// forced. One of which that cannot be found out is: the new key may be the reason.
func TestRollbackToDeadKey(t *testing.T) {
	bubble(t, func(w *world) {
		old, fresh := w.inGrace(nil)
		w.after(time.Hour)
		if err := w.vendor.Delete(w.Context(), adminToken, w.idOf(old)); err != nil { // by hand
			t.Fatal(err)
		}
		w.after(time.Minute)
		w.refused(route.Write, "keys/demo/rollback", nil, fault.Conflict,
			`the provider refuses the old key "`+w.idOf(old)+`"`)
		w.after(72 * time.Hour)
		w.readable()
		if w.value() != fresh {
			t.Errorf("consumers read the key %q", w.idOf(w.value()))
		}
	})
}

// TestRollbackThatNobodyCanTry: a rollback does not wait for a provider that is away, and may be
// forced.
func TestRollbackThatNobodyCanTry(t *testing.T) {
	for _, force := range []bool{false, true} {
		bubble(t, func(w *world) {
			old, _ := w.inGrace(nil)
			if force {
				if err := w.vendor.Delete(w.Context(), adminToken, w.idOf(old)); err != nil {
					t.Fatal(err)
				}
				nap(time.Minute)
			}
			w.hook = func(what string, before bool) error {
				if what == "verify" && before && !force {
					return errDied
				}
				return nil
			}
			w.must(route.Write, "keys/demo/rollback", map[string]any{"force": force})
			w.run(time.Now().Add(time.Hour), func() bool { return w.value() == old })
			if w.value() != old {
				t.Errorf("forced %v: consumers read the key %q", force, w.idOf(w.value()))
			}
		})
	}
}

// TestDeletionBySuspendedServer: a server that is suspended as it deletes a key leaves the history
// of the next one of that name alone.
func TestDeletionBySuspendedServer(t *testing.T) {
	bubble(t, func(w *world) {
		w.rotatedOnce()
		other := w.another()
		turns := func() int {
			return len(other.Must(t, route.Read, "keys/demo/history", nil).Data["rotations"].([]any))
		}
		w.hook = func(what string, before bool) error {
			if what != "reserve" || !before {
				return nil
			}
			w.hook = nil
			other.Must(t, route.Delete, "keys/demo", nil)
			other.Must(t, route.Write, "keys/demo", basic(nil))
			other.Drive(t, time.Now().Add(7*24*time.Hour),
				func() bool { return turns() == 1 && w.status()["state"] == "scheduled" })
			return nil
		}
		if _, err := w.do(route.Delete, "keys/demo", nil); err == nil {
			t.Error("the key of another life was deleted")
		}
		if n := turns(); n != 1 {
			t.Errorf("its history has %d rotations, want 1", n)
		}
	})
}

// TestJournalOfKeyInUse is bounded, however long an old key is used.
func TestJournalOfKeyInUse(t *testing.T) {
	bubble(t, func(w *world) {
		w.lie(&liar{lastUsed: func() time.Time { return time.Now() }}, nil)
		w.must(route.Write, "keys/demo", basic(map[string]any{"max_hold": "24h", "idle_period": "1m"}))
		w.until(rotate.Grace)
		w.until(rotate.Scheduled)
		w.must(route.Write, "keys/demo/rotate", nil)
		w.until(rotate.Grace)
		w.after(5 * 24 * time.Hour)
		n := len(w.must(route.Read, "keys/demo/history", map[string]any{"steps": true})["steps"].([]any))
		if n > 2200 {
			t.Errorf("%d rows after five days", n)
		}
	})
}

// TestOldKeyIsKeptWhileNewOneIsDead: where somebody has deleted the new key at the provider, the
// old one is the only one that works.
func TestOldKeyIsKeptWhileNewOneIsDead(t *testing.T) {
	bubble(t, func(w *world) {
		old, fresh := w.inGrace(nil)
		if err := w.vendor.Delete(w.Context(), adminToken, w.idOf(fresh)); err != nil { // by hand
			t.Fatal(err)
		}
		tried := 0
		w.hook = func(what string, before bool) error {
			if what == "verify" && before {
				tried++
			}
			return nil
		}
		w.after(72 * time.Hour)
		s := w.status()
		if !contains(s["alert"].(string), "the provider refuses the key "+w.idOf(fresh)) || s["state"] != "grace" ||
			tried > 30 {
			t.Errorf("a day after its grace, with %d calls: %v", tried, s)
		}
		w.wantLive(w.idOf(old))
		w.must(route.Write, "keys/demo/rollback", nil)
		w.until(rotate.Scheduled)
		w.readable()
		w.wantLive(w.idOf(old))
		if s := w.status(); s["current_key_id"] != w.idOf(old) || s["alert"] != "" {
			t.Errorf("after the rollback: %v", s)
		}
	})
}
