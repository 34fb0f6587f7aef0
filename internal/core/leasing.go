package core

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/core/mounts"
	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/lease"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/token"
)

// How long creating a credential may take, and how much later it may still take effect, if the
// engine does not say.
const (
	defaultCreateTimeout = time.Minute
	defaultLate          = 15 * time.Minute
)

// leasing issues and renews leases. When a lease ends, it revokes the credential of the lease.
type leasing struct {
	leases *lease.Manager
	tokens *token.Store
	mounts *mounts.Manager
	trail  *trail
	scope  scope
	log    *slog.Logger
}

// answeredTTL is the TTL of a new lease in the answer: the TTL that was decided, less the whole
// seconds that creating took. Like Vault, it rounds up, so that a TTL of 30m is not shown as
// 29m59s.
func answeredTTL(l *lease.Lease) time.Duration {
	left := l.Expires.Sub(l.Issued)
	if part := left % time.Second; part > 0 {
		left += time.Second - part
	}
	return left
}

// draft decides the TTL and the other terms of a lease, within the limits of the role, the mount
// and the system.
func (g *leasing) draft(x *exchange, plan route.Plan) (*lease.Lease, error) {
	undo, err := json.Marshal(plan.Undo)
	if err != nil {
		return nil, fault.Wrap("core.draft", fault.Internal, err)
	}
	limit := x.mount.MaxTTL()
	if plan.MaxTTL > 0 && plan.MaxTTL < limit {
		limit = plan.MaxTTL
	}
	ttl := plan.TTL
	if ttl == 0 {
		ttl = x.mount.DefaultTTL()
	}
	if ttl > limit {
		x.r.Warn("the TTL of %s is capped to %s, the maximum", ttl, limit)
		ttl = limit
	}
	now := time.Now().UTC().Truncate(time.Millisecond)
	if x.entry.Batch && !x.entry.Expires.IsZero() {
		// A batch token is not stored, so nothing could end its leases when it expires.
		left := x.entry.Expires.Sub(now)
		ttl, limit = min(ttl, left), min(limit, left)
	}
	return &lease.Lease{
		ID: strings.TrimSuffix(string(x.r.Path), "/") + "/" + token.Random(24), Mount: x.mount.Entry().UUID,
		Target: plan.Target,
		Kind:   plan.Kind, Data: undo, Owner: x.entry.Owner(), Entity: x.entry.EntityID,
		Attempt: strings.ToLower(token.Random(20)), Issued: now, Expires: now.Add(ttl), Max: now.Add(limit),
		Renewable: plan.Renewable,
	}, nil
}

// reusable returns the earlier lease that a plan prefers to a new one, or nil. A lease in the last
// tenth of its TTL is not reused.
func (g *leasing) reusable(
	ctx context.Context, x *exchange, plan route.Plan, draft *lease.Lease,
) (any, *lease.Lease, error) {
	if plan.Again == nil {
		return nil, nil, nil
	}
	l, err := g.leases.Lookup(ctx, plan.Again.Lease)
	switch {
	case fault.Is(err, fault.Invalid):
		return nil, nil, nil
	case err != nil:
		return nil, nil, err
	}
	ours := l.State == lease.Granted && l.Mount == draft.Mount && l.Owner == draft.Owner
	if !ours || l.Expires.Sub(draft.Issued) < draft.Expires.Sub(draft.Issued)/10 {
		return nil, nil, nil
	}
	return plan.Again.Data, l, nil
}

// issue reserves a lease, creates the credential and grants the lease.
func (g *leasing) issue(
	ctx context.Context, x *exchange, plan route.Plan, create route.CreateFunc, draft *lease.Lease,
) (any, *lease.Lease, error) {
	within, late := plan.CreateWithin, plan.Late
	if within == 0 {
		within = defaultCreateTimeout
	}
	if late == 0 {
		late = defaultLate
	}
	deadline := time.Now().Add(within)
	draft.Late = deadline.Add(late).UTC()
	r, err := g.reserve(ctx, x, draft, deadline)
	if err != nil {
		return nil, nil, err
	}
	data, err := g.create(create, route.Attempt{
		ID: r.Attempt, LeaseID: r.ID, TTL: r.Expires.Sub(r.Issued), Expires: r.Expires, Max: r.Max,
	}, deadline)
	if err != nil {
		g.abandon(r)
		return nil, nil, err
	}
	if plan.FromGrant {
		r = r.StartingAt(time.Now())
	}
	l, err := g.grant(ctx, x, r)
	if err != nil {
		g.abandon(r)
		return nil, nil, err
	}
	return data, l, nil
}

// attempts is how often a commit is retried because the token or mount was changed meanwhile, for
// example by a renewal, a use or a tune.
const attempts = 8

// reserve stores the reservation. The commit asserts that the token is valid and the mount
// enabled, so that no lease appears after the leases of either have been revoked.
func (g *leasing) reserve(
	ctx context.Context, x *exchange, draft *lease.Lease, deadline time.Time,
) (*lease.Lease, error) {
	for range attempts {
		mount := x.mount.Entry()
		if !mount.Gone.IsZero() {
			return nil, fault.New("core.reserve", fault.NotFound,
				"no handler for route %q: its engine was disabled; list sys/mounts", x.r.Shown())
		}
		guard, err := g.tokens.Guard(ctx, x.entry)
		if err != nil {
			return nil, err
		}
		r, err := g.leases.Reserve(ctx, draft, deadline, append(guard, mount.Expect()))
		if !fault.Is(err, fault.Conflict) {
			return r, err
		}
	}
	return nil, fault.New("core.reserve", fault.Unavailable,
		"the token or the mount is being changed by many requests at once; try again")
}

// grant turns the reservation into a lease, unless the token has expired, or the due loop has
// claimed the reservation meanwhile.
func (g *leasing) grant(ctx context.Context, x *exchange, r *lease.Lease) (*lease.Lease, error) {
	for range attempts {
		guard, err := g.tokens.Guard(ctx, x.entry)
		if err != nil {
			return nil, err
		}
		if !time.Now().Before(r.Expires) {
			return nil, fault.New("core.grant", fault.Timeout,
				"creating took longer than the lease's TTL of %s; what was created is being undone",
				r.Expires.Sub(r.Issued))
		}
		l, err := g.leases.Grant(ctx, r, time.Now(), guard)
		if !fault.Is(err, fault.Conflict) {
			return l, err
		}
		current, err := g.leases.Lookup(ctx, r.ID)
		if err == nil && current.Version != r.Version || fault.Is(err, fault.Invalid) {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, fault.New("core.grant", fault.Timeout,
		"creating took too long, or the lease was revoked meanwhile; what was created is being undone")
}

// create calls the engine with the unsealed scope's context, never the request's: a client that
// hangs up must not leave a half-made thing behind.
func (g *leasing) create(create route.CreateFunc, a route.Attempt, deadline time.Time) (any, error) {
	ctx, cancel := g.scope()
	defer cancel()
	ctx, stop := lease.Creating(ctx, deadline)
	defer stop()
	if ctx.Err() != nil {
		return nil, fault.New("core.create", fault.Unavailable,
			"the storage was too slow to record the lease, or this machine was suspended; try again")
	}
	return create(ctx, a)
}

// abandon makes a reservation due at once. If that fails, it falls due at its deadline.
func (g *leasing) abandon(r *lease.Lease) {
	ctx, cancel := g.scope()
	defer cancel()
	if err := g.leases.End(ctx, r.ID, false, time.Now()); err != nil {
		g.log.Warn("ending a reservation early", "lease", r.ID, "error", err)
	}
}

// undo calls the engine of a lease to revoke what it created.
func (g *leasing) undo(ctx context.Context, l *lease.Lease) (time.Time, string, error) {
	o := g.mounts.Snapshot().ByUUID(l.Mount)
	if o == nil || o.Undoer == nil {
		return time.Time{}, "", fault.New("core.undo", fault.Internal, "the engine of lease %q does not exist", l.ID)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var done engine.Undone
	err := withoutPanic(g.log, "undo", func() (err error) {
		done, err = o.Undoer.Undo(ctx, undoOf(l))
		return err
	})
	return done.Again, done.Note, err
}

func (g *leasing) renew(ctx context.Context, l *lease.Lease, expires time.Time) error {
	o := g.mounts.Snapshot().ByUUID(l.Mount)
	if o == nil || o.Undoer == nil {
		return fault.New("core.renew", fault.Internal, "the engine of lease %q does not exist", l.ID)
	}
	return o.Undoer.Renew(ctx, undoOf(l), expires)
}

func undoOf(l *lease.Lease) engine.Undo {
	return engine.Undo{
		LeaseID: l.ID, Attempt: l.Attempt, Kind: l.Kind, Target: l.Target, Data: l.Data,
		Granted: l.Granted, Late: l.Late, Force: l.Force,
	}
}

// renewLease renews within the limits of the role, the mount and the system.
func (g *leasing) renewLease(ctx context.Context, id string, increment time.Duration) (*lease.Lease, []string, error) {
	l, err := g.leases.Lookup(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	o := g.mounts.Snapshot().ByUUID(l.Mount)
	if o == nil || o.Undoer == nil {
		return nil, nil, fault.New("core.renewLease", fault.Internal, "the engine of lease %q does not exist", id)
	}
	ttl, limit, err := o.Undoer.Bounds(ctx, undoOf(l))
	if err != nil {
		return nil, nil, err
	}
	if ttl == 0 {
		ttl = o.DefaultTTL()
	}
	if limit == 0 || limit > o.MaxTTL() {
		limit = o.MaxTTL()
	}
	renewed, capped, err := g.leases.Renew(ctx, l, increment, lease.Bounds{TTL: ttl, Max: limit}, time.Now())
	if err != nil {
		return nil, nil, err
	}
	var warnings []string
	if capped {
		warnings = append(warnings,
			fmt.Sprintf("the lease cannot live past %s, its maximum; it was renewed until then",
				renewed.Expires.Format(time.RFC3339)))
	}
	// The token's end is no limit above, because it may move, as the lease's does.
	if owner, err := g.tokens.ByID(ctx, l.Owner); err == nil && !owner.Expires.IsZero() &&
		renewed.Expires.After(owner.Expires) {
		warnings = append(warnings, endsWithToken(owner.Expires))
	}
	return renewed, warnings, nil
}

// endsWithToken is the warning about a lease whose token expires first.
func endsWithToken(end time.Time) string {
	return fmt.Sprintf("the lease will end with its token, in %s, before its own time",
		time.Until(end).Truncate(time.Second))
}

func (g *leasing) undoAudited(ctx context.Context, l *lease.Lease) (again time.Time, note string, err error) {
	err = g.trail.revoke(ctx, g.trail.expiry(l), func(ctx context.Context) error {
		again, note, err = g.undo(ctx, l)
		return err
	})
	return again, note, err
}
