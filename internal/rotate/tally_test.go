package rotate_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/internal/cron"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/storage/faulty"
)

// tally checks the counts of a manager, and returns the standing of the only record.
func (w *world) tally(when string, m *rotate.Manager, want rotate.Tally) rotate.Standing {
	w.Helper()
	got := m.Tally(context.Background(), 10)
	standings := got.Standings
	got.Standings, want.Mount = nil, "mount/"
	if want.Failed == nil {
		want.Failed = map[rotate.FailedStep]int64{}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		w.Errorf("%s (-want +got):\n%s", when, diff)
	}
	if int64(len(standings)) != want.Records() {
		w.Fatalf("%s: %d standings, want %d", when, len(standings), want.Records())
	}
	if len(standings) == 0 {
		return rotate.Standing{}
	}
	return standings[0]
}

// delete deletes the record.
func (w *world) delete() {
	w.Helper()
	w.change(func(e *rotate.Edit) error { return e.Control().DeleteWhenDone(context.Background()) })
}

// TestTally: the metrics of a record change as it fails, recovers, is late, is paused and is
// deleted.
func TestTally(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.tally("without a record", w.m, rotate.Tally{States: map[rotate.State]int64{}})
		w.create("a")
		one := map[rotate.State]int64{rotate.Scheduled: 1}
		s := w.tally("new", w.m, rotate.Tally{States: one})
		if want := (rotate.Standing{Path: "mount/accounts/one", State: rotate.Scheduled,
			NextStep: time.Hour}); s != want {
			t.Errorf("new: %+v, want %+v", s, want)
		}
		time.Sleep(59 * time.Minute)
		if s = w.tally("before it is due", w.m, rotate.Tally{States: one}); s.Age != 59*time.Minute ||
			s.NextStep != time.Minute {
			t.Errorf("before it is due: %+v", s)
		}
		w.p.behave = func(string, string) behavior { return away }
		w.runUntil(time.Now().Add(62 * time.Second))
		failed := map[rotate.FailedStep]int64{{Step: rotate.Setting, Class: "transient"}: 1}
		if s = w.tally("failed", w.m,
			rotate.Tally{States: one, Failing: 1, Alerts: 1, Failed: failed}); s.Failures != 1 || !s.Alert ||
			s.NextStep <= 0 {
			t.Errorf("failed: %+v", s)
		}
		time.Sleep(10 * time.Minute)
		if s = w.tally("late", w.m, rotate.Tally{States: one, Failing: 1, Alerts: 1, Overdue: 1,
			Failed: failed}); s.Overdue < 10*time.Minute || s.NextStep != 0 {
			t.Errorf("late: %+v", s)
		}
		w.p.behave = nil
		w.runFor(time.Minute)
		if s = w.tally("recovered", w.m, rotate.Tally{States: one, Failed: failed}); s.Alert || s.Failures != 0 ||
			s.Overdue != 0 || s.Age > 2*time.Minute {
			t.Errorf("recovered: %+v", s)
		}
		w.change(func(e *rotate.Edit) error { return e.Control().Pause(t.Context(), "by ann") })
		if s = w.tally("paused", w.m, rotate.Tally{States: one, Paused: 1, Failed: failed}); !s.Paused ||
			s.NextStep >= 0 {
			t.Errorf("paused: %+v", s)
		}
		w.delete()
		w.tally("deleted", w.m, rotate.Tally{States: map[rotate.State]int64{}, Failed: failed})
	})
}

// TestTallyWithoutStore: a step that fails because the store does not answer is counted, too.
// Metrics need no store.
func TestTallyWithoutStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.create("a")
		w.sleepUntilDue()
		w.store.CrashAfter(0, faulty.NotStored)
		if err := w.m.Work(t.Context(), kind, "one"); err == nil {
			t.Fatal("a step succeeded without a store")
		}
		w.tally("without a store", w.m, rotate.Tally{
			States: map[rotate.State]int64{rotate.Scheduled: 1},
			Failed: map[rotate.FailedStep]int64{{Step: rotate.Scheduled, Class: "server"}: 1},
		})
	})
}

// TestTallyOfMissedWindow: a rotation that missed its window is logged and counted.
func TestTallyOfMissedWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.create("a")
		w.when = cron.When{Schedule: "0 1 * * *", Window: time.Hour}
		time.Sleep(5 * time.Hour)
		if err := w.m.Work(t.Context(), kind, "one"); err != nil {
			t.Fatal(err)
		}
		w.tally("after the window", w.m,
			rotate.Tally{States: map[rotate.State]int64{rotate.Scheduled: 1}, Alerts: 1, Missed: 1})
		if text := w.logged.String(); strings.Count(text, "missed its window") != 1 ||
			!strings.Contains(text, "next_rotation=2000-01-02T01:00:00") {
			t.Errorf("logged: %s", text)
		}
	})
}

// TestTallyOfDamaged: the census notices that a known record is damaged, although the row has no
// version any more, and that it is repaired.
func TestTallyOfDamaged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.create("a")
		row, err := w.store.Get(t.Context(), "mount/r/one")
		if err != nil || row.Version == 0 {
			t.Fatal(row.Version, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go w.m.Walk(ctx)
		for _, tt := range []struct {
			when  string
			value []byte
			want  rotate.Tally
		}{
			{"damaged", []byte("not sealed"),
				rotate.Tally{States: map[rotate.State]int64{"unreadable": 1}, Alerts: 1}},
			{"restored", row.Value, rotate.Tally{States: map[rotate.State]int64{rotate.Scheduled: 1}, Overdue: 1}},
		} {
			synctest.Wait()
			if _, err := w.store.Commit(t.Context(),
				storage.Batch{Ops: []storage.Op{storage.Set("mount/r/one", tt.value)}}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Hour + time.Second)
			w.tally(tt.when, w.m, tt.want)
		}
	})
}

// TestTallyOfAnotherServer: a walk finds records that were stored before, that another server of
// the store commits, and that are damaged.
func TestTallyOfAnotherServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.create("a")
		first := w.m
		w.boot()
		other := w.m
		w.m = first
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go other.Walk(ctx)
		synctest.Wait()
		w.tally("after the start", other, rotate.Tally{States: map[rotate.State]int64{rotate.Scheduled: 1}})
		w.p.behave = func(string, string) behavior { return cut }
		if err := w.rotate(); err == nil {
			t.Error("a rotation without a reply has succeeded")
		}
		if _, err := w.view.Commit(t.Context(), storage.Set("r/damaged", []byte("{"))); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour + time.Second)
		w.tally("an hour later", other,
			rotate.Tally{States: map[rotate.State]int64{rotate.Setting: 1, "unreadable": 1}, Failing: 1, Alerts: 2,
				Overdue: 0})
		if _, err := w.view.Commit(t.Context(), storage.Remove("r/damaged"), storage.Remove("r/one")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		w.tally("after both were deleted", other, rotate.Tally{States: map[rotate.State]int64{}})
	})
}

// TestTallyLimit: if not all records can be listed, those in trouble of all mounts come first,
// then those known longest.
func TestTallyLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		for i := range 5 {
			err := w.m.Change(t.Context(), kind, fmt.Sprint(i), nil, func(e *rotate.Edit) error {
				e.Rec.Data = []byte("{}")
				if i == 3 {
					e.Rec.Failures = 1
				}
				return e.Commit(t.Context(), "created-key", time.Time{})
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		paths := func(all ...rotate.Tally) (out []string) {
			for _, t := range all {
				for _, s := range t.Standings {
					out = append(out, s.Path)
				}
			}
			return out
		}
		got := w.m.Tally(t.Context(), 3)
		if diff := cmp.Diff([]string{"mount/accounts/3", "mount/accounts/0", "mount/accounts/1"},
			paths(got)); diff != "" || got.Records() != 5 {
			t.Errorf("%d records; (-want +got):\n%s", got.Records(), diff)
		}
		all := []rotate.Tally{
			{Standings: []rotate.Standing{{Path: "a", Paused: true}, {Path: "b"}, {Path: "c"}}},
			{Standings: []rotate.Standing{{Path: "d", Alert: true}, {Path: "e"}}},
		}
		rotate.Limit(all, 3)
		if diff := cmp.Diff([]string{"a", "b", "d"}, paths(all...)); diff != "" {
			t.Errorf("of two mounts (-want +got):\n%s", diff)
		}
	})
}

// BenchmarkTally is one scrape of a mount with 100,000 records.
func BenchmarkTally(b *testing.B) {
	m := rotate.ManagerOf(100_000)
	b.ReportAllocs()
	for b.Loop() {
		if t := m.Tally(b.Context(), 5000); len(t.Standings) != 5000 || t.Records() != 100_000 {
			b.Fatal(len(t.Standings), t.Records())
		}
	}
}
