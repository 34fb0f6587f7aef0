package postgres

import (
	"context"
	"sync"
	"time"

	"github.com/keyturn/keyturn/internal/engine/database"
)

// A runner has the running calls, and serializes changes for a while after two of them collided.
//
// PostgreSQL refuses a GRANT on an object on which a concurrent transaction has granted, and
// detects a deadlock, after a second, between transactions that lock several objects in different
// orders. Creates of one role grant on the same tables, so that concurrent ones collide again and
// again.
type runner struct {
	calls database.Calls
	alone chan struct{} // has one element while a serialized change runs

	mu    sync.Mutex // guards the rest
	until time.Time  // changes are serialized until then
}

// serialPeriod is how long changes are serialized after a collision.
const serialPeriod = 10 * time.Second

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
