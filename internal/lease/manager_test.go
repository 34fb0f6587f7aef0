package lease

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/internal/barrier/barriertest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/storage/faulty"
	"github.com/keyturn/keyturn/internal/storage/memory"
)

// fixture is a manager over a store that fails on command, with the leases that it undoes.
type fixture struct {
	*Manager
	t  *testing.T
	st *faulty.Store

	mu         sync.Mutex
	undone     []string  // ids, in order
	undoErr    error     // of the next undos
	retryAt    time.Time // that they ask for
	note       string
	renews     []time.Time
	duringUndo func(l *Lease) // called while an undo is under way
	events     []string
}

var start = time.Date(2026, 3, 9, 12, 0, 0, 0, time.UTC)

func open(t *testing.T) *fixture {
	t.Helper()
	w := &fixture{t: t, st: faulty.New(memory.Open(), 1)}
	w.Manager = w.server()
	return w
}

// server returns the manager of another server of the store.
func (w *fixture) server() *Manager {
	w.t.Helper()
	return NewManager(Config{
		Barrier: barriertest.Open(w.t, w.st),
		Due: func(lane, id string, from, to time.Time) (ops []storage.Op) {
			if !from.IsZero() && !from.Equal(to) {
				ops = append(ops, storage.Remove(item(lane, id, from)))
			}
			if !to.IsZero() {
				ops = append(ops, storage.Set(item(lane, id, to), nil))
			}
			return ops
		},
		Undo: func(_ context.Context, l *Lease) (time.Time, string, error) {
			w.mu.Lock()
			during := w.duringUndo
			w.mu.Unlock()
			if during != nil {
				during(l)
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			w.undone = append(w.undone, l.ID)
			return w.retryAt, w.note, w.undoErr
		},
		Renew: func(_ context.Context, _ *Lease, expires time.Time) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.renews = append(w.renews, expires)
			return w.undoErr
		},
		Event: func(kind string, l *Lease) []storage.Op {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.events = append(w.events, kind+" "+l.ID)
			return nil
		},
	})
}

func item(lane, id string, at time.Time) string {
	return fmt.Sprintf("due/%s/%016x/%s", lane, at.UnixMilli(), id)
}

func (w *fixture) failWith(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.undoErr = err
}

func (w *fixture) undoneIDs() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.undone...)
}

func draft(id string) *Lease {
	return &Lease{
		ID: id, Mount: "m", Target: "config/db", Kind: "user", Data: json.RawMessage(`{"u":"x"}`), Owner: "owner",
		Attempt: "att-" + id[len(id)-1:],
		Issued:  start, Expires: start.Add(time.Hour), Max: start.Add(4 * time.Hour),
		Late:      start.Add(15 * time.Minute),
		Renewable: true,
	}
}

// grant reserves and grants a lease.
func (w *fixture) grant(id string) *Lease {
	w.t.Helper()
	r, err := w.Reserve(w.t.Context(), draft(id), start.Add(time.Minute), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	g, err := w.Grant(w.t.Context(), r, start, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return g
}

// consistent checks that each lease has one due item, at the time in its record, and one row in
// the index by owner, and that there is nothing else.
func (w *fixture) consistent() (leases int) {
	w.t.Helper()
	want, got := map[string]bool{}, map[string]bool{}
	for e, err := range w.view.Scan(w.t.Context(), "", "") {
		if err != nil {
			w.t.Fatal(err)
		}
		switch {
		case strings.HasPrefix(e.Key, Prefix):
			l, err := Decode(e)
			if err != nil {
				w.t.Fatal(err)
			}
			leases++
			want[item(l.Lane(), l.ID, l.Due)], want[OfPrefix+l.Owner+"/"+l.ID] = true, true
			if !l.Failing.IsZero() {
				want[FailingPrefix+l.ID] = true
			}
		case strings.HasPrefix(e.Key, "due/"), strings.HasPrefix(e.Key, OfPrefix),
			strings.HasPrefix(e.Key, FailingPrefix):
			got[e.Key] = true
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		w.t.Errorf("rows beside the records (-want +got):\n%s", d)
	}
	return leases
}

func (w *fixture) lookup(id string) *Lease {
	w.t.Helper()
	l, err := w.Lookup(w.t.Context(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	return l
}

func TestReserveAndGrant(t *testing.T) {
	w := open(t)
	r, err := w.Reserve(t.Context(), draft("db/creds/a"), start.Add(time.Minute), nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.State != Reserved || !r.Due.Equal(start.Add(time.Minute)) || r.Granted {
		t.Errorf("reserved: %+v", r)
	}
	w.consistent()
	g, err := w.Grant(t.Context(), r, start.Add(time.Second), nil)
	if err != nil || g.State != Granted || !g.Granted || !g.Due.Equal(g.Expires) ||
		!g.Issued.Equal(start.Add(time.Second)) || !g.Late.IsZero() {
		t.Fatalf("granted: %+v, %v", g, err)
	}
	if d := cmp.Diff(g, w.lookup("db/creds/a")); d != "" {
		t.Errorf("stored (-granted +stored):\n%s", d)
	}
	if _, err := w.Grant(t.Context(), r, start, nil); !fault.Is(err, fault.Conflict) {
		t.Errorf("granted twice: %v", err)
	}
	if n := w.consistent(); n != 1 || w.Stats.Live.Load() != 1 {
		t.Errorf("%d leases, %d counted", n, w.Stats.Live.Load())
	}
	for _, id := range []string{"", "db/creds/none"} {
		_, err := w.Lookup(t.Context(), id)
		if !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Message(err), "was not found") {
			t.Errorf("looking up %q: %v", id, err)
		}
	}
}

// TestGuard: a reservation and a grant fail if the guard does not hold in the same commit.
func TestGuard(t *testing.T) {
	w := open(t)
	gone := []storage.Op{storage.Expect("token/t", 7)}
	if _, err := w.Reserve(t.Context(), draft("db/creds/a"), start, gone); !fault.Is(err, fault.Conflict) {
		t.Errorf("reserved for a token that is gone: %v", err)
	}
	r, err := w.Reserve(t.Context(), draft("db/creds/a"), start, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Grant(t.Context(), r, start, gone); !fault.Is(err, fault.Conflict) {
		t.Errorf("granted to a token that is gone: %v", err)
	}
	if n := w.consistent(); n != 1 || w.lookup("db/creds/a").State != Reserved || w.Stats.Live.Load() != 1 {
		t.Errorf("%d leases, %d counted", n, w.Stats.Live.Load())
	}
}

// TestReserveMaybeStored: a reservation that is stored although the commit fails falls due.
func TestReserveMaybeStored(t *testing.T) {
	for mode, want := range map[faulty.Mode]int{faulty.NotStored: 0, faulty.Stored: 1} {
		w := open(t)
		w.st.Inject(faulty.Fault{Prefix: Prefix, Mode: mode})
		if _, err := w.Reserve(t.Context(), draft("db/creds/a"), start, nil); err == nil {
			t.Fatal("the fault was not injected")
		}
		if n := w.consistent(); n != want || w.Stats.Live.Load() != int64(want) {
			t.Errorf("mode %d: %d leases, %d counted, want %d", mode, n, w.Stats.Live.Load(), want)
		}
	}
}

func TestRenew(t *testing.T) {
	w := open(t)
	l := w.grant("db/creds/a")
	now := start.Add(30 * time.Minute)
	for _, tt := range []struct {
		increment time.Duration
		b         Bounds
		want      time.Duration // since now
		capped    bool
	}{
		{2 * time.Hour, Bounds{}, 2 * time.Hour, false},
		{0, Bounds{TTL: time.Hour}, time.Hour, false},
		{time.Minute, Bounds{TTL: time.Hour}, time.Minute, false}, // shorter than it was
		{9 * time.Hour, Bounds{}, 3*time.Hour + 30*time.Minute, true},
		{2 * time.Hour, Bounds{Max: time.Hour}, 30 * time.Minute, true},
		{2 * time.Hour, Bounds{Until: now.Add(time.Hour)}, time.Hour, true},
	} {
		n, capped, err := w.Renew(t.Context(), l, tt.increment, tt.b, now)
		if err != nil || !n.Expires.Equal(now.Add(tt.want)) || capped != tt.capped || !n.Renewed.Equal(now) {
			t.Fatalf("%v by %v: %v for %s, capped %v, %v", tt.increment, tt.b, n, n.Expires.Sub(now), capped, err)
		}
		if last := w.renews[len(w.renews)-1]; !last.Equal(n.Expires) {
			t.Errorf("the engine was told %s, and the lease says %s", last, n.Expires)
		}
		l = n
		w.consistent()
	}
	if _, _, err := w.Renew(t.Context(), draft("db/creds/a"), time.Hour, Bounds{}, now); err == nil {
		t.Error("a draft was renewed")
	}
}

func TestRenewRefuses(t *testing.T) {
	w := open(t)
	l := w.grant("db/creds/a")
	fixed := *l
	fixed.Renewable = false
	for name, tt := range map[string]struct {
		l    *Lease
		b    Bounds
		now  time.Time
		want string
	}{
		"expired":       {l, Bounds{}, l.Expires, "has ended"},
		"not renewable": {&fixed, Bounds{}, start, "is not renewable"},
		"at its end":    {l, Bounds{Max: time.Minute}, start.Add(2 * time.Minute), "maximum lifetime"},
	} {
		_, _, err := w.Renew(t.Context(), tt.l, time.Hour, tt.b, tt.now)
		if !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Message(err), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
	if len(w.renews) != 0 {
		t.Errorf("the engine was asked %d times for nothing", len(w.renews))
	}
	w.failWith(fault.New("engine", fault.Upstream, "broken"))
	if _, _, err := w.Renew(t.Context(), l, time.Hour, Bounds{}, start); !fault.Is(err, fault.Upstream) {
		t.Errorf("the engine fails: %v", err)
	}
	w.failWith(nil)
	if err := w.End(t.Context(), l.ID, false, start); err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.Renew(t.Context(), l, time.Hour, Bounds{}, start); !fault.Is(err, fault.Invalid) ||
		!strings.Contains(fault.Message(err), "at the same time") {
		t.Errorf("one that is revoked meanwhile: %v", err)
	}
	if got := w.lookup(l.ID); got.State != Ending || !got.Expires.Equal(l.Expires) {
		t.Errorf("it is %+v", got)
	}
}

// TestEndAndStep: End makes a lease unusable at once, and Step undoes it. Both are repeatable.
func TestEndAndStep(t *testing.T) {
	w := open(t)
	w.grant("db/creds/a")
	now := start.Add(time.Minute)
	for n := range 2 { // the second does not shorten the back-off
		if err := w.End(t.Context(), "db/creds/a", false, now.Add(time.Duration(n)*time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	l := w.lookup("db/creds/a")
	if l.State != Ending || !l.Due.Equal(now) || len(w.undoneIDs()) != 0 {
		t.Errorf("ended: %+v; undone %q", l, w.undoneIDs())
	}
	// An item at a time when the lease is not due is removed, and undoes nothing.
	stray := item(l.Lane(), l.ID, start)
	if _, err := w.view.Commit(t.Context(), storage.Set(stray, nil)); err != nil {
		t.Fatal(err)
	}
	if err := w.Step(t.Context(), l.ID, now, start, []storage.Op{storage.Remove(stray)}); err != nil ||
		len(w.undoneIDs()) != 0 {
		t.Errorf("a stray item: %v, undone %q", err, w.undoneIDs())
	}
	w.consistent()
	if err := w.Step(t.Context(), l.ID, now, l.Due, nil); err != nil {
		t.Fatal(err)
	}
	if n := w.consistent(); n != 0 || len(w.undoneIDs()) != 1 || w.Stats.Live.Load() != 0 ||
		w.Stats.Undone.Load() != 1 {
		t.Errorf("%d leases, undone %q, counts %d and %d", n, w.undoneIDs(), w.Stats.Live.Load(),
			w.Stats.Undone.Load())
	}
	if err := w.Step(t.Context(), l.ID, now, l.Due, []storage.Op{storage.Remove("due/none")}); err != nil {
		t.Errorf("the item of a lease that is gone: %v", err)
	}
	if err := w.End(t.Context(), "db/creds/none", false, now); err != nil {
		t.Errorf("revoking what is gone: %v", err)
	}
	if w.events[len(w.events)-1] != "lease/ended db/creds/a" {
		t.Errorf("events %q", w.events)
	}
}

// TestUndoFails: a lease whose undo fails is retried with back-off, and listed as failing until it
// is undone.
func TestUndoFails(t *testing.T) {
	w := open(t)
	w.grant("db/creds/a")
	w.failWith(fault.New("engine", fault.Upstream, "the database is away"))
	now := start.Add(time.Hour)
	for try, wait := 1, 10*time.Second; try <= 12; try++ {
		l := w.lookup("db/creds/a")
		if err := w.Step(t.Context(), l.ID, now, l.Due, nil); !fault.Is(err, fault.Upstream) {
			t.Fatalf("try %d: %v", try, err)
		}
		l = w.lookup("db/creds/a")
		if l.Tries != try || l.Error != "the database is away" || l.Failing.IsZero() || l.State != Ending {
			t.Errorf("after try %d: %+v", try, l)
		}
		if pause := l.Due.Sub(now); pause < wait || pause > wait+wait/10+time.Second {
			t.Errorf("after try %d it waits %s, want %s and up to a tenth more", try, pause, wait)
		}
		wait = min(2*wait, time.Hour)
		w.consistent()
		now = l.Due
	}
	if failing, err := w.Failing(t.Context(), "", 10); err != nil || len(failing) != 1 ||
		w.Stats.Waiting.Load() != 1 || w.Stats.Failed.Load() != 12 {
		t.Errorf("failing are %v, %v; %d wait, %d failures", failing, err, w.Stats.Waiting.Load(),
			w.Stats.Failed.Load())
	}
	w.failWith(nil)
	l := w.lookup("db/creds/a")
	if err := w.Step(t.Context(), l.ID, now, l.Due, nil); err != nil {
		t.Fatal(err)
	}
	if n := w.consistent(); n != 0 || w.Stats.Waiting.Load() != 0 {
		t.Errorf("%d leases, %d wait", n, w.Stats.Waiting.Load())
	}
}

// TestForce: a forced end removes a lease although its undo fails, also if it is already ending.
func TestForce(t *testing.T) {
	w := open(t)
	w.grant("db/creds/a")
	w.grant("db/creds/b")
	w.failWith(errors.New("never"))
	if err := w.End(t.Context(), "db/creds/a", false, start); err != nil {
		t.Fatal(err)
	}
	if err := w.End(t.Context(), "db/creds/a", true, start.Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	l := w.lookup("db/creds/a")
	if !l.Force {
		t.Errorf("it is %+v", l)
	}
	if err := w.Step(t.Context(), l.ID, start, l.Due, nil); err != nil {
		t.Errorf("forced: %v", err)
	}
	if err := w.RevokeNow(t.Context(), "db/creds/b", false, start); err == nil {
		t.Error("an undo that fails was a success")
	}
	if err := w.RevokeNow(t.Context(), "db/creds/b", true, start); err != nil {
		t.Errorf("forced at once: %v", err)
	}
	if n := w.consistent(); n != 0 {
		t.Errorf("%d leases are left", n)
	}
}

// TestLateCreate: while a create may still take effect, its reservation is undone again and again.
func TestLateCreate(t *testing.T) {
	w := open(t)
	r, err := w.Reserve(t.Context(), draft("db/creds/a"), start.Add(time.Minute), nil)
	if err != nil {
		t.Fatal(err)
	}
	w.retryAt, w.note = start.Add(15*time.Minute), "nothing was there yet"
	if err := w.Step(t.Context(), r.ID, r.Due, r.Due, nil); err != nil {
		t.Fatal(err)
	}
	l := w.lookup(r.ID)
	if l.State != Ending || !l.Due.After(w.retryAt) || l.Note != w.note || l.Tries != 0 {
		t.Errorf("it is %+v", l)
	}
	w.consistent()
	w.retryAt = start // in the past
	if err := w.Step(t.Context(), l.ID, l.Due, l.Due, nil); err != nil {
		t.Fatal(err)
	}
	if next := w.lookup(r.ID); next.Due.Before(l.Due.Add(time.Second)) {
		t.Errorf("it is asked again %s later", next.Due.Sub(l.Due))
	} else {
		l = next
	}
	w.retryAt = time.Time{}
	if err := w.Step(t.Context(), l.ID, l.Due, l.Due, nil); err != nil || w.consistent() != 0 {
		t.Errorf("in the end: %v", err)
	}
	if _, err := w.Grant(t.Context(), r, start, nil); !fault.Is(err, fault.Conflict) {
		t.Errorf("a create that ends after its reservation was undone: %v", err)
	}
}

// TestCrashWhileUndoing: the server dies at each commit of an undo, with and without storing it.
// The next server undoes and removes the lease.
func TestCrashWhileUndoing(t *testing.T) {
	for _, mode := range []faulty.Mode{faulty.NotStored, faulty.Stored} {
		for n := range 3 {
			w := open(t)
			l := w.grant("db/creds/a")
			w.st.CrashAfter(n, mode)
			_ = w.Step(t.Context(), l.ID, l.Expires, l.Due, nil)
			w.st.Revive()
			w.Manager = w.server()
			w.consistent()
			for now := l.Expires; ; now = now.Add(time.Minute) {
				l, err := w.Lookup(t.Context(), l.ID)
				if err != nil {
					break
				}
				if err := w.Step(t.Context(), l.ID, now, l.Due, nil); err != nil {
					t.Fatal(err)
				}
			}
			if left := w.consistent(); left != 0 || len(w.undoneIDs()) == 0 {
				t.Errorf("crash %d (mode %d): %d leases are left, undone %q", n, mode, left, w.undoneIDs())
			}
		}
	}
}

// TestTwoServersUndo: the claim's commit decides which of two servers undoes a lease.
func TestTwoServersUndo(t *testing.T) {
	w := open(t)
	other := w.server()
	for n := range 50 {
		id := fmt.Sprintf("db/creds/%02d", n)
		l := w.grant(id)
		var wg sync.WaitGroup
		for _, m := range []*Manager{w.Manager, other} {
			wg.Go(func() {
				if err := m.Step(t.Context(), id, l.Expires, l.Due, nil); err != nil {
					t.Errorf("%s: %v", id, err)
				}
			})
		}
		wg.Wait()
	}
	seen := map[string]int{}
	for _, id := range w.undoneIDs() {
		if seen[id]++; seen[id] > 1 {
			t.Errorf("%s was undone twice", id)
		}
	}
	if n := w.consistent(); n != 0 || len(seen) != 50 {
		t.Errorf("%d leases are left, %d undone", n, len(seen))
	}
}

// TestUndoneButNotRemoved: the store fails after an undo, or another server is faster. Each lease
// is counted once, exactly when its record is removed, and a failed undo is reported.
func TestUndoneButNotRemoved(t *testing.T) {
	upstream, late := fault.New("engine", fault.Upstream, "away"), fault.Unavailable
	lost := faulty.Fault{Calls: faulty.Commits, Mode: faulty.NotStored}
	unanswered := faulty.Fault{Calls: faulty.Commits, Mode: faulty.Stored}
	conflict := faulty.Fault{Calls: faulty.Commits, Mode: faulty.NotStored, Err: storage.ErrConflict}
	for name, tt := range map[string]struct {
		undo    error
		another bool // server undoes and forgets it meanwhile
		faults  []faulty.Fault
		want    *fault.Kind // of the error; nil: none
		left    int
	}{
		"forgotten":             {},
		"not forgotten":         {faults: []faulty.Fault{lost}, want: &late, left: 1},
		"forgotten, unanswered": {faults: []faulty.Fault{unanswered}},
		"and cannot be seen":    {faults: []faulty.Fault{lost, {Calls: faulty.Gets}}, want: &late, left: 1},
		"claimed anew":          {faults: []faulty.Fault{conflict}, left: 1},
		"undone by two":         {another: true},
		"failed":                {undo: upstream, want: &upstream.Kind, left: 1},
		"failed, not noted":     {undo: upstream, faults: []faulty.Fault{lost}, want: &late, left: 1},
		"failed, claimed anew":  {undo: upstream, faults: []faulty.Fault{conflict}, want: &upstream.Kind, left: 1},
	} {
		t.Run(name, func(t *testing.T) {
			w := open(t)
			l := w.grant("db/creds/a")
			other := w.server()
			w.duringUndo = func(*Lease) {
				w.duringUndo = nil
				if tt.another {
					if err := other.RevokeNow(t.Context(), l.ID, false, start); err != nil {
						t.Error(err)
					}
				}
				for _, f := range tt.faults {
					w.st.Inject(f)
				}
			}
			w.failWith(tt.undo)
			err := w.Step(t.Context(), l.ID, l.Expires, l.Due, nil)
			w.st.Clear()
			if (err == nil) != (tt.want == nil) || err != nil && !fault.Is(err, *tt.want) {
				t.Errorf("%v, want the kind %v", err, tt.want)
			}
			live := w.Stats.Live.Load() + other.Stats.Live.Load()
			undone := w.Stats.Undone.Load() + other.Stats.Undone.Load()
			if n := w.consistent(); n != tt.left || live != int64(tt.left) || undone != int64(1-tt.left) {
				t.Errorf("%d leases, want %d; counted are %d, and %d undone", n, tt.left, live, undone)
			}
		})
	}
}

// TestRevokeNowWaits: if a lease is already being undone, RevokeNow waits for it, and Step returns
// ErrBusy.
func TestRevokeNowWaits(t *testing.T) {
	w := open(t)
	l := w.grant("db/creds/a")
	under, let := make(chan struct{}), make(chan struct{})
	w.duringUndo = func(*Lease) { close(under); <-let }
	done := make(chan error, 2)
	go func() { done <- w.RevokeNow(t.Context(), l.ID, false, start) }()
	<-under
	w.mu.Lock()
	w.duringUndo = nil
	w.mu.Unlock()
	if err := w.Step(t.Context(), l.ID, start.Add(time.Hour), w.lookup(l.ID).Due, nil); !errors.Is(err, ErrBusy) {
		t.Errorf("the due loop meanwhile: %v", err)
	}
	given, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.RevokeNow(given, l.ID, false, start); !fault.Is(err, fault.Timeout) {
		t.Errorf("who gave up waiting: %v", err)
	}
	go func() { done <- w.RevokeNow(t.Context(), l.ID, false, start) }()
	close(let)
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if n := len(w.undoneIDs()); n != 1 || w.consistent() != 0 {
		t.Errorf("undone %d times", n)
	}
}

func TestOwned(t *testing.T) {
	w := open(t)
	for n := range 5 {
		w.grant(fmt.Sprintf("db/creds/%d", n))
	}
	other := draft("db/creds/x")
	other.Owner = "owner2"
	r, err := w.Reserve(t.Context(), other, start, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.EndOwned(t.Context(), "owner", start); err != nil {
		t.Fatal(err)
	}
	for n := range 5 {
		if l := w.lookup(fmt.Sprintf("db/creds/%d", n)); l.State != Ending {
			t.Errorf("%s is %s", l.ID, l.State)
		}
	}
	w.failWith(fault.New("engine", fault.Upstream, "away"))
	if err := w.RevokeOwned(t.Context(), "owner", start); !fault.Is(err, fault.Upstream) {
		t.Errorf("one of them fails: %v", err) // all are ending, so the due loop continues
	}
	w.failWith(nil)
	if err := w.RevokeOwned(t.Context(), "owner", start.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if n := w.consistent(); n != 1 || w.lookup(r.ID).State != Reserved {
		t.Errorf("%d leases are left: another token's must stay", n)
	}
}

// TestOwnedInPages: all leases of a token end, although their rows are removed during the scan.
func TestOwnedInPages(t *testing.T) {
	for _, n := range []int{255, 256, 257, 700} {
		w := open(t)
		for i := range n {
			w.grant(fmt.Sprintf("db/creds/%04d", i))
		}
		if err := w.EndOwned(t.Context(), "owner", start); err != nil {
			t.Fatal(err)
		}
		for id, err := range w.Below(t.Context(), "db/") {
			if l := w.lookup(id); err != nil || l.State != Ending {
				t.Fatalf("of %d: %s is %s, %v", n, l.ID, l.State, err)
			}
		}
		if err := w.RevokeOwned(t.Context(), "owner", start); err != nil {
			t.Fatal(err)
		}
		if left := w.consistent(); left != 0 || len(w.undoneIDs()) != n {
			t.Errorf("of %d, %d are left and %d were undone", n, left, len(w.undoneIDs()))
		}
	}
}

func TestBelowAndCount(t *testing.T) {
	w := open(t)
	for _, id := range []string{"db/creds/a/1", "db/creds/a/2", "db/creds/ab/1", "aws/creds/a/1"} {
		w.grant(id)
	}
	below := func(prefix string) (ids []string) {
		for id, err := range w.Below(t.Context(), prefix) {
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, id)
		}
		return ids
	}
	for prefix, want := range map[string]int{"": 4, "db/": 3, "db/creds/a/": 2, "db/creds/": 3, "none/": 0} {
		if got := below(prefix); len(got) != want {
			t.Errorf("below %q are %q, want %d", prefix, got, want)
		}
	}
	for limit, want := range map[int]int{1: 1, 3: 3, 10: 4} {
		if n, err := w.CountOf(t.Context(), "due/"+Lane("m", "config/db")+"/", limit); n != want || err != nil {
			t.Errorf("counted up to %d: %d, %v", limit, n, err)
		}
	}
	if Lane("m", "config/db") == Lane("m", "config/other") || Lane("m", "t") == Lane("n", "t") {
		t.Error("two targets have one lane")
	}
	w.st.Inject(faulty.Fault{Calls: faulty.Scans, Times: -1})
	for _, err := range w.Below(t.Context(), "db/") {
		if err == nil {
			t.Error("a failed scan is an empty one")
		}
	}
	if _, err := w.CountOf(t.Context(), "due/", 10); err == nil {
		t.Error("a failed count is one")
	}
}

// TestDamagedLease: a record that cannot be read does not count as removed.
func TestDamagedLease(t *testing.T) {
	w := open(t)
	if _, err := w.view.Commit(t.Context(), storage.Set(Prefix+"db/creds/a", []byte("{"))); err != nil {
		t.Fatal(err)
	}
	if err := w.Step(t.Context(), "db/creds/a", start, start, nil); !errors.Is(err, ErrDamaged) ||
		!fault.Is(err, fault.Internal) {
		t.Errorf("its item: %v", err)
	}
	for name, err := range map[string]error{
		"looking it up": func() error { _, err := w.Lookup(t.Context(), "db/creds/a"); return err }(),
		"revoking":      w.End(t.Context(), "db/creds/a", false, start),
		"at once":       w.RevokeNow(t.Context(), "db/creds/a", false, start),
	} {
		if !fault.Is(err, fault.Internal) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestStoreFails: errors of the store are returned, and nothing counts as undone.
func TestStoreFails(t *testing.T) {
	for _, calls := range []faulty.Calls{faulty.Gets, faulty.Commits} {
		w := open(t)
		l := w.grant("db/creds/a")
		w.st.Inject(faulty.Fault{Calls: calls, Times: -1})
		for name, err := range map[string]error{
			"end": w.End(t.Context(), l.ID, false, start), "step": w.Step(t.Context(), l.ID, l.Expires, l.Due, nil),
			"now": w.RevokeNow(t.Context(), l.ID, false, start),
		} {
			if !fault.Is(err, fault.Unavailable) {
				t.Errorf("%s: %v", name, err)
			}
		}
		w.st.Clear()
		if n := w.consistent(); n != 1 || len(w.undoneIDs()) != 0 {
			t.Errorf("%d leases, undone %q", n, w.undoneIDs())
		}
	}
}

// TestConcurrentChanges: if another request changes a lease, it is read again. If it changes all
// the time, the error says so.
func TestConcurrentChanges(t *testing.T) {
	conflicts := func(n int) faulty.Fault {
		return faulty.Fault{Calls: faulty.Commits, Mode: faulty.NotStored, Err: storage.ErrConflict, Times: n}
	}
	for name, end := range map[string]func(w *fixture, id string) error{
		"end": func(w *fixture, id string) error { return w.End(t.Context(), id, false, start) },
		"now": func(w *fixture, id string) error { return w.RevokeNow(t.Context(), id, false, start) },
	} {
		for times, fine := range map[int]bool{1: true, 7: true, -1: false} {
			w := open(t)
			l := w.grant("db/creds/a")
			w.st.Inject(conflicts(times))
			err := end(w, l.ID)
			w.st.Clear()
			if fine != (err == nil) ||
				!fine && (!fault.Is(err, fault.Unavailable) || !strings.Contains(fault.Message(err), "try again")) {
				t.Errorf("%s, changed %d times meanwhile: %v", name, times, err)
			}
			if got, err := w.Lookup(t.Context(), l.ID); fine && err == nil && got.State != Ending ||
				!fine && (err != nil || got.State != Granted) {
				t.Errorf("%s, changed %d times meanwhile: %+v, %v", name, times, got, err)
			}
		}
	}
	w := open(t)
	l := w.grant("db/creds/a")
	stray := []storage.Op{storage.Remove(item(l.Lane(), l.ID, start))}
	for err, want := range map[error]bool{storage.ErrConflict: true, nil: false} {
		w.st.Inject(faulty.Fault{Calls: faulty.Commits, Mode: faulty.NotStored, Err: err})
		got := w.Step(t.Context(), l.ID, start, start, stray)
		if want != (got == nil) || !want && !fault.Is(got, fault.Unavailable) {
			t.Errorf("a stray item, and the store answers %v: %v", err, got)
		}
		w.st.Clear()
	}
}

func TestStartingAt(t *testing.T) {
	l := draft("db/creds/a")
	later := l.StartingAt(start.Add(time.Minute + 300*time.Microsecond))
	if !later.Issued.Equal(start.Add(time.Minute)) || later.Expires.Sub(later.Issued) != time.Hour ||
		later.Max.Sub(later.Issued) != 4*time.Hour {
		t.Errorf("it is %+v", later)
	}
	if l.TTL(start) != time.Hour || l.TTL(start.Add(2*time.Hour)) != 0 {
		t.Errorf("TTLs are %s and %s", l.TTL(start), l.TTL(start.Add(2*time.Hour)))
	}
}
