package rotation_test

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/engine/rotation/rotationtest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
)

// A handWrite is a client's write of the path, with hooks between its parts.
type handWrite struct {
	fields map[string]string // nil: the secret is deleted
	force  bool
	judge  engine.Engine // of another server; nil: the world's
	judged func()        // after the judgement, before the commit; once
	remedy string

	unauthorized bool // by a caller who may not read the key
}

// writeByHand makes a client's write as a versioned kv mount does: the version that was judged is
// the one that is replaced.
func (w *world) writeByHand(h handWrite) (warnings []string, err error) {
	w.Helper()
	eng := h.judge
	if eng == nil {
		eng = w.Engine
	}
	for range 8 {
		warnings = nil
		now := w.kv.read("secret/demo", time.Now())
		was := now.fields
		if now.deleted {
			was = nil
		}
		o := engine.Overwrite{
			Path: "secret/demo", Version: now.version + 1, Fields: map[string]secret.Value{}, Empties: h.fields == nil,
			By: "bob", Force: h.force, Shown: !h.unauthorized, Remedy: h.remedy,
			Warn: func(f string, args ...any) { warnings = append(warnings, fmt.Sprintf(f, args...)) },
		}
		for _, field := range []string{"api_key", "label", "key_id"} {
			if was[field] != h.fields[field] {
				o.Changed = append(o.Changed, field)
			}
		}
		for field, text := range h.fields {
			o.Fields[field] = secret.Text(text)
		}
		commit := func(along []storage.Op) error {
			if f := h.judged; f != nil {
				h.judged = nil
				f()
			}
			return w.kv.commit(now.version, h.fields, func() error {
				if len(along) == 0 {
					return nil
				}
				_, err := w.View.CommitWith(w.Context(), nil, along)
				return err
			})
		}
		if len(o.Changed) == 0 {
			err = commit(nil)
		} else {
			err = eng.(engine.Publisher).Overwritten(w.Context(), "k/demo", o, commit)
		}
		if !fault.Is(err, fault.Conflict) {
			return warnings, err
		}
	}
	return warnings, err
}

// commit writes a path that is still at a version, with what is committed along.
func (k *fakeKV) commit(version int, fields map[string]string, along func() error) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	at := k.paths["secret/demo"]
	if at.version != version {
		return fault.Wrap("kv", fault.Conflict, storage.ErrConflict)
	}
	if err := along(); err != nil {
		return err
	}
	if fields == nil {
		at.deleted = true
		return nil
	}
	at.version++
	at.fields, at.rotation = maps.Clone(fields), ""
	at.keep()
	return nil
}

// put writes the key by hand, which must succeed.
func (w *world) put(value string) string {
	w.Helper()
	warnings, err := w.writeByHand(handWrite{fields: map[string]string{"api_key": value}})
	if err != nil {
		w.Fatalf("writing by hand: %s", fault.Message(err))
	}
	return strings.Join(warnings, "; ")
}

// denied makes a write that must be refused with this text and must change nothing.
func (w *world) denied(h handWrite, want string) {
	w.Helper()
	before, version := w.status(), w.kv.read("secret/demo", time.Now()).version
	_, err := w.writeByHand(h)
	if !fault.Is(err, fault.Invalid) || !contains(fault.Message(err), want) {
		w.Errorf("the write was answered %v %q, want it refused with %q", fault.KindOf(err), fault.Message(err), want)
	}
	if v := h.fields["api_key"]; v != "" && err != nil && contains(fault.Message(err)+err.Error(), v) {
		w.Errorf("the error shows the secret: %q", err)
	}
	after := w.status()
	if v := w.kv.read("secret/demo", time.Now()).version; v != version || before["alert"] != after["alert"] ||
		before["current_key_id"] != after["current_key_id"] {
		w.Errorf("a refused write has changed something: version %d → %d, %v → %v", version, v, before, after)
	}
}

// foreignKey returns a key that somebody created at the provider.
func (w *world) foreignKey() string {
	w.Helper()
	k, err := w.vendor.Create(context.Background(), adminToken, "made by hand")
	if err != nil {
		w.Fatal(err)
	}
	nap(10 * time.Second)
	return k.Secret
}

// TestHandWriteOfValidKey: the old key, written while it is in its grace, is current at once;
// the new one is retired after its own grace. The answer, the journal, an event and the log say
// so, and who did it.
func TestHandWriteOfValidKey(t *testing.T) {
	bubble(t, func(w *world) {
		old, fresh := w.inGrace(nil)
		w.after(time.Hour)
		said := w.put(old)
		if !contains(said,
			"the key of rotation 1 ("+w.idOf(old)+") is current again; the key of rotation 2 ("+w.idOf(fresh)+
				") will be retired at ") {
			t.Errorf("the answer says %q", said)
		}
		s := w.status()
		if s["current_key_id"] != w.idOf(old) || s["previous_key_id"] != w.idOf(fresh) || s["state"] != "grace" ||
			s["alert"] != "" {
			t.Errorf("at once: %v", s)
		}
		h := w.must(route.Read, "keys/demo/history", map[string]any{"steps": true})
		steps := fmt.Sprint(h["steps"])
		if !contains(steps, "what:written") || !contains(steps, "by:bob") {
			t.Errorf("the journal says %s", steps)
		}
		if events := strings.Join(w.Events(), "\n"); !contains(events, "rotation/written ") ||
			!contains(events, `"by":"bob"`) {
			t.Errorf("the events are %s", events)
		}
		if !contains(w.logged.String(), "what=written by=bob") {
			t.Errorf("the log says %s", w.logged.String())
		}
		// and there again
		if said := w.put(fresh); !contains(said, "rotation 2 ("+w.idOf(fresh)+") is current again") {
			t.Errorf("the answer says %q", said)
		}
		if said := w.put(old); !contains(said, "rotation 1 ("+w.idOf(old)+") is current again") {
			t.Errorf("the answer says %q", said)
		}
		w.until(rotate.Scheduled)
		w.wantLive(w.idOf(old))
		if w.value() != old {
			t.Errorf("consumers read %q", w.value())
		}
	})
}

// TestHandWriteOfDeadKey: a value that does not work is refused, with its age and the remedy. With
// force, it is written, and there is an alert until consumers read a key that works again.
func TestHandWriteOfDeadKey(t *testing.T) {
	bubble(t, func(w *world) {
		first, _ := w.inGrace(nil)
		w.until(rotate.Scheduled)
		current := w.value()
		w.denied(handWrite{fields: map[string]string{"api_key": first}},
			"rotation/keys/demo refuses the write: the key of rotation 1 was retired on ")
		w.denied(handWrite{fields: map[string]string{"api_key": "no-such-key-0815"}},
			"the provider refuses the key that you wrote; write one that works, or rotate now")
		warnings, err := w.writeByHand(handWrite{fields: map[string]string{"api_key": first}, force: true})
		if err != nil || !contains(strings.Join(warnings, "; "),
			"it was written anyway: the key of rotation 1 was retired") || w.value() != first {
			t.Errorf("forced: %v, %q", err, warnings)
		}
		if s := w.status(); !contains(s["alert"].(string),
			"bob wrote a value to the published secret that is not a working key") ||
			s["current_key_id"] != w.idOf(current) {
			t.Errorf("forced: %v", s)
		}
		w.after(24 * time.Hour)
		if s := w.status(); s["alert"] == "" {
			t.Error("the alert does not stand")
		}
		w.put(current)
		if s := w.status(); s["alert"] != "" {
			t.Errorf("consumers read the current key, and %v", s["alert"])
		}
	})
}

// TestHandWriteOfSomebodysKey: a key that works, and that no rotation created, is written; it is
// an alert, and rotation never retires it.
func TestHandWriteOfSomebodysKey(t *testing.T) {
	bubble(t, func(w *world) {
		w.rotatedOnce()
		foreign := w.foreignKey()
		if said := w.put(foreign); !contains(said, "no rotation of key \"demo\" created it") {
			t.Errorf("the answer says %q", said)
		}
		if s := w.status(); !contains(s["alert"].(string), "written by bob") {
			t.Errorf("the key is %v", s)
		}
		w.rotated()
		if s := w.status(); s["alert"] != "" || w.value() == foreign {
			t.Errorf("after a rotation: %v", s)
		}
		w.wantLive(w.idOf(foreign), w.idOf(w.value()))
	})
}

// TestHandWriteWhileProviderHangs: if the vendor does not answer, the write is stored soon. It is
// judged later: there is an alert only if the key does not work.
func TestHandWriteWhileProviderHangs(t *testing.T) {
	bubble(t, func(w *world) {
		w.rotatedOnce()
		current := w.value()
		w.vendor.Inject(rotationtest.VendorFault{Call: "use", Mode: "hang", Times: 3})
		began := time.Now()
		said := w.put("no-such-key-0815")
		if took := time.Since(began); took > 5*time.Second || !contains(said, "could not be checked") ||
			contains(said, "no-such-key") {
			t.Errorf("after %v: %q", took, said)
		}
		if s := w.status(); w.value() == current || s["state"] != "scheduled" {
			t.Errorf("it was not written: %v", s)
		}
		w.after(time.Hour)
		if s := w.status(); !contains(s["alert"].(string), "the provider refuses") || s["rotation"] != 1.0 {
			t.Errorf("there is no alert: %v", s)
		}
		w.put(current)
		if s := w.status(); s["alert"] != "" {
			t.Errorf("the alert stands: %v", s)
		}
	})
	bubble(t, func(w *world) { // in a grace, the look before retiring decides
		old, _ := w.inGrace(nil)
		w.vendor.Inject(rotationtest.VendorFault{Call: "use", Mode: "hang"})
		w.put(old)
		w.until(rotate.Scheduled)
		if s := w.status(); s["current_key_id"] != w.idOf(old) || w.value() != old {
			t.Errorf("the key is %v", s)
		}
		w.wantLive(w.idOf(old))
	})
}

// TestHandWriteCostsNothing: a write that does not change the key's fields makes no call, and
// changes no record.
func TestHandWriteCostsNothing(t *testing.T) {
	bubble(t, func(w *world) {
		w.rotatedOnce()
		rows := len(w.must(route.Read, "keys/demo/history", map[string]any{"steps": true})["steps"].([]any))
		w.hook = func(what string, before bool) error {
			if what == "verify" {
				t.Error("the provider was asked")
			}
			return nil
		}
		w.put(w.value()) // the present value, without the label, which is no secret
		if _, err := w.writeByHand(
			handWrite{fields: map[string]string{"api_key": w.value(), "note": "mine"}}); err != nil {
			t.Error(err)
		}
		if now := len(
			w.must(route.Read, "keys/demo/history", map[string]any{"steps": true})["steps"].([]any)); now != rows {
			t.Errorf("the journal has %d rows, and had %d", now, rows)
		}
	})
}

// TestHandWriteWithoutTheKey: a write that leaves out the key's field would delete it by mistake,
// and is refused.
func TestHandWriteWithoutTheKey(t *testing.T) {
	bubble(t, func(w *world) {
		w.rotatedOnce()
		for _, fields := range []map[string]string{{}, {"note": "mine"}, {"api_key": ""}} {
			w.denied(handWrite{fields: fields},
				`it leaves out ["api_key"], which key "demo" publishes there; send the whole secret, or change other fields with "kv patch"`)
		}
		if _, err := w.writeByHand(handWrite{fields: map[string]string{"note": "mine"}, force: true}); err != nil ||
			w.value() != "" {
			t.Errorf("forced: %v", err)
		}
		if s := w.status(); s["alert"] == "" {
			t.Error("there is no alert")
		}
	})
}

// TestHandDelete: a deleted secret is an alert that names the remedy, which ends it.
func TestHandDelete(t *testing.T) {
	bubble(t, func(w *world) {
		w.rotatedOnce()
		current := w.value()
		warnings, err := w.writeByHand(handWrite{remedy: "kv undelete -versions=1 secret/demo"})
		if err != nil || len(warnings) != 1 ||
			!contains(warnings[0], "kv undelete -versions=1 secret/demo; or rotate now") {
			t.Errorf("the answer is %v, %q", err, warnings)
		}
		if s := w.status(); !contains(s["alert"].(string), "bob deleted it: kv undelete -versions=1 secret/demo") {
			t.Errorf("the key is %v", s)
		}
		w.put(current)
		if s := w.status(); s["alert"] != "" || s["state"] != "scheduled" {
			t.Errorf("the key is %v", s)
		}
	})
}

// TestHandWriteInEachState: in each state of a rotation, a value that does not work is refused,
// the current one is accepted, and the rotation ends with consumers reading the only valid key.
func TestHandWriteInEachState(t *testing.T) {
	for _, state := range []rotate.State{rotate.Creating, rotate.Settling, rotate.Verifying, rotate.Publishing,
		rotate.Grace, rotate.Retiring, rotate.RollingBack} {
		t.Run(string(state), func(t *testing.T) {
			bubble(t, func(w *world) {
				w.rotatedOnce()
				old := w.value()
				w.must(route.Write, "keys/demo/rotate", nil)
				if state == rotate.RollingBack {
					w.until(rotate.Grace)
					w.must(route.Write, "keys/demo/rollback", nil)
				}
				w.until(state)
				w.denied(handWrite{fields: map[string]string{"api_key": "no-such-key-0815"}}, "the provider refuses")
				w.put(w.value())
				if state == rotate.Retiring {
					w.denied(handWrite{fields: map[string]string{"api_key": old}}, "has been disabled since")
				}
				w.until(rotate.Scheduled)
				w.wantLive(w.idOf(w.value()))
				if s := w.status(); s["alert"] != "" || s["current_key_id"] != w.idOf(w.value()) {
					t.Errorf("the key is %v", s)
				}
			})
		})
	}
}

// TestHandWriteOfLeakedKey: a caller who may only write the path cannot publish a leaked key, even
// with force. A rollback can, and the key still counts as leaked.
func TestHandWriteOfLeakedKey(t *testing.T) {
	bubble(t, func(w *world) {
		w.rotatedOnce()
		old := w.value()
		w.hook = func(what string, before bool) error { // it cannot be retired yet
			if before && (what == "disable" || what == "retire") {
				return fault.New("hook", fault.Upstream, "not now")
			}
			return nil
		}
		w.must(route.Write, "keys/demo/rotate", nil)
		w.until(rotate.Grace)
		w.must(route.Write, "keys/demo/rotate", map[string]any{"leaked": true, "key_id": w.idOf(old)})
		for _, force := range []bool{false, true} {
			w.denied(handWrite{fields: map[string]string{"api_key": old}, force: force},
				"has leaked; rotate once rotation 2 has ended")
		}
		w.refused(route.Write, "keys/demo/rollback", nil, fault.Conflict, "is known to have leaked")
		w.must(route.Write, "keys/demo/rollback", map[string]any{"force": true})
		w.until(rotate.Grace)
		if s := w.status(); s["current_key_id"] != w.idOf(old) ||
			!contains(s["alert"].(string), "which has leaked, is published again by a forced rollback") {
			t.Errorf("the key is %v", s)
		}
		w.hook = nil
		w.until(rotate.Scheduled)
		w.must(route.Write, "keys/demo/rotate", nil) // nobody says again that it leaked
		w.until(rotate.Grace)
		w.denied(handWrite{fields: map[string]string{"api_key": old}, force: true},
			"has leaked; rotate once rotation 3 has ended")
		if s := w.status(); s["leaked"] != true || s["alert"] != "" ||
			s["retire_after"].(string) > time.Now().Add(time.Minute).Format(time.RFC3339) {
			t.Errorf("the next rotation: %v", s)
		}
	})
}

// TestHandWriteRacesWithPublish: whichever of the two is stored first, the other one sees it:
// consumers end up with the only valid key.
func TestHandWriteRacesWithPublish(t *testing.T) {
	bubble(t, func(w *world) { // the rotation publishes between the judgement and the commit, on another server
		w.rotatedOnce()
		old := w.value()
		w.must(route.Write, "keys/demo/rotate", nil)
		w.until(rotate.Publishing)
		other := w.another().Engine
		warnings, err := w.writeByHand(handWrite{fields: map[string]string{"api_key": old, "label": "x"}, judge: other,
			judged: func() { w.until(rotate.Grace) }})
		if err != nil || !contains(strings.Join(warnings, ";"), "is current again") {
			t.Errorf("the write: %v, %q", err, warnings)
		}
		if s := w.status(); s["current_key_id"] != w.idOf(old) || w.value() != old {
			t.Errorf("the key is %v", s)
		}
		w.until(rotate.Scheduled)
		w.wantLive(w.idOf(w.value()))
	})
	bubble(t, func(w *world) { // the client writes between the intent and the publication
		w.rotatedOnce()
		foreign := w.foreignKey()
		w.must(route.Write, "keys/demo/rotate", nil)
		w.until(rotate.Publishing)
		once := true
		w.hook = func(what string, before bool) error {
			if what == "publish" && before && once {
				once = false
				if _, err := w.writeByHand(
					handWrite{fields: map[string]string{"api_key": foreign}, judge: w.another().Engine}); err != nil {
					t.Errorf("the write: %v", err)
				}
			}
			return nil
		}
		w.until(rotate.Grace)
		w.until(rotate.Scheduled)
		if w.value() == foreign {
			t.Error("the rotation has not published")
		}
		w.wantLive(w.idOf(w.value()), w.idOf(foreign))
	})
}

// TestHandWriteRacesWithRetire: the old key is judged alive, and another server begins to retire
// it before the write is stored: it is judged again, and refused.
func TestHandWriteRacesWithRetire(t *testing.T) {
	bubble(t, func(w *world) {
		old, fresh := w.inGrace(nil)
		_, err := w.writeByHand(handWrite{fields: map[string]string{"api_key": old}, judge: w.another().Engine,
			judged: func() { w.until(rotate.Retiring) }})
		if !fault.Is(err, fault.Invalid) || !contains(fault.Message(err), "has been disabled since") {
			t.Errorf("the write: %v", err)
		}
		w.until(rotate.Scheduled)
		if w.value() != fresh {
			t.Errorf("consumers read %q", w.value())
		}
		w.wantLive(w.idOf(fresh))
	})
}

// TestHandWriteOnStaleServer: two servers judge writes at once: the later commit is judged again
// by what the earlier has changed.
func TestHandWriteOnStaleServer(t *testing.T) {
	bubble(t, func(w *world) {
		old, fresh := w.inGrace(nil)
		_, err := w.writeByHand(
			handWrite{fields: map[string]string{"api_key": old}, judge: w.another().Engine, judged: func() {
				w.must(route.Write, "keys/demo/rotate", map[string]any{"leaked": true, "key_id": w.idOf(old)})
			}})
		if !fault.Is(err, fault.Invalid) || !contains(fault.Message(err), "retired") &&
			!contains(fault.Message(err), "leaked") {
			t.Errorf("a key that leaked meanwhile: %v", err)
		}
		if w.value() != fresh {
			t.Errorf("consumers read %q", w.value())
		}
	})
}

// TestHandWriteWhileBusy: while a call of the rotation hangs, a client does not wait for it.
func TestHandWriteWhileBusy(t *testing.T) {
	bubble(t, func(w *world) {
		w.rotatedOnce()
		foreign := w.foreignKey()
		w.must(route.Write, "keys/demo/rotate", nil)
		w.vendor.Inject(rotationtest.VendorFault{Call: "create", Mode: "hang"})
		done := make(chan struct{})
		go func() {
			defer close(done)
			w.run(time.Now().Add(time.Minute), never)
		}()
		nap(time.Second)
		began := time.Now()
		said := w.put(foreign)
		if took := time.Since(began); took > 5*time.Second || !contains(said, "was not checked") {
			t.Errorf("after %v: %q", took, said)
		}
		<-done
		w.until(rotate.Grace)
		w.until(rotate.Scheduled)
		w.wantLive(w.idOf(foreign), w.idOf(w.value()))
	})
}

// TestHandWriteWhileRetiring: while the call that retires the old key hangs, nobody makes it what
// consumers read.
func TestHandWriteWhileRetiring(t *testing.T) {
	bubble(t, func(w *world) {
		old, fresh := w.inGrace(nil)
		w.vendor.Inject(rotationtest.VendorFault{Call: "disable", Mode: "hang"})
		done := make(chan struct{})
		go func() {
			defer close(done)
			w.run(time.Now().Add(48*time.Hour+time.Minute), never)
		}()
		nap(48*time.Hour + time.Second)
		_, err := w.writeByHand(handWrite{fields: map[string]string{"api_key": old}})
		if !fault.Is(err, fault.Unavailable) || !contains(fault.Message(err), "is retiring a key at this moment") {
			t.Errorf("the write: %v", err)
		}
		<-done
		w.until(rotate.Scheduled)
		if w.value() != fresh {
			t.Errorf("consumers read %q", w.value())
		}
		w.wantLive(w.idOf(fresh))
	})
}

// TestHandWriteOfDeletedKey: a deleted record does not affect a write.
func TestHandWriteOfDeletedKey(t *testing.T) {
	bubble(t, func(w *world) {
		w.rotatedOnce()
		w.must(route.Delete, "keys/demo", nil)
		if said := w.put("anything"); said != "" {
			t.Errorf("the answer says %q", said)
		}
	})
}

// TestHandWriteWhileCreatingElsewhere: while another server is in the creating call, a write
// changes no record: the commit that keeps the new key is not lost.
func TestHandWriteWhileCreatingElsewhere(t *testing.T) {
	bubble(t, func(w *world) {
		w.rotatedOnce()
		other := w.another().Engine
		w.must(route.Write, "keys/demo/rotate", nil)
		w.hook = func(what string, before bool) error {
			if what != "create" || before {
				return nil
			}
			w.hook = nil
			warnings, err := w.writeByHand(
				handWrite{fields: map[string]string{"api_key": "no-such-key-0815"}, force: true, judge: other})
			if said := strings.Join(warnings, ";"); err != nil || !contains(said, "was not checked") {
				t.Errorf("the write: %v, %q", err, said)
			}
			return nil
		}
		w.until(rotate.Grace)
		w.until(rotate.Scheduled)
		if n := len(w.vendor.Issued()); n != 2 {
			t.Errorf("the provider has issued %d keys, want 2", n)
		}
		w.wantLive(w.idOf(w.value()))
	})
}

// TestHandWriteUnjudgedRacesWithRetire: a write that is stored unjudged is not stored
// once another server has begun to retire the key that it writes.
func TestHandWriteUnjudgedRacesWithRetire(t *testing.T) {
	bubble(t, func(w *world) {
		w.rotatedOnce()
		old, other := w.value(), w.another().Engine
		w.must(route.Write, "keys/demo/rotate", nil)
		w.until(rotate.Grace)
		fresh := w.value()
		var verified atomic.Bool
		w.hook = func(what string, before bool) error {
			if what == "verify" && before && !verified.Swap(true) { // only the first call hangs
				nap(72 * time.Hour)
			}
			return nil
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = w.writeByHand(handWrite{fields: map[string]string{"api_key": old}, judge: other})
		}()
		nap(time.Second)
		_, err := w.writeByHand(handWrite{fields: map[string]string{"api_key": old}, judge: other,
			judged: func() { w.until(rotate.Retiring) }})
		if !fault.Is(err, fault.Unavailable) || w.value() != fresh {
			t.Errorf("the write: %v, and consumers read %q", err, w.value())
		}
		<-done
		w.until(rotate.Scheduled)
		w.wantLive(w.idOf(fresh))
	})
}

// TestHandWriteOfRestAfterDelete: once the secret is deleted, a write of the key's public parts
// alone is refused, and the alert about the deletion stays.
func TestHandWriteOfRestAfterDelete(t *testing.T) {
	bubble(t, func(w *world) {
		w.rotatedOnce()
		label := w.kv.read("secret/demo", time.Now()).fields["label"]
		if label == "" {
			t.Fatal("the key publishes no label")
		}
		if _, err := w.writeByHand(handWrite{}); err != nil {
			t.Fatal(err)
		}
		rest := map[string]string{"label": label}
		w.denied(handWrite{fields: rest}, `it leaves out ["api_key"]`)
		if _, err := w.writeByHand(handWrite{fields: rest, force: true}); err != nil {
			t.Error(err)
		}
		if s := w.status(); s["alert"] == "" {
			t.Error("there is no alert")
		}
	})
}

// TestHandWriteThatCannotBeTried: a value that can never be tried leads to an alert.
func TestHandWriteThatCannotBeTried(t *testing.T) {
	bubble(t, func(w *world) {
		w.rotatedOnce()
		current := w.value()
		w.hook = func(what string, before bool) error {
			if what == "verify" && before {
				return &rotate.Failure{Outcome: rotate.Permanent,
					Err: fault.New("hook", fault.Invalid, "no header can hold it")}
			}
			return nil
		}
		w.put("key\n")
		w.after(time.Hour)
		if s := w.status(); !contains(s["alert"].(string),
			"could not be tested in several attempts: no header can hold it") {
			t.Errorf("the key is %v", s)
		}
		w.hook = nil
		w.put(current)
		if s := w.status(); s["alert"] != "" {
			t.Errorf("the key is %v", s)
		}
	})
}

// TestHandWriteNotTriedAfterRetiring: nobody looks at what consumers read between the retirement
// and the end of a rotation. A value that could not be tried meanwhile is looked at then.
func TestHandWriteNotTriedAfterRetiring(t *testing.T) {
	bubble(t, func(w *world) {
		w.inGrace(nil)
		retired := false
		w.hook = func(what string, before bool) error {
			if retired = retired || what == "retire" && !before; retired && what == "list" && before {
				return fault.New("hook", fault.Upstream, "not now")
			}
			return nil
		}
		w.until(rotate.Retiring)
		w.run(time.Now().Add(7*24*time.Hour), func() bool { return retired })
		w.vendor.Inject(rotationtest.VendorFault{Call: "use", Mode: "hang"})
		if said := w.put("no-such-key-0815"); !contains(said, "could not be checked") {
			t.Errorf("the answer says %q", said)
		}
		w.hook = nil
		w.until(rotate.Scheduled)
		w.after(time.Hour)
		if s := w.status(); !contains(s["alert"].(string), "the provider refuses") {
			t.Errorf("there is no alert: %v", s)
		}
	})
}

// TestHandWriteWhileJudging: while another write is judged, a write is stored unjudged. No
// rotation is in flight that would find it: it is looked at.
func TestHandWriteWhileJudging(t *testing.T) {
	bubble(t, func(w *world) {
		w.rotatedOnce()
		w.vendor.Inject(rotationtest.VendorFault{Call: "use", Mode: "hang", Times: 3})
		w.kv.write("secret/demo", map[string]string{"api_key": "somebody's"})
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = w.do(route.Write, "keys/demo/rollback", map[string]any{"version": 1})
		}()
		nap(time.Second)
		if said := w.put("no-such-key-0815"); !contains(said, "was not checked") {
			t.Errorf("the answer says %q", said)
		}
		<-done
		w.after(time.Hour)
		if s := w.status(); !contains(s["alert"].(string), "the provider refuses") {
			t.Errorf("there is no alert: %v", s)
		}
	})
}

// TestHandWriteCoversNoAlert: an alert that waits for a person is shown again once the alert about
// the place has ended.
func TestHandWriteCoversNoAlert(t *testing.T) {
	bubble(t, func(w *world) {
		w.rotatedOnce()
		current := w.value()
		w.hook = func(what string, before bool) error {
			if what == "create" && before {
				return &rotate.Failure{Outcome: rotate.Permanent,
					Err: fault.New("hook", fault.Upstream, "the account is closed")}
			}
			return nil
		}
		w.must(route.Write, "keys/demo/rotate", nil)
		w.until(rotate.RollingBack)
		w.until(rotate.Scheduled)
		if s := w.status(); !contains(s["alert"].(string), "the account is closed") {
			t.Fatalf("the key is %v", s)
		}
		for _, value := range []string{"no-such-key-0815", "no-such-key-0816"} {
			if _, err := w.writeByHand(
				handWrite{fields: map[string]string{"api_key": value}, force: true}); err != nil {
				t.Error(err)
			}
		}
		w.put(current)
		if s := w.status(); !contains(s["alert"].(string), "the account is closed") {
			t.Errorf("the alert is gone: %v", s)
		}
	})
}

// TestHandWritesAreTrimmed: a client that writes again and again, while nothing rotates, does not
// fill the store.
func TestHandWritesAreTrimmed(t *testing.T) {
	bubble(t, func(w *world) {
		w.rotatedOnce()
		for range 2100 {
			if _, err := w.writeByHand(handWrite{}); err != nil {
				t.Fatal(err)
			}
			w.kv.write("secret/demo", map[string]string{"api_key": "x"})
		}
		if n := len(
			w.must(route.Read, "keys/demo/history", map[string]any{"steps": true})["steps"].([]any)); n < 1000 ||
			n > 2020 {
			t.Errorf("the journal has %d rows", n)
		}
	})
}
