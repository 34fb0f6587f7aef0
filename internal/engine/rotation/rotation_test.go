package rotation_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/engine/rotation/rotationtest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/rotate/rotatetest"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage"
)

func contains(s, part string) bool { return strings.Contains(s, part) }

// bubble runs a test in a bubble, with a new world.
func bubble(t *testing.T, test func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		test(newWorld(t, rotationtest.VendorConfig{ActiveAfter: 3 * time.Second, DeadAfter: 5 * time.Second}))
	})
}

func TestRotation(t *testing.T) {
	bubble(t, func(w *world) {
		if err := w.Engine.(engine.Keeper).Unfinished(t.Context()); err != nil {
			t.Errorf("a mount without keys may not be disabled: %v", err)
		}
		w.must(route.Write, "keys/demo", basic(nil))
		w.until(rotate.Scheduled)
		w.after(time.Hour)
		s := w.status()
		first := w.idOf(w.value())
		w.wantLive(first)
		if s["current_key_id"] != first || s["rotation"] != 1.0 || s["last_error"] != "" || s["overdue"] != false ||
			len(s["unproven"].([]any)) != 0 {
			t.Errorf("after the first rotation: %v", s)
		}
		next, err := time.Parse(time.RFC3339, s["next_rotation"].(string))
		if at := w.kv.read("secret/demo", time.Now()); err != nil ||
			at.fields["next_rotation"] != next.Format(time.RFC3339) || at.fields["rotated_at"] == "" {
			t.Errorf("published %v, the next rotation is at %v", at.fields, next)
		}
		nap(time.Until(next))
		w.until(rotate.Grace)
		second := w.idOf(w.value())
		w.wantLive(first, second)
		if c := w.kv.read("secret/demo", time.Now()).custom; c["key_id"] != second || c["previous_key_id"] != first ||
			c["retire_after"] == "" {
			t.Errorf("custom metadata: %v", c)
		}
		if p := w.must(route.Read, "keys/demo/plan", nil); !contains(p["now"].(string),
			"rotation 2 is in the state grace") {
			t.Errorf("the plan says %q", p["now"])
		}
		published := time.Now()
		w.run(time.Now().Add(7*24*time.Hour), func() bool { return len(w.vendor.Live()) < 2 })
		if held := time.Since(published); held < 48*time.Hour || held > 49*time.Hour {
			t.Errorf("the old key lived on for %v, want 48h", held)
		}
		s = w.until(rotate.Scheduled)
		w.wantLive(second)
		if s["current_key_id"] != second || s["alert"] != "" {
			t.Errorf("after the second rotation: %v", s)
		}
		h := w.must(route.Read, "keys/demo/history", nil)["rotations"].([]any)
		if len(h) != 2 || h[0].(map[string]any)["dead_proof"] != "refused" ||
			h[0].(map[string]any)["proven"] != true || h[0].(map[string]any)["result"] != "done" {
			t.Errorf("history: %v", h)
		}
		if p := w.must(route.Read, "keys/demo/plan", nil); len(p["rotations"].([]any)) != 5 ||
			len(p["notes"].([]any)) != 0 || p["now"] != "waiting for the next rotation" {
			t.Errorf("plan: %v", p)
		}
		if len(w.audits) == 0 || w.audits[0].Path != "rotation/keys/demo" || w.audits[0].Operation != "rotate" {
			t.Errorf("audits: %v", w.audits)
		}
		w.silent()
	})
}

// silent checks that users and logs see no secret.
func (w *world) silent() {
	w.Helper()
	var canaries []string
	for _, k := range w.vendor.Issued() {
		canaries = append(canaries, k.Secret)
	}
	canaries = append(canaries, adminToken)
	var seen strings.Builder
	for _, path := range []string{"keys/demo", "keys/demo/history", "keys/demo/plan"} {
		out, err := w.do(route.Read, path, nil)
		if err == nil {
			writeAll(&seen, out)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	seen.WriteString(strings.Join(w.Events(), "\n"))
	for _, c := range canaries {
		if contains(seen.String(), c) {
			w.Errorf("secret %q is shown", c)
		}
	}
}

func writeAll(b *strings.Builder, v any) {
	switch x := v.(type) {
	case map[string]any:
		for k, v := range x {
			b.WriteString(k + "\n")
			writeAll(b, v)
		}
	case []any:
		for _, v := range x {
			writeAll(b, v)
		}
	case string:
		b.WriteString(x + "\n")
	}
}

// A rotation on request takes the same steps as a scheduled one (INF#2402), and two in quick
// succession leave no orphan.
func TestManualRotation(t *testing.T) {
	bubble(t, func(w *world) {
		w.rotatedOnce()
		first := w.idOf(w.value())
		out := w.must(route.Write, "keys/demo/rotate", map[string]any{})
		if out["rotation"] != 2.0 || out["state"] != "creating" {
			t.Errorf("rotate: %v", out)
		}
		w.refused(route.Write, "keys/demo/rotate", nil, fault.Conflict, "rotation 2")
		w.until(rotate.Grace)
		w.wantLive(first, w.idOf(w.value()))
		w.until(rotate.Scheduled)
		w.wantLive(w.idOf(w.value()))
	})
}

func TestLeaked(t *testing.T) {
	bubble(t, func(w *world) {
		w.rotatedOnce()
		out := w.must(route.Write, "keys/demo/rotate", map[string]any{"leaked": true})
		if out["sleeping_readers_seconds"] != 120.0 || len(out["warnings"].([]string)) != 1 {
			t.Errorf("rotate leaked: %v", out)
		}
		start := time.Now()
		w.until(rotate.Scheduled)
		if took := time.Since(start); took > 2*time.Minute {
			t.Errorf("a leaked key lived for %v", took)
		}
		w.wantLive(w.idOf(w.value()))

		// While a key is in grace, both may have leaked.
		w.must(route.Write, "keys/demo/rotate", nil)
		w.until(rotate.Grace)
		nap(30 * time.Second)
		out = w.must(route.Write, "keys/demo/rotate", map[string]any{"leaked": true})
		if out["queued"] != true || out["retires_previous_now"] != true {
			t.Errorf("rotate leaked in grace: %v", out)
		}
		start = time.Now()
		w.run(start.Add(time.Hour),
			func() bool { s := w.status(); return s["rotation"] == 4.0 && s["state"] == "scheduled" })
		if took := time.Since(start); took > 3*time.Minute {
			t.Errorf("both keys were gone after %v", took)
		}
		w.wantLive(w.idOf(w.value()))
		w.must(route.Write, "keys/demo/rotate", nil)
		s := w.until(rotate.Grace)
		out = w.must(route.Write, "keys/demo/rotate", map[string]any{"leaked": true, "key_id": s["previous_key_id"]})
		if out["queued"] != false {
			t.Errorf("only the old key leaked: %v", out)
		}
	})
}

func TestRollbackToALeakedKeyIsRefused(t *testing.T) {
	bubble(t, func(w *world) {
		w.rotatedOnce()
		rotationtest.Breaker(w.vendor, time.Minute)(rotatetest.Retire, rotatetest.Busy)
		w.must(route.Write, "keys/demo/rotate", map[string]any{"leaked": true})
		w.run(time.Now().Add(time.Hour), func() bool { return w.status()["state"] == "grace" })
		w.refused(route.Write, "keys/demo/rollback", nil, fault.Conflict, "leaked")
		w.must(route.Write, "keys/demo/rollback", map[string]any{"force": true})
	})
}

// A retired key that the provider shows again is retired again, and the rotation waits for it.
func TestRetiredKeyThatIsStillListed(t *testing.T) {
	bubble(t, func(w *world) {
		w.rotatedOnce()
		w.must(route.Write, "keys/demo/rotate", nil)
		w.until(rotate.Retiring)
		lagged := false
		w.hook = func(what string, before bool) error {
			if what == "list" && before && !lagged {
				lagged = true
				rotationtest.Breaker(w.vendor, time.Minute)(rotatetest.List, rotatetest.Lag)
			}
			return nil
		}
		w.run(time.Now().Add(24*time.Hour), func() bool { return lagged })
		if s := w.status(); s["state"] != "retiring" || !contains(s["last_error"].(string), "still listed") {
			t.Errorf("status: %v", s)
		}
		w.until(rotate.Scheduled)
		w.wantLive(w.idOf(w.value()))
	})
}

// A vendor reports a key as deleted, but still accepts it. The key is deleted again before the
// rotation ends.
func TestDeletedKeyThatStillWorks(t *testing.T) {
	bubble(t, func(w *world) {
		w.rotatedOnce()
		w.vendor.Inject(rotationtest.VendorFault{Call: "disable", Mode: "lie"})
		w.vendor.Inject(rotationtest.VendorFault{Call: "delete", Mode: "lie"})
		w.must(route.Write, "keys/demo/rotate", nil)
		w.until(rotate.Retiring)
		began := time.Now()
		w.until(rotate.Scheduled)
		if took := time.Since(began); took > 20*time.Minute { // it rests for ten, disabled
			t.Errorf("it is retired once more after %s", took)
		}
		w.wantLive(w.idOf(w.value()))
		if s := w.status(); s["alert"] != "" {
			t.Errorf("the alert stays: %v", s)
		}
	})
}

func TestRollbackBeforePublishing(t *testing.T) {
	bubble(t, func(w *world) {
		w.rotatedOnce()
		old := w.value()
		w.must(route.Write, "keys/demo/rotate", nil)
		w.until(rotate.Settling)
		w.must(route.Write, "keys/demo/rollback", map[string]any{"reason": "changed my mind"})
		start := time.Now()
		w.until(rotate.Scheduled)
		if took := time.Since(start); took > time.Minute {
			t.Errorf("backing out took %v", took)
		}
		w.wantLive(w.idOf(old))
		if w.value() != old {
			t.Error("something was published")
		}
		w.refused(route.Write, "keys/demo/rollback", nil, fault.Conflict, "rotate instead")
	})
}

// Some of the readers may already use the new key: it gets the same grace.
func TestRollbackAfterPublishing(t *testing.T) {
	bubble(t, func(w *world) {
		old, _ := w.inGrace(nil)
		nap(time.Hour)
		fresh := w.value()
		w.must(route.Write, "keys/demo/rollback", nil)
		w.until(rotate.Grace)
		start := time.Now()
		if w.value() != old {
			t.Error("the old value is not published")
		}
		if c := w.kv.read("secret/demo", time.Now()).custom; c["key_id"] != w.idOf(old) ||
			c["previous_key_id"] != w.idOf(fresh) {
			t.Errorf("custom metadata: %v", c)
		}
		w.run(time.Now().Add(7*24*time.Hour), func() bool { return len(w.vendor.Live()) < 2 })
		if held := time.Since(start); held < 48*time.Hour {
			t.Errorf("the new key had a grace of %v", held)
		}
		s := w.until(rotate.Scheduled)
		w.wantLive(w.idOf(old))
		h := w.must(route.Read, "keys/demo/history", nil)["rotations"].([]any)[0].(map[string]any)
		if s["current_key_id"] != w.idOf(old) || h["result"] != "rolled-back" {
			t.Errorf("after rolling back: %v, %v", s, h)
		}
		w.rotated()
		w.wantLive(w.idOf(w.value()))
	})
}

func TestFirstRotationCannotBeRolledBackOncePublished(t *testing.T) {
	bubble(t, func(w *world) {
		w.must(route.Write, "keys/demo", basic(nil))
		w.until(rotate.Grace)
		w.refused(route.Write, "keys/demo/rollback", nil, fault.Conflict, "nothing was published")
	})
}

// An old key in use is not retired by a timer alone.
func TestUseHoldsBack(t *testing.T) {
	bubble(t, func(w *world) {
		w.must(route.Write, "keys/demo", basic(map[string]any{"max_hold": "24h"}))
		w.until(rotate.Grace)
		w.until(rotate.Scheduled)
		old := w.value()
		w.must(route.Write, "keys/demo/rotate", nil)
		s := w.until(rotate.Grace)
		after, err := time.Parse(time.RFC3339, s["retire_after"].(string))
		if err != nil {
			t.Fatal(err)
		}
		use := func(until time.Time) {
			for time.Now().Before(until) {
				if _, err := w.vendor.Use(w.Context(), old); err != nil {
					t.Fatalf("the old key ended while it was used: %v", err)
				}
				w.after(20 * time.Minute)
			}
		}
		use(after.Add(23 * time.Hour))
		if s := w.status(); s["state"] != "grace" || s["alert"] != "" {
			t.Errorf("within the cap: %v", s)
		}
		use(after.Add(26 * time.Hour))
		if s := w.status(); s["state"] != "grace" || !contains(s["alert"].(string), "still in use") {
			t.Errorf("past the cap: %v", s)
		}
		w.until(rotate.Scheduled)
		w.wantLive(w.idOf(w.value()))
		if s := w.status(); s["alert"] != "" {
			t.Errorf("the alert stays: %v", s)
		}
	})
}

// A rotation does not retire keys of others.
func TestForeignKeysAreLeftAlone(t *testing.T) {
	bubble(t, func(w *world) {
		theirs, _ := w.vendor.Create(t.Context(), adminToken, "by hand")
		like, _ := w.vendor.Create(t.Context(), adminToken, "kt:zzzzzzzz/demo/1/1")
		w.kv.write("secret/demo", map[string]string{"api_key": theirs.Secret, "note": "mine"})
		w.rotatedOnce()
		w.wantLive(theirs.ID, like.ID, w.idOf(w.value()))
		if w.kv.read("secret/demo", time.Now()).fields["note"] != "mine" {
			t.Error("what stood beside the key is gone")
		}
	})
}

func TestAdoptedKeyIsRetired(t *testing.T) {
	for _, known := range []bool{true, false} {
		bubble(t, func(w *world) {
			theirs, _ := w.vendor.Create(t.Context(), adminToken, "by hand")
			w.kv.write("secret/demo", map[string]string{"api_key": theirs.Secret})
			more := map[string]any{"current_key_id": theirs.ID}
			if known {
				more["current_secret"] = map[string]string{"api_key": theirs.Secret}
			}
			w.must(route.Write, "keys/demo", basic(more))
			w.until(rotate.Grace)
			w.wantLive(theirs.ID, w.idOf(w.value()))
			s := w.until(rotate.Scheduled)
			w.wantLive(w.idOf(w.value()))
			if unproven := len(s["unproven"].([]any)) > 0; unproven == known {
				t.Errorf("secret known %v, unproven %v", known, s["unproven"])
			}
			// A stale write must not bring the dead key back
			// (redhat-cop/vault-config-operator#131).
			w.refused(route.Write, "keys/demo", basic(more), fault.Conflict, "current_key_id")
		})
	}
}

func TestPermanentFailureKeepsTheOld(t *testing.T) {
	bubble(t, func(w *world) {
		w.rotatedOnce()
		old := w.value()
		w.must(route.Patch, "keys/demo", map[string]any{"admin": map[string]string{"token": "wrong-token-0000"}})
		w.must(route.Write, "keys/demo/rotate", nil)
		w.run(time.Now().Add(time.Hour), func() bool { return w.status()["failures"] == 1.0 })
		s := w.status()
		if s["state"] != "scheduled" || s["alert"] == "" || s["last_error"] == "" ||
			contains(s["last_error"].(string), "wrong-token") {
			t.Errorf("after a rotation that failed: %v", s)
		}
		w.wantLive(w.idOf(old))
		// It is not tried over and over again, but a person is asked, ...
		if s["paused"] != true || !contains(s["pause_reason"].(string), "refused") {
			t.Errorf("nobody is asked: %v", s)
		}
		// ... and a new admin credential is tried at once.
		w.must(route.Patch, "keys/demo", map[string]any{"admin": map[string]string{"token": adminToken}})
		began := time.Now()
		w.until(rotate.Grace)
		if took := time.Since(began); took > time.Minute {
			t.Errorf("the new admin credential was tried after %v", took)
		}
		s = w.until(rotate.Scheduled)
		if s["alert"] != "" || s["last_error"] != "" || s["failures"] != 0.0 {
			t.Errorf("after a rotation that went well: %v", s)
		}
		w.wantLive(w.idOf(w.value()))
	})
}

// A new key that the provider never accepts is not published (V#28989: it is not
// tried for ever, either).
func TestKeyThatNeverWorks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, rotationtest.VendorConfig{ActiveAfter: 30 * 24 * time.Hour})
		w.must(route.Write, "keys/demo", basic(nil))
		w.run(time.Now().Add(time.Hour), func() bool { return w.status()["failures"] == 1.0 })
		w.wantLive()
		if w.value() != "" {
			t.Error("a key that never worked is published")
		}
		if s := w.status(); !contains(s["alert"].(string), "refused") {
			t.Errorf("status: %v", s)
		}
	})
}

func TestMissingCapabilityPauses(t *testing.T) {
	bubble(t, func(w *world) {
		w.kv.denied = true
		w.must(route.Write, "keys/demo", basic(nil))
		w.after(time.Hour)
		s := w.status()
		if s["paused"] != true || s["state"] != "publishing" || !contains(s["alert"].(string), "rotators") {
			t.Errorf("status: %v", s)
		}
		w.kv.denied = false
		w.must(route.Write, "keys/demo/resume", nil)
		w.until(rotate.Grace)
		w.until(rotate.Scheduled)
		w.wantLive(w.idOf(w.value()))
	})
}

// A rotation whose path cannot be written is rolled back, the first one of a key too. Its new key
// is retired, and the key that readers had still works.
func TestUnwritablePathIsRolledBack(t *testing.T) {
	for _, first := range []bool{true, false} {
		bubble(t, func(w *world) {
			if !first {
				w.must(route.Write, "keys/demo", basic(nil))
				w.after(time.Hour)
			}
			w.kv.denied = true
			was := w.value()
			if first {
				w.must(route.Write, "keys/demo", basic(nil))
			} else {
				w.must(route.Write, "keys/demo/rotate", nil)
			}
			w.after(time.Hour)
			if s := w.status(); s["paused"] != true {
				t.Fatalf("status: %v", s)
			}
			w.must(route.Write, "keys/demo/rollback", nil)
			w.after(72 * time.Hour)
			s := w.status()
			if s["paused"] != false || s["state"] != "scheduled" || s["alert"] != "" || w.value() != was {
				t.Errorf("first %v: status: %v", first, s)
			}
			if first {
				w.wantLive()
			} else {
				w.wantLive(w.idOf(was))
			}
		})
	}
}

// Resuming a key that pauses again for the same cause reports that at once. A pause by a
// person is not ended by a rollback.
func TestResumeSaysWhyItPausesAgain(t *testing.T) {
	bubble(t, func(w *world) {
		w.kv.denied = true
		w.must(route.Write, "keys/demo", basic(nil))
		w.after(time.Hour)
		w.refused(route.Write, "keys/demo/resume", nil, fault.Held, "rotators")
		if s := w.status(); s["paused"] != true || !contains(s["alert"].(string), "rotators") {
			t.Errorf("status: %v", s)
		}
		w.kv.denied = false
		w.must(route.Write, "keys/demo/resume", nil)
		w.until(rotate.Grace)
		w.must(route.Write, "keys/demo/pause", map[string]any{"reason": "holidays"})
		w.refused(route.Write, "keys/demo/rollback", nil, fault.Held, "holidays")
	})
}

func TestPublishedOverAUsersWrite(t *testing.T) {
	bubble(t, func(w *world) {
		w.kv.write("secret/demo", map[string]string{"note": "one"})
		w.hook = func(what string, before bool) error {
			if what == "publish" && before {
				w.hook = nil
				w.kv.write("secret/demo", map[string]string{"note": "two"})
			}
			return nil
		}
		w.must(route.Write, "keys/demo", basic(nil))
		w.until(rotate.Grace)
		if at := w.kv.read("secret/demo", time.Now()); at.fields["note"] != "two" || at.fields["api_key"] == "" {
			t.Errorf("published: %v", at.fields)
		}
	})
}

func TestLostReplyLeavesNoOrphan(t *testing.T) {
	for _, f := range []rotatetest.Fault{rotatetest.CutBefore, rotatetest.CutAfter, rotatetest.Hang, rotatetest.Late,
		rotatetest.Busy, rotatetest.Broken} {
		bubble(t, func(w *world) {
			rotationtest.Breaker(w.vendor, 10*time.Minute)(rotatetest.Create, f)
			w.rotatedOnce()
			w.wantLive(w.idOf(w.value()))
			if n := w.vendor.Stats().Pending; n != 0 {
				t.Errorf("%s: the rotation was done while %d effects were still to land", f, n)
			}
		})
	}
}

func TestPauseAndResume(t *testing.T) {
	bubble(t, func(w *world) {
		w.rotatedOnce()
		next := w.status()["next_rotation"]
		w.must(route.Write, "keys/demo/pause", map[string]any{"reason": "audit week"})
		w.refused(route.Write, "keys/demo/rotate", nil, fault.Held, "audit week")
		w.after(40 * 24 * time.Hour)
		s := w.status()
		if s["rotation"] != 1.0 || s["paused"] != true || s["overdue"] != true {
			t.Errorf("paused: %v", s)
		}
		// What was skipped keeps its own time; nothing is derived from zero (V#29537).
		if s["next_rotation"] != next {
			t.Errorf("the next rotation moved from %v to %v", next, s["next_rotation"])
		}
		w.must(route.Write, "keys/demo/resume", nil)
		w.until(rotate.Grace)
		if s := w.status(); s["rotation"] != 2.0 || s["overdue"] != false {
			t.Errorf("resumed: %v", s)
		}
		w.must(route.Write, "keys/demo/pause", nil)
		w.after(7 * 24 * time.Hour)
		if len(w.vendor.Live()) != 2 {
			t.Error("a paused key's old one was retired")
		}
	})
}

func TestBrakeAndClock(t *testing.T) {
	bubble(t, func(w *world) {
		w.must(route.Write, "config", map[string]any{"brake": true})
		w.must(route.Write, "keys/demo", basic(nil))
		w.after(24 * time.Hour)
		if len(w.vendor.Issued()) != 0 {
			t.Error("a key was created under the brake")
		}
		rows := 0
		for _, err := range w.store.Scan(t.Context(), "mount/m/j/", storage.PrefixEnd("mount/m/j/")) {
			if rows++; err != nil {
				t.Fatal(err)
			}
		}
		if events := len(w.Events()); rows != 1 || events > 3 {
			t.Errorf("a day under the brake left %d rows of the journal and %d events, want that the key was "+
				"created and no more", rows, events)
		}
		w.refused(route.Write, "keys/demo/rotate", map[string]any{"leaked": true}, fault.Held, "brake")
		w.must(route.Write, "config", map[string]any{"brake": true})
		w.must(route.Write, "config", map[string]any{"grace_period": "24h"})
		w.must(route.Write, "config", map[string]any{"brake": false})
		var brakes []string
		for _, e := range w.Events() {
			if contains(e, "rotation/brake") {
				brakes = append(brakes, e)
			}
		}
		if want := []string{`rotation/brake {"brake":"on"}`, `rotation/brake {"brake":"off"}`}; !slices.Equal(brakes,
			want) {
			t.Errorf("events of the brake: %q, want %q", brakes, want)
		}
		w.held.Store(true)
		w.after(time.Hour)
		w.refused(route.Write, "keys/demo/rotate", nil, fault.Held, "clock")
		if len(w.vendor.Issued()) != 0 {
			t.Error("a key was created while the clock was held")
		}
		w.held.Store(false)
		w.until(rotate.Grace)
	})
}

// No new rotation starts while nothing can be audited.
func TestNoRotationWithoutAudit(t *testing.T) {
	bubble(t, func(w *world) {
		w.hook = func(what string, before bool) error {
			if what == "audit" {
				return fault.New("audit", fault.Unavailable, "no device writes")
			}
			return nil
		}
		w.must(route.Write, "keys/demo", basic(nil))
		w.after(time.Hour)
		if len(w.vendor.Issued()) != 0 || w.status()["state"] != "scheduled" {
			t.Errorf("a rotation began without audit: %v", w.status())
		}
		w.hook = nil
		w.until(rotate.Grace)
	})
}

func TestSkipImportRotation(t *testing.T) {
	bubble(t, func(w *world) {
		w.must(route.Write, "keys/demo", basic(map[string]any{"skip_import_rotation": true}))
		w.after(time.Hour)
		w.must(route.Patch, "keys/demo", map[string]any{"rotation_period": "240h"})
		w.wantNext(at(11, 0)) // counted from the key's creation
		w.must(route.Patch, "keys/demo", map[string]any{"rotation_period": "720h"})
		w.wantNext(at(31, 0))
		w.run(at(30, 0), never)
		if len(w.vendor.Issued()) != 0 {
			t.Error("the key was rotated although its first rotation was skipped")
		}
		w.after(25 * time.Hour)
		if len(w.vendor.Issued()) != 1 {
			t.Error("the key was not rotated after its first period")
		}
	})
}

func TestDelete(t *testing.T) {
	bubble(t, func(w *world) {
		w.rotatedOnce()
		old := w.idOf(w.value())
		w.must(route.Write, "keys/demo/rotate", nil)
		w.until(rotate.Grace)
		w.refused(route.Delete, "keys/demo", nil, fault.Conflict, "force")
		w.must(route.Delete, "keys/demo", map[string]any{"force": true})
		fresh := w.idOf(w.value())
		w.wantLive(old, fresh)
		if _, ok := w.Due(w); ok {
			t.Error("a due item is left")
		}
		// A new key with an old name does not claim the keys of the deleted one.
		w.rotatedOnce()
		w.wantLive(old, fresh, w.idOf(w.value()))
		if s := w.status(); s["rotation"] != 1.0 || w.idOf(w.value()) == fresh {
			t.Errorf("the new key published nothing: %v", s)
		}
	})
}
