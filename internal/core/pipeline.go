package core

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/keyturn/keyturn/internal/core/mounts"
	"github.com/keyturn/keyturn/internal/core/policies"
	"github.com/keyturn/keyturn/internal/core/wrapping"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/token"
)

// A pipeline takes requests through their stations: admit, serve, finish.
type pipeline struct {
	audit    *requestAudit
	headers  *auditedHeaders
	mounts   *mounts.Manager
	policies *policies.Manager
	tokens   *token.Store
	leasing  *leasing
	wrapping *wrapping.Store
	maxTTL   time.Duration // the system's, which bounds wrapping, too
	scope    scope
	log      *slog.Logger
}

func (p *pipeline) handle(ctx context.Context, x *exchange) (*Answer, error) {
	var err error
	if x.headers, err = p.headers.of(ctx, x.r.Header, x.r.Time); err != nil {
		return nil, err
	}
	if err := p.admit(ctx, x); err != nil {
		return nil, p.audit.refused(ctx, x, err)
	}
	answer, err := p.serve(ctx, x)
	if err == nil && answer.Stream != nil {
		answer.Stream = p.watched(x, answer.Stream)
	}
	if x.entry != nil && x.entry.Uses < 0 {
		// The last use is taken: the token and what it made end with this
		// answer, or after a crash with the due loop.
		ctx, cancel := p.scope.afterwards()
		defer cancel()
		if rerr := p.tokens.Revoke(ctx, x.entry.ID); rerr != nil {
			p.log.Error("revoking a token that was used up", "accessor", x.entry.Accessor, "error", rerr)
		}
	}
	return answer, err
}

// admit finds the route, who asks, and whether they may. Nothing outside has
// happened when it refuses.
func (p *pipeline) admit(ctx context.Context, x *exchange) error {
	r := x.r
	lost := p.find(x)
	if lost == nil && x.route.Public {
		return nil
	}
	if err := p.identify(ctx, x); err != nil {
		return err
	}
	if lost != nil || !x.route.Own {
		if err := p.allow(ctx, x); err != nil {
			return err
		}
	} else if r.Op != route.Help {
		set, err := p.policies.Set(ctx, x.entry.Policies())
		if err != nil {
			return err
		}
		x.wraps = set.Wraps(string(r.Path))
	}
	if lost != nil {
		return lost
	}
	if x.entry.Uses != 0 && !x.route.Own {
		used, err := p.tokens.Use(ctx, x.entry)
		if err != nil {
			return err
		}
		x.entry = used
	}
	r.Caller = caller(x.entry)
	return nil
}

func (p *pipeline) find(x *exchange) error {
	r := x.r
	x.open = p.mounts.Snapshot().Route(string(r.Path))
	if x.open == nil {
		return fault.New("core.find", fault.NotFound, "no handler for route %q: nothing is mounted there", r.Shown())
	}
	e := x.open.Entry()
	r.Mount = route.Mount{
		Path: e.Path, Type: e.Type, UUID: e.UUID, Accessor: e.Accessor, Class: e.Class,
		DefaultTTL: x.open.DefaultTTL(), MaxTTL: x.open.MaxTTL(),
	}
	r.Rest = r.Path.Below(e.Path)
	p.capWrapping(x)
	if r.Op == route.Help {
		x.route = x.open.Table.HelpOn(r)
		return nil
	}
	var err error
	if x.route, err = x.open.Table.Find(r); err != nil {
		return err
	}
	r.Body, err = x.route.Form().Rename(r.Body) // what the policies judge, the audit log shows and the handler reads
	return err
}

func (p *pipeline) identify(ctx context.Context, x *exchange) error {
	if x.r.Token.Empty() {
		return fault.New("core.identify", fault.Denied, "permission denied: missing client token")
	}
	e, err := p.tokens.Lookup(ctx, x.r.Token)
	if err != nil {
		return err
	}
	// Now, and not when the request's head came: its body may have taken as long as it liked.
	if why := e.Usable(time.Now(), x.r.Remote.Addr()); why != "" {
		return fault.New("core.identify", fault.Denied, "permission denied: %s", why)
	}
	if e.Wrapping {
		return fault.New("core.identify", fault.Denied, "permission denied: a wrapping token can only be unwrapped; send it to sys/wrapping/unwrap")
	}
	x.entry = e
	return nil
}

func caller(e *token.Entry) *route.Caller {
	return &route.Caller{
		ID: e.ID, Accessor: e.Accessor, DisplayName: e.DisplayName, EntityID: e.EntityID, Policies: e.Policies(),
		Meta: e.Meta, Batch: e.Batch, Root: e.Root(), Orphan: e.Orphan(), Expires: e.Expires,
	}
}

func (p *pipeline) allow(ctx context.Context, x *exchange) error {
	q := policies.Query{
		Path: string(x.r.Path), Op: x.r.Op, Body: x.r.Body, WrapTTL: x.r.WrapTTL,
	}
	if x.route != nil {
		q.Sudo, q.Form = x.route.Sudo, x.route.Form()
	}
	d, err := p.policies.Decide(ctx, x.entry.Policies(), q)
	if err != nil {
		return err
	}
	if x.r.Op == route.Write && x.route != nil && x.route.Exists != nil {
		q.Op = route.Create
		create, err := p.policies.Decide(ctx, x.entry.Policies(), q)
		if err != nil {
			return err
		}
		if create.Allowed != d.Allowed {
			exists, err := x.route.Exists(ctx, x.r)
			if err != nil {
				return err
			}
			if !exists {
				x.r.Op, d = route.Create, create
			}
		}
	}
	if !d.Allowed {
		x.denied = d.Why
		return fault.New("core.allow", fault.Denied, "permission denied")
	}
	x.r.Sudo, x.wraps = d.Sudo, d.Wrapped
	return nil
}

// serve carries out what was admitted.
func (p *pipeline) serve(ctx context.Context, x *exchange) (*Answer, error) {
	if x.route.Leased() {
		return p.serveLeased(ctx, x)
	}
	if pure(x) {
		// Nothing happens but a read: both lines go out in one write, before the reply.
		data, err := x.route.Serve(ctx, x.r)
		return p.finish(ctx, x, result{data: data, err: err, both: true})
	}
	if err := p.audit.request(ctx, x); err != nil {
		return nil, err
	}
	data, err := x.route.Serve(ctx, x.r)
	return p.finish(ctx, x, result{data: data, err: err})
}

// pure reports whether serving has no effect that the request line must precede.
func pure(x *exchange) bool {
	return (x.r.Op == route.Read || x.r.Op == route.List) && x.r.WrapTTL == 0 && !x.route.Public
}

// serveLeased is plan → reserve → create → grant. Nothing outside is touched
// before the reservation is durable, and nothing is answered before the grant is.
func (p *pipeline) serveLeased(ctx context.Context, x *exchange) (*Answer, error) {
	plan, create, err := x.route.Plan(ctx, x.r)
	if err != nil {
		return p.finish(ctx, x, result{err: err, both: true})
	}
	draft, err := p.leasing.draft(x, plan)
	if err != nil {
		return p.finish(ctx, x, result{err: err, both: true})
	}
	if err := p.audit.request(ctx, x); err != nil {
		return nil, err
	}
	data, l, err := p.leasing.existing(ctx, x, plan, draft)
	existing := l != nil
	if err == nil && !existing {
		data, l, err = p.leasing.issue(ctx, x, plan, create, draft)
	}
	if err != nil {
		return p.finish(ctx, x, result{err: err})
	}
	if !x.entry.Expires.IsZero() && l.Expires.After(x.entry.Expires) {
		x.r.Warn("%s", endsWithToken(x.entry.Expires))
	}
	ttl := l.Expires.Sub(draft.Issued)
	if !existing {
		ttl = issuedFor(l)
	}
	out := &answeredLease{id: l.ID, ttl: ttl, renewable: l.Renewable, existing: existing}
	return p.finish(ctx, x, result{data: data, lease: out})
}

// finish wraps, audits and encodes.
func (p *pipeline) finish(ctx context.Context, x *exchange, res result) (*Answer, error) {
	if res.err != nil {
		return nil, p.audit.failed(ctx, x, res)
	}
	if l, ok := res.data.(*route.Leasing); ok { // a renewal
		res.data, res.lease = nil, nil
		return p.finishRenewal(ctx, x, l)
	}
	if x.wraps && !wrappable(x) {
		p.undoUnsaid(x, res)
		return nil, p.audit.failed(ctx, x, result{err: errInTheClear(x), both: res.both})
	}
	e := envelope{x: x, data: res.data, lease: res.lease}
	if x.r.WrapTTL > 0 && wrappable(x) {
		info, err := p.wrap(ctx, x, &e)
		if err != nil {
			p.undoUnsaid(x, res)
			return nil, p.audit.failed(ctx, x, result{err: err})
		}
		e = envelope{x: x, wrap: info}
	}
	if err := p.audit.response(ctx, x, &e, res.both); err != nil {
		p.undoUnsaid(x, res)
		return nil, err
	}
	return e.answer(), nil
}

// finishRenewal answers with a lease that was there before: if the answer
// cannot be wrapped or audited, the lease stays.
func (p *pipeline) finishRenewal(ctx context.Context, x *exchange, l *route.Leasing) (*Answer, error) {
	e := envelope{x: x, lease: &answeredLease{id: l.ID, ttl: l.TTL, renewable: l.Renewable}}
	if x.r.WrapTTL > 0 {
		info, err := p.wrap(ctx, x, &e)
		if err != nil {
			return nil, p.audit.failed(ctx, x, result{err: err})
		}
		e = envelope{x: x, wrap: info}
	}
	if err := p.audit.response(ctx, x, &e, false); err != nil {
		return nil, err
	}
	return e.answer(), nil
}

// undoUnsaid takes back what was made for an answer that cannot be given.
func (p *pipeline) undoUnsaid(x *exchange, res result) {
	ctx, cancel := p.scope.afterwards()
	defer cancel()
	if res.lease != nil && !res.lease.existing {
		if err := p.leasing.leases.End(ctx, res.lease.id, false, time.Now()); err != nil {
			p.log.Error("ending a lease whose answer could not be audited", "lease", res.lease.id, "error", err)
		}
	}
	if a := x.r.Reply().Auth; a != nil && a.TokenID != "" {
		if err := p.tokens.Revoke(ctx, a.TokenID); err != nil {
			p.log.Error("revoking a token whose answer could not be audited", "accessor", a.Accessor, "error", err)
		}
	}
}

// capWrapping bounds how long an answer stays wrapped by the mount and the system, before
// the policies are asked whether it may.
func (p *pipeline) capWrapping(x *exchange) {
	if most := min(x.open.MaxTTL(), p.maxTTL); x.r.WrapTTL > most {
		x.r.Warn("the wrapping TTL of %s is capped to %s, the maximum", x.r.WrapTTL, most)
		x.r.WrapTTL = most
	}
}

// wrap stores the answer under a token of its own, which the client gets in
// place of it.
func (p *pipeline) wrap(ctx context.Context, x *exchange, e *envelope) (*wrapInfo, error) {
	a := wrapping.Answer{Path: x.r.Shown(), TTL: x.r.WrapTTL, Body: e.encode(nil)}
	if auth := x.r.Reply().Auth; auth != nil {
		a.Accessor, a.TokenID = auth.Accessor, auth.TokenID
	}
	tok, made, err := p.wrapping.Wrap(ctx, a, x.entry)
	if err != nil {
		return nil, err
	}
	return &wrapInfo{
		Token: tok, Accessor: made.Accessor, TTL: a.TTL, CreationTime: made.Created, CreationPath: a.Path, WrappedAccessor: a.Accessor,
	}, nil
}

// guardEvery is how often the token of a stream is looked at.
const guardEvery = time.Second

// watched is a stream that ends when its token may no longer be used, or with the
// unsealed scope.
func (p *pipeline) watched(x *exchange, stream route.Stream) route.Stream {
	tok, remote := x.r.Token, x.r.Remote.Addr()
	return func(ctx context.Context, send func([]byte) error) error {
		scope, end := p.scope()
		defer end()
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(scope, cancel)()
		var wg sync.WaitGroup
		defer wg.Wait()
		defer cancel()
		wg.Go(func() {
			tick := time.NewTicker(guardEvery)
			defer tick.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
				if e, err := p.tokens.Lookup(ctx, tok); err != nil || e.Usable(time.Now(), remote) != "" {
					cancel()
				}
			}
		})
		return stream(ctx, send)
	}
}
