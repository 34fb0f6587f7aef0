package due

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/storage/memory"
)

// stored returns a store and a function that commits to it.
func stored(t *testing.T) (*memory.Store, func(ops []storage.Op)) {
	store := memory.Open()
	t.Cleanup(func() { _ = store.Close() })
	return store, func(ops []storage.Op) {
		if _, err := store.Commit(t.Context(), storage.Batch{Ops: ops}); err != nil {
			t.Error(err)
		}
	}
}

// start runs a loop until end is called.
func start(ctx context.Context, loop *Loop) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { defer close(done); _ = loop.Run(ctx) }()
	return func() { cancel(); <-done }
}

// run runs a loop for d. It runs in a bubble.
func run(t *testing.T, loop *Loop, d time.Duration) {
	end := start(t.Context(), loop)
	time.Sleep(d)
	end()
}

// TestMovedWhileDraining: an item that its handler moves, while the loop still drains the lane, is
// handled in time, not only after the next rescan.
func TestMovedWhileDraining(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, commit := stored(t)
		begin := time.Now()
		moving := Item{Lane: "work", At: begin.Add(time.Second), Kind: "key", ID: "a"}
		other := Item{Lane: "work", At: begin.Add(time.Second), Kind: "key", ID: "b"}
		movedTo := begin.Add(5 * time.Second)
		commit(Move(moving, time.Time{}, moving.At))
		commit(Move(other, time.Time{}, other.At))

		var mu sync.Mutex
		var late time.Duration
		handled := 0
		loop := NewLoop(Config{
			Store: store, Log: slog.New(slog.DiscardHandler),
			Handle: func(_ context.Context, it Item) Outcome {
				switch {
				case it.ID == "a" && it.At.Equal(moving.At):
					commit(Move(it, it.At, movedTo))
				case it.ID == "a":
					mu.Lock()
					handled, late = handled+1, time.Since(movedTo)
					mu.Unlock()
					commit(Move(it, it.At, time.Time{}))
				default:
					commit(Move(it, it.At, time.Time{}))
				}
				return Handled
			},
			Late: func(it Item, _ time.Duration) {
				if it.ID == "b" {
					time.Sleep(10 * time.Millisecond) // the first item's handler and the feed finish meanwhile
				}
			},
		})
		run(t, loop, 50*time.Second)
		if handled != 1 || late > 100*time.Millisecond {
			t.Errorf("handled %d times, %s late; want once, at once", handled, late)
		}
	})
}

// TestMovedBack: an item that its handler moves away and back to the same millisecond is handled
// again.
func TestMovedBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, commit := stored(t)
		it := Item{Lane: "work", At: time.Now().Add(time.Second), Kind: "key", ID: "a"}
		commit(Move(it, time.Time{}, it.At))
		handled := 0
		loop := NewLoop(Config{Store: store,
			Log: slog.New(slog.DiscardHandler), Handle: func(context.Context, Item) Outcome {
				if handled++; handled > 1 {
					commit(Move(it, it.At, time.Time{}))
					return Handled
				}
				far := it.At.Add(time.Hour)
				commit(Move(it, it.At, far))
				commit(Move(it, far, it.At))
				time.Sleep(10 * time.Millisecond) // the loop reads the row while the handler is still running
				return Handled
			}})
		run(t, loop, 30*time.Second)
		if handled != 2 {
			t.Errorf("handled %d times, want 2", handled)
		}
	})
}

// TestItemThatAlwaysFails: an item that always fails does not delay others of its lane, whatever
// its outcome is.
func TestItemThatAlwaysFails(t *testing.T) {
	for name, out := range map[string]Outcome{
		"the item": ItemFailed, "the store": StoreFailed, "the target": TargetFailed,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store, commit := stored(t)
				begin := time.Now()
				for i, id := range []string{"bad", "good", "good too", "later", "last"} {
					it := Item{Lane: "token", Kind: "token", ID: id, At: begin.Add(time.Second)}
					if i > 2 {
						it.At = begin.Add(time.Duration(i) * time.Minute)
					}
					commit(Move(it, time.Time{}, it.At))
				}
				var mu sync.Mutex
				worst, tries, handled := time.Duration(0), 0, 0
				loop := NewLoop(Config{Store: store, Log: slog.New(slog.DiscardHandler),
					Workers: 1, Handle: func(_ context.Context, it Item) Outcome {
						mu.Lock()
						defer mu.Unlock()
						if it.ID == "bad" {
							tries++
							return out
						}
						handled++
						worst = max(worst, time.Since(it.At))
						commit(Move(it, it.At, time.Time{}))
						return Handled
					}})
				run(t, loop, 10*time.Minute)
				limit := map[Outcome]time.Duration{
					ItemFailed: time.Second, StoreFailed: 5 * time.Second, TargetFailed: 2 * time.Minute,
				}[out]
				if handled != 4 || worst > limit || tries < 5 || tries > 1000 {
					t.Errorf("%d of 4 handled, %s late, and the bad one was tried %d times", handled, worst, tries)
				}
			})
		})
	}
}

// damaged yields each row with an error, like a barrier that cannot decrypt it.
type damaged struct{ *memory.Store }

func (d damaged) Scan(ctx context.Context, from, to string) iter.Seq2[storage.Entry, error] {
	return func(yield func(storage.Entry, error) bool) {
		for e, err := range d.Store.Scan(ctx, from, to) {
			if err == nil {
				err = errors.New("damaged")
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// TestDamagedRow: an item whose value cannot be read is handled, because its key is sufficient.
func TestDamagedRow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, commit := stored(t)
		it := Item{Lane: "token", Kind: "token", ID: "a", At: time.Now()}
		commit(Move(it, time.Time{}, it.At))
		var handled atomic.Int32
		loop := NewLoop(Config{Store: damaged{store},
			Log: slog.New(slog.DiscardHandler), Handle: func(context.Context, Item) Outcome {
				handled.Add(1)
				return Handled
			}})
		run(t, loop, time.Second)
		if handled.Load() == 0 {
			t.Error("it was not handled")
		}
	})
}

// TestProbesDoNotSpin: if the only due item of a paused lane says nothing about the target, the
// loop does not probe with it endlessly.
func TestProbesDoNotSpin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, commit := stored(t)
		now := time.Now()
		commit(Move(Item{Lane: "db", Kind: "lease", ID: "damaged", At: now}, time.Time{}, now))
		commit(Move(Item{Lane: "db", Kind: "lease", ID: "failing", At: now}, time.Time{}, now))
		var tries atomic.Int32
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		loop := NewLoop(Config{Store: store,
			Log: slog.New(slog.DiscardHandler), Handle: func(_ context.Context, it Item) Outcome {
				if it.ID == "failing" {
					commit(Move(it, it.At, it.At.Add(time.Hour)))
					return TargetFailed
				}
				if tries.Add(1) > 1000 {
					stop() // the bubble's time does not advance while the loop spins
				}
				return ItemFailed
			}})
		end := start(ctx, loop)
		time.Sleep(10 * time.Minute)
		end()
		if n := tries.Load(); n < 5 || n > 1000 {
			t.Errorf("it was tried %d times in ten minutes", n)
		}
	})
}

// scanned records where scans of a lane begin.
type scanned struct {
	*memory.Store
	mu   sync.Mutex
	from string
}

func (s *scanned) Scan(ctx context.Context, from, to string) iter.Seq2[storage.Entry, error] {
	if it, ok := Parse(from + "/k/"); ok && it.Lane == "work" {
		s.mu.Lock()
		s.from = max(s.from, from)
		s.mu.Unlock()
	}
	return s.Store.Scan(ctx, from, to)
}

// TestDoesNotRescanEmptyRange: a drained range is not scanned again, because removed rows leave
// traces there. Items that are added there later are found nevertheless.
func TestDoesNotRescanEmptyRange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner, commit := stored(t)
		store := &scanned{Store: inner}
		begin := time.Now()
		at := func(after time.Duration, id string) Item {
			return Item{Lane: "work", At: begin.Add(after).Truncate(time.Millisecond), Kind: "k", ID: id}
		}
		var mu sync.Mutex
		var handled []string
		loop := NewLoop(Config{Store: store,
			Log: slog.New(slog.DiscardHandler), Handle: func(_ context.Context, it Item) Outcome {
				mu.Lock()
				handled = append(handled, it.ID)
				mu.Unlock()
				commit(Move(it, it.At, time.Time{}))
				return Handled
			}})
		end := start(t.Context(), loop)
		gone := at(5*time.Second, "gone")
		commit(Move(gone, time.Time{}, gone.At))
		for _, it := range []Item{
			at(time.Second, "first"), at(10*time.Second, "second"), at(12*time.Second, "third"),
		} {
			commit(Move(it, time.Time{}, it.At))
		}
		time.Sleep(2 * time.Second)
		commit(Move(gone, gone.At, time.Time{}))
		time.Sleep(9 * time.Second)
		commit(Move(at(3*time.Second, "late"), time.Time{}, begin.Add(3*time.Second).Truncate(time.Millisecond)))
		time.Sleep(2 * time.Second)
		end()
		if want := []string{"first", "second", "late", "third"}; !slices.Equal(handled, want) {
			t.Errorf("handled %v, want %v", handled, want)
		}
		if it, ok := Parse(store.from + "/k/"); !ok || it.At.Before(begin.Add(9*time.Second)) {
			t.Errorf("the last look began at %s, %v; want where the one before ended", it.At.Sub(begin), ok)
		}
	})
}
