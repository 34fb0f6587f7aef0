package rotation_test

import (
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/engine/rotation/rotationtest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/route"
)

// nightly is a configuration of a key with a schedule instead of a period.
func nightly(more map[string]any) map[string]any {
	body := basic(map[string]any{"rotation_schedule": "0 3 * * *", "rotation_window": "2h", "grace_period": "4h"})
	delete(body, "rotation_period")
	for name, v := range more {
		body[name] = v
	}
	return body
}

// nextOf is the key's next rotation; zero: none is planned.
func (w *world) nextOf() time.Time {
	w.Helper()
	text := w.status()["next_rotation"].(string)
	if text == "" {
		return time.Time{}
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		w.Fatal(err)
	}
	return at
}

func (w *world) wantNext(want time.Time) {
	w.Helper()
	if got := w.nextOf(); !got.Equal(want) {
		w.Errorf("the next rotation is at %s, want %s", got, want)
	}
}

// wantIssued checks how many keys the vendor has ever issued.
func (w *world) wantIssued(want int) {
	w.Helper()
	if got := len(w.vendor.Issued()); got != want {
		w.Errorf("%s: %d keys were issued, want %d", time.Now().UTC(), got, want)
	}
}

// at is a time of the month in which bubbles begin.
func at(day, hour int) time.Time { return time.Date(2000, 1, day, hour, 0, 0, 0, time.UTC) }

// TestSchedule: a key with a schedule rotates at its times, and readers are told.
func TestSchedule(t *testing.T) {
	bubble(t, func(w *world) {
		w.must(route.Write, "keys/demo", nightly(map[string]any{"skip_import_rotation": true}))
		w.wantNext(at(1, 3))
		for day := 1; day <= 3; day++ {
			w.run(at(day, 2), never)
			w.wantIssued(day - 1)
			w.run(at(day, 4), never)
			w.wantIssued(day)
			w.wantNext(at(day+1, 3))
			told := w.kv.read("secret/demo", time.Now()).fields["next_rotation"]
			if want := at(day+1, 3).Format(time.RFC3339); told != want {
				t.Errorf("readers are told that the next rotation is at %q, want %q", told, want)
			}
		}
		s := w.status()
		if s["rotation_schedule"] != "0 3 * * *" || s["rotation_period"] != float64(0) ||
			s["rotation_window"] != float64(7200) {
			t.Errorf("shown: %v", s)
		}
		plan := w.must(route.Read, "keys/demo/plan", nil)["rotations"].([]any)
		for i, day := range []int{4, 5, 6, 7, 8} {
			if got := plan[i].(map[string]any)["at"]; got != at(day, 3).Format(time.RFC3339) {
				t.Errorf("planned rotation %d is at %v", i, got)
			}
		}
	})
}

// TestScheduleReplacesPeriod: a patch of one replaces the other, and without either the class
// decides.
func TestScheduleReplacesPeriod(t *testing.T) {
	bubble(t, func(w *world) {
		w.must(route.Write, "keys/demo", basic(map[string]any{"class": "financial", "grace_period": "4h"}))
		w.until(rotate.Grace)
		rotated := w.status()["last_rotated"].(string)
		patch := func(body map[string]any) { t.Helper(); w.must(route.Patch, "keys/demo", body) }
		last, err := time.Parse(time.RFC3339Nano, rotated)
		if err != nil {
			t.Fatal(err)
		}
		patch(map[string]any{"rotation_schedule": "0 3 * * *", "rotation_window": "2h"})
		w.wantNext(at(1, 3))
		patch(map[string]any{"rotation_period": "240h"})
		w.wantNext(last.Add(240 * time.Hour))
		patch(map[string]any{"rotation_schedule": "0 5 * * *"})
		w.wantNext(at(1, 5))
		patch(map[string]any{"rotation_schedule": ""})
		w.wantNext(last.Add(30 * 24 * time.Hour))
		w.refused(route.Patch, "keys/demo", map[string]any{"rotation_window": "2h"}, fault.Invalid,
			"needs rotation_schedule")
		w.wantNext(last.Add(30 * 24 * time.Hour))
		patch(map[string]any{"manual": true})
		w.wantNext(time.Time{})
		patch(map[string]any{"manual": false})
		w.wantNext(last.Add(30 * 24 * time.Hour))
	})
}

// TestManual: a key with manual=true is rotated on request only, also after a failure.
func TestManual(t *testing.T) {
	bubble(t, func(w *world) {
		w.must(route.Write, "keys/demo", basic(map[string]any{"manual": true}))
		w.after(400 * 24 * time.Hour)
		w.wantIssued(0)
		w.rotated()
		w.wantIssued(1)
		if next := w.kv.read("secret/demo", time.Now()).fields["next_rotation"]; next != "" {
			t.Errorf("readers are told that the next rotation is at %q", next)
		}
		w.after(400 * 24 * time.Hour)
		w.wantIssued(1)
		w.vendor.Inject(rotationtest.VendorFault{Call: "create", Mode: "before", Times: 9})
		w.must(route.Write, "keys/demo/rotate", nil)
		w.after(400 * 24 * time.Hour)
		w.wantIssued(1)
		if s := w.status(); s["failures"] != float64(1) || s["state"] != "scheduled" ||
			!strings.Contains(s["summary"].(string), "; failed once; ") ||
			!strings.Contains(s["summary"].(string), "it is rotated on request only") {
			t.Errorf("after a failure: %v", s)
		}
	})
}

// TestJitter: the delay is drawn once and stored. A restart does not draw another one, and neither
// does a write that changes nothing about the schedule.
func TestJitter(t *testing.T) {
	bubble(t, func(w *world) {
		body := nightly(map[string]any{"skip_import_rotation": true, "jitter": "1h"})
		w.must(route.Write, "keys/demo", body)
		next := w.nextOf()
		if late := next.Sub(at(1, 3)); late < 0 || late >= time.Hour {
			t.Fatalf("the next rotation is at %s", next)
		}
		w.Reopen(w)
		w.must(route.Write, "keys/demo", body)
		w.must(route.Patch, "keys/demo", map[string]any{"idle_period": "2h"})
		w.wantNext(next)
		w.run(next.Add(-time.Second), never)
		w.wantIssued(0)
		w.run(next.Add(10*time.Minute), never)
		w.wantIssued(1)
	})
}

// TestMissedWindow: a rotation that its window has ended for waits for the next one.
func TestMissedWindow(t *testing.T) {
	bubble(t, func(w *world) {
		w.must(route.Write, "keys/demo", nightly(map[string]any{"skip_import_rotation": true, "jitter": "1h"}))
		nap(5*time.Hour + time.Minute) // the server is down from 0:00 to 5:01
		w.Reopen(w)
		w.after(time.Hour)
		w.wantIssued(0)
		if next := w.nextOf(); next.Before(at(2, 3)) || !next.Before(at(2, 4)) {
			t.Errorf("the next rotation is at %s, want it in the next window", next)
		}
		w.run(at(2, 5), never)
		w.wantIssued(1)
	})
}
