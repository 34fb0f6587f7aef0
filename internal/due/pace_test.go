package due

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A target handles several items at once, each for the same time. It runs in a bubble.
type target struct {
	places chan struct{}
	each   time.Duration
}

func newTarget(places int, each time.Duration) *target {
	return &target{places: make(chan struct{}, places), each: each}
}

// work handles one item. It runs in a bubble.
func (g *target) work() {
	g.places <- struct{}{}
	time.Sleep(g.each)
	<-g.places
}

// drive handles items for d, and returns how many, and how many were active at most in the second
// half. It runs in a bubble.
func drive(t *testing.T, p *pace, g *target, d time.Duration) (done, peak int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	var mu sync.Mutex
	var all sync.WaitGroup
	start, active := time.Now(), 0
	for {
		end, err := p.begin(ctx)
		if err != nil {
			break
		}
		mu.Lock()
		active++
		if time.Since(start) > d/2 {
			peak = max(peak, active)
		}
		mu.Unlock()
		all.Go(func() {
			g.work()
			mu.Lock()
			active--
			done++
			mu.Unlock()
			end(true)
		})
	}
	all.Wait()
	return done, peak
}

// TestPaceFarTarget: a target with a long round trip soon gets all workers.
func TestPaceFarTarget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newTarget(1000, 5*time.Millisecond)
		if n, _ := drive(t, newPace(32), g, time.Second); n < 5500 {
			t.Errorf("%d items in a second, of 6,400 that the workers can do", n)
		}
	})
}

// TestPaceNearTarget: a fast target that handles one item at a time is busy, but has no queue.
//
// https://github.com/hashicorp/vault/issues/5968
// https://github.com/hashicorp/vault/issues/13404
func TestPaceNearTarget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newTarget(1, 500*time.Microsecond)
		n, peak := drive(t, newPace(32), g, 10*time.Second)
		if peak > 2 {
			t.Errorf("%d items at once, where one does as much", peak)
		}
		if n < 19_000 {
			t.Errorf("%d items in ten seconds, of 20,000", n)
		}
	})
}

// TestPaceFindsPlaces: a target that handles ten items at once gets about ten.
func TestPaceFindsPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newTarget(10, 5*time.Millisecond)
		n, peak := drive(t, newPace(32), g, 10*time.Second)
		if n < 17_000 {
			t.Errorf("%d items in ten seconds, of 20,000", n)
		}
		if peak > 16 {
			t.Errorf("%d items at once, for ten places", peak)
		}
	})
}

// TestPaceRelearns: a target that becomes slower for good is soon used fully again.
func TestPaceRelearns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPace(32)
		drive(t, p, newTarget(1000, 2*time.Millisecond), 10*time.Second)
		slow := newTarget(1000, 8*time.Millisecond)
		drive(t, p, slow, relearn)
		if n, _ := drive(t, p, slow, time.Second); n < 3500 {
			t.Errorf("%d items in a second, of 4,000", n)
		}
	})
}

// TestPaceWithHangingItems: an item that hangs delays the others only for a moment, until all
// workers hang.
func TestPaceWithHangingItems(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPace(32)
		var stuck []func(bool)
		for range 10 {
			end, err := p.begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			stuck = append(stuck, end)
		}
		start := time.Now()
		for range 100 {
			end, err := p.begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
			end(true)
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("100 items took %s beside ten that hang", took)
		}
		for _, end := range stuck {
			end(false)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if p.active != 0 {
			t.Errorf("%d places are taken at rest", p.active)
		}
		if _, err := p.begin(ctx); err != nil {
			t.Errorf("no place at rest: %v", err)
		}
	})
}

// TestPaceCancelled: a caller whose context ends does not count as active.
func TestPaceCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPace(1)
		end, err := p.begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), maxHold/2)
		defer cancel()
		if _, err := p.begin(ctx); err == nil {
			t.Error("a second item is under way")
		}
		end(true)
		if p.active != 0 {
			t.Errorf("%d places are taken", p.active)
		}
	})
}
