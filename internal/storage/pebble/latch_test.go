package pebble

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
)

func TestNormalize(t *testing.T) {
	got := normalize([]claim{{7, false}, {3, true}, {7, true}, {3, false}, {1, false}, {1, false}})
	want := []claim{{1, false}, {3, true}, {7, true}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(claim{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestLatchesExclude: of many batches on few stripes, none enters a stripe that another has locked
// alone, and all finish.
func TestLatchesExclude(t *testing.T) {
	var l latches
	var mu sync.Mutex
	inside := map[uint16]int{} // -1: one alone
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(i)))
			for range 2000 {
				var claims []claim
				for range 1 + r.IntN(4) {
					claims = append(claims, claim{uint16(r.IntN(6)), r.IntN(2) == 0})
				}
				claims = normalize(claims)
				if err := l.lock(t.Context(), nil, claims); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				for _, c := range claims {
					if n := inside[c.stripe]; n < 0 || c.alone && n > 0 {
						t.Errorf("stripe %d was entered (alone: %v) with %d inside", c.stripe, c.alone, n)
					}
					if c.alone {
						inside[c.stripe] = -1
					} else {
						inside[c.stripe]++
					}
				}
				mu.Unlock()
				mu.Lock()
				for _, c := range claims {
					if c.alone {
						inside[c.stripe] = 0
					} else {
						inside[c.stripe]--
					}
				}
				mu.Unlock()
				l.unlock(claims)
			}
		})
	}
	wg.Wait()
}

// TestLatchFair: a waiter for a latch alone is not overtaken by later ones, and cancelling it lets
// the others continue.
func TestLatchFair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l latch
		if err := l.lock(t.Context(), nil, false); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		writer, reader := make(chan error, 1), make(chan error, 1)
		go func() { writer <- l.lock(ctx, nil, true) }()
		synctest.Wait()
		go func() { reader <- l.lock(t.Context(), nil, false) }()
		synctest.Wait()
		if len(reader) != 0 {
			t.Fatal("a reader passed a writer that waits")
		}
		cancel()
		if err := <-writer; !errors.Is(err, context.Canceled) {
			t.Errorf("the writer that gave up got %v", err)
		}
		if err := <-reader; err != nil {
			t.Errorf("the reader behind it got %v", err)
		}
		l.unlock(false)
		l.unlock(false)
		dead := make(chan struct{})
		if err := l.lock(t.Context(), dead, true); err != nil {
			t.Fatal(err)
		}
		go func() { writer <- l.lock(t.Context(), dead, true) }()
		synctest.Wait()
		close(dead)
		if err := <-writer; !errors.Is(err, errPoisoned) {
			t.Errorf("waiting for a latch of a dead handle: %v", err)
		}
	})
}
