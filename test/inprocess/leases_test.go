package inprocess_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/barrier"
	"github.com/keyturn/keyturn/internal/barrier/barriertest"
	"github.com/keyturn/keyturn/internal/due"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/lease"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/storage/memory"
)

// world is a lease manager over a real barrier, with a target that counts revocations.
type world struct {
	m    *lease.Manager
	view *barrier.View
	loop *due.Loop

	mu     sync.Mutex
	undone map[string]int
	late   time.Duration
	// fail returns the error of a revocation, if any.
	fail  func(l *lease.Lease) error
	again func(l *lease.Lease) time.Time
	takes time.Duration // duration of a revocation
}

func open(t testing.TB) *world {
	t.Helper()
	b := barriertest.Open(t, memory.Open())
	w := &world{view: b.View(""), undone: map[string]int{}}
	w.m = lease.NewManager(lease.Config{
		Barrier: b,
		Due: func(lane, id string, from, to time.Time) []storage.Op {
			return due.Move(due.Item{Lane: lane, Kind: lease.DueKind, ID: id}, from, to)
		},
		Undo:  w.undo,
		Renew: func(context.Context, *lease.Lease, time.Time) error { return nil },
		Event: func(string, *lease.Lease) []storage.Op { return nil },
	})
	w.loop = due.NewLoop(due.Config{
		Store: w.view, Log: slog.New(slog.DiscardHandler),
		Handle: func(ctx context.Context, it due.Item) due.Outcome {
			switch err := w.m.Step(ctx, it.ID, time.Now(), it.At, []storage.Op{storage.Remove(it.Key())}); {
			case err == nil:
				return due.Handled
			case fault.Is(err, fault.Upstream), fault.Is(err, fault.Timeout):
				return due.TargetFailed
			case errors.Is(err, lease.ErrBusy):
				return due.ItemFailed
			}
			return due.StoreFailed
		},
		Late: func(_ due.Item, by time.Duration) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.late = max(w.late, by)
		},
	})
	return w
}

// undo takes as long as takes says. It runs in a bubble.
func (w *world) undo(_ context.Context, l *lease.Lease) (time.Time, string, error) {
	time.Sleep(w.takes) // in a bubble
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fail != nil {
		if err := w.fail(l); err != nil {
			return time.Time{}, "", err
		}
	}
	if w.again != nil {
		if at := w.again(l); !at.IsZero() {
			return at, "", nil
		}
	}
	w.undone[l.ID]++
	return time.Time{}, "", nil
}

func (w *world) reserve(t testing.TB, id, target string, ttl time.Duration) *lease.Lease {
	t.Helper()
	now := time.Now().UTC()
	r, err := w.m.Reserve(t.Context(), &lease.Lease{
		ID: id, Mount: "m", Target: target, Owner: "o", Attempt: "a", Data: []byte(`{}`),
		Issued: now, Expires: now.Add(ttl), Max: now.Add(4 * ttl), Renewable: true, Late: now.Add(time.Hour),
	}, now.Add(time.Minute), nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (w *world) grant(t testing.TB, id, target string, ttl time.Duration) *lease.Lease {
	t.Helper()
	g, err := w.m.Grant(t.Context(), w.reserve(t, id, target, ttl), time.Now(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func (w *world) run(t testing.TB) {
	go w.loop.Run(t.Context())
}

// keysLeft counts the rows of leases and their indexes.
func (w *world) keysLeft(t testing.TB) int {
	t.Helper()
	n := 0
	for _, prefix := range []string{lease.Prefix, lease.OfPrefix, lease.FailingPrefix, due.Prefix} {
		for e, err := range w.view.Scan(t.Context(), prefix, storage.PrefixEnd(prefix)) {
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("left: %q", e.Key)
			n++
		}
	}
	return n
}

// seen returns how often each lease was revoked.
func (w *world) seen() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.undone)
}

// latest returns the delay of the latest item.
func (w *world) latest() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.late
}

func TestLifeOfALease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t)
		w.run(t)
		w.grant(t, "db/creds/a/1", "x", time.Hour)
		time.Sleep(59 * time.Minute) // in a bubble
		synctest.Wait()
		if len(w.seen()) != 0 {
			t.Fatalf("undone early: %v", w.seen())
		}
		time.Sleep(time.Minute + time.Second)
		synctest.Wait()
		if w.seen()["db/creds/a/1"] != 1 || w.latest() > time.Second {
			t.Fatalf("undone %v, late by %v", w.seen(), w.latest())
		}
		if n := w.keysLeft(t); n != 0 {
			t.Errorf("%d rows are left", n)
		}
	})
}

func TestReservationThatIsNotGranted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t)
		w.run(t)
		late := time.Now().Add(time.Hour)
		w.again = func(l *lease.Lease) time.Time {
			if time.Now().Before(l.Late) {
				return l.Late
			}
			return time.Time{}
		}
		r := w.reserve(t, "db/creds/a/1", "x", time.Hour)
		time.Sleep(61 * time.Second) // in a bubble
		synctest.Wait()
		if _, err := w.m.Grant(t.Context(), r, time.Now(), nil); !fault.Is(err, fault.Conflict) {
			t.Fatalf("granting what the expirer has claimed: %v, want a conflict", err)
		}
		if w.seen()[r.ID] != 0 {
			t.Fatalf("forgotten before a late create could come: %v", w.seen())
		}
		time.Sleep(time.Until(late) + time.Second)
		synctest.Wait()
		if w.seen()[r.ID] != 1 || w.keysLeft(t) != 0 {
			t.Fatalf("undone %v", w.seen())
		}
	})
}

func TestRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t)
		w.run(t)
		g := w.grant(t, "db/creds/a/1", "x", time.Hour)
		time.Sleep(50 * time.Minute) // in a bubble
		n, capped, err := w.m.Renew(t.Context(), g, 0, lease.Bounds{TTL: time.Hour}, time.Now())
		if err != nil || capped || !n.Expires.Equal(time.Now().Add(time.Hour).UTC()) {
			t.Fatalf("Renew = %+v, %v, %v", n, capped, err)
		}
		if _, _, err := w.m.Renew(t.Context(), g, 0, lease.Bounds{TTL: time.Hour}, time.Now()); !fault.Is(err,
			fault.Invalid) {
			t.Fatalf("renewing by a stale record: %v, want invalid", err)
		}
		n, capped, err = w.m.Renew(t.Context(), n, 99*time.Hour, lease.Bounds{TTL: time.Hour}, time.Now())
		if err != nil || !capped || !n.Expires.Equal(g.Max) {
			t.Fatalf("Renew past the maximum = %v, %v, %v; want until %v", n.Expires, capped, err, g.Max)
		}
		time.Sleep(time.Until(g.Max) + time.Second)
		synctest.Wait()
		if w.seen()[g.ID] != 1 || w.keysLeft(t) != 0 {
			t.Fatalf("undone %v", w.seen())
		}
	})
}

// TestUndoIsRetriedForDays checks that revocations are retried without end, so that a target that
// is down for a week loses none.
//
// https://github.com/hashicorp/vault/issues/8602
func TestUndoIsRetriedForDays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t)
		w.run(t)
		back := time.Now().Add(7 * 24 * time.Hour)
		w.fail = func(*lease.Lease) error { // before a lease is due
			if time.Now().Before(back) {
				return fault.Wrap("test", fault.Upstream, errors.New("down"))
			}
			return nil
		}
		g := w.grant(t, "db/creds/a/1", "x", time.Minute)
		time.Sleep(24 * time.Hour) // in a bubble
		synctest.Wait()
		l, err := w.m.Lookup(t.Context(), g.ID)
		if err != nil || l.State != lease.Ending || l.Error == "" || l.Tries < 20 || l.Failing.IsZero() {
			t.Fatalf("after a day: %+v, %v", l, err)
		}
		time.Sleep(time.Until(back) + 2*time.Hour)
		synctest.Wait()
		if w.seen()[g.ID] != 1 || w.keysLeft(t) != 0 {
			t.Fatalf("undone %v", w.seen())
		}
	})
}

var (
	leases = flag.Int("leases", 20_000, "how many leases TestManyLeases makes; the race detector gets a quarter")
	dead   = flag.Int("dead", 5_000, "how many leases of the dead target are due in TestDeadTargetBlocksNoOther")
)

func many() int {
	if raceEnabled {
		return *leases / 4
	}
	return *leases
}

// TestManyLeases checks that each of many leases over an hour is revoked once, less than a second
// late.
//
// https://github.com/hashicorp/vault/issues/5968
// https://github.com/hashicorp/vault/issues/13404
func TestManyLeases(t *testing.T) {
	n := many()
	synctest.Test(t, func(t *testing.T) {
		w := open(t)
		w.run(t)
		for i := range n {
			w.grant(t, fmt.Sprintf("db/creds/a/%07d", i), "x", time.Hour+time.Duration(i)*time.Hour/time.Duration(n))
		}
		time.Sleep(2*time.Hour + time.Second) // in a bubble
		synctest.Wait()
		if len(w.seen()) != n || w.latest() >= time.Second {
			t.Fatalf("%d of %d undone, late by %v", len(w.seen()), n, w.latest())
		}
		for id, times := range w.seen() {
			if times != 1 {
				t.Fatalf("%s was undone %d times", id, times)
			}
		}
		if left := w.keysLeft(t); left != 0 {
			t.Fatalf("%d rows are left", left)
		}
	})
}

// TestDeadTargetBlocksNoOther checks that a dead target with many due leases does not delay other
// targets.
//
// https://github.com/hashicorp/vault/issues/5968
// https://github.com/hashicorp/vault/issues/13404
func TestDeadTargetBlocksNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t)
		w.run(t)
		dead := *dead
		w.fail = func(l *lease.Lease) error {
			if l.Target == "dead" {
				return fault.Wrap("test", fault.Upstream, errors.New("down"))
			}
			return nil
		}
		for i := range dead {
			w.grant(t, fmt.Sprintf("db/creds/dead/%07d", i), "dead", time.Minute)
		}
		for i := range 1000 {
			w.grant(t, fmt.Sprintf("db/creds/live/%07d", i), "live", time.Minute+time.Duration(i)*time.Second)
		}
		w.mu.Lock()
		w.late = 0
		w.mu.Unlock()
		var worst time.Duration
		w.mu.Lock()
		inner := w.fail
		w.fail = func(l *lease.Lease) error {
			if l.Target == "live" {
				worst = max(worst, time.Since(l.Expires))
			}
			return inner(l)
		}
		w.mu.Unlock()
		time.Sleep(time.Hour) // in a bubble
		synctest.Wait()
		if len(w.seen()) != 1000 || worst >= time.Second {
			t.Fatalf("%d of 1000 undone, late by %v", len(w.seen()), worst)
		}
		// When the target is up again, no lease is lost.
		w.mu.Lock()
		w.fail = nil
		w.mu.Unlock()
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		if len(w.seen()) != 1000+dead || w.keysLeft(t) != 0 {
			t.Fatalf("%d of %d undone once the target is back", len(w.seen()), 1000+dead)
		}
	})
}

func TestList(t *testing.T) {
	w := open(t)
	for _, id := range []string{"a/x/1", "a/x/2", "a/y/1", "a/z", "b/1"} {
		w.grant(t, id, "x", time.Hour)
	}
	for _, tt := range []struct {
		prefix, after string
		limit         int
		want          string
	}{
		{"", "", 0, "[a/ b/]"}, {"a/", "", 0, "[x/ y/ z]"}, {"a/x/", "", 0, "[1 2]"}, {"a/", "x/", 1, "[y/]"},
		{"a/", "y/", 0, "[z]"}, {"c/", "", 0, "[]"},
	} {
		got, err := w.m.List(t.Context(), tt.prefix, tt.after, tt.limit)
		if err != nil || fmt.Sprint(got) != tt.want {
			t.Errorf("List(%q, %q, %d) = %v, %v; want %s", tt.prefix, tt.after, tt.limit, got, err, tt.want)
		}
	}
}

// TestClaimsOfTheDead checks that the leases that a process had claimed when it died are revoked
// soon, however often that happens, and that a slow revocation is not started twice.
func TestClaimsOfTheDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t)
		died := errors.New("died")
		w.fail = func(*lease.Lease) error { panic(died) }
		g := w.grant(t, "db/creds/a/1", "x", time.Minute)
		time.Sleep(time.Minute) // in a bubble
		at := g.Due
		for range 5 {
			func() {
				defer func() {
					if p := recover(); p != died {
						t.Fatalf("recovered %v", p)
					}
				}()
				_ = w.m.Step(t.Context(), g.ID, time.Now(), at, nil)
			}()
			l, err := w.m.Lookup(t.Context(), g.ID)
			if err != nil || l.Tries != 0 || time.Until(l.Due) > 3*time.Second {
				t.Fatalf("claimed and died: %+v, %v", l, err)
			}
			at = l.Due
			time.Sleep(time.Until(at))
		}

		begun := 0
		w.fail = nil
		w.again = func(*lease.Lease) time.Time {
			begun++
			w.mu.Unlock()
			time.Sleep(time.Minute)
			w.mu.Lock()
			return time.Time{}
		}
		w.run(t)
		time.Sleep(61 * time.Second)
		synctest.Wait()
		if begun != 1 || w.seen()[g.ID] != 1 || w.keysLeft(t) != 0 {
			t.Errorf("an undo of a minute was begun %d times; undone %v", begun, w.seen())
		}
	})
}

// TestBlackHoleBlocksNoOther checks that a target at which each revocation times out delays no
// other target, and gets only few revocations at a time.
//
// https://github.com/hashicorp/vault/issues/5968
// https://github.com/hashicorp/vault/issues/13404
func TestBlackHoleBlocksNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t)
		swallowed, most, waiting := 0, 0, 0
		var late []time.Duration
		w.fail = func(l *lease.Lease) error {
			if l.Target == "live" {
				late = append(late, time.Since(l.Expires))
				return nil
			}
			waiting++
			swallowed, most = swallowed+1, max(most, waiting)
			w.mu.Unlock()
			time.Sleep(time.Minute) // the limit of core for a revocation
			w.mu.Lock()
			waiting--
			return fault.Wrap("test", fault.Timeout, context.DeadlineExceeded)
		}
		holes := 2 * *dead
		for i := range holes {
			w.grant(t, fmt.Sprintf("db/creds/hole/%07d", i), "hole", time.Minute)
		}
		const live = 2000
		for i := range live {
			w.grant(t, fmt.Sprintf("db/creds/live/%07d", i), "live", time.Minute+time.Duration(i)*time.Second)
		}
		w.run(t)
		time.Sleep(time.Minute + live*time.Second) // in a bubble
		synctest.Wait()
		w.mu.Lock()
		slices.Sort(late)
		if len(late) != live || late[live*99/100] > time.Second {
			t.Errorf("%d of %d undone, p99 late by %v", len(late), live, late[max(0, len(late)*99/100-1)])
		}
		if most > 32 || swallowed > 200 {
			t.Errorf("the black hole was asked %d times, by %d at once", swallowed, most)
		}
		w.fail = nil
		w.mu.Unlock()
		time.Sleep(2 * time.Hour) // it answers again
		synctest.Wait()
		if n := len(w.seen()); n != holes+live {
			t.Errorf("%d of %d undone once the target is back", n, holes+live)
		}
	})
}
