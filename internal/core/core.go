// Package core takes one request through all rooms, and is the life of a
// server: sealed → unsealed → sealed.
//
// A role lives as long as a function: [Core.Run] waits for a root key, and
// serves unsealed for as long as one call of it lasts. What was started inside
// hangs on that call's context; when it ends, the keys are dropped and what still hangs
// can commit no more.
//
// A request: sealed? → token → route → policy → audit the request → the
// engine's typed handler, or for a leased route plan → reserve → create →
// grant → wrap → audit the response → encode.
//
// The parts: mounts owns what is mounted, policies the compiled policies,
// wrapping the wrapped answers, sys the routes below sys/.
package core

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyturn/keyturn/internal/audit"
	"github.com/keyturn/keyturn/internal/core/mounts"
	"github.com/keyturn/keyturn/internal/core/node"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/seal"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
)

// Types are the engines and login methods that can be mounted.
type Types = mounts.Types

// What sys/ tells of a server, its plugins and the requests that it serves; see the package node.
type (
	Server = node.Server
	Plugin = node.Plugin
	Log    = node.Log
	Flight = node.Flight
	CORS   = node.CORS
)

// TTLs of the system where the configuration says nothing: 32 days, as Vault.
const systemTTL = 32 * 24 * time.Hour

// Config of a [Core].
type Config struct {
	Store       storage.Store
	StorageName string // "pebble", shown by seal-status
	Seal        seal.Seal
	Types
	Audits      []audit.Type
	Log         *slog.Logger
	DefaultTTL  time.Duration // 0: 32 days
	MaxTTL      time.Duration // 0: 32 days
	ClusterName string
	// RefusedFolders may not hold an audit file: the storage folder.
	RefusedFolders []string
	// AuditFolders are where audit files may be; none: everywhere but in folders of the system.
	AuditFolders []string
	// ConnectionFolders hold the files that clients may name in the configuration of a connection.
	ConnectionFolders []string
	// Dial is the engines' one way out; see [engine.Host].
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Boot guards the clock across restarts; nil: it is not checked at the start.
	Boot Boot
	// Metrics renders the metrics in the form that the parameter "format" or the
	// header Accept asks for, and says their content type; nil: there are none.
	Metrics func(ctx context.Context, format, accept string) ([]byte, string, error)
	// Server is what sys/ tells of this server; core itself adds what the store knows.
	Server Server
	// Observe is told of each request that was served; may be nil.
	Observe func(o Observation)
}

// An Observation is what metrics learn of one request.
type Observation struct {
	Op     string
	Mount  string // type of the mount, "" where none
	Status fault.Kind
	OK     bool
	Took   time.Duration
}

// A Core is one server's whole inside. Safe for concurrent use.
type Core struct {
	cfg   Config
	house atomic.Pointer[house] // nil while sealed

	orders chan order

	mu       sync.Mutex // guards progress
	progress seal.Progress
}

// order asks Run to unseal or to seal.
type order struct {
	key  secret.Value // empty: seal
	done chan error
}

// New returns a sealed core; Run must run for it to be unsealed.
func New(cfg Config) *Core {
	if cfg.DefaultTTL == 0 {
		cfg.DefaultTTL = systemTTL
	}
	if cfg.MaxTTL == 0 {
		cfg.MaxTTL = systemTTL
	}
	return &Core{cfg: cfg, orders: make(chan order)}
}

// Run is the server's life: it serves each unsealing until it is sealed again,
// and returns when ctx ends.
func (c *Core) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case o := <-c.orders:
			if o.key.Empty() {
				o.done <- nil // sealed already
				continue
			}
			if err := c.unsealed(ctx, o); err != nil && !errors.Is(err, context.Canceled) {
				c.cfg.Log.Error("the unsealed scope ended", "error", err)
			}
		}
	}
}

// unsealed serves for as long as it lasts. It answers o once it is ready or
// has failed, and the order to seal once all is closed.
func (c *Core) unsealed(parent context.Context, o order) error {
	ctx, cancel := context.WithCancel(parent)
	defer cancel()
	h, err := openHouse(ctx, c.cfg, o.key)
	if err != nil {
		o.done <- err
		return err
	}
	asked := make(chan struct{}, 1) // sys/seal asks from inside
	h.sealNow = func() {
		select {
		case asked <- struct{}{}:
		default: // asked already
		}
	}
	ended := make(chan error, 1)
	go func() { ended <- h.run(ctx) }()
	c.house.Store(h)
	o.done <- nil
	c.cfg.Log.Info("unsealed")

	sealing, err := c.untilSealed(ctx, ended, asked)
	c.house.Store(nil)
	cancel()
	if err == nil {
		// What still hangs after a second can commit no more: its keys are gone.
		select {
		case <-ended:
		case <-time.After(time.Second):
			c.cfg.Log.Warn("background work still hangs; sealing all the same")
		}
	}
	h.close()
	c.cfg.Log.Info("sealed")
	if sealing.done != nil {
		sealing.done <- nil
	}
	return err
}

// untilSealed returns once the unsealed scope is to end. Orders to unseal what
// is unsealed may come at any time, and change nothing.
func (c *Core) untilSealed(ctx context.Context, ended <-chan error, asked <-chan struct{}) (sealing order, err error) {
	for {
		select {
		case err := <-ended:
			return order{}, err
		case <-ctx.Done():
			return order{}, nil
		case <-asked:
			return order{}, nil
		case o := <-c.orders:
			if o.key.Empty() {
				return o, nil
			}
			o.done <- nil
		}
	}
}

// command sends an order to Run and waits for its answer.
func (c *Core) command(ctx context.Context, key secret.Value) error {
	o := order{key: key, done: make(chan error, 1)}
	select {
	case c.orders <- o:
	case <-ctx.Done():
		return fault.Wrap("core.command", fault.Timeout, ctx.Err())
	}
	select {
	case err := <-o.done:
		return err
	case <-ctx.Done():
		return fault.Wrap("core.command", fault.Timeout, ctx.Err())
	}
}

// Sealed reports whether no key is loaded.
func (c *Core) Sealed() bool { return c.house.Load() == nil }

// errSealed is what every request but the few public ones meets.
func errSealed() error {
	return fault.New("core", fault.Sealed, "the server is sealed; unseal it with `keyturn operator unseal`")
}
