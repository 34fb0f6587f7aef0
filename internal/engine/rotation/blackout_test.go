package rotation_test

import (
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/route"
)

// TestBlackout: no scheduled rotation begins on a black-out date of the key; a requested one does,
// with a warning, and a leaked key does not wait.
func TestBlackout(t *testing.T) {
	bubble(t, func(w *world) {
		w.must(route.Write, "keys/demo", nightly(map[string]any{
			"skip_import_rotation": true, "blackout": []string{"2000-01-01/2000-01-03", "12-24/12-31"}}))
		w.wantNext(at(4, 3))
		w.run(at(4, 2), never)
		w.wantIssued(0)
		w.run(at(4, 12), never)
		w.wantIssued(1)
		w.must(route.Patch, "keys/demo", map[string]any{"blackout": "2000-01-04/2000-01-09"})
		w.wantNext(at(10, 3))
		if got := w.status()["blackout"].([]any); len(got) != 1 || got[0] != "2000-01-04/2000-01-09" {
			t.Errorf("shown: %v", got)
		}
		w.warns(route.Write, "keys/demo/rotate", nil, "today is a black-out date")
		w.until(rotate.Grace)
		w.wantIssued(2)
		w.must(route.Write, "keys/demo/rotate", map[string]any{"leaked": true})
		w.run(at(5, 12), never)
		w.wantIssued(3)
		w.run(at(10, 2), never)
		w.wantIssued(3)
		w.must(route.Patch, "keys/demo", map[string]any{"blackout": nil})
		w.wantNext(at(10, 3))
	})
}

// TestBlackoutRefuses: a request with dates that are wrong, or that leave no time, changes
// nothing.
func TestBlackoutRefuses(t *testing.T) {
	bubble(t, func(w *world) {
		always := []string{"01-01/12-31"}
		w.refused(route.Write, "keys/demo", basic(map[string]any{"blackout": always}), fault.Invalid, `"blackout"`)
		w.refused(route.Write, "keys/demo", basic(map[string]any{"blackout": "Christmas"}), fault.Invalid,
			`field "blackout": "Christmas" is not a date`)
		w.must(route.Write, "keys/demo", basic(map[string]any{"skip_import_rotation": true,
			"blackout": "01-01/06-30"}))
		w.refused(route.Write, "config", map[string]any{"blackout": []string{"07-01/12-31"}}, fault.Invalid,
			`key "demo"`)
		if got := w.must(route.Read, "config", nil)["blackout"].([]any); len(got) != 0 {
			t.Errorf("stored: %v", got)
		}
		w.must(route.Write, "config", map[string]any{"blackout": []string{"12-24/12-31"}})
		w.refused(route.Patch, "keys/demo", map[string]any{"blackout": []string{"01-01/12-23"}}, fault.Invalid,
			"the dates of the mount count, too")
	})
}

// TestBlackoutOfMount: the dates of a mount hold for all of its keys, on every server, and also if
// the server died before it planned the keys again.
func TestBlackoutOfMount(t *testing.T) {
	bubble(t, func(w *world) {
		w.must(route.Write, "keys/demo", nightly(map[string]any{"skip_import_rotation": true}))
		w.wantNext(at(1, 3))
		w.must(route.Write, "config", map[string]any{"blackout": "2000-01-01/2000-01-02"})
		w.wantNext(at(3, 3))
		w.must(route.Write, "config", map[string]any{"blackout": []string{}})
		w.wantNext(at(1, 3))
		w.hook = func(what string, before bool) error { // the second commit is that of the key
			if what == "commit" && !before {
				w.hook = func(what string, before bool) error {
					if what == "commit" {
						return fault.New("test", fault.Unavailable, "the server dies")
					}
					return nil
				}
			}
			return nil
		}
		if _, err := w.do(route.Write, "config", map[string]any{"blackout": "2000-01-01/2000-01-02"}); err == nil {
			t.Fatal("the keys were planned again")
		}
		w.hook = nil
		w.wantNext(at(1, 3))
		other := w.another()
		nap(time.Until(at(1, 4)))
		if n := other.Work(t); n == 0 {
			t.Error("nothing was due on the other server")
		}
		w.run(at(1, 12), never)
		w.wantIssued(0)
		w.wantNext(at(3, 3))
		w.run(at(3, 4), never)
		w.wantIssued(1)
		notes := strings.Join(texts(w.must(route.Read, "keys/demo/plan", nil)["notes"]), "; ")
		if !strings.Contains(notes, "2000-01-01/2000-01-02") {
			t.Errorf("the plan does not name the dates: %s", notes)
		}
	})
}

// texts returns a list of an answer.
func texts(v any) (out []string) {
	for _, item := range v.([]any) {
		out = append(out, item.(string))
	}
	return out
}

// TestBlackoutForYears: ranges that join to more years than a schedule looks ahead are refused.
func TestBlackoutForYears(t *testing.T) {
	bubble(t, func(w *world) {
		for _, dates := range [][]string{{"2000-02-01/2010-02-01"},
			{"2000-02-01/2005-02-01", "2005-02-02/2010-02-01"}} {
			w.refused(route.Write, "keys/demo", basic(map[string]any{"blackout": dates}), fault.Invalid,
				"leave no day")
		}
	})
}

// TestBlackoutMovesNothingElse: dates that do not concern the planned time do not move it.
func TestBlackoutMovesNothingElse(t *testing.T) {
	bubble(t, func(w *world) {
		w.must(route.Write, "keys/demo", basic(nil))
		w.until(rotate.Grace)
		w.until(rotate.Scheduled)
		w.run(time.Now().Add(40*24*time.Hour), func() bool { return w.status()["state"] == string(rotate.Settling) })
		w.must(route.Write, "keys/demo/rollback", nil)
		w.until(rotate.Scheduled)
		before := w.nextOf()
		w.must(route.Write, "config", map[string]any{"blackout": []string{"12-24/12-31"}})
		if after := w.nextOf(); !after.Equal(before) {
			t.Errorf("the next rotation moved from %s to %s", before, after)
		}
	})
}
