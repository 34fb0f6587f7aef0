package core

import (
	"context"
	"time"

	"github.com/keyturn/keyturn/internal/audit"
	"github.com/keyturn/keyturn/internal/core/mounts"
	"github.com/keyturn/keyturn/internal/core/policies"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/token"
)

// An Answer is what goes to the client.
type Answer struct {
	Status      int
	Body        []byte // nil: none
	ContentType string // "": application/json
	// Stream sends the body; nil: Body is all of it. It ends, too, when the token may no longer
	// be used, and when the server is sealed.
	Stream route.Stream
}

// exchange is one request on its way: what the rooms have found out so far.
type exchange struct {
	r      *route.Request
	open   *mounts.Open
	route  *route.Route
	entry  *token.Entry // nil for a public route
	denied string       // why the policy refused, for the audit log
	wraps  bool         // the policy demands that the answer is wrapped
	line   *audit.Entry // the request line, once it was made
	// headers are those that the operator chose to audit.
	headers []audit.Header
}

// Handle serves one request. The error has a kind that tells the status, and a message
// that the client may read.
func (c *Core) Handle(ctx context.Context, r *route.Request) (*Answer, error) {
	h := c.house.Load()
	if h == nil {
		return nil, errSealed()
	}
	x := &exchange{r: r}
	answer, err := h.handle(ctx, x)
	if h.sealAsked.Load() {
		h.sealNow()
	}
	if c.cfg.Observe != nil {
		c.cfg.Observe(Observation{
			Op: string(r.Op), Mount: r.Mount.Type, Status: fault.KindOf(err), OK: err == nil, Took: time.Since(r.Time),
		})
	}
	return answer, err
}

func (h *house) handle(ctx context.Context, x *exchange) (*Answer, error) {
	var err error
	if x.headers, err = h.audited.of(ctx, x.r.Header, x.r.Time); err != nil {
		return nil, err
	}
	if err := h.admit(ctx, x); err != nil {
		return nil, h.audit.refused(ctx, x, err)
	}
	answer, err := h.serve(ctx, x)
	if err == nil && answer.Stream != nil {
		answer.Stream = h.watched(x, answer.Stream)
	}
	if x.entry != nil && x.entry.Uses < 0 {
		// The last use is taken: the token and what it made end with this
		// answer, or after a crash with the due loop.
		ctx, cancel := h.afterwards()
		defer cancel()
		if rerr := h.tokens.Revoke(ctx, x.entry.ID); rerr != nil {
			h.log.Error("revoking a token that was used up", "accessor", x.entry.Accessor, "error", rerr)
		}
	}
	return answer, err
}

// admit finds the route, who asks, and whether they may. Nothing outside has
// happened when it refuses.
func (h *house) admit(ctx context.Context, x *exchange) error {
	r := x.r
	lost := h.find(x)
	if lost == nil && x.route.Public {
		return nil
	}
	if err := h.identify(ctx, x); err != nil {
		return err
	}
	if lost != nil || !x.route.Own {
		if err := h.allow(ctx, x); err != nil {
			return err
		}
	} else if r.Op != route.Help {
		set, err := h.policies.Set(ctx, x.entry.Policies())
		if err != nil {
			return err
		}
		x.wraps = set.Wraps(string(r.Path))
	}
	if lost != nil {
		return lost
	}
	if x.entry.Uses != 0 && !x.route.Own {
		used, err := h.tokens.Use(ctx, x.entry)
		if err != nil {
			return err
		}
		x.entry = used
	}
	r.Caller = caller(x.entry)
	return nil
}

func (h *house) find(x *exchange) error {
	r := x.r
	x.open = h.mounts.Snapshot().Route(string(r.Path))
	if x.open == nil {
		return fault.New("core.find", fault.NotFound, "no handler for route %q: nothing is mounted there", r.Shown())
	}
	e := x.open.Entry()
	r.Mount = route.Mount{
		Path: e.Path, Type: e.Type, UUID: e.UUID, Accessor: e.Accessor, Class: e.Class,
		DefaultTTL: x.open.DefaultTTL(), MaxTTL: x.open.MaxTTL(),
	}
	r.Rest = r.Path.Below(e.Path)
	h.capWrapping(x)
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

func (h *house) identify(ctx context.Context, x *exchange) error {
	if x.r.Token.Empty() {
		return fault.New("core.identify", fault.Denied, "permission denied: missing client token")
	}
	e, err := h.tokens.Lookup(ctx, x.r.Token)
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

func (h *house) allow(ctx context.Context, x *exchange) error {
	q := policies.Query{
		Path: string(x.r.Path), Op: x.r.Op, Body: x.r.Body, WrapTTL: x.r.WrapTTL,
	}
	if x.route != nil {
		q.Sudo, q.Form = x.route.Sudo, x.route.Form()
	}
	d, err := h.policies.Decide(ctx, x.entry.Policies(), q)
	if err != nil {
		return err
	}
	if x.r.Op == route.Write && x.route != nil && x.route.Exists != nil {
		q.Op = route.Create
		create, err := h.policies.Decide(ctx, x.entry.Policies(), q)
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
func (h *house) serve(ctx context.Context, x *exchange) (*Answer, error) {
	if x.route.Leased() {
		return h.serveLeased(ctx, x)
	}
	if pure(x) {
		// Nothing happens but a read: both lines go out in one write, before the reply.
		data, err := x.route.Serve(ctx, x.r)
		return h.finish(ctx, x, result{data: data, err: err, both: true})
	}
	if err := h.audit.request(ctx, x); err != nil {
		return nil, err
	}
	data, err := x.route.Serve(ctx, x.r)
	return h.finish(ctx, x, result{data: data, err: err})
}

// pure reports whether serving has no effect that the request line must precede.
func pure(x *exchange) bool {
	return (x.r.Op == route.Read || x.r.Op == route.List) && x.r.WrapTTL == 0 && !x.route.Public
}

// result is what a handler came back with.
type result struct {
	data  any
	lease *leased
	err   error
	both  bool // the request line is still to be written
}

// finish wraps, audits and encodes.
func (h *house) finish(ctx context.Context, x *exchange, res result) (*Answer, error) {
	if res.err != nil {
		return nil, h.audit.failed(ctx, x, res)
	}
	if l, ok := res.data.(*route.Leasing); ok { // a renewal
		res.data, res.lease = nil, nil
		return h.finishRenewal(ctx, x, l)
	}
	if x.wraps && !wrappable(x) {
		h.undoUnsaid(x, res)
		return nil, h.audit.failed(ctx, x, result{err: errInTheClear(x), both: res.both})
	}
	e := envelope{x: x, data: res.data, lease: res.lease}
	if x.r.WrapTTL > 0 && wrappable(x) {
		info, err := h.wrap(ctx, x, &e)
		if err != nil {
			h.undoUnsaid(x, res)
			return nil, h.audit.failed(ctx, x, result{err: err})
		}
		e = envelope{x: x, wrap: info}
	}
	if err := h.audit.response(ctx, x, &e, res.both); err != nil {
		h.undoUnsaid(x, res)
		return nil, err
	}
	return e.answer(), nil
}

// finishRenewal answers with a lease that was there before: if the answer
// cannot be wrapped or audited, the lease stays.
func (h *house) finishRenewal(ctx context.Context, x *exchange, l *route.Leasing) (*Answer, error) {
	e := envelope{x: x, lease: &leased{id: l.ID, ttl: l.TTL, renewable: l.Renewable}}
	if x.r.WrapTTL > 0 {
		info, err := h.wrap(ctx, x, &e)
		if err != nil {
			return nil, h.audit.failed(ctx, x, result{err: err})
		}
		e = envelope{x: x, wrap: info}
	}
	if err := h.audit.response(ctx, x, &e, false); err != nil {
		return nil, err
	}
	return e.answer(), nil
}

// afterwards is the context of what is done whether or not the client still
// waits: its request may have been given up, and often that is why.
func (h *house) afterwards() (context.Context, context.CancelFunc) {
	scope, end := h.scope()
	ctx, cancel := context.WithTimeout(scope, 30*time.Second)
	return ctx, func() { cancel(); end() }
}

// undoUnsaid takes back what was made for an answer that cannot be given.
func (h *house) undoUnsaid(x *exchange, res result) {
	ctx, cancel := h.afterwards()
	defer cancel()
	if res.lease != nil && !res.lease.again {
		if err := h.leases.End(ctx, res.lease.id, false, time.Now()); err != nil {
			h.log.Error("ending a lease whose answer could not be audited", "lease", res.lease.id, "error", err)
		}
	}
	if a := x.r.Reply().Auth; a != nil && a.TokenID != "" {
		if err := h.tokens.Revoke(ctx, a.TokenID); err != nil {
			h.log.Error("revoking a token whose answer could not be audited", "accessor", a.Accessor, "error", err)
		}
	}
}
