package due

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/storage/memory"
)

// TestMovedWhileDraining: an item whose handler moves it while the loop is
// still busy with others of its lane is not forgotten until the rescan.
func TestMovedWhileDraining(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.Open()
		defer store.Close()
		commit := func(ops ...storage.Op) {
			if _, err := store.Commit(t.Context(), storage.Batch{Ops: ops}); err != nil {
				t.Error(err)
			}
		}
		begin := time.Now()
		moving := Item{Lane: "work", At: begin.Add(time.Second), Kind: "key", ID: "a"}
		other := Item{Lane: "work", At: begin.Add(time.Second), Kind: "key", ID: "b"}
		again := begin.Add(5 * time.Second)
		commit(Move(moving, time.Time{}, moving.At)...)
		commit(Move(other, time.Time{}, other.At)...)

		var mu sync.Mutex
		var late time.Duration
		handled := 0
		loop := NewLoop(Config{
			Store: store, Log: slog.New(slog.DiscardHandler),
			Handle: func(_ context.Context, it Item) Outcome {
				switch {
				case it.ID == "a" && it.At.Equal(moving.At):
					commit(Move(it, it.At, again)...)
				case it.ID == "a":
					mu.Lock()
					handled, late = handled+1, time.Since(again)
					mu.Unlock()
					commit(Move(it, it.At, time.Time{})...)
				default:
					commit(Move(it, it.At, time.Time{})...)
				}
				return Handled
			},
			Late: func(it Item, _ time.Duration) {
				if it.ID == "b" {
					time.Sleep(10 * time.Millisecond) // the first item's handler and the feed are done meanwhile
				}
			},
		})
		ctx, end := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = loop.Run(ctx)
		}()
		time.Sleep(50 * time.Second)
		end()
		<-done
		if handled != 1 || late > 100*time.Millisecond {
			t.Errorf("handled %d times, %s late; want once, at once", handled, late)
		}
	})
}

// TestMovedBack: an item that its handler moves away and back to the same
// millisecond is due once more.
func TestMovedBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.Open()
		defer store.Close()
		commit := func(ops []storage.Op) {
			if _, err := store.Commit(t.Context(), storage.Batch{Ops: ops}); err != nil {
				t.Error(err)
			}
		}
		it := Item{Lane: "work", At: time.Now().Add(time.Second), Kind: "key", ID: "a"}
		commit(Move(it, time.Time{}, it.At))
		handled := 0
		loop := NewLoop(Config{Store: store, Log: slog.New(slog.DiscardHandler), Handle: func(context.Context, Item) Outcome {
			if handled++; handled > 1 {
				commit(Move(it, it.At, time.Time{}))
				return Handled
			}
			far := it.At.Add(time.Hour)
			commit(Move(it, it.At, far))
			commit(Move(it, far, it.At))
			time.Sleep(10 * time.Millisecond) // the feed tells, and the loop looks, while the handler is not done
			return Handled
		}})
		ctx, end := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = loop.Run(ctx)
		}()
		time.Sleep(30 * time.Second)
		end()
		<-done
		if handled != 2 {
			t.Errorf("handled %d times, want 2", handled)
		}
	})
}
