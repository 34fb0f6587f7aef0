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
	// Undo takes back what the lease created. again is when to ask again
	// because a late create may still come; zero: it is gone for good.
	Undo func(ctx context.Context, l *Lease) (again time.Time, note string, err error)
	// Renew makes what was created live until expires.
	Renew func(ctx context.Context, l *Lease, expires time.Time) error
	// Event returns the operations that record an event in the same commit.
	Event func(kind string, l *Lease) []storage.Op
}

// A Manager keeps the leases of one installation. Safe for concurrent use.
type Manager struct {
	cfg   Config
	view  *barrier.View
	Stats Stats

	running sync.Map // from the ids of the leases that are undone now to a channel, closed at the end
}

// NewManager returns a manager.
func NewManager(cfg Config) *Manager {
	return &Manager{cfg: cfg, view: cfg.Barrier.View("")}
}

// Stats are the manager's counts. They are added up in memory, saved once a
// second by their owner, and never scanned for.
type Stats struct {
	Live    atomic.Int64 // reservations and leases that are stored
	Undone  atomic.Int64
	Failed  atomic.Int64 // undos that failed, each try
	Waiting atomic.Int64 // leases whose undo has failed and is to be tried again
}
