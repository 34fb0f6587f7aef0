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

// A pipeline takes a request through three steps: admit, serve, finish.
type pipeline struct {
	audit    *requestAudit
	headers  *auditedHeaders
	mounts   *mounts.Manager
	policies *policies.Manager
	tokens   *token.Store
	leasing  *leasing
	wrapping *wrapping.Store
	maxTTL   time.Duration // the system's, which also limits wrapping
	scope    scope
	log      *slog.Logger
}

func (p *pipeline) handle(ctx context.Context, x *exchange) (*Answer, error) {
	var err error
	if x.headers, err = p.headers.forRequest(ctx, x.r.Header, x.r.Time); err != nil {
		return nil, err
	}
	if err := p.admit(ctx, x); err != nil {
		return nil, p.audit.refused(ctx, x, err)
	}
	answer, err := p.serve(ctx, x)
	if err == nil && answer.Stream != nil {
		answer.Stream = p.endWithToken(x, answer.Stream)
	}
	if x.entry != nil && x.entry.Uses < 0 {
		// This was the last use: the token and its leases end now or, after a crash, by the due
		// loop.
		ctx, cancel := p.scope.afterwards()
		defer cancel()
		if rerr := p.tokens.Revoke(ctx, x.entry.ID); rerr != nil {
			p.log.Error("revoking a token that was used up", "accessor", x.entry.Accessor, "error", rerr)
		}
	}
	return answer, err
}

// admit finds the route and the caller, and checks whether the policies allow the request. When it
// refuses, nothing outside of the server has happened.
func (p *pipeline) admit(ctx context.Context, x *exchange) error {
	r := x.r
	findErr := p.find(x)
	if findErr == nil && x.route.Public {
		return nil
	}
	if err := p.identify(ctx, x); err != nil {
		return err
	}
	if findErr != nil || !x.route.Own {
		if err := p.allow(ctx, x); err != nil {
			return err
		}
	} else if r.Op != route.Help {
		set, err := p.policies.Set(ctx, x.entry.Policies())
		if err != nil {
			return err
		}
		x.mustWrap = set.Wraps(string(r.Path))
	}
	if findErr != nil {
		return findErr
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
	x.mount = p.mounts.Snapshot().Route(string(r.Path))
	if x.mount == nil {
		return fault.New("core.find", fault.NotFound, "no handler for route %q: nothing is mounted there", r.Shown())
	}
	e := x.mount.Entry()
	r.Mount = route.Mount{
		Path: e.Path, Type: e.Type, UUID: e.UUID, Accessor: e.Accessor, Class: e.Class,
		DefaultTTL: x.mount.DefaultTTL(), MaxTTL: x.mount.MaxTTL(),
	}
	r.Rest = r.Path.Below(e.Path)
	p.capWrapping(x)
	if r.Op == route.Help {
		x.route = x.mount.Table.HelpOn(r)
		return nil
	}
	var err error
	if x.route, err = x.mount.Table.Find(r); err != nil {
		return err
	}
	r.Body, err = x.route.Form().Rename(r.Body) // policies, the audit log and the handler see this
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
	// Compare with now, because reading the body may have taken long since the request's r.Time.
	if why := e.Usable(time.Now(), x.r.Remote.Addr()); why != "" {
		return fault.New("core.identify", fault.Denied, "permission denied: %s", why)
	}
	if e.Wrapping {
		return fault.New("core.identify", fault.Denied,
			"permission denied: a wrapping token can only be unwrapped; send it to sys/wrapping/unwrap")
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
	x.r.Sudo, x.mustWrap = d.Sudo, d.Wrapped
	return nil
}

// serve carries out an admitted request.
func (p *pipeline) serve(ctx context.Context, x *exchange) (*Answer, error) {
	if x.route.Leased() {
		return p.serveLeased(ctx, x)
	}
	if pure(x) {
		// The request only reads: both audit entries are written at once, before the reply.
		data, err := x.route.Serve(ctx, x.r)
		return p.finish(ctx, x, result{data: data, err: err, requestPending: true})
	}
	if err := p.audit.request(ctx, x); err != nil {
		return nil, err
	}
	data, err := x.route.Serve(ctx, x.r)
	return p.finish(ctx, x, result{data: data, err: err})
}

// pure reports whether the request only reads, so that its audit entry need not precede it.
func pure(x *exchange) bool {
	return (x.r.Op == route.Read || x.r.Op == route.List) && x.r.WrapTTL == 0 && !x.route.Public
}

// serveLeased is plan → reserve → create → grant. Nothing is created before the reservation is
// durable, and nothing is answered before the grant is.
func (p *pipeline) serveLeased(ctx context.Context, x *exchange) (*Answer, error) {
	plan, create, err := x.route.Plan(ctx, x.r)
	if err != nil {
		return p.finish(ctx, x, result{err: err, requestPending: true})
	}
	draft, err := p.leasing.draft(x, plan)
	if err != nil {
		return p.finish(ctx, x, result{err: err, requestPending: true})
	}
	if err := p.audit.request(ctx, x); err != nil {
		return nil, err
	}
	data, l, err := p.leasing.reusable(ctx, x, plan, draft)
	reused := l != nil
	if err == nil && !reused {
		data, l, err = p.leasing.issue(ctx, x, plan, create, draft)
	}
	if err != nil {
		return p.finish(ctx, x, result{err: err})
	}
	if !x.entry.Expires.IsZero() && l.Expires.After(x.entry.Expires) {
		x.r.Warn("%s", endsWithToken(x.entry.Expires))
	}
	ttl := l.Expires.Sub(draft.Issued)
	if !reused {
		ttl = answeredTTL(l)
	}
	out := &answeredLease{id: l.ID, ttl: ttl, renewable: l.Renewable, reused: reused}
	return p.finish(ctx, x, result{data: data, lease: out})
}

// finish wraps, audits and encodes the answer.
func (p *pipeline) finish(ctx context.Context, x *exchange, res result) (*Answer, error) {
	if res.err != nil {
		return nil, p.audit.failed(ctx, x, res)
	}
	if l, ok := res.data.(*route.Leasing); ok { // a renewal
		res.data, res.lease = nil, nil
		return p.finishRenewal(ctx, x, l)
	}
	if x.mustWrap && !wrappable(x) {
		p.revokeUnsent(x, res)
		return nil, p.audit.failed(ctx, x, result{err: errCannotWrap(x), requestPending: res.requestPending})
	}
	e := envelope{x: x, data: res.data, lease: res.lease}
	if x.r.WrapTTL > 0 && wrappable(x) {
		info, err := p.wrap(ctx, x, &e)
		if err != nil {
			p.revokeUnsent(x, res)
			return nil, p.audit.failed(ctx, x, result{err: err})
		}
		e = envelope{x: x, wrap: info}
	}
	if err := p.audit.response(ctx, x, &e, res.requestPending); err != nil {
		p.revokeUnsent(x, res)
		return nil, err
	}
	return e.answer(), nil
}

// finishRenewal answers with a lease that existed before. If the answer cannot be wrapped or
// audited, the lease stays.
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

// revokeUnsent revokes the lease and the token of an answer that cannot be sent.
func (p *pipeline) revokeUnsent(x *exchange, res result) {
	ctx, cancel := p.scope.afterwards()
	defer cancel()
	if res.lease != nil && !res.lease.reused {
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

// capWrapping limits the wrapping TTL by the maximum of the mount and the system. Policies judge
// the result.
func (p *pipeline) capWrapping(x *exchange) {
	if most := min(x.mount.MaxTTL(), p.maxTTL); x.r.WrapTTL > most {
		x.r.Warn("the wrapping TTL of %s is capped to %s, the maximum", x.r.WrapTTL, most)
		x.r.WrapTTL = most
	}
}

// wrap stores the answer under a wrapping token, which the client gets instead.
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
		Token: tok, Accessor: made.Accessor, TTL: a.TTL, CreationTime: made.Created, CreationPath: a.Path,
		WrappedAccessor: a.Accessor,
	}, nil
}

// streamTokenCheck is how often the token of a stream is checked.
const streamTokenCheck = time.Second

// endWithToken returns a stream that also ends when its token becomes unusable, or the server is
// sealed.
func (p *pipeline) endWithToken(x *exchange, stream route.Stream) route.Stream {
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
			tick := time.NewTicker(streamTokenCheck)
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
