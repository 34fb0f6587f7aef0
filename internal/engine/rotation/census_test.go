package rotation_test

import (
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/route"
)

// The states that metrics show are those that are stored: as keys move, after a restart, and when
// a key is deleted.
func TestStates(t *testing.T) {
	bubble(t, func(w *world) {
		want := func(when string, states map[rotate.State]int64) {
			t.Helper()
			synctest.Wait()
			if got := w.rotations().Tally(t.Context(), 10).States; !maps.Equal(got, states) {
				t.Errorf("%s: %v, want %v", when, got, states)
			}
		}
		want("without keys", map[rotate.State]int64{})
		w.must(route.Write, "keys/demo", basic(nil))
		w.must(route.Write, "keys/later", basic(map[string]any{"path": "secret/later", "skip_import_rotation": true}))
		want("new keys", map[rotate.State]int64{"scheduled": 2})
		w.until(rotate.Grace)
		want("in a rotation", map[rotate.State]int64{"scheduled": 1, "grace": 1})
		w.Reopen(w)
		want("after a restart", map[rotate.State]int64{"scheduled": 1, "grace": 1})
		w.until(rotate.Scheduled)
		w.after(time.Hour)
		want("after the rotation", map[rotate.State]int64{"scheduled": 2})
		w.must(route.Delete, "keys/later", nil)
		want("without one", map[rotate.State]int64{"scheduled": 1})
		w.Reopen(w)
		want("after another restart", map[rotate.State]int64{"scheduled": 1})
	})
}
