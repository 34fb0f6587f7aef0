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
	"github.com/keyturn/keyturn/internal/wire"
)

// house is all that exists while the server is unsealed. It is made by
// openHouse and lives as long as one call of Core.unsealed.
type house struct {
	cfg      Config
	log      *slog.Logger
	barrier  *barrier.Barrier
	view     *barrier.View // absolute keys
	broker   *audit.Broker
	audit    *auditor
	audited  *auditedHeaders
	devices  *audit.Devices
	policies *policies.Manager
	tokens   *token.Store
	leases   *lease.Manager
	wrapping *wrapping.Store
	mounts   *mounts.Manager
	loop     *due.Loop
	clock    *clock
	lateness *lateness
	failures sparing
	// scope returns a context that ends with the unsealed scope.
	scope func() (context.Context, context.CancelFunc)
	// sealNow asks Core.unsealed to end; sealAsked is set by sys/seal, whose
	// answer goes out first.
	sealNow   func()
	sealAsked atomic.Bool
}

// The house's work is told apart by these views of it. They hold nothing of
// their own.
type (
	leasing struct{ *house } // reserving, creating, granting, undoing
	jobs    struct{ *house } // resumable work on many rows
	lending struct{ *house } // what engines are lent
	ledger  struct{ *house } // audit of the server's own doings, counts, events
)

// openHouse opens the barrier with the root key and everything above it. Its
// cost does not grow with what is stored, but for the mounts and the policies.
func openHouse(ctx context.Context, cfg Config, rootKey secret.Value) (*house, error) {
	b, err := barrier.Open(ctx, cfg.Store, rootKey)
	if err != nil {
		return nil, err
	}
	h := &house{cfg: cfg, log: cfg.Log, barrier: b, view: b.View(""), lateness: newLateness()}
	h.scope = func() (context.Context, context.CancelFunc) { return context.WithCancel(ctx) }
	if err := h.open(ctx); err != nil {
		b.Close()
		return nil, err
	}
	return h, nil
}

func (h *house) open(ctx context.Context) error {
	folder := ""
	if len(h.cfg.RefusedFolders) > 0 {
		folder = h.cfg.RefusedFolders[0]
	}
	h.broker = audit.NewBroker(audit.Options{StorageDir: folder, Folders: h.cfg.AuditFolders, Log: h.log})
	h.audit = &auditor{broker: h.broker, owe: ledger{h}.owe, log: h.log}
	h.audited = &auditedHeaders{read: func(ctx context.Context) (map[string]node.HeaderRule, error) {
		return node.AuditedHeader.Read(ctx, h.view)
	}}
	h.devices = audit.NewDevices(h.view, h.broker, h.cfg.Audits)
	h.policies = policies.New(h.barrier)
	h.tokens = token.NewStore(token.Config{
		Barrier:   h.barrier,
		Due:       dueToken,
		EndLeases: func(ctx context.Context, id string) error { return h.leases.EndOwned(ctx, id, time.Now()) },
		Forget:    h.forgetToken,
	})
	h.leases = lease.NewManager(lease.Config{
		Barrier: h.barrier,
		Due: func(lane, id string, from, to time.Time) []storage.Op {
			return due.Move(due.Item{Lane: lane, Kind: lease.DueKind, ID: id}, from, to)
		},
		Undo:  (leasing{h}).undoAudited,
		Renew: (leasing{h}).renew,
		Event: func(kind string, l *lease.Lease) []storage.Op {
			return []storage.Op{(ledger{h}).event(kind, engine.Detail{Name: "lease_id", Value: l.ID})}
		},
	})
	h.wrapping = wrapping.New(h.barrier, h.tokens)
	h.loop = due.NewLoop(due.Config{Store: h.view, Handle: h.handleDue, Held: h.held, Late: h.lateness.observe, Log: h.log})
	var err error
	if h.clock, err = openClock(ctx, h.view, h.cfg.Boot); err != nil {
		return err
	}
	if h.held() {
		h.log.Error(clockHeld)
	}
	if err := (ledger{h}).loadCounts(ctx); err != nil {
		return err
	}
	if err := (ledger{h}).recordVersion(ctx); err != nil {
		return err
	}
	if err := h.devices.Restore(ctx, h.log); err != nil {
		return err
	}
	if err := h.policies.Ensure(ctx); err != nil {
		return err
	}
	return h.openMounts(ctx)
}

// dueToken moves the due item of a token.
func dueToken(id string, from, to time.Time) []storage.Op {
	return due.Move(due.Item{Lane: "token", Kind: token.DueKind, ID: id}, from, to)
}

func (h *house) openMounts(ctx context.Context) error {
	var err error
	h.mounts, err = mounts.Load(ctx, mounts.Config{
		Barrier: h.barrier, Types: h.cfg.Types, Log: h.log, DefaultTTL: h.cfg.DefaultTTL, MaxTTL: h.cfg.MaxTTL,
		Host: (lending{h}).host, System: h.system, Tokens: h.tokens, Issue: h.issueToken,
		RevokeWait: h.revokeWait,
	})
	if err != nil {
		return err
	}
	if err := h.mounts.EnsureBuiltin(ctx); err != nil {
		return err
	}
	return (jobs{h}).ensureJobs(ctx)
}

func (h *house) system() []route.Route {
	c := node.Config{
		Server: h.cfg.Server, View: h.view, Mounts: func() *mounts.Manager { return h.mounts },
		Keys:     node.Keys{Status: h.barrier.KeyStatus, Rotate: h.barrier.Rotate, Rotation: (ledger{h}).keyRotation, SetRotation: (ledger{h}).setKeyRotation},
		Versions: (ledger{h}).versions, Tokens: (ledger{h}).countTokens,
	}
	return append(node.Routes(c), sys.Routes(sys.Config{
		Mounts: func() *mounts.Manager { return h.mounts }, Policies: h.policies, Tokens: h.tokens, Leases: h.leases,
		Wrapping: h.wrapping, Devices: h.devices, RenewLease: (leasing{h}).renewLease, Jobs: (jobs{h}).routes(),
		Seal: func() { h.sealAsked.Store(true) }, Metrics: h.cfg.Metrics, TrustClock: h.clock.trust, Version: h.cfg.Server.Version,
	})...)
}

// run does the house's background work until ctx ends.
func (h *house) run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, work := range []func(context.Context) error{h.loop.Run, h.tokens.Follow, h.policies.Follow, h.mounts.Follow, h.tick, (ledger{h}).recount} {
		wg.Go(func() {
			if err := work(ctx); err != nil && ctx.Err() == nil {
				h.log.Error("background work ended", "error", err)
			}
		})
	}
	wg.Wait()
	return ctx.Err()
}

// close drops the keys. What still hangs can commit no more.
func (h *house) close() {
	h.mounts.Close()
	h.broker.Close()
	h.barrier.Close()
}

// tick does the small work of each second: the clock, owed audit entries,
// counts, old events.
func (h *house) tick(ctx context.Context) error {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
		h.watchClock()
		for _, step := range []func(context.Context) error{(ledger{h}).payOwed, (ledger{h}).saveCounts, h.devices.SavePositions} {
			if err := step(ctx); err != nil && ctx.Err() == nil {
				h.log.Warn("the work of each second", "error", err)
			}
		}
		if n%60 == 59 {
			if err := (ledger{h}).trimEvents(ctx); err != nil && ctx.Err() == nil {
				h.log.Warn("trimming old events", "error", err)
			}
			if err := (ledger{h}).rotateKeyIfDue(ctx); err != nil && ctx.Err() == nil {
				h.log.Warn("replacing the data key; retrying in a minute", "error", err)
			}
		}
	}
}

// watchClock says in the log when trust in the clock ends and comes back.
func (h *house) watchClock() {
	switch was, is := h.clock.check(time.Now()); {
	case !was && is:
		h.log.Error(clockHeld)
	case was && !is:
		h.log.Warn("the clock is right again: what is due is revoked and turned")
	}
}

const clockHeld = "the clock has jumped ahead: nothing is revoked or turned; set it right, or, if it is, run: keyturn write -f sys/clock/trust"

func (h *house) held() bool { return h.clock.held() }

// handleDue does one item of the due index.
func (h *house) handleDue(ctx context.Context, it due.Item) due.Outcome {
	var err error
	stray := []storage.Op{storage.Remove(it.Key())}
	switch it.Kind {
	case lease.DueKind:
		err = h.leases.Step(ctx, it.ID, time.Now(), it.At, stray)
	case token.DueKind:
		err = (leasing{h}).expireToken(ctx, it, stray)
	case jobKind:
		err = (jobs{h}).jobDue(ctx, it, stray)
	case workKind:
		err = (lending{h}).work(ctx, it)
	default:
		_, err = h.view.Commit(ctx, stray...)
	}
	switch {
	case err == nil:
		return due.Handled
	case ctx.Err() != nil:
		return due.StoreFailed
	case errors.Is(err, lease.ErrBusy):
		return due.ItemFailed
	}
	if leftOut, yes := h.failures.tell(it.Lane, time.Now()); yes {
		h.log.Warn("due work failed; it is tried again", "kind", it.Kind, "id", it.ID, "error", err, "others_since_the_last_line", leftOut)
	}
	return outcome(it, err)
}

// outcome says whom a failure concerns: all that stands in the item's lane, or
// it alone.
func outcome(it due.Item, err error) due.Outcome {
	kind := fault.KindOf(err)
	if kind == fault.Timeout && (it.Kind == token.DueKind || it.Kind == jobKind) {
		kind = fault.Unavailable // these ask nothing but the store
	}
	switch kind {
	case fault.Unavailable, fault.Sealed, fault.Conflict:
		return due.StoreFailed
	}
	if it.Kind == lease.DueKind && !errors.Is(err, lease.ErrDamaged) && !engine.IsLeaseOnly(err) {
		return due.TargetFailed // it was claimed first, and stands in no other's way
	}
	return due.ItemFailed
}

func (h leasing) expireToken(ctx context.Context, it due.Item, stray []storage.Op) error {
	a := audit.Expiry(newRequestID(), "auth/token/", audit.Mount{Point: "auth/token/", Type: "token", Class: mounts.ClassAuth})
	return ledger(h).taking(ctx, a, func(ctx context.Context) error {
		return h.tokens.Expire(ctx, it.ID, time.Now(), it.At, stray)
	})
}

// undoAudited surrounds an undo with its two lines.
func (h leasing) undoAudited(ctx context.Context, l *lease.Lease) (again time.Time, note string, err error) {
	err = ledger(h).taking(ctx, ledger(h).expiry(l), func(ctx context.Context) error {
		again, note, err = h.undo(ctx, l)
		return err
	})
	return again, note, err
}

// forgetToken drops what belonged to a token alone: its cubbyhole and what was wrapped in it.
func (h *house) forgetToken(ctx context.Context, id string) error {
	if err := h.wrapping.Forget(ctx, id); err != nil {
		return err
	}
	e := h.mounts.Snapshot().Table.At("cubbyhole/")
	if e == nil {
		return nil
	}
	prefix := "mount/" + e.UUID + "/c/" + id + "/"
	return h.removeBelow(ctx, prefix)
}

func (h *house) removeBelow(ctx context.Context, prefix string) error {
	for {
		var ops []storage.Op
		for row, err := range h.view.Scan(ctx, prefix, storage.PrefixEnd(prefix)) {
			if err != nil {
				return err
			}
			if ops = append(ops, storage.Remove(row.Key)); len(ops) == storage.MaxOps {
				break
			}
		}
		if len(ops) == 0 {
			return nil
		}
		if _, err := h.view.Commit(ctx, ops...); err != nil {
			return err
		}
	}
}

// event is the operation that records an event for users.
func (h ledger) event(kind string, details ...engine.Detail) storage.Op {
	b := append(make([]byte, 0, 256), `{"kind":`...)
	b = append(wire.AppendString(b, kind), `,"at":"`...)
	b = append(time.Now().UTC().AppendFormat(b, time.RFC3339Nano), `","data":{`...)
	for i, d := range details {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(wire.AppendString(b, d.Name), ':')
		b = wire.AppendString(b, d.Value)
	}
	b = append(b, "}}"...)
	return storage.Append(eventPrefix, b)
}

const eventPrefix = "event/"

// eventHorizon is how many commits back events are kept: at a few hundred
// bytes each at most some 60 MiB.
const eventHorizon = 200_000

func (h ledger) trimEvents(ctx context.Context) error {
	newest := storage.Version(0)
	row, err := h.view.Get(ctx, countKey)
	if err != nil || row.Version <= eventHorizon {
		return err
	}
	newest = row.Version
	end := storage.StampedKey(eventPrefix, newest-eventHorizon)
	for {
		var ops []storage.Op
		for e, err := range h.view.Scan(ctx, eventPrefix, end) {
			if err != nil {
				return err
			}
			if ops = append(ops, storage.Remove(e.Key)); len(ops) == storage.MaxOps {
				break
			}
		}
		if len(ops) == 0 {
			return nil
		}
		if _, err := h.view.Commit(ctx, ops...); err != nil {
			return err
		}
	}
}

func newRequestID() string { return mounts.NewUUID() }

// NewRequestID is a fresh id for a request: a random UUID.
func NewRequestID() string { return newRequestID() }
