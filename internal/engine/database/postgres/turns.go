package postgres

import (
	"context"
	"errors"
	"sync"
	"time"
)

var errClosed = errors.New("the connection to the database was closed")

// turns knows the running calls, so that they can be canceled, and makes changes go
// one at a time for a while after two of them collided.
//
// PostgreSQL refuses a GRANT on an object that another transaction is
// granting on. Creates of one role grant on the same tables, so with several sessions
// nearly all of them would collide again and again; in single file none does.
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

// calm waits, after a collision, until no other change goes alone. The returned
// function ends the turn.
func (t *turns) calm(ctx context.Context) (func(), error) {
	t.mu.Lock()
	free := time.Now().After(t.until)
	t.mu.Unlock()
	if free {
		return func() {}, nil
	}
	select {
	case t.alone <- struct{}{}:
		return func() { <-t.alone }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
