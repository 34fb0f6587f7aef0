package database

import (
	"context"
	"sync"
	"time"
)

// slowRevocations knows the roles whose revocations hang while their database answers: a statement waits for
// a lock, or sleeps. Were they all let in, they would take all sessions of the connection, and users
// of other roles would outlive their leases. So one at a time is tried. Its zero value knows none.
type slowRevocations struct {
	mu    sync.Mutex // guards all
	roles map[string]*slowRole
}

// slowRole is one such role. Guarded by hanging.mu.
type slowRole struct {
	until time.Time
	busy  bool
}

// How long a role counts as hanging after a revocation of it last hung, and how long a server that
// answers takes at most to say so.
const (
	hungFor      = 10 * time.Minute
	answerWithin = 2 * time.Second
)

// begin reports whether a user of the role may be revoked now. leave must be called then.
func (h *slowRevocations) begin(role string, now time.Time) (leave func(), ok bool) {
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

// hung notes that a revocation of the role hung, and went that one did not.
func (h *slowRevocations) markSlow(role string, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.roles == nil {
		h.roles = map[string]*slowRole{}
	}
	if h.roles[role] == nil {
		h.roles[role] = &slowRole{}
	}
	h.roles[role].until = now.Add(hungFor)
}

func (h *slowRevocations) clear(role string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.roles, role)
}

// serverAnswers reports whether the database answers others while a revocation hung until its deadline.
func serverAnswers(ctx context.Context, conn Conn) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerWithin)
	defer cancel()
	return conn.Verify(ctx) == nil
}
