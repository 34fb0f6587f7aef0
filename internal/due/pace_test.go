package due

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A target works on so many items at once, each for as long, in a bubble.
type target struct {
	places chan struct{}
	each   time.Duration
}

func newTarget(places int, each time.Duration) *target {
	return &target{places: make(chan struct{}, places), each: each}
}

// work is one item, in a bubble.
func (g *target) work() {
	g.places <- struct{}{}
	time.Sleep(g.each)
	<-g.places
}

// drive works items off for d, in a bubble, and returns how many were done and how many were under way at most in
// the last half.
func drive(t *testing.T, p *pace, g *target, d time.Duration) (done, most int) {
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
			most = max(most, active)
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
	return done, most
}

// A target that is far away has all workers, soon.
func TestPaceFarTarget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newTarget(1000, 5*time.Millisecond)
		if n, _ := drive(t, newPace(32), g, time.Second); n < 5500 {
			t.Errorf("%d items in a second, of 6,400 that the workers can do", n)
		}
	})
}

// One that does one item after the other, at once, has no queue; and it is kept busy.
//
// https://github.com/hashicorp/vault/issues/5968
// https://github.com/hashicorp/vault/issues/13404
func TestPaceNearTarget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newTarget(1, 500*time.Microsecond)
		n, most := drive(t, newPace(32), g, 10*time.Second)
		if most > 2 {
			t.Errorf("%d items at once, where one does as much", most)
		}
		if n < 19_000 {
			t.Errorf("%d items in ten seconds, of 20,000", n)
		}
	})
}

// One with ten places has ten items under way, give or take.
func TestPaceFindsPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newTarget(10, 5*time.Millisecond)
		n, most := drive(t, newPace(32), g, 10*time.Second)
		if n < 17_000 {
			t.Errorf("%d items in ten seconds, of 20,000", n)
		}
		if most > 16 {
			t.Errorf("%d items at once, for ten places", most)
		}
	})
}

// A target that becomes slower for good is not taken for a crowded one for long.
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

// Items that hang hold up the others for a moment each, until all workers hang.
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

// A caller that gives up takes no place.
func TestPaceGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPace(1)
		end, err := p.begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience/2)
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
