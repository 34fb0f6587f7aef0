package engine

import "sync"

// Attempts remembers attempts that certainly created nothing, so that undoing them needs no
// connection to the target, which is often down when creates fail. A forgotten attempt is undone
// normally. The zero value is empty. Safe for concurrent use.
type Attempts struct {
	mu  sync.Mutex
	ids map[string]struct{}
}

// maxAttempts limits the memory, because many creates fail while a target is down for long.
const maxAttempts = 4096

// Add remembers an attempt by its ID.
func (a *Attempts) Add(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ids == nil || len(a.ids) >= maxAttempts {
		a.ids = map[string]struct{}{}
	}
	a.ids[id] = struct{}{}
}

// Has reports whether an attempt is remembered.
func (a *Attempts) Has(id string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, ok := a.ids[id]
	return ok
}
