package rotation_test

import (
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/engine/rotation/rotationtest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/route"
)

// TestRollbackTo: whatever is still valid at the provider is published again; a dead key is
// refused, with the time of its retirement.
func TestRollbackTo(t *testing.T) {
	bubble(t, func(w *world) {
		foreign := w.foreignKey()
		w.kv.write("secret/demo", map[string]string{"api_key": foreign}) // what was there before Keyturn
		w.inGrace(nil)
		w.until(rotate.Scheduled)
		current := w.value()
		w.refused(route.Write, "keys/demo/rollback", map[string]any{"to": 1}, fault.Invalid,
			"the key of rotation 1 was retired on ")
		w.refused(route.Write, "keys/demo/rollback", map[string]any{"version": 2}, fault.Invalid,
			"the key of rotation 1 was retired on ")
		w.refused(route.Write, "keys/demo/rollback", map[string]any{"to": 9}, fault.Invalid, "no such rotation")
		w.refused(route.Write, "keys/demo/rollback", map[string]any{"version": 77}, fault.Invalid,
			"version 77 is not among the versions")
		w.refused(route.Write, "keys/demo/rollback", map[string]any{"version": 1, "to": 1}, fault.Invalid,
			"give only one of them")
		w.refused(route.Write, "keys/demo/rollback", map[string]any{"to": 2}, fault.Conflict, "read that key already")
		out := w.must(route.Write, "keys/demo/rollback", map[string]any{"version": 1})
		if s := w.status(); w.value() != foreign || !contains(s["alert"].(string), "no rotation has published") ||
			len(out["warnings"].([]string)) != 1 {
			t.Errorf("back to what was there first: %v, %v", s, out)
		}
		w.must(route.Write, "keys/demo/rollback", map[string]any{"to": 2})
		if s := w.status(); w.value() != current || s["alert"] != "" || s["state"] != "scheduled" {
			t.Errorf("back to the current key: %v", s)
		}
		w.must(route.Write, "keys/demo/rotate", nil)
		w.until(rotate.Grace)
		w.refused(route.Write, "keys/demo/rollback", map[string]any{"version": 1}, fault.Conflict,
			"can only be rolled back to the key")
		w.must(route.Write, "keys/demo/rollback", map[string]any{"to": 2})
		w.until(rotate.Scheduled)
		if s := w.status(); w.value() != current || s["current_key_id"] != w.idOf(current) {
			t.Errorf("out of a rotation in flight: %v", s)
		}
		w.wantLive(w.idOf(foreign), w.idOf(current))
	})
}

// TestRollbackToWhatWasAskedFor: a rotation that is rolled back to a version publishes that one,
// and not what somebody had written over it before the rotation published.
func TestRollbackToWhatWasAskedFor(t *testing.T) {
	bubble(t, func(w *world) {
		w.rotatedOnce()
		first := w.value()
		if _, err := w.writeByHand(
			handWrite{fields: map[string]string{"api_key": "no-such-key-0815"}, force: true}); err != nil {
			t.Fatal(err)
		}
		w.must(route.Write, "keys/demo/rotate", nil)
		w.until(rotate.Grace)
		w.must(route.Write, "keys/demo/rollback", map[string]any{"to": 1})
		w.until(rotate.Scheduled)
		if s := w.status(); w.value() != first || s["alert"] != "" {
			t.Errorf("consumers read %q: %v", w.value(), s)
		}
		w.wantLive(w.idOf(first))
	})
}

// TestRollbackAfterDelete: what consumers read was deleted, and is published again; while the
// provider is away nothing is.
func TestRollbackAfterDelete(t *testing.T) {
	bubble(t, func(w *world) {
		w.rotatedOnce()
		current := w.value()
		if _, err := w.writeByHand(handWrite{}); err != nil {
			t.Fatal(err)
		}
		w.vendor.Inject(rotationtest.VendorFault{Call: "use", Mode: "before"})
		w.refused(route.Write, "keys/demo/rollback", nil, fault.Unavailable, "could not be checked")
		w.must(route.Write, "keys/demo/rollback", nil)
		if s := w.status(); w.value() != current || w.kv.read("secret/demo", time.Now()).deleted || s["alert"] != "" ||
			s["state"] != "scheduled" {
			t.Errorf("the key is %v", s)
		}
		w.refused(route.Write, "keys/demo/rollback", nil, fault.Conflict, "rotate instead")
	})
}

// TestRollbackToSurvivesAKill: a process dies between publishing and recording it; the next
// one continues.
func TestRollbackToSurvivesAKill(t *testing.T) {
	bubble(t, func(w *world) {
		w.rotatedOnce()
		current := w.value()
		if _, err := w.writeByHand(handWrite{}); err != nil {
			t.Fatal(err)
		}
		died := false
		w.hook = func(what string, before bool) error {
			if died = died || what == "publish" && !before; died {
				w.Kill()
				return errDied
			}
			return nil
		}
		_, _ = w.do(route.Write, "keys/demo/rollback", nil)
		w.hook = nil
		w.Reopen(w)
		w.after(time.Hour)
		if s := w.status(); w.value() != current || s["alert"] != "" {
			t.Errorf("the key is %v", s)
		}
	})
}

// TestOrphanThatConsumersRead: a key that is not current on record any more, because the
// configuration points elsewhere, is not an orphan as long as consumers read it.
func TestOrphanThatConsumersRead(t *testing.T) {
	workshop(t, func(w *world) {
		w.must(route.Write, "keys/demo",
			basic(map[string]any{"recipe": "house", "params": map[string]string{"url": "https://a"}}))
		w.until(rotate.Grace)
		w.until(rotate.Scheduled)
		was := w.idOf(w.value())
		w.must(route.Patch, "keys/demo", map[string]any{"params": map[string]string{"account": "other"},
			"admin": map[string]string{"token": adminToken}})
		w.refused(route.Write, "keys/demo/orphans", map[string]any{"confirm": was}, fault.Conflict,
			"consumers read it now")
		w.wantLive(was)
		w.must(route.Write, "keys/demo/rotate", nil)
		w.until(rotate.Scheduled)
		w.must(route.Write, "keys/demo/orphans", map[string]any{"confirm": was})
		w.wantLive(w.idOf(w.value()))
	})
}

// orphan rotates the key and creates another one at the vendor with the label of its credential.
func (w *world) orphan() (id, secret string) {
	w.Helper()
	w.rotatedOnce()
	all, err := w.vendor.List(w.Context(), adminToken)
	if err != nil {
		w.Fatal(err)
	}
	made, err := w.vendor.Create(w.Context(), adminToken, all[0].Label)
	if err != nil {
		w.Fatal(err)
	}
	nap(10 * time.Second)
	return made.ID, made.Secret
}

// TestOrphanIsAdoptedMeanwhile: another key of the mount adopts an orphan, on another server,
// between the look at the records and the call that would retire the orphan.
func TestOrphanIsAdoptedMeanwhile(t *testing.T) {
	bubble(t, func(w *world) {
		id, value := w.orphan()
		other := w.another()
		adopt := basic(map[string]any{"path": "secret/second", "current_key_id": id, "skip_import": true})
		w.kv.asked = func() { other.Must(t, route.Write, "keys/second", adopt) }
		w.refused(route.Write, "keys/demo/orphans", map[string]any{"confirm": id}, fault.Conflict, "")
		w.refused(route.Write, "keys/demo/orphans", map[string]any{"confirm": id}, fault.Invalid, "is not an orphan")
		if _, err := w.vendor.Use(w.Context(), value); err != nil {
			t.Error(err)
		}
	})
}

// TestOrphanIsAdoptedDuringCall: another key of the mount, on another server, adopts an orphan
// while the call that retires it is under way.
func TestOrphanIsAdoptedDuringCall(t *testing.T) {
	bubble(t, func(w *world) {
		id, _ := w.orphan()
		other, asked := w.another(), false
		adopt := basic(map[string]any{"path": "secret/second", "current_key_id": id, "skip_import": true})
		w.hook = func(what string, before bool) error {
			if what == "retire" && before {
				w.hook, asked = nil, true
				other.Refused(t, route.Write, "keys/second", adopt, fault.Conflict, "is being retired as an orphan")
			}
			return nil
		}
		w.must(route.Write, "keys/demo/orphans", map[string]any{"confirm": id})
		if !asked {
			t.Error("the orphan was not retired")
		}
	})
}

// TestOrphans: a key with our label that no record knows is listed, and exactly the one that is
// confirmed is retired, while the record's own keys, somebody else's, and those of lost calls are
// left alone.
func TestOrphans(t *testing.T) {
	bubble(t, func(w *world) {
		w.rotatedOnce()
		current := w.idOf(w.value())
		all, err := w.vendor.List(w.Context(), adminToken)
		if err != nil {
			t.Fatal(err)
		}
		var label string
		for _, k := range all {
			if k.ID == current {
				label = k.Label
			}
		}
		one, err := w.vendor.Create(w.Context(), adminToken, label) // as a provider's copy, or a call of long ago
		if err != nil {
			t.Fatal(err)
		}
		m, _ := rotate.ParseMarker(label)
		m.Key = "gone.0a0b0c0d"
		two, err := w.vendor.Create(w.Context(), adminToken, m.String())
		if err != nil {
			t.Fatal(err)
		}
		other := w.idOf(w.foreignKey())
		nap(10 * time.Second)
		list := w.must(route.Read, "keys/demo/orphans", nil)["orphans"].([]any)
		if len(list) != 2 {
			t.Fatalf("orphans are %v", list)
		}
		for _, o := range list {
			o := o.(map[string]any)
			if keep, _ := o["keep"].(string); o["key_id"] == two.ID &&
				!contains(keep, "it was created for a key that was deleted") || o["key_id"] == one.ID && keep != "" {
				t.Errorf("orphan %v", o)
			}
		}
		w.refused(route.Write, "keys/demo/orphans", nil, fault.Invalid, `field "confirm" is required`)
		for _, id := range []string{current, other, "none"} {
			w.refused(route.Write, "keys/demo/orphans", map[string]any{"confirm": id}, fault.Invalid,
				"is not an orphan")
		}
		w.refused(route.Write, "keys/demo/orphans", map[string]any{"confirm": two.ID}, fault.Conflict,
			"is not retired by request")
		w.must(route.Write, "keys/demo/orphans", map[string]any{"confirm": one.ID})
		w.wantLive(current, two.ID, other)
		if s := w.status(); s["state"] != "scheduled" || s["alert"] != "" {
			t.Errorf("the key is %v", s)
		}
		w.must(route.Write, "keys/demo/rotate", nil)
		w.until(rotate.Grace)
		// the previous one
		w.refused(route.Write, "keys/demo/orphans", map[string]any{"confirm": current}, fault.Invalid,
			"is not an orphan")
	})
	bubble(t, func(w *world) { // a lost call
		w.rotatedOnce()
		w.vendor.Inject(rotationtest.VendorFault{Call: "create", Mode: "after"})
		w.must(route.Write, "keys/demo/rotate", nil)
		var list []any
		w.run(time.Now().Add(20*time.Minute), func() bool {
			list = w.must(route.Read, "keys/demo/orphans", nil)["orphans"].([]any)
			return len(list) > 0
		})
		if len(list) != 1 {
			t.Fatalf("orphans are %v", list)
		}
		for _, o := range list {
			o := o.(map[string]any)
			if o["keep"] != nil {
				t.Errorf("orphan %v", o)
			}
			w.must(route.Write, "keys/demo/orphans", map[string]any{"confirm": o["key_id"]})
			if h := w.must(route.Read, "keys/demo/history",
				nil)["rotations"].([]any)[0].(map[string]any)["attempts"].([]any); !contains(h[0].(string),
				"unknown: it left "+o["key_id"].(string)+", which is retired") {
				t.Errorf("the attempts are %v", h)
			}
		}
	})
}
