package lease

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyturn/keyturn/internal/barrier"
	"github.com/keyturn/keyturn/internal/storage"
)

// Config of a [Manager].
type Config struct {
	Barrier *barrier.Barrier
	// Due returns the operations that move a lease's due item.
	Due func(lane, id string, from, to time.Time) []storage.Op
	// Undo revokes what the lease created. retryAt is when to call it again, because a late create
	// may still take effect; zero: it is gone for good.
	Undo func(ctx context.Context, l *Lease) (retryAt time.Time, note string, err error)
	// Renew makes what was created valid until expires.
	Renew func(ctx context.Context, l *Lease, expires time.Time) error
	// Event returns the operations that record an event in the same commit.
	Event func(kind string, l *Lease) []storage.Op
}

// A Manager manages the leases of a store. Safe for concurrent use.
type Manager struct {
	cfg   Config
	view  *barrier.View
	Stats Stats

	running sync.Map // ID of a lease that is being undone → channel that is closed at the end
}

// NewManager returns a manager.
func NewManager(cfg Config) *Manager {
	return &Manager{cfg: cfg, view: cfg.Barrier.View("")}
}

// Stats are the manager's counts, kept in memory. Their owner saves them once a second.
type Stats struct {
	Live    atomic.Int64 // reservations and leases that are stored
	Undone  atomic.Int64
	Failed  atomic.Int64 // failed undos, counting each attempt
	Waiting atomic.Int64 // leases whose undo has failed and is retried
}
