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
//
// The files stand in storeys. [Core] (core, status, stats) is at the top; below it is everything that exists
// while the server is unsealed (unsealed), which connects the components: the pipeline of a request (pipeline, on
// exchange, envelope, requestaudit, headers), leasing, tokens, jobs, what engines get (hosts, on publishing and
// places), and at the bottom what all of them use: the audit trail, events, counts, the clock, scope.
package core

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/seal"
	"github.com/keyturn/keyturn/internal/secret"
)

// A Core is one server's whole inside. Safe for concurrent use.
type Core struct {
	cfg    Config
	active atomic.Pointer[unsealed] // nil while sealed

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
			if err := c.serve(ctx, o); err != nil && !errors.Is(err, context.Canceled) {
				c.cfg.Log.Error("the unsealed scope ended", "error", err)
			}
		}
	}
}

// serve serves for as long as it lasts. It answers o once it is ready or
// has failed, and the order to seal once all is closed.
func (c *Core) serve(parent context.Context, o order) error {
	ctx, cancel := context.WithCancel(parent)
	defer cancel()
	u, err := openUnsealed(ctx, c.cfg, o.key)
	if err != nil {
		o.done <- err
		return err
	}
	asked := make(chan struct{}, 1) // sys/seal asks from inside
	u.sealNow = func() {
		select {
		case asked <- struct{}{}:
		default: // asked already
		}
	}
	ended := make(chan error, 1)
	go func() { ended <- u.run(ctx) }()
	c.active.Store(u)
	o.done <- nil
	c.cfg.Log.Info("unsealed")

	sealing, err := c.untilSealed(ctx, ended, asked)
	c.active.Store(nil)
	cancel()
	if err == nil {
		// What still hangs after a second can commit no more: its keys are gone.
		select {
		case <-ended:
		case <-time.After(time.Second):
			c.cfg.Log.Warn("background work still hangs; sealing all the same")
		}
	}
	u.close()
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
func (c *Core) Sealed() bool { return c.active.Load() == nil }

// errSealed is what every request but the few public ones meets.
func errSealed() error {
	return fault.New("core", fault.Sealed, "the server is sealed; unseal it with `keyturn operator unseal`")
}

// Handle serves one request. The error has a kind that tells the status, and a message
// that the client may read.
func (c *Core) Handle(ctx context.Context, r *route.Request) (*Answer, error) {
	u := c.active.Load()
	if u == nil {
		return nil, errSealed()
	}
	x := &exchange{r: r}
	answer, err := u.pipeline.handle(ctx, x)
	if u.sealAsked.Load() {
		u.sealNow()
	}
	if c.cfg.Observe != nil {
		c.cfg.Observe(Observation{
			Op: string(r.Op), Mount: r.Mount.Type, Status: fault.KindOf(err), OK: err == nil, Took: time.Since(r.Time),
		})
	}
	return answer, err
}
