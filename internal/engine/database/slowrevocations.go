package database

import (
	"context"
	"sync"
	"time"
)

// slowRevocations remembers the roles whose revocations hang while their database answers,
// because a statement waits for a lock, or sleeps. It admits one revocation of such a role at a
// time: all of them together would take all sessions of the connection, and users of other roles
// would outlive their leases. The zero value remembers none.
type slowRevocations struct {
	mu    sync.Mutex // guards all
	roles map[string]*slowRole
}

// A slowRole is guarded by slowRevocations.mu.
type slowRole struct {
	until time.Time
	busy  bool
}

const (
	slowFor      = 10 * time.Minute // how long a role counts as slow after a revocation has hung
	answerWithin = 2 * time.Second  // how long a server that answers takes at most to do so
)

// begin reports whether a user of the role may be revoked now. If so, the caller calls end
// afterwards.
func (h *slowRevocations) begin(role string, now time.Time) (end func(), ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.roles[role]
	if r != nil && !r.busy && now.After(r.until) {
		delete(h.roles, role)
		r = nil
	}
	if r == nil {
		return func() {}, true
	}
	if r.busy {
		return nil, false
	}
	r.busy = true
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		r.busy = false
	}, true
}

// markSlow remembers that a revocation of the role hung.
func (h *slowRevocations) markSlow(role string, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.roles == nil {
		h.roles = map[string]*slowRole{}
	}
	if h.roles[role] == nil {
		h.roles[role] = &slowRole{}
	}
	h.roles[role].until = now.Add(slowFor)
}

// clear forgets the role, because a revocation of it did not hang.
func (h *slowRevocations) clear(role string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.roles, role)
}

// serverAnswers reports whether the database still answers after a revocation hung until its
// deadline.
func serverAnswers(ctx context.Context, conn Conn) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerWithin)
	defer cancel()
	return conn.Verify(ctx) == nil
}
