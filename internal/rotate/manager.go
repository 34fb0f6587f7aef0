package rotate

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/keyturn/keyturn/internal/barrier"
	"github.com/keyturn/keyturn/internal/locks"
	"github.com/keyturn/keyturn/internal/storage"
)

// A Manager rotates the records of one mount. It is safe for concurrent use.
type Manager struct {
	cfg    Config
	kinds  map[string]*Kind
	locks  locks.Named
	census *census
	// returnedCalls holds, by the row of a record, the CallUntil time of a call of this process
	// that has returned, until a commit records that.
	returnedCalls sync.Map
	// unsaved holds, by the row of a record, the exchanges that no commit has stored.
	unsaved sync.Map
}

// New returns a manager for the kinds of a mount.
func New(cfg Config, kinds ...Kind) *Manager {
	m := &Manager{cfg: cfg, kinds: map[string]*Kind{}, census: newCensus()}
	for i := range kinds {
		m.kinds[kinds[i].Name] = &kinds[i]
	}
	return m
}

// Config is what a [Manager] needs from its surroundings.
type Config struct {
	Store        *barrier.View // of the mount
	Log          *slog.Logger
	Installation string
	Mount        func() string // the path of the mount, with its slash

	// Schedule returns the operations that move the due item of a record, on absolute keys.
	Schedule func(kind, name string, from, to time.Time) []storage.Op
	// Event returns the operation that records an event, on an absolute key.
	Event func(kind string, details map[string]string) storage.Op
	// Audited runs act between the two lines of an audit entry. Audited fails closed: if the
	// first line cannot be written, act is not called. An action that only takes access away
	// (Takes) does not wait for a device.
	Audited func(ctx context.Context, a Action, act func(ctx context.Context) error) error
	// ClockHeld reports whether the clock is not trusted. nil means that the clock is always
	// trusted.
	ClockHeld func() bool
}

// An Action names a step for the audit log.
type Action struct {
	Path        string // full path of the record
	Detail      map[string]string
	OnlyRevokes bool // it only takes access away
}
