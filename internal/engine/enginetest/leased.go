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

// A Leased compares the users that an engine has made at its provider with the leases of the store,
// in a history in which servers die. It is safe for concurrent use.
type Leased struct {
	Barrier func() *barrier.Barrier // the store, which does not fail
	Users   func() []string         // those that the engine has made
	// Complain is told of what is wrong.
	Complain func(format string, args ...any)

	mu    sync.Mutex
	given map[string]bool // the leases that a client was given and has not revoked
}

func (l *Leased) manager() *lease.Manager {
	return lease.NewManager(lease.Config{Barrier: l.Barrier()})
}

// Give notes that a client was given a lease.
func (l *Leased) Give(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.given == nil {
		l.given = map[string]bool{}
	}
	l.given[id] = true
}

// First does something with the first lease, if there is one. What revokes it takes it from its client before.
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

// Check wants each user in a lease, and each lease that a client was given to have its user.
func (l *Leased) Check() {
	users, known := l.Users(), map[string]bool{}
	for id := range l.manager().Below(context.Background(), "") {
		row, err := l.manager().Lookup(context.Background(), id)
		if err != nil {
			continue // it has ended meanwhile
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

// CheckNone wants no lease to be left, no user, and no due item of a lease.
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
