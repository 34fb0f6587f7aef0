package rotation_test

import (
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/route"
)

// readable checks that the key that consumers read works.
func (w *world) readable() {
	w.Helper()
	if value := w.value(); value != "" {
		if _, err := w.vendor.Use(w.Context(), value); err != nil {
			w.Errorf("consumers read the key %q, which is dead: %v", w.idOf(value), err)
		}
	}
}

// TestHandWriteJudgedBeforePublication: a client's write of the key that is current is judged, by
// another server, between the publication of the next one and the commit that records it; that
// server is suspended until the key is retired. The write is judged again.
func TestHandWriteJudgedBeforePublication(t *testing.T) {
	bubble(t, func(w *world) {
		w.rotatedOnce()
		old, other := w.value(), w.another()
		judged, resume, answered := make(chan struct{}), make(chan struct{}), make(chan error)
		w.must(route.Write, "keys/demo/rotate", map[string]any{"leaked": true})
		w.hook = func(what string, before bool) error {
			if what != "publish" || before {
				return nil
			}
			w.hook = nil
			go func() {
				_, err := w.writeByHand(handWrite{fields: map[string]string{"api_key": old}, judge: other.Engine,
					judged: func() { close(judged); <-resume }})
				answered <- err
			}()
			<-judged
			return nil
		}
		w.until(rotate.Grace)
		w.until(rotate.Scheduled)
		close(resume)
		if err := <-answered; !fault.Is(err, fault.Invalid) {
			t.Errorf("the write was answered %v", err)
		}
		w.readable()
	})
}

// TestPublicationBySuspendedServer: a server that is suspended just before it publishes publishes
// nothing any more once another one has rolled the rotation back, and retired its key.
func TestPublicationBySuspendedServer(t *testing.T) {
	bubble(t, func(w *world) {
		w.rotatedOnce()
		old, other := w.value(), w.another()
		w.must(route.Write, "keys/demo/rotate", nil)
		w.hook = func(what string, before bool) error {
			if what != "publish" || !before {
				return nil
			}
			w.hook = nil
			other.Must(t, route.Write, "keys/demo/rollback", nil)
			other.Drive(t, time.Now().Add(7*24*time.Hour), func() bool { return w.status()["state"] == "scheduled" })
			return nil
		}
		w.run(time.Now().Add(24*time.Hour), func() bool { return w.status()["state"] == "scheduled" })
		if w.value() != old {
			t.Errorf("consumers read the key %q, want %q", w.idOf(w.value()), w.idOf(old))
		}
		w.readable()
		w.wantLive(w.idOf(old))
	})
}

// TestForcedWriteOfLeakedKeyThatIsRetired: a caller who may only write the path cannot publish a
// leaked key, whatever its rotation does.
func TestForcedWriteOfLeakedKeyThatIsRetired(t *testing.T) {
	bubble(t, func(w *world) {
		old, fresh := w.inGrace(nil)
		force := handWrite{fields: map[string]string{"api_key": old}, force: true, judge: w.another().Engine}
		during := 0
		w.hook = func(what string, before bool) error {
			if what != "disable" && what != "retire" {
				return nil
			}
			if during++; before {
				if _, err := w.writeByHand(force); !fault.Is(err, fault.Invalid) {
					t.Errorf("a forced write of the leaked key during its retirement: %v", err)
				}
			}
			return errDied // the provider is away
		}
		w.must(route.Write, "keys/demo/rotate", map[string]any{"leaked": true, "key_id": w.idOf(old)})
		w.run(time.Now().Add(10*time.Minute),
			func() bool { return w.status()["state"] == "retiring" && w.status()["attempts"].(float64) > 0 })
		if _, err := w.writeByHand(force); !fault.Is(err, fault.Invalid) {
			t.Errorf("a forced write of the leaked key: %v", err)
		}
		if w.value() != fresh || during == 0 {
			t.Errorf("consumers read the key %q after %d calls to retire one", w.idOf(w.value()), during)
		}
	})
}

// TestLookAtValueWithAnotherLabel is one look each day, although what consumers read beside the
// secret is not what was published.
func TestLookAtValueWithAnotherLabel(t *testing.T) {
	bubble(t, func(w *world) {
		w.rotatedOnce()
		if _, err := w.writeByHand(
			handWrite{fields: map[string]string{"api_key": w.value(), "label": "mine"}}); err != nil {
			t.Fatal(err)
		}
		n := 0
		w.hook = func(what string, before bool) error {
			if what == "verify" && before {
				n++
			}
			return nil
		}
		w.after(72 * time.Hour)
		s := w.status()
		if n > 4 || s["alert"] != "" {
			t.Errorf("%d calls in three days, and the alert is %q", n, s["alert"])
		}
	})
}

// TestReturnRacesWithOrphans: a key that is about to be published again is not published once
// another server has retired it as an orphan, on request.
func TestReturnRacesWithOrphans(t *testing.T) {
	workshop(t, func(w *world) {
		w.must(route.Write, "recipes/mine", map[string]any{"source": "mine:1"})
		w.must(route.Write, "keys/demo", basic(map[string]any{"recipe": "mine"}))
		w.until(rotate.Grace)
		w.until(rotate.Scheduled)
		first := w.idOf(w.value())
		w.must(route.Patch, "keys/demo",
			map[string]any{"recipe": "house", "admin": map[string]string{"token": adminToken}}) // it is disowned
		w.rotated()
		second := w.value()
		other := w.another()
		orphaned := false
		w.hook = func(what string, before bool) error {
			if what != "publish" || !before {
				return nil
			}
			w.hook = nil
			other.Must(t, route.Write, "keys/demo/orphans", map[string]any{"confirm": first})
			nap(time.Minute)
			orphaned = true
			return nil
		}
		if _, err := w.do(route.Write, "keys/demo/rollback", map[string]any{"version": 1}); err == nil || !orphaned {
			t.Errorf("the key came back: %v; an orphan was retired: %v", err, orphaned)
		}
		w.readable()
		if w.value() != second {
			t.Errorf("consumers read the key %q", w.idOf(w.value()))
		}
	})
}
