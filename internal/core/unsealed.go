package core

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyturn/keyturn/internal/audit"
	"github.com/keyturn/keyturn/internal/barrier"
	"github.com/keyturn/keyturn/internal/core/mounts"
	"github.com/keyturn/keyturn/internal/core/node"
	"github.com/keyturn/keyturn/internal/core/policies"
	"github.com/keyturn/keyturn/internal/core/sys"
	"github.com/keyturn/keyturn/internal/core/wrapping"
	"github.com/keyturn/keyturn/internal/due"
	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/lease"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/token"
)

// unsealed is everything that exists while the server is unsealed. It lives as long as one call of
// [Core.serve].
type unsealed struct {
	log      *slog.Logger
	barrier  *barrier.Barrier
	view     *barrier.View // absolute keys
	scope    scope
	clock    *clock
	lateness *lateness
	failures logLimiter

	broker  *audit.Broker
	devices *audit.Devices
	trail   *trail
	events  events

	policies *policies.Manager
	tokens   *token.Store
	leases   *lease.Manager
	mounts   *mounts.Manager

	counts   *counts
	dataKey  dataKey
	jobs     *jobs
	issuer   *tokens
	leasing  *leasing
	hosts    *hosts
	pipeline *pipeline
	loop     *due.Loop

	// sealNow ends Core.serve. sys/seal sets only sealRequested, so that its answer is sent first.
	sealNow       func()
	sealRequested atomic.Bool
}

// openUnsealed opens the barrier with the root key, and everything above it. Its cost grows with
// the number of mounts, but not with the number of secrets or leases.
func openUnsealed(ctx context.Context, cfg Config, rootKey secret.Value) (*unsealed, error) {
	b, err := barrier.Open(ctx, cfg.Store, rootKey)
	if err != nil {
		return nil, err
	}
	u := &unsealed{
		log: cfg.Log, barrier: b, view: b.View(""), lateness: newLateness(),
		scope: func() (context.Context, context.CancelFunc) { return context.WithCancel(ctx) },
	}
	if u.clock, err = openClock(ctx, u.view, cfg.Boot); err == nil {
		u.connect(cfg)
		err = u.load(ctx, cfg)
	}
	if err != nil {
		b.Close()
		return nil, err
	}
	return u, nil
}

// connect creates the components, from the lowest to the highest, without reading the store.
func (u *unsealed) connect(cfg Config) {
	folder := ""
	if len(cfg.RefusedFolders) > 0 {
		folder = cfg.RefusedFolders[0]
	}
	u.broker = audit.NewBroker(audit.Options{StorageDir: folder, Folders: cfg.AuditFolders, Log: u.log})
	u.devices = audit.NewDevices(u.view, u.broker, cfg.Audits)
	u.events = events{u.view}
	u.dataKey = dataKey{barrier: u.barrier, view: u.view, log: u.log}
	u.policies = policies.New(u.barrier)
	u.mounts = mounts.New(mounts.Config{
		Barrier: u.barrier, Types: cfg.Types, Log: u.log, DefaultTTL: cfg.DefaultTTL, MaxTTL: cfg.MaxTTL,
	})
	u.trail = &trail{broker: u.broker, view: u.view, mounts: u.mounts}
	u.tokens = token.NewStore(token.Config{
		Barrier: u.barrier, Due: dueToken,
		EndLeases: func(ctx context.Context, id string) error { return u.leases.EndOwned(ctx, id, time.Now()) },
		Forget:    func(ctx context.Context, id string) error { return u.issuer.forget(ctx, id) },
	})
	u.leases = lease.NewManager(lease.Config{
		Barrier: u.barrier,
		Due: func(lane, id string, from, to time.Time) []storage.Op {
			return due.Move(due.Item{Lane: lane, Kind: lease.DueKind, ID: id}, from, to)
		},
		Undo: func(ctx context.Context, l *lease.Lease) (time.Time, string, error) {
			return u.leasing.undoAudited(ctx, l)
		},
		Renew: func(ctx context.Context, l *lease.Lease, expires time.Time) error {
			return u.leasing.renew(ctx, l, expires)
		},
		Event: func(kind string, l *lease.Lease) []storage.Op {
			return []storage.Op{u.events.op(kind, engine.Detail{Name: "lease_id", Value: l.ID})}
		},
	})
	u.counts = &counts{view: u.view, leases: u.leases, clock: u.clock, log: u.log}
	places := &places{view: u.view, mounts: u.mounts, policies: u.policies}
	u.jobs = &jobs{view: u.view, mounts: u.mounts, leases: u.leases, places: places}
	wrapped := wrapping.New(u.barrier, u.tokens)
	u.issuer = &tokens{
		view: u.view, store: u.tokens, leases: u.leases, policies: u.policies, mounts: u.mounts, wrapping: wrapped,
		trail: u.trail, log: u.log,
	}
	u.leasing = &leasing{
		leases: u.leases, tokens: u.tokens, mounts: u.mounts, trail: u.trail, scope: u.scope, log: u.log,
	}
	u.hosts = &hosts{
		barrier: u.barrier, view: u.view, dial: cfg.Dial, files: cfg.ConnectionFolders, clock: u.clock,
		events: u.events, trail: u.trail,
		tokens: u.tokens, leases: u.leases, policies: u.policies, mounts: u.mounts, log: u.log,
		places:     places,
		publishing: &publishing{mounts: u.mounts, policies: u.policies, trail: u.trail},
	}
	u.pipeline = &pipeline{
		audit: &requestAudit{trail: u.trail, log: u.log}, headers: &auditedHeaders{view: u.view}, mounts: u.mounts,
		policies: u.policies,
		tokens:   u.tokens, leasing: u.leasing, wrapping: wrapped, maxTTL: cfg.MaxTTL, scope: u.scope, log: u.log,
	}
	u.loop = due.NewLoop(due.Config{
		Store: u.view, Handle: u.handleDue, Suspended: u.clock.jumped, Late: u.lateness.observe, Log: u.log,
	})
}

// load loads the stored state of the components, and opens the mounts.
func (u *unsealed) load(ctx context.Context, cfg Config) error {
	if u.clock.jumped() {
		u.log.Error(clockJumped)
	}
	if err := u.counts.load(ctx); err != nil {
		return err
	}
	if err := (installed{u.view}).record(ctx, cfg.Server.Version); err != nil {
		return err
	}
	if err := u.devices.Restore(ctx, u.log); err != nil {
		return err
	}
	if err := u.policies.Ensure(ctx); err != nil {
		return err
	}
	services := mounts.Services{
		Host: u.hosts.host, Tokens: u.tokens, Issue: u.issuer.issue, RevokeWait: u.issuer.revokeWait,
		System: u.system(cfg),
	}
	if err := u.mounts.Load(ctx, services); err != nil {
		return err
	}
	if err := u.mounts.EnsureBuiltin(ctx); err != nil {
		return err
	}
	return u.jobs.addMissing(ctx)
}

// system returns the routes of the mount at sys/.
func (u *unsealed) system(cfg Config) []route.Route {
	nodeRoutes := node.Routes(node.Config{
		Server: cfg.Server, View: u.view, Mounts: u.mounts,
		Keys: node.Keys{
			Status: u.barrier.KeyStatus, Rotate: u.barrier.Rotate, Rotation: u.dataKey.rotation,
			SetRotation: u.dataKey.setRotation,
		},
		Versions: installed{u.view}.list, Tokens: tokenCounter(cfg.Store),
	})
	return append(nodeRoutes, sys.Routes(sys.Config{
		Mounts: u.mounts, Policies: u.policies, Tokens: u.tokens, Leases: u.leases,
		Wrapping: u.pipeline.wrapping, Devices: u.devices, RenewLease: u.leasing.renewLease, Jobs: u.jobs.routes(),
		Seal: func() { u.sealRequested.Store(true) }, Metrics: cfg.Metrics, TrustClock: u.clock.trust,
		Version: cfg.Server.Version,
	})...)
}

// run does the background work until ctx ends.
func (u *unsealed) run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, work := range []func(context.Context) error{
		u.loop.Run, u.tokens.Follow, u.policies.Follow, u.mounts.Follow, u.tick, u.counts.recount,
	} {
		wg.Go(func() {
			if err := work(ctx); err != nil && ctx.Err() == nil {
				u.log.Error("background work ended", "error", err)
			}
		})
	}
	wg.Wait()
	return ctx.Err()
}

// close drops the keys. Work that is still stuck cannot commit anything.
func (u *unsealed) close() {
	u.mounts.Close()
	u.broker.Close()
	u.barrier.Close()
}

// tick checks the clock, writes pending audit entries and saves counts each second. It trims
// events and rotates the data key each minute.
func (u *unsealed) tick(ctx context.Context) error {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
		u.watchClock()
		for _, step := range []func(context.Context) error{
			u.trail.writePending, u.counts.save, u.devices.SavePositions,
		} {
			if err := step(ctx); err != nil && ctx.Err() == nil {
				u.log.Warn("the work of each second", "error", err)
			}
		}
		if n%60 == 59 {
			if err := u.events.trim(ctx); err != nil && ctx.Err() == nil {
				u.log.Warn("trimming old events", "error", err)
			}
			if err := u.dataKey.rotateIfDue(ctx); err != nil && ctx.Err() == nil {
				u.log.Warn("replacing the data key; retrying in a minute", "error", err)
			}
		}
	}
}

// watchClock logs when the clock has jumped, and when it is right again.
func (u *unsealed) watchClock() {
	switch before, after := u.clock.update(time.Now()); {
	case !before && after:
		u.log.Error(clockJumped)
	case before && !after:
		u.log.Warn("the clock is right again: what is due is revoked and rotated")
	}
}

const clockJumped = "the clock has jumped ahead: nothing is revoked or rotated; set it right, or, if it is, run: " +
	"keyturn write -f sys/clock/trust"

// handleDue handles one item of the due index.
func (u *unsealed) handleDue(ctx context.Context, it due.Item) due.Outcome {
	var err error
	stray := []storage.Op{storage.Remove(it.Key())}
	switch it.Kind {
	case lease.DueKind:
		err = u.leases.Step(ctx, it.ID, time.Now(), it.At, stray)
	case token.DueKind:
		err = u.issuer.expire(ctx, it, stray)
	case jobKind:
		err = u.jobs.runDue(ctx, it, stray)
	case workKind:
		err = u.hosts.runWork(ctx, it)
	default:
		_, err = u.view.Commit(ctx, stray...)
	}
	switch {
	case err == nil:
		return due.Handled
	case ctx.Err() != nil:
		return due.StoreFailed
	case errors.Is(err, lease.ErrBusy):
		return due.ItemFailed
	}
	if leftOut, ok := u.failures.allow(it.Lane, time.Now()); ok {
		u.log.Warn("due work failed; it is retried", "kind", it.Kind, "id", it.ID, "error", err,
			"others_since_the_last_line", leftOut)
	}
	return outcome(it, err)
}

// outcome says what a failure concerns: the store, the item's whole lane, or only the item.
func outcome(it due.Item, err error) due.Outcome {
	kind := fault.KindOf(err)
	if kind == fault.Timeout && (it.Kind == token.DueKind || it.Kind == jobKind) {
		kind = fault.Unavailable // these items use only the store
	}
	switch kind {
	case fault.Unavailable, fault.Sealed, fault.Conflict:
		return due.StoreFailed
	}
	if it.Kind == lease.DueKind && !errors.Is(err, lease.ErrDamaged) && !engine.IsLeaseOnly(err) {
		return due.TargetFailed // the lease was claimed first, so it does not block the others
	}
	return due.ItemFailed
}
