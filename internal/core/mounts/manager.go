package mounts

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyturn/keyturn/internal/barrier"
	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/mount"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/token"
)

// A Manager owns the mounts of one unsealed server.
type Manager struct {
	cfg      Config
	services Services
	view     *barrier.View
	scope    func() (context.Context, context.CancelFunc) // a child of the unsealed scope

	mu    sync.Mutex // one change at a time; guards unsure
	stale bool       // a commit may have been stored, so the records must be read again
	snap  atomic.Pointer[Snapshot]
}

// New returns a manager without mounts. [Manager.Load] opens them, because the services that
// engines get need the manager.
func New(cfg Config) *Manager {
	m := &Manager{cfg: cfg, view: cfg.Barrier.View("")}
	empty, _ := mount.NewTable(nil) // only mounts conflict
	m.snap.Store(&Snapshot{Table: empty, open: map[string]*Open{}})
	return m
}

// Config of a [Manager].
type Config struct {
	Barrier *barrier.Barrier
	Types
	Log *slog.Logger
	// DefaultTTL and MaxTTL are the system's.
	DefaultTTL, MaxTTL time.Duration
}

// Services are what the server provides to the engines and login methods that it opens.
type Services struct {
	// Host returns the services for the engine of the mount with this UUID.
	Host func(uuid string) engine.Host
	// Services of login methods; see [auth.Mount].
	Tokens *token.Store
	Issue  func(ctx context.Context, r *route.Request, b Bounds, spec token.Entry, want token.Request,
		parent *token.Entry) (*route.Auth, error)
	RevokeWait func(ctx context.Context, tokenID string)
	// System are the routes of the mount at sys/.
	System []route.Route
}
