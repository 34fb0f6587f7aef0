package due

import (
	"context"
	"slices"
	"sync"
	"time"
)

// When many items fall due at once, working them off as fast as possible takes the processors, the disk and the target
// from everybody else. So each lane begins with one item at a time and goes on to more only as long as that
// makes none of them slower: a target across a network soon has all workers, one that answers at once has one or two, which
// do as much. The idea is that of congestion control by delay (Brakmo, O'Malley and Peterson, "TCP Vegas", SIGCOMM 1994).
const (
	// round is how many items, at least, are looked at for a decision: by their mean, but for an eighth that took the
	// longest, since the disk has its moments.
	round = 8
	// In percent of the least mean: what an item may take for more of them to be begun, and from where
	// on fewer are.
	unhurt, crowded = 130, 150
	// calm is how many rounds must be unhurt, after one was crowded, for another try.
	calm = 2
	// relearn is how long the least mean counts. A target may have become slower for good.
	relearn = time.Minute
	// patience is how long an item takes the place of others: one that hangs must not hold them up.
	patience = 50 * time.Millisecond
)

// A pace says how many items of one lane are under way at once. It is safe for concurrent use, but for
// begin, which one goroutine at a time calls.
type pace struct {
	workers chan struct{} // holds one for each item that is under way, in a place or not
	free    chan struct{} // a place was given back

	mu     sync.Mutex // guards:
	limit  int
	active int // in a place
	took   []time.Duration
	least  time.Duration // mean of a round; -1: none yet
	since  time.Time     // when least was begun to be learned
	steady bool          // it has been crowded since then: grow by one
	calm   int           // rounds that were unhurt since then
}

func newPace(most int) *pace {
	return &pace{workers: make(chan struct{}, most), free: make(chan struct{}, 1), limit: 1, least: -1}
}

// begin waits for a worker and a place. Both are given back by what it returns, which is told whether the item was done; the
// place before, once the item has taken its time.
func (p *pace) begin(ctx context.Context) (end func(done bool), err error) {
	select {
	case p.workers <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	for !p.enter() {
		select {
		case <-p.free:
		case <-ctx.Done():
			<-p.workers
			return nil, ctx.Err()
		}
	}
	start := time.Now()
	var leave sync.Once
	late := time.AfterFunc(patience, func() { leave.Do(p.leave) })
	return func(done bool) {
		late.Stop()
		if done {
			p.learn(time.Since(start))
		}
		leave.Do(p.leave)
		<-p.workers
	}, nil
}

func (p *pace) enter() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.active >= p.limit {
		return false
	}
	p.active++
	return true
}

func (p *pace) leave() {
	p.mu.Lock()
	p.active--
	p.mu.Unlock()
	select {
	case p.free <- struct{}{}:
	default:
	}
}

// learn counts an item that was done, and decides at the end of a round.
func (p *pace) learn(took time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := time.Now(); now.Sub(p.since) > relearn {
		p.limit, p.took, p.least, p.since, p.steady, p.calm = 1, p.took[:0], -1, now, false, 0
	}
	p.took = append(p.took, took)
	if len(p.took) < max(round, p.limit) {
		return
	}
	mean := usual(p.took)
	p.took = p.took[:0]
	if p.least < 0 || mean < p.least {
		p.least = mean
	}
	switch {
	case mean*100 > p.least*crowded:
		p.limit, p.steady, p.calm = max(1, p.limit*3/4), true, 0
	case mean*100 > p.least*unhurt:
		p.calm = 0
	case !p.steady:
		p.limit = min(2*p.limit, cap(p.workers))
	default:
		if p.calm++; p.calm >= calm {
			p.limit, p.calm = min(p.limit+1, cap(p.workers)), 0
		}
	}
}

// usual is the mean of all but the longest eighth. It sorts them.
func usual(took []time.Duration) time.Duration {
	slices.Sort(took)
	took = took[:len(took)-len(took)/8]
	var sum time.Duration
	for _, d := range took {
		sum += d
	}
	return sum / time.Duration(len(took))
}
