package database

import (
	"context"
	"sync"

	"github.com/keyturn/keyturn/internal/fault"
)

// exclusively runs write while it holds the lock of a key, and again while a
// write of another node comes in between.
func (b *backend) exclusively(ctx context.Context, key string, write func() error) error {
	release, err := b.locks.Take(ctx, key)
	if err != nil {
		return err
	}
	defer release()
	for range 8 {
		if err = write(); !fault.Is(err, fault.Conflict) {
			return err
		}
	}
	return fault.New("database.write", fault.Unavailable, "%q is being written by many requests at once; try again", key)
}

// attempts remembers creates that surely had no effect, so that undoing them
// need not ask the database – which is often away when creates fail. What is
// forgotten is only undone in the slow way. Its zero value is empty.
type attempts struct {
	mu  sync.Mutex
	ids map[string]struct{}
}

// mostAttempts bounds the memory: a database that is away for long fails many.
const mostAttempts = 4096

func (a *attempts) add(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ids == nil || len(a.ids) >= mostAttempts {
		a.ids = map[string]struct{}{}
	}
	a.ids[id] = struct{}{}
}

func (a *attempts) has(id string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, ok := a.ids[id]
	return ok
}
