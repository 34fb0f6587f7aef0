package rotation_test

import (
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/engine/rotation/rotationtest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/route"
)

// inGrace rotates the key once, begins another rotation, and returns what readers got before it
// and what they get in its grace.
func (w *world) inGrace(ask any) (old, fresh string) {
	w.Helper()
	w.rotatedOnce()
	old = w.value()
	w.must(route.Write, "keys/demo/rotate", ask)
	w.run(time.Now().Add(time.Hour), func() bool { return w.value() != old && w.status()["state"] == "grace" })
	return old, w.value()
}

// TestRollbackWhilePublishedOnceMore: a rotation whose value was overwritten has published,
// although it is about to do so again.
func TestRollbackWhilePublishedOnceMore(t *testing.T) {
	bubble(t, func(w *world) {
		old, _ := w.inGrace(map[string]any{"leaked": true})
		w.kv.write("secret/demo", map[string]string{"api_key": old})
		w.until(rotate.Publishing)
		w.refused(route.Write, "keys/demo/rollback", nil, fault.Conflict, "leaked")
		w.must(route.Write, "keys/demo/rollback", map[string]any{"force": true})
		s := w.until(rotate.Scheduled)
		if w.value() != old || s["current_key_id"] != w.idOf(old) {
			t.Errorf("after rolling back: %v", s)
		}
		w.wantLive(w.idOf(old))
	})
}

// TestRollbackTwice: a rollback is published, although one of the same rotation was before.
func TestRollbackTwice(t *testing.T) {
	bubble(t, func(w *world) {
		old, fresh := w.inGrace(map[string]any{})
		w.must(route.Write, "keys/demo/rollback", nil)
		w.until(rotate.RollingBack)
		w.until(rotate.Grace)
		w.kv.write("secret/demo", map[string]string{"api_key": fresh})
		w.run(time.Now().Add(72*time.Hour), func() bool { return w.status()["current_key_id"] == w.idOf(fresh) })
		w.must(route.Write, "keys/demo/rollback", nil)
		w.after(time.Hour)
		if s := w.status(); w.value() != old || s["current_key_id"] != w.idOf(old) {
			t.Errorf("after the second rollback: %v", s)
		}
	})
}

// TestLeakedNewKeyWrittenByHand: a new key that leaked and was rolled back is not what consumers
// go on to read.
func TestLeakedNewKeyWrittenByHand(t *testing.T) {
	for _, emptied := range []bool{false, true} { // before the rotation
		bubble(t, func(w *world) {
			w.rotatedOnce()
			old := w.value()
			if emptied {
				w.kv.write("secret/demo", map[string]string{})
			}
			w.must(route.Write, "keys/demo/rotate", nil)
			w.until(rotate.Grace)
			fresh := w.value()
			w.must(route.Write, "keys/demo/rollback", nil)
			w.until(rotate.RollingBack)
			w.until(rotate.Grace)
			w.must(route.Write, "keys/demo/rotate", map[string]any{"leaked": true, "key_id": w.idOf(fresh)})
			w.kv.write("secret/demo", map[string]string{"api_key": fresh})
			w.until(rotate.Scheduled)
			if w.value() != old || alive(w, fresh) {
				t.Errorf("emptied %v: consumers read the leaked key %v, which is alive %v", emptied,
					w.value() == fresh, alive(w, fresh))
			}
		})
	}
}

// TestNewKeyLeaksBeforeItIsPublished: it is not published, and another one is made; the old one
// has its grace.
func TestNewKeyLeaksBeforeItIsPublished(t *testing.T) {
	bubble(t, func(w *world) {
		w.rotatedOnce()
		old := w.value()
		w.must(route.Write, "keys/demo/rotate", nil)
		leaked := w.until(rotate.Settling)["pending_key_id"]
		if out := w.must(route.Write, "keys/demo/rotate",
			map[string]any{"leaked": true, "key_id": leaked}); out["queued"] != true {
			t.Errorf("nothing is queued: %v", out)
		}
		w.run(time.Now().Add(time.Hour), func() bool { return w.value() != old })
		w.after(time.Hour)
		if now := w.idOf(w.value()); now == leaked || now == w.idOf(old) {
			t.Errorf("readers get %s, and %s had leaked", now, leaked)
		}
		w.wantLive(w.idOf(old), w.idOf(w.value()))
	})
}

// TestLeakedIsTriedAgain: a rotation that failed does not leave a leaked key to the schedule.
func TestLeakedIsTriedAgain(t *testing.T) {
	bubble(t, func(w *world) {
		w.rotatedOnce()
		old := w.value()
		w.vendor.Inject(rotationtest.VendorFault{Call: "create", Mode: "before", Times: 9})
		w.must(route.Write, "keys/demo/rotate", map[string]any{"leaked": true})
		w.run(time.Now().Add(24*time.Hour), func() bool { return w.status()["failures"] == 1.0 })
		if s := w.status(); s["state"] != "scheduled" ||
			!contains(s["summary"].(string), "failed once; the next attempt begins at") {
			t.Errorf("after a rotation that failed: %v", s)
		}
		w.after(6 * time.Hour)
		if s := w.status(); w.value() == old || alive(w, old) || s["state"] != "scheduled" || s["failures"] != 0.0 {
			t.Errorf("the leaked key is alive %v: %v", alive(w, old), s)
		}
	})
}

// TestRollbackAfterNonsense: somebody had written the path before the rotation. Rolled back,
// consumers read the key that is current again, and not what was written; with it stays what else
// they read of the key, if its secret is right.
func TestRollbackAfterNonsense(t *testing.T) {
	bubble(t, func(w *world) {
		w.rotatedOnce()
		old := w.value()
		for _, written := range []map[string]string{{"api_key": "nonsense"}, {"note": "no key"},
			{"api_key": old, "note": "mine"}} {
			w.kv.write("secret/demo", written)
			w.must(route.Write, "keys/demo/rotate", nil)
			w.until(rotate.Grace)
			w.must(route.Write, "keys/demo/rollback", nil)
			s := w.until(rotate.Scheduled)
			if w.value() != old || s["current_key_id"] != w.idOf(old) || s["alert"] != "" {
				t.Errorf("after %q and a rollback, consumers read %q, want %q: %v", written, w.value(), old, s)
			}
			w.wantLive(w.idOf(old))
		}
	})
}

// TestRollbackOfTheFirst: what consumers read before the first rotation is what they read when it
// was rolled back, and nothing is wrong with that.
func TestRollbackOfTheFirst(t *testing.T) {
	bubble(t, func(w *world) {
		w.kv.write("secret/demo", map[string]string{"api_key": "by hand"})
		w.must(route.Write, "keys/demo", basic(nil))
		w.until(rotate.Grace)
		w.must(route.Write, "keys/demo/rollback", nil)
		s := w.until(rotate.Scheduled)
		if w.value() != "by hand" || s["alert"] != "" {
			t.Errorf("consumers read %q, want what they read before: %v", w.value(), s)
		}
		w.wantLive()
	})
}

// TestResumeUnderTheBrake: a key that is resumed does nothing while the brake is on, or the clock
// is held, and goes on afterwards.
func TestResumeUnderTheBrake(t *testing.T) {
	for name, hold := range map[string]func(w *world, on bool){
		"brake": func(w *world, on bool) { w.must(route.Write, "config", map[string]any{"brake": on}) },
		"clock": func(w *world, on bool) { w.held.Store(on) },
	} {
		bubble(t, func(w *world) {
			w.kv.denied = true
			w.must(route.Write, "keys/demo", basic(nil))
			w.after(time.Hour)
			w.kv.denied = false
			hold(w, true)
			w.must(route.Write, "keys/demo/resume", nil)
			w.after(time.Hour)
			if s := w.status(); w.value() != "" || s["paused"] != false {
				t.Errorf("%s: it is published: %v", name, s)
			}
			hold(w, false)
			w.until(rotate.Grace)
			if w.value() == "" {
				t.Errorf("%s: it is not published afterwards", name)
			}
		})
	}
}

// TestTakingBackALeakedKeyWaitsForNoDevice: a new key that leaked, and that was rolled back, is
// retired although no audit device writes; an old one that did not leak is not.
func TestTakingBackALeakedKeyWaitsForNoDevice(t *testing.T) {
	for _, leaked := range []bool{true, false} {
		bubble(t, func(w *world) {
			_, fresh := w.inGrace(map[string]any{"leaked": !leaked})
			w.must(route.Write, "keys/demo/rollback", map[string]any{"force": true})
			w.until(rotate.RollingBack)
			w.until(rotate.Grace)
			if leaked {
				w.must(route.Write, "keys/demo/rotate", map[string]any{"leaked": true, "key_id": w.idOf(fresh)})
			}
			before := len(w.audits)
			w.until(rotate.Scheduled)
			if len(w.audits) == before {
				t.Error("nothing is audited")
			}
			for _, a := range w.audits[before:] {
				if a.Takes != leaked {
					t.Errorf("leaked %v, step %s: it only takes away: %v", leaked, a.Detail["step"], a.Takes)
				}
			}
		})
	}
}
