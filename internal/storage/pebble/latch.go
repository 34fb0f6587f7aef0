package pebble

import (
	"context"
	"slices"
	"sync"
)

// latches lock keys, by stripe, while a batch is checked and applied. They are locked in the order
// of the stripes, so that no two batches wait for each other.
type latches [stripes]latch

// A claim is a stripe that a batch has locked or waits for, shared or alone.
type claim struct {
	stripe uint16
	alone  bool
}

// normalize sorts claims and leaves one for each stripe.
func normalize(claims []claim) []claim {
	slices.SortFunc(claims, func(a, b claim) int { return int(a.stripe) - int(b.stripe) })
	out := claims[:0]
	for _, c := range claims {
		if n := len(out); n > 0 && out[n-1].stripe == c.stripe {
			out[n-1].alone = out[n-1].alone || c.alone
			continue
		}
		out = append(out, c)
	}
	return out
}

// lock takes all of claims, which are normalized, or none.
func (l *latches) lock(ctx context.Context, dead <-chan struct{}, claims []claim) error {
	for i, c := range claims {
		if err := l[c.stripe].lock(ctx, dead, c.alone); err != nil {
			l.unlock(claims[:i])
			return err
		}
	}
	return nil
}

func (l *latches) unlock(claims []claim) {
	for _, c := range claims {
		l[c.stripe].unlock(c.alone)
	}
}

// A latch is a read-write lock that is fair (first come, first served, so that assertions do not
// starve writers), that can be waited for with a context, and that another goroutine may unlock.
type latch struct {
	mu     sync.Mutex
	shared int // how many hold it together
	alone  bool
	queue  []*waiter
}

type waiter struct {
	alone bool
	ready chan struct{}
}

func (l *latch) freeLocked(alone bool) bool { return !l.alone && (!alone || l.shared == 0) }

func (l *latch) takeLocked(alone bool) {
	if alone {
		l.alone = true
	} else {
		l.shared++
	}
}

func (l *latch) lock(ctx context.Context, dead <-chan struct{}, alone bool) error {
	l.mu.Lock()
	if len(l.queue) == 0 && l.freeLocked(alone) {
		l.takeLocked(alone)
		l.mu.Unlock()
		return nil
	}
	w := &waiter{alone, make(chan struct{})}
	l.queue = append(l.queue, w)
	l.mu.Unlock()
	var err error
	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-dead:
		err = errPoisoned
	}
	l.giveUp(w)
	return err
}

// giveUp removes w from the queue, or unlocks if w has got the latch meanwhile.
func (l *latch) giveUp(w *waiter) {
	l.mu.Lock()
	if i := slices.Index(l.queue, w); i >= 0 {
		l.queue = slices.Delete(l.queue, i, i+1)
		l.serveLocked()
		l.mu.Unlock()
		return
	}
	l.mu.Unlock()
	l.unlock(w.alone)
}

func (l *latch) unlock(alone bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if alone {
		l.alone = false
	} else {
		l.shared--
	}
	l.serveLocked()
}

func (l *latch) serveLocked() {
	for len(l.queue) > 0 && l.freeLocked(l.queue[0].alone) {
		w := l.queue[0]
		l.queue = slices.Delete(l.queue, 0, 1)
		l.takeLocked(w.alone)
		close(w.ready)
	}
}
