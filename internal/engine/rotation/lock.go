package rotation

import (
	"context"
	"sync"

	"github.com/keyturn/keyturn/internal/fault"
)

// locks is a lock for each name that is being worked on, and only for these.
type locks struct {
	mu sync.Mutex
	m  map[string]*lock
}

type lock struct {
	token chan struct{}
	users int // guarded by locks.mu
}

func newLocks() *locks { return &locks{m: map[string]*lock{}} }

// take waits for the lock of name, or for ctx.
func (l *locks) take(ctx context.Context, name string) (release func(), err error) {
	l.mu.Lock()
	k := l.m[name]
	if k == nil {
		k = &lock{token: make(chan struct{}, 1)}
		l.m[name] = k
	}
	k.users++
	l.mu.Unlock()
	leave := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if k.users--; k.users == 0 {
			delete(l.m, name)
		}
	}
	select {
	case k.token <- struct{}{}:
		return func() { <-k.token; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, fault.New("rotation.lock", fault.Timeout, "key %q is busy: a call to its provider is under way; try again", name)
	}
}
