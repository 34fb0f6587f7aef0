package rotation_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/engine/enginetest"
	"github.com/keyturn/keyturn/internal/engine/rotation/rotationtest"
	"github.com/keyturn/keyturn/internal/rotate/rotatetest"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage"
)

// TestLessons: what has hurt users of other servers; docs/lessons.md is the whole list.
func TestLessons(t *testing.T) {
	rotatetest.Lessons(t, map[string]rotatetest.Opener{"key": keyThing})
}

// keyThing is a key whose consumers read the path that it is published to.
func keyThing(t *testing.T, store storage.Store) *rotatetest.LessonSubject {
	w := open(t, rotationtest.VendorConfig{ActiveAfter: 3 * time.Second, DeadAfter: 5 * time.Second},
		enginetest.Config{Store: store})
	live := rotationtest.LiveIDs(w.vendor)
	return &rotatetest.LessonSubject{
		Server: w, Kind: "key", Noun: `of key "demo" is in flight`,
		Mount: func() rotatetest.Mount { return w.Engine.(rotatetest.Mount) },
		Configure: func() error {
			return w.Write("keys/demo",
				basic(map[string]any{"rotation_period": "24h", "grace_period": "2h", "idle_period": "30m",
					"skip_import_rotation": true}))
		},
		Change:      func(when map[string]any) { w.must(route.Patch, "keys/demo", when) },
		Unscheduled: true, Always: true, // neither is built yet
		Rotate: w.replaced, Longest: 24 * time.Hour,
		Issued: func() string {
			id := w.idOf(w.value())
			if !slices.Contains(live(), id) {
				t.Errorf("consumers read the key %q, which does not work", id)
			}
			return id + " " + w.value()
		},
		Works: func(given string) bool {
			id, _, _ := strings.Cut(given, " ")
			return slices.Contains(live(), id)
		},
		Made: func() int { return w.vendor.Stats().Calls["create"] },
		Live: live, Faults: w.faults(), Heal: w.vendor.Heal,
	}
}

// replaced asks for a rotation, and waits in a bubble until consumers read another key.
func (w *world) replaced() error {
	was := w.value()
	if err := w.Write("keys/demo/rotate", nil); err != nil {
		return err
	}
	for range 10 * 60 {
		if nap(time.Second); w.value() != was {
			return nil
		}
	}
	return errors.New("in ten minutes consumers read no other key")
}

// faults are those of the vendor's calls.
func (w *world) faults() map[string]func() {
	fails := func(call rotationtest.VendorCall, mode string, times int) func() {
		return func() {
			rotationtest.Inject(w.vendor, rotationtest.VendorFault{Call: call, Times: times, Delay: 5 * time.Minute},
				mode)
		}
	}
	all := map[string]func(){"away": fails("create", "busy", -1), "lost": fails("create", "after", 1)}
	for _, call := range []rotationtest.VendorCall{"create", "use", "list", "get", "disable", "delete"} {
		for _, mode := range []string{"busy", "before", "after", "hang", "late"} {
			all[string(call)+" "+mode] = fails(call, mode, 8)
		}
	}
	return all
}
