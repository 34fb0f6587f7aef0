package core

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/lease"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/token"
)

// How long a create may take, and an effect of it may come late, where the
// engine does not say.
const (
	createWithin  = time.Minute
	lateByDefault = 15 * time.Minute
)

// serveLeased is plan → reserve → create → grant. Nothing outside is touched
// before the reservation is durable, and nothing is answered before the grant is.
func (h *house) serveLeased(ctx context.Context, x *exchange) (*Answer, error) {
	plan, create, err := x.route.Plan(ctx, x.r)
	if err != nil {
		return h.finish(ctx, x, result{err: err, both: true})
	}
	draft, err := (leasing{h}).draft(x, plan)
	if err != nil {
		return h.finish(ctx, x, result{err: err, both: true})
	}
	if err := h.audit.request(ctx, x); err != nil {
		return nil, err
	}
	data, l, err := (leasing{h}).again(ctx, x, plan, draft)
	again := l != nil
	if err == nil && !again {
		data, l, err = (leasing{h}).issue(ctx, x, plan, create, draft)
	}
	if err != nil {
		return h.finish(ctx, x, result{err: err})
	}
	if !x.entry.Expires.IsZero() && l.Expires.After(x.entry.Expires) {
		x.r.Warn("%s", diesWithToken(x.entry.Expires))
	}
	ttl := l.Expires.Sub(draft.Issued)
	if !again {
		ttl = issuedFor(l)
	}
	out := &leased{id: l.ID, ttl: ttl, renewable: l.Renewable, again: again}
	return h.finish(ctx, x, result{data: data, lease: out})
}

// issuedFor is what a new lease is said to last: the TTL that was decided, less the whole seconds that creating took. A
// lease of 30m whose user was created in a moment is one of 30m to its reader, as it is with Vault, and not of 29m59s.
func issuedFor(l *lease.Lease) time.Duration {
	left := l.Expires.Sub(l.Issued)
	if part := left % time.Second; part > 0 {
		left += time.Second - part
	}
	return left
}

// draft decides the lease's terms: role, mount and system bound it.
func (h leasing) draft(x *exchange, plan route.Plan) (*lease.Lease, error) {
	undo, err := json.Marshal(plan.Undo)
	if err != nil {
		return nil, fault.Wrap("core.draft", fault.Internal, err)
	}
	most := x.open.MaxTTL()
	if plan.MaxTTL > 0 && plan.MaxTTL < most {
		most = plan.MaxTTL
	}
	ttl := plan.TTL
	if ttl == 0 {
		ttl = x.open.DefaultTTL()
	}
	if ttl > most {
		x.r.Warn("the TTL of %s is capped to %s, the maximum", ttl, most)
		ttl = most
	}
	now := time.Now().UTC().Truncate(time.Millisecond)
	if x.entry.Batch && !x.entry.Expires.IsZero() {
		// Nothing is stored of a batch token that could end its leases.
		left := x.entry.Expires.Sub(now)
		ttl, most = min(ttl, left), min(most, left)
	}
	return &lease.Lease{
		ID: strings.TrimSuffix(string(x.r.Path), "/") + "/" + token.Random(24), Mount: x.open.Entry().UUID, Target: plan.Target,
		Kind: plan.Kind, Data: undo, Owner: x.entry.Owner(), Entity: x.entry.EntityID,
		Attempt: strings.ToLower(token.Random(20)), Issued: now, Expires: now.Add(ttl), Max: now.Add(most), Renewable: plan.Renewable,
	}, nil
}

// again finds the earlier lease that a plan would rather give out; nil for none. In the last tenth of
// its life it is not worth having any more.
func (h leasing) again(ctx context.Context, x *exchange, plan route.Plan, draft *lease.Lease) (any, *lease.Lease, error) {
	if plan.Again == nil {
		return nil, nil, nil
	}
	l, err := h.leases.Lookup(ctx, plan.Again.Lease)
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

// issue reserves, creates and grants.
func (h leasing) issue(ctx context.Context, x *exchange, plan route.Plan, create route.CreateFunc, draft *lease.Lease) (any, *lease.Lease, error) {
	within, late := plan.CreateWithin, plan.Late
	if within == 0 {
		within = createWithin
	}
	if late == 0 {
		late = lateByDefault
	}
	deadline := time.Now().Add(within)
	draft.Late = deadline.Add(late).UTC()
	r, err := h.reserve(ctx, x, draft, deadline)
	if err != nil {
		return nil, nil, err
	}
	data, err := h.create(create, route.Attempt{
		ID: r.Attempt, LeaseID: r.ID, TTL: r.Expires.Sub(r.Issued), Expires: r.Expires, Max: r.Max,
	}, deadline)
	if err != nil {
		h.abandon(r)
		return nil, nil, err
	}
	if plan.FromGrant {
		r = r.From(time.Now())
	}
	l, err := h.grant(ctx, x, r)
	if err != nil {
		h.abandon(r)
		return nil, nil, err
	}
	return data, l, nil
}

// attempts is how often a commit is tried whose token or mount was changed
// meanwhile, and lives on: by a renewal, a use, a tune.
const attempts = 8

// reserve stores the reservation, asserting that the token lives and the mount
// is in service: behind the back of who ends their leases nothing comes.
func (h leasing) reserve(ctx context.Context, x *exchange, draft *lease.Lease, deadline time.Time) (*lease.Lease, error) {
	for range attempts {
		mount := x.open.Entry()
		if !mount.Gone.IsZero() {
			return nil, fault.New("core.reserve", fault.NotFound, "no handler for route %q: its engine was disabled; list sys/mounts", x.r.Shown())
		}
		guard, err := h.tokens.Guard(ctx, x.entry)
		if err != nil {
			return nil, err
		}
		r, err := h.leases.Reserve(ctx, draft, deadline, append(guard, mount.Expect()))
		if !fault.Is(err, fault.Conflict) {
			return r, err
		}
	}
	return nil, fault.New("core.reserve", fault.Unavailable, "the token or the mount is being changed by many requests at once; try again")
}

// grant turns the reservation into a lease, unless it was claimed meanwhile, or
// the token has ended.
func (h leasing) grant(ctx context.Context, x *exchange, r *lease.Lease) (*lease.Lease, error) {
	for range attempts {
		guard, err := h.tokens.Guard(ctx, x.entry)
		if err != nil {
			return nil, err
		}
		if !time.Now().Before(r.Expires) {
			return nil, fault.New("core.grant", fault.Timeout, "creating took longer than the lease's TTL of %s; what was created is being undone", r.Expires.Sub(r.Issued))
		}
		l, err := h.leases.Grant(ctx, r, time.Now(), guard)
		if !fault.Is(err, fault.Conflict) {
			return l, err
		}
		now, err := h.leases.Lookup(ctx, r.ID)
		if err == nil && now.Version != r.Version || fault.Is(err, fault.Invalid) {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, fault.New("core.grant", fault.Timeout, "creating took too long, or the lease was revoked meanwhile; what was created is being undone")
}

// create calls the engine on the unsealed scope's context, never the
// request's: a client that hangs up must not leave a half-made thing behind.
func (h leasing) create(create route.CreateFunc, a route.Attempt, deadline time.Time) (any, error) {
	ctx, cancel := h.scope()
	defer cancel()
	ctx, stop := context.WithDeadline(ctx, deadline)
	defer stop()
	return create(ctx, a)
}

// abandon makes a reservation due at once. Where even that fails, it falls due
// by itself at its deadline.
func (h leasing) abandon(r *lease.Lease) {
	ctx, cancel := h.scope()
	defer cancel()
	if err := h.leases.End(ctx, r.ID, false, time.Now()); err != nil {
		h.log.Warn("ending a reservation early", "lease", r.ID, "error", err)
	}
}

// undo calls the engine of a lease to take back what it created.
func (h leasing) undo(ctx context.Context, l *lease.Lease) (time.Time, string, error) {
	o := h.mounts.Snapshot().ByUUID(l.Mount)
	if o == nil || o.Undoer == nil {
		return time.Time{}, "", fault.New("core.undo", fault.Internal, "the engine of lease %q is not there", l.ID)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var done engine.Undone
	err := h.guarded("undo", func() (err error) {
		done, err = o.Undoer.Undo(ctx, undoOf(l))
		return err
	})
	return done.Again, done.Note, err
}

// guarded runs what an engine does where no request waits for it. A panic there
// is an error: one lease or key must not end the server, at each start anew.
// What was panicked with may hold a secret; its type is logged, and the stack.
func (h *house) guarded(what string, f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			h.log.Error("an engine panicked", "doing", what, "type", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
			err = fault.New("core."+what, fault.Internal, "the engine failed in a way that it should not; see the server's log, and report it")
		}
	}()
	return f()
}

func (h leasing) renew(ctx context.Context, l *lease.Lease, expires time.Time) error {
	o := h.mounts.Snapshot().ByUUID(l.Mount)
	if o == nil || o.Undoer == nil {
		return fault.New("core.renew", fault.Internal, "the engine of lease %q is not there", l.ID)
	}
	return o.Undoer.Renew(ctx, undoOf(l), expires)
}

func undoOf(l *lease.Lease) engine.Undo {
	return engine.Undo{
		LeaseID: l.ID, Attempt: l.Attempt, Kind: l.Kind, Target: l.Target, Data: l.Data,
		Granted: l.Granted, Late: l.Late, Force: l.Force,
	}
}

// RenewLease renews by id, within the bounds of role, mount, system and token.
func (h leasing) renewLease(ctx context.Context, id string, increment time.Duration) (*lease.Lease, []string, error) {
	l, err := h.leases.Lookup(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	o := h.mounts.Snapshot().ByUUID(l.Mount)
	if o == nil || o.Undoer == nil {
		return nil, nil, fault.New("core.renewLease", fault.Internal, "the engine of lease %q is not there", id)
	}
	ttl, most, err := o.Undoer.Bounds(ctx, undoOf(l))
	if err != nil {
		return nil, nil, err
	}
	if ttl == 0 {
		ttl = o.DefaultTTL()
	}
	if most == 0 || most > o.MaxTTL() {
		most = o.MaxTTL()
	}
	renewed, capped, err := h.leases.Renew(ctx, l, increment, lease.Bounds{TTL: ttl, Max: most}, time.Now())
	if err != nil {
		return nil, nil, err
	}
	var warnings []string
	if capped {
		warnings = append(warnings, fmt.Sprintf("the lease cannot live past %s, its maximum; it was renewed until then", renewed.Expires.Format(time.RFC3339)))
	}
	// Not by the cap above: a token's end may move, as a lease's does.
	if owner, err := h.tokens.ByID(ctx, l.Owner); err == nil && !owner.Expires.IsZero() && renewed.Expires.After(owner.Expires) {
		warnings = append(warnings, diesWithToken(owner.Expires))
	}
	return renewed, warnings, nil
}

// diesWithToken warns of a lease that its token will not live to see the end of.
func diesWithToken(end time.Time) string {
	return fmt.Sprintf("the lease will end with its token, in %s, before its own time", time.Until(end).Truncate(time.Second))
}
