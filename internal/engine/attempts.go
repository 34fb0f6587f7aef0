package engine

import "sync"

// Attempts remembers creates that surely made nothing outside, so that undoing them need not ask what is often away
// when creates fail. What is forgotten is only undone in the slow way. Its zero value is empty; it is safe for
// concurrent use.
type Attempts struct {
	mu  sync.Mutex
	ids map[string]struct{}
}

// mostAttempts bounds the memory: what is away for long fails many.
const mostAttempts = 4096

// Add remembers an attempt by its id.
func (a *Attempts) Add(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ids == nil || len(a.ids) >= mostAttempts {
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
