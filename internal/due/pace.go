package due

import (
	"context"
	"slices"
	"sync"
	"time"
)

// When many items fall due at once, handling them as fast as possible would overload the
// processors, the disk and the target. Each lane therefore begins with one item at a time, and
// increases the number as long as that does not make items slower. A target across a network soon
// gets all workers; one that answers at once gets one or two, which do as much. The idea is
// congestion control by delay (Brakmo, O'Malley and Peterson, "TCP Vegas", SIGCOMM 1994).
const (
	// roundSize is the minimum number of items that a decision is based on.
	roundSize = 8
	// Mean durations in percent of the fastest: below the first, the limit grows; above the
	// second, it shrinks.
	growBelow, shrinkAbove = 130, 150
	// steadyRounds is how many good rounds must follow before the limit grows again after it has
	// shrunk.
	steadyRounds = 2
	// relearn is how long the fastest mean is used, because a target may become slower for good.
	relearn = time.Minute
	// maxHold is how long an item counts as active, because one that hangs must not delay the
	// others.
	maxHold = 50 * time.Millisecond
)

// A pace limits how many items of one lane are handled at once. Safe for concurrent use, except
// begin, which one goroutine at a time may call.
type pace struct {
	workers chan struct{} // one element for each item that is being handled
	freed   chan struct{} // signals that active has decreased

	mu         sync.Mutex // guards the rest
	limit      int        // of active
	active     int        // items that have not exceeded maxHold
	durations  []time.Duration
	fastest    time.Duration // lowest mean of a round; -1: none yet
	since      time.Time     // when learning fastest began
	linear     bool          // the limit has shrunk since then, so it grows by one
	goodRounds int           // since the limit changed
}

func newPace(workers int) *pace {
	return &pace{workers: make(chan struct{}, workers), freed: make(chan struct{}, 1), limit: 1, fastest: -1}
}

// begin waits until one more item may be handled. The caller calls end after the item, with
// whether it was handled.
func (p *pace) begin(ctx context.Context) (end func(done bool), err error) {
	select {
	case p.workers <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	for !p.tryAcquire() {
		select {
		case <-p.freed:
		case <-ctx.Done():
			<-p.workers
			return nil, ctx.Err()
		}
	}
	start := time.Now()
	var release sync.Once
	late := time.AfterFunc(maxHold, func() { release.Do(p.release) })
	return func(done bool) {
		late.Stop()
		if done {
			p.learn(time.Since(start))
		}
		release.Do(p.release)
		<-p.workers
	}, nil
}

func (p *pace) tryAcquire() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.active >= p.limit {
		return false
	}
	p.active++
	return true
}

func (p *pace) release() {
	p.mu.Lock()
	p.active--
	p.mu.Unlock()
	select {
	case p.freed <- struct{}{}:
	default:
	}
}

// learn counts the duration of an item, and adjusts the limit at the end of a round.
func (p *pace) learn(took time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := time.Now(); now.Sub(p.since) > relearn {
		p.limit, p.durations, p.fastest, p.since, p.linear, p.goodRounds = 1, p.durations[:0], -1, now, false, 0
	}
	p.durations = append(p.durations, took)
	if len(p.durations) < max(roundSize, p.limit) {
		return
	}
	mean := trimmedMean(p.durations)
	p.durations = p.durations[:0]
	if p.fastest < 0 || mean < p.fastest {
		p.fastest = mean
	}
	switch {
	case mean*100 > p.fastest*shrinkAbove:
		p.limit, p.linear, p.goodRounds = max(1, p.limit*3/4), true, 0
	case mean*100 > p.fastest*growBelow:
		p.goodRounds = 0
	case !p.linear:
		p.limit = min(2*p.limit, cap(p.workers))
	default:
		if p.goodRounds++; p.goodRounds >= steadyRounds {
			p.limit, p.goodRounds = min(p.limit+1, cap(p.workers)), 0
		}
	}
}

// trimmedMean is the mean without the longest eighth, because a disk is slow at times. It sorts
// the durations.
func trimmedMean(durations []time.Duration) time.Duration {
	slices.Sort(durations)
	durations = durations[:len(durations)-len(durations)/8]
	var sum time.Duration
	for _, d := range durations {
		sum += d
	}
	return sum / time.Duration(len(durations))
}
