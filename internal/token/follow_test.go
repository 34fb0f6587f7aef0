package token_test

import (
	"context"
	"iter"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/barrier/barriertest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/token"
)

// feed is a store that counts reads of tokens, and whose change feed stalls or ends on command.
type feed struct {
	storage.Store
	stalled, broken atomic.Bool
	reads, watches  atomic.Int64
}

func (f *feed) Get(ctx context.Context, key string) (storage.Entry, error) {
	if strings.HasPrefix(key, token.Prefix) {
		f.reads.Add(1)
	}
	return f.Store.Get(ctx, key)
}

func (f *feed) Watch(ctx context.Context, prefix string, after storage.Version) iter.Seq2[storage.Change, error] {
	f.watches.Add(1)
	return func(yield func(storage.Change, error) bool) {
		for ch, err := range f.Store.Watch(ctx, prefix, after) {
			if f.broken.Load() {
				yield(storage.Change{}, storage.ErrGap)
				return
			}
			if f.stalled.Load() {
				<-ctx.Done()
			}
			if !yield(ch, err) {
				return
			}
		}
	}
}

// TestStaleFeed: a cached token is used without a read exactly as long as the feed is fresh, and
// not after the feed has ended. A feed that ends at once is restarted, but not in a busy loop.
func TestStaleFeed(t *testing.T) {
	for name, stop := range map[string]func(f *feed){
		"stalled": func(f *feed) { f.stalled.Store(true) },
		"broken":  func(f *feed) { f.broken.Store(true) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st := newStore(t)
				f := &feed{Store: st}
				one, two := onBarrier(barriertest.Open(t, f)), onBarrier(barriertest.Open(t, st))
				follow, unfollow := context.WithCancel(t.Context())
				go func() { _ = one.Follow(follow) }()
				defer unfollow()
				synctest.Wait()
				e := create(t, one, nil)
				synctest.Wait()
				readsOf := func(n int) int64 {
					t.Helper()
					before := f.reads.Load()
					for range n {
						if _, err := one.ByID(t.Context(), e.ID); err != nil {
							t.Fatal(err)
						}
					}
					return f.reads.Load() - before
				}
				for range 10 { // a minute without a change
					if n := readsOf(100); n > 1 {
						t.Fatalf("%d reads for 100 requests with a fresh feed", n)
					}
					time.Sleep(6 * time.Second)
					synctest.Wait()
				}
				_ = readsOf(1)
				began := time.Now()
				stop(f)
				if err := two.Revoke(t.Context(), e.ID); err != nil {
					t.Fatal(err)
				}
				for {
					_, err := one.ByID(t.Context(), e.ID)
					if fault.Is(err, fault.Denied) {
						break
					}
					if since := time.Since(began); since > time.Second {
						t.Fatalf("revoked by another server: it is believed %s later, %v", since, err)
					}
					time.Sleep(time.Millisecond)
				}
				before := f.watches.Load()
				time.Sleep(10 * time.Second)
				if n := f.watches.Load() - before; n > 300 || name == "broken" && n < 10 {
					t.Errorf("the feed was begun %d times in ten seconds", n)
				}
			})
		})
	}
}
