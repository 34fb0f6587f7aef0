package postgres

import (
	"context"
	"sync"
	"time"
)

// A runner can cancel the running calls, and serializes changes for a while after two of them
// collided.
//
// PostgreSQL refuses a GRANT on an object on which a concurrent transaction has granted, and
// detects a deadlock, after a second, between transactions that lock several objects in different
// orders. Creates of one role grant on the same tables, so that concurrent ones collide again and
// again.
type runner struct {
	alone chan struct{} // has one element while a serialized change runs

	mu      sync.Mutex // guards the rest
	running map[*int]context.CancelCauseFunc
	closed  bool
	until   time.Time // changes are serialized until then
}

// serialPeriod is how long changes are serialized after a collision.
const serialPeriod = 10 * time.Second

func newRunner() *runner {
	return &runner{alone: make(chan struct{}, 1), running: map[*int]context.CancelCauseFunc{}}
}

// begin registers a call. Its context is canceled by close.
func (t *runner) begin(ctx context.Context) (context.Context, func(), error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, nil, &notSent{errClosed}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	id := new(int)
	t.running[id] = cancel
	return ctx, func() {
		t.mu.Lock()
		delete(t.running, id)
		t.mu.Unlock()
		cancel(nil)
	}, nil
}

func (t *runner) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for _, cancel := range t.running {
		cancel(errClosed)
	}
}

// collision starts serializing changes.
func (t *runner) collision() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.until = time.Now().Add(serialPeriod)
}

// acquire waits for its turn if changes are serialized. The returned function ends the turn.
func (t *runner) acquire(ctx context.Context) (release func(), alone bool, err error) {
	if !t.serialized() {
		return func() {}, false, nil
	}
	select {
	case t.alone <- struct{}{}:
		return func() { <-t.alone }, true, nil
	case <-ctx.Done():
		return nil, false, ctx.Err()
	}
}

// serialized reports whether changes are serialized now.
func (t *runner) serialized() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return time.Now().Before(t.until)
}
