// Package locks has a lock for each name in use. Waiting ends with a context, and works in a
// synctest bubble.
package locks

import (
	"context"
	"sync"

	"github.com/keyturn/keyturn/internal/fault"
)

// Named is a set of locks. The zero value is ready to use. It must not be copied.
type Named struct {
	mu sync.Mutex // guards the rest
	m  map[string]*lock
}

type lock struct {
	token chan struct{}
	users int // guarded by Named.mu
}

// Take locks a name. If ctx ends first, the error has the kind Timeout.
func (l *Named) Take(ctx context.Context, name string) (release func(), err error) {
	l.mu.Lock()
	k := l.m[name]
	if k == nil {
		if l.m == nil {
			l.m = map[string]*lock{}
		}
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
		return nil, fault.New("locks.Take", fault.Timeout,
			"%q is being worked on by another request, which waits for an answer from another system; try again", name)
	}
}
