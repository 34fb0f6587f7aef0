package postgres

import (
	"context"
	"errors"
	"sync"
	"time"
)

// errCrowded sends a change back to take its turn: while it waited for a session, others collided.
var errCrowded = errors.New("changes go in single file now")

var errClosed = errors.New("the connection to the database was closed")

// turns knows the running calls, so that they can be canceled, and makes changes go
// one at a time for a while after two of them collided.
//
// PostgreSQL refuses a GRANT on an object that another transaction has just granted
// on, and finds a deadlock where two took several objects in another order, after a
// second of waiting. Creates of one role grant on the same tables, so with several
// sessions they collide again and again; in single file they do not.
type turns struct {
	alone chan struct{} // holds one element while a change goes alone

	mu      sync.Mutex // guards the rest
	running map[*int]context.CancelCauseFunc
	closed  bool
	until   time.Time // changes go alone until then
}

// singleFile is how long changes go alone after a collision.
const singleFile = 10 * time.Second

func newTurns() *turns {
	return &turns{alone: make(chan struct{}, 1), running: map[*int]context.CancelCauseFunc{}}
}

// begin registers a call. Its context is canceled by close.
func (t *turns) begin(ctx context.Context) (context.Context, func(), error) {
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

func (t *turns) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for _, cancel := range t.running {
		cancel(errClosed)
	}
}

// collision notes that two changes met.
func (t *turns) collision() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.until = time.Now().Add(singleFile)
}

// take waits, for a while after a collision, until no other change goes alone. The
// returned function ends the turn.
func (t *turns) take(ctx context.Context) (release func(), alone bool, err error) {
	if !t.crowded() {
		return func() {}, false, nil
	}
	select {
	case t.alone <- struct{}{}:
		return func() { <-t.alone }, true, nil
	case <-ctx.Done():
		return nil, false, ctx.Err()
	}
}

// crowded reports whether changes go in single file now.
func (t *turns) crowded() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return time.Now().Before(t.until)
}
