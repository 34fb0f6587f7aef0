package core

import (
	"context"
	"slices"
	"time"

	"github.com/keyturn/keyturn/internal/barrier"
	"github.com/keyturn/keyturn/internal/core/mounts"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/seal"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/token"
)

// A Health is the state of the server, for load balancers.
type Health struct {
	Initialized bool
	Sealed      bool
	ClusterName string
	ClusterID   string // "" while sealed
	Now         time.Time
}

// Health answers without a token, sealed or not.
func (c *Core) Health(ctx context.Context) (Health, error) {
	initialized, err := c.Initialized(ctx)
	h := Health{Initialized: initialized, Sealed: true, Now: time.Now().UTC()}
	if u := c.active.Load(); u != nil {
		h.Sealed, h.ClusterName, h.ClusterID = false, c.cfg.ClusterName, u.barrier.Installation()
	}
	return h, err
}

// A SealStatus is the progress of unsealing.
type SealStatus struct {
	seal.Status
	Initialized bool
	Sealed      bool
	AutoUnseals bool // no key shares are needed
	StorageName string
	ClusterName string
	ClusterID   string
}

// SealStatus answers without a token.
func (c *Core) SealStatus(ctx context.Context) (SealStatus, error) {
	r, err := c.record(ctx)
	if err != nil {
		return SealStatus{}, err
	}
	h, err := c.Health(ctx)
	if err != nil {
		return SealStatus{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return SealStatus{
		Status: c.progress.Status(c.cfg.Seal, r), Initialized: h.Initialized, Sealed: h.Sealed,
		AutoUnseals: !c.cfg.Seal.Splits(),
		StorageName: c.cfg.StorageName, ClusterName: h.ClusterName, ClusterID: h.ClusterID,
	}, nil
}

// Initialized reports whether the store has a key ring.
func (c *Core) Initialized(ctx context.Context) (bool, error) {
	return barrier.Initialized(ctx, c.cfg.Store)
}

// record reads the seal record; nil: the server is not initialized.
func (c *Core) record(ctx context.Context) (*seal.Record, error) {
	e, err := c.cfg.Store.Get(ctx, seal.RecordKey)
	if err != nil {
		return nil, fault.Wrap("core.record", fault.Unavailable, err)
	}
	if e.Version == 0 {
		return nil, nil
	}
	return seal.Decode(e.Value)
}

// An InitRequest says how to initialize the server.
type InitRequest struct {
	Split seal.Split
	// RootToken is the first root token; empty: a random one is made.
	RootToken secret.Value
	// Mounts are created in addition to the built-in ones.
	Mounts []NewMount
}

// A NewMount is a secrets engine that Init mounts.
type NewMount struct {
	Path, Type, Description string
	Options                 map[string]string
}

// An InitResult is shown once and stored nowhere.
type InitResult struct {
	Shares    []secret.Value
	RootToken secret.Value
}

// Init creates the root key, key ring, mounts and first root token in one commit, so that after a
// crash the storage is either empty or complete. If the seal needs key shares, the server stays
// sealed; otherwise it is unsealed.
func (c *Core) Init(ctx context.Context, req InitRequest) (*InitResult, error) {
	if done, err := c.Initialized(ctx); err != nil || done {
		if done {
			err = fault.New("core.Init", fault.Invalid,
				"the server is already initialized; unseal it with `keyturn operator unseal`")
		}
		return nil, err
	}
	root, shares, rec, err := seal.Initialize(ctx, c.cfg.Seal, req.Split)
	if err != nil {
		return nil, err
	}
	b, err := rec.Encode()
	if err != nil {
		return nil, err
	}
	tok := req.RootToken
	if tok.Empty() {
		tok = secret.Text(token.ServicePrefix + token.Random(32))
	}
	fill := func(b *barrier.Barrier) ([]storage.Op, error) { return c.initialRows(b, tok, req.Mounts) }
	if err := barrier.InitializeWith(ctx, c.cfg.Store, root, fill, storage.Set(seal.RecordKey, b)); err != nil {
		return nil, err
	}
	if !c.cfg.Seal.Splits() {
		if err := c.command(ctx, root); err != nil { // only logged, because the answer must not be lost
			c.cfg.Log.Error("unsealing after the initialization; it is retried at the next start", "error", err)
		}
	}
	return &InitResult{Shares: shares, RootToken: tok}, nil
}

// initialRows returns the rows of the first root token and mounts of a new installation.
func (c *Core) initialRows(b *barrier.Barrier, tok secret.Value, requested []NewMount) ([]storage.Op, error) {
	if c.cfg.Has("rotation") {
		requested = append(slices.Clone(requested),
			NewMount{Path: "rotation", Type: "rotation", Description: "rotates third-party keys"})
	}
	var engines []mounts.Engine
	for _, n := range requested {
		engines = append(engines,
			mounts.Engine{Path: n.Path, Type: n.Type, Description: n.Description, Options: n.Options})
	}
	ops, err := mounts.Rows(c.cfg.Types, c.cfg.MaxTTL, engines)
	if err != nil {
		return nil, err
	}
	_, rows, err := token.NewStore(token.Config{Barrier: b, Due: dueToken}).Rows(tok, &token.Entry{
		Path: "auth/token/root", DisplayName: "root", Created: time.Now().UTC().Truncate(time.Millisecond),
		Chosen: tok,
	}, token.FirstRoot())
	return append(ops, rows...), err
}

// Unseal accepts one key share. The last one that is needed unseals the server; until then, the
// status tells how many have been entered.
func (c *Core) Unseal(ctx context.Context, share secret.Value, reset bool) (SealStatus, error) {
	if reset {
		c.mu.Lock()
		c.progress.Reset()
		c.mu.Unlock()
		return c.SealStatus(ctx)
	}
	r, err := c.record(ctx)
	if err != nil {
		return SealStatus{}, err
	}
	if r == nil {
		return SealStatus{}, fault.New("core.Unseal", fault.Invalid,
			"the server is not initialized; run `keyturn operator init`")
	}
	if !c.Sealed() {
		return c.SealStatus(ctx)
	}
	c.mu.Lock()
	root, err := c.progress.Give(ctx, c.cfg.Seal, r, share)
	c.mu.Unlock()
	if err != nil {
		return SealStatus{}, err
	}
	if !root.Empty() {
		if err := c.command(ctx, root); err != nil {
			return SealStatus{}, err
		}
	}
	return c.SealStatus(ctx)
}

// AutoUnseal unseals the server if its seal needs no key shares. It does nothing if the server is
// not initialized.
func (c *Core) AutoUnseal(ctx context.Context) error {
	r, err := c.record(ctx)
	if err != nil || r == nil || c.cfg.Seal.Splits() {
		return err
	}
	root, renewed, err := seal.Unseal(ctx, c.cfg.Seal, r)
	if err != nil {
		return err
	}
	if renewed != nil {
		b, err := renewed.Encode()
		if err != nil {
			return err
		}
		if _, err := c.cfg.Store.Commit(ctx,
			storage.Batch{Ops: []storage.Op{storage.Set(seal.RecordKey, b)}}); err != nil {
			c.cfg.Log.Warn("wrapping the root key with the seal's current key; it is retried at the next start",
				"error", err)
		}
	}
	return c.command(ctx, root)
}

// Seal seals the server, and returns when the keys are dropped.
func (c *Core) Seal(ctx context.Context) error { return c.command(ctx, secret.Value{}) }
