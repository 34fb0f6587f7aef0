// Package core takes a request through all other packages, and seals and unseals the server.
//
// A state lasts as long as a function call: [Core.Run] waits for a root key, and calls serve, in
// which the server is unsealed. Everything that serve starts uses the context of that call. When
// the call ends, the keys are dropped, so that work that is still stuck cannot commit anything.
//
// A request: sealed? → route → token → policy → audit the request → the
// engine's typed handler, or for a leased route plan → reserve → create →
// grant → wrap → audit the response → encode.
//
// Its parts: mounts owns the mounted engines and login methods, policies the compiled policies,
// wrapping the wrapped answers; sys serves the routes below sys/.
//
// The files are arranged in storeys. [Core] (core, status, stats) is at the top. Below is
// everything that exists while the server is unsealed (unsealed), which connects the components:
// the pipeline of a request (pipeline, exchange, envelope, requestaudit, headers), leasing,
// tokens, jobs, and the services for engines (hosts, publishing, places). At the bottom is what
// all of them use: the audit trail, events, counts, the clock, scope.
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

// A Core is a server without its listeners. Safe for concurrent use.
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

// New returns a sealed core. It can be unsealed while Run runs.
func New(cfg Config) *Core {
	if cfg.DefaultTTL == 0 {
		cfg.DefaultTTL = systemTTL
	}
	if cfg.MaxTTL == 0 {
		cfg.MaxTTL = systemTTL
	}
	return &Core{cfg: cfg, orders: make(chan order)}
}

// Run unseals and seals the server as it is ordered to, and returns when ctx ends.
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

// serve keeps the server unsealed until it is ordered to seal it. It answers o when the server is
// ready or unsealing has failed, and the order to seal when everything is closed.
func (c *Core) serve(parent context.Context, o order) error {
	ctx, cancel := context.WithCancel(parent)
	defer cancel()
	u, err := openUnsealed(ctx, c.cfg, o.key)
	if err != nil {
		o.done <- err
		return err
	}
	sealRequested := make(chan struct{}, 1) // sys/seal asks from inside
	u.sealNow = func() {
		select {
		case sealRequested <- struct{}{}:
		default: // asked already
		}
	}
	ended := make(chan error, 1)
	go func() { ended <- u.run(ctx) }()
	c.active.Store(u)
	o.done <- nil
	c.cfg.Log.Info("unsealed")

	sealing, err := c.untilSealed(ctx, ended, sealRequested)
	c.active.Store(nil)
	cancel()
	if err == nil {
		// Work that is still stuck after a second cannot commit anything: its keys are gone.
		select {
		case <-ended:
		case <-time.After(time.Second):
			c.cfg.Log.Warn("background work still hangs; sealing anyway")
		}
	}
	u.close()
	c.cfg.Log.Info("sealed")
	if sealing.done != nil {
		sealing.done <- nil
	}
	return err
}

// untilSealed waits until the server must be sealed. Orders to unseal change nothing meanwhile.
func (c *Core) untilSealed(
	ctx context.Context, ended <-chan error, sealRequested <-chan struct{},
) (sealing order, err error) {
	for {
		select {
		case err := <-ended:
			return order{}, err
		case <-ctx.Done():
			return order{}, nil
		case <-sealRequested:
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

func errSealed() error {
	return fault.New("core", fault.Sealed, "the server is sealed; unseal it with `keyturn operator unseal`")
}

// Handle serves one request. The kind of the error determines the HTTP status, and the client may
// read its message.
func (c *Core) Handle(ctx context.Context, r *route.Request) (*Answer, error) {
	u := c.active.Load()
	if u == nil {
		return nil, errSealed()
	}
	x := &exchange{r: r}
	answer, err := u.pipeline.handle(ctx, x)
	if u.sealRequested.Load() {
		u.sealNow()
	}
	if c.cfg.Observe != nil {
		c.cfg.Observe(Observation{
			Op: string(r.Op), Mount: r.Mount.Type, Status: fault.KindOf(err), OK: err == nil, Took: time.Since(r.Time),
		})
	}
	return answer, err
}
