package database

import (
	"context"
	"sync"

	"github.com/keyturn/keyturn/internal/fault"
)

// locks is a lock for each name that is being written, and only for these.
type locks struct {
	mu sync.Mutex
	m  map[string]*lock
}

type lock struct {
	token chan struct{}
	users int // guarded by locks.mu
}

func newLocks() *locks { return &locks{m: map[string]*lock{}} }

// take waits for the lock of a key, or for ctx.
func (l *locks) take(ctx context.Context, key string) (release func(), err error) {
	l.mu.Lock()
	k := l.m[key]
	if k == nil {
		k = &lock{token: make(chan struct{}, 1)}
		l.m[key] = k
	}
	k.users++
	l.mu.Unlock()
	leave := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if k.users--; k.users == 0 {
			delete(l.m, key)
		}
	}
	select {
	case k.token <- struct{}{}:
		return func() { <-k.token; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, fault.New("database.lock", fault.Timeout, "%q is being written by another request, which waits for its database; try again", key)
	}
}

// exclusively runs write while it holds the lock of a key, and again while a
// write of another node comes in between.
func (b *backend) exclusively(ctx context.Context, key string, write func() error) error {
	release, err := b.locks.take(ctx, key)
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
