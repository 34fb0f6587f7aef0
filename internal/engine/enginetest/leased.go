package enginetest

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/keyturn/keyturn/internal/barrier"
	"github.com/keyturn/keyturn/internal/due"
	"github.com/keyturn/keyturn/internal/lease"
	"github.com/keyturn/keyturn/internal/storage"
)

// A Leased compares the users that an engine has created with the leases in the store, in tests in
// which servers die. Safe for concurrent use.
type Leased struct {
	Barrier func() *barrier.Barrier // the store, which does not fail
	Users   func() []string         // those that the engine has created
	// Complain is called with each violation.
	Complain func(format string, args ...any)

	mu    sync.Mutex
	given map[string]bool // leases that a client got and has not revoked
}

func (l *Leased) manager() *lease.Manager {
	return lease.NewManager(lease.Config{Barrier: l.Barrier()})
}

// Give registers that a client got a lease.
func (l *Leased) Give(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.given == nil {
		l.given = map[string]bool{}
	}
	l.given[id] = true
}

// First calls do with the first lease, if there is one. With takes, the client no longer expects
// the lease to be valid.
func (l *Leased) First(takes bool, do func(id string) error) error {
	for id := range l.manager().Below(context.Background(), "") {
		if takes {
			l.mu.Lock()
			delete(l.given, id)
			l.mu.Unlock()
		}
		return do(id)
	}
	return nil
}

// Check checks that each user belongs to a lease, and that each lease of a client has its user.
func (l *Leased) Check() {
	users, known := l.Users(), map[string]bool{}
	for id := range l.manager().Below(context.Background(), "") {
		row, err := l.manager().Lookup(context.Background(), id)
		if err != nil {
			continue // ended meanwhile
		}
		var of struct {
			User string `json:"u"`
		}
		if err := json.Unmarshal(row.Data, &of); err != nil {
			l.Complain("lease %s: %v", id, err)
		}
		known[of.User] = true
		l.mu.Lock()
		given := l.given[id]
		l.mu.Unlock()
		if given && time.Until(row.Expires) > 0 && !slices.Contains(l.Users(), of.User) {
			l.Complain("lease %s was given out and has no user", id)
		}
	}
	for _, name := range users {
		if !known[name] && slices.Contains(l.Users(), name) {
			l.Complain("no lease knows %s", name)
		}
	}
}

// CheckNone checks that no lease, no user and no due item of a lease is left.
func (l *Leased) CheckNone() {
	for id := range l.manager().Below(context.Background(), "") {
		l.Complain("lease %s is left", id)
	}
	if users := l.Users(); len(users) != 0 {
		l.Complain("users %q are left", users)
	}
	for e, err := range l.Barrier().View("").Scan(context.Background(), due.Prefix, storage.PrefixEnd(due.Prefix)) {
		if it, _ := due.Parse(e.Key); err != nil || it.Kind == lease.DueKind {
			l.Complain("due item %s is left, %v", e.Key, err)
		}
	}
}
