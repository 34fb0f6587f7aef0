package core

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyturn/keyturn/internal/audit"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/wire"
)

// requestAudit writes the audit entries of requests. It holds one rendered auth
// block for each token that has lately called.
type requestAudit struct {
	trail *trail
	log   *slog.Logger

	auths sync.Map // *token.Entry → *audit.Auth, by the cached record: a changed token has a new one
	held  atomic.Int64
}

// maxAuths is how many auth blocks are held; past it all are dropped.
const maxAuths = 4096

func (a *requestAudit) auth(x *exchange) *audit.Auth {
	e := x.entry
	if e == nil {
		return nil
	}
	if got, ok := a.auths.Load(e); ok {
		return got.(*audit.Auth)
	}
	kind := "service"
	if e.Batch {
		kind = "batch"
	}
	out := &audit.Auth{
		Token: x.r.Token, Accessor: e.Accessor, DisplayName: e.DisplayName, Policies: e.Policies(), TokenPolicies: e.Policies(),
		Metadata: e.Meta, EntityID: e.EntityID, TokenType: kind, TTL: e.TTL, Issued: e.Created, NumUses: max(e.Uses, 0),
	}
	if e.Large() {
		return out
	}
	if a.held.Add(1) > maxAuths {
		a.auths.Clear()
		a.held.Store(1)
	}
	a.auths.Store(e, out)
	return out
}

// entry is the request line of x. Nothing that it tells changes once a line was
// written, but for an error, which belongs to one line alone.
func (a *requestAudit) entry(x *exchange) *audit.Entry {
	if x.line == nil {
		x.line = a.makeEntry(x)
	}
	return x.line
}

func (a *requestAudit) makeEntry(x *exchange) *audit.Entry {
	r := x.r
	q := &audit.Request{
		ID: r.ID, Operation: string(r.Op), Path: r.Shown(), Remote: r.Remote, WrapTTL: r.WrapTTL, Headers: x.headers,
		Mount: audit.Mount{Point: r.Mount.Path, Type: r.Mount.Type, Accessor: r.Mount.Accessor, Class: r.Mount.Class},
	}
	if x.entry == nil {
		q.Token = r.Token
	}
	var clear []string
	if x.open != nil {
		clear = x.open.Entry().Tune.AuditClearRequest
	}
	switch name, value := r.Secret(); {
	case name != "":
		clear = slices.DeleteFunc(slices.Clone(clear), func(field string) bool { return field == name })
		q.Data = audit.Data{V: withSecret(r, name, value), Clear: clear}
	case len(r.Body) > 0:
		q.Data = audit.Data{V: wire.RawOf(r.Body), Clear: clear}
	case len(r.Query) > 0:
		q.Data = audit.Data{V: map[string][]string(r.Query), Clear: clear}
	}
	e := &audit.Entry{Kind: audit.KindRequest, Time: r.Time, Auth: a.auth(x), Request: q}
	if x.entry != nil {
		e.Decision = &audit.Decision{Allowed: x.denied == ""}
	}
	return e
}

// withSecret is the data of a request whose path has a secret in it: the audit log shows the secret's HMAC where it shows the
// one of a secret in the body.
func withSecret(r *route.Request, name string, value secret.Value) map[string]any {
	data := map[string]any{}
	for field, values := range r.Query {
		data[field] = values
	}
	err := wire.EachField(r.Body, func(field string, value []byte) error {
		data[field] = wire.RawOf(value)
		return nil
	})
	if err != nil && len(r.Body) > 0 { // not an object: the handler refuses it
		data["body"] = wire.RawOf(r.Body)
	}
	data[name] = value
	return data
}

// request writes the line before the effect.
func (a *requestAudit) request(ctx context.Context, x *exchange) error {
	if !a.trail.broker.Enabled() {
		return nil // as the broker would say: the line need not be made
	}
	return a.write(ctx, x, a.entry(x))
}

// write writes lines of a request that was admitted. Where no device writes,
// what an operator needs then goes on all the same: its lines are owed.
func (a *requestAudit) write(ctx context.Context, x *exchange, lines ...*audit.Entry) error {
	err := a.trail.broker.Write(ctx, lines...)
	if err == nil || !x.route.Rescue {
		return err
	}
	if oerr := a.trail.owe(ctx, lines...); oerr != nil {
		// Refusing would leave the operator without any way to seal.
		a.log.Error("an audit entry is lost: no device writes, and it could not be kept", "request_id", x.r.ID, "path", x.r.Shown(), "error", oerr)
	}
	return nil
}

// refused writes both lines of a request that was not admitted, and returns
// why. Where no device writes, that is what the client is told.
func (a *requestAudit) refused(ctx context.Context, x *exchange, why error) error {
	q := a.entry(x)
	if q.Decision != nil {
		q.Decision.Allowed = !fault.Is(why, fault.Denied)
	}
	q.Error = audit.ErrorText(messageOf(why))
	if err := a.trail.broker.Write(ctx, q, q.Answered(time.Now(), nil, q.Error)); err != nil {
		return err
	}
	return why
}

// failed writes the response line of a request whose handler failed.
func (a *requestAudit) failed(ctx context.Context, x *exchange, res result) error {
	q := a.entry(x)
	lines := []*audit.Entry{q.Answered(time.Now(), nil, audit.ErrorText(messageOf(res.err)))}
	if res.both {
		lines = []*audit.Entry{q, lines[0]}
	}
	if err := a.write(ctx, x, lines...); err != nil {
		return err
	}
	return res.err
}

// response writes the line before the answer; both writes the request's, too.
func (a *requestAudit) response(ctx context.Context, x *exchange, e *envelope, both bool) error {
	if !a.trail.broker.Enabled() {
		return nil
	}
	q := a.entry(x)
	rep := x.r.Reply()
	out := &audit.Response{Warnings: rep.Warnings}
	data := e.data
	if rep.Audited != nil {
		data = rep.Audited
	}
	if e.data != nil {
		out.Data = audit.Data{V: data, Clear: x.open.Entry().Tune.AuditClearResponse}
	}
	if e.lease != nil {
		out.LeaseID = e.lease.id
	}
	if rep.Auth != nil {
		out.Auth = authOf(rep.Auth)
	}
	if e.wrap != nil {
		out.Wrap = &audit.Wrap{
			Token: e.wrap.Token, Accessor: e.wrap.Accessor, WrappedAccessor: e.wrap.WrappedAccessor,
			TTL: e.wrap.TTL, Created: e.wrap.CreationTime, CreationPath: e.wrap.CreationPath,
		}
	}
	answer := q.Answered(time.Now(), out, "")
	if both {
		return a.write(ctx, x, q, answer)
	}
	return a.write(ctx, x, answer)
}

func authOf(r *route.Auth) *audit.Auth {
	return &audit.Auth{
		Token: r.ClientToken, Accessor: r.Accessor, Policies: r.Policies, TokenPolicies: r.TokenPolicies,
		Metadata: r.Metadata, EntityID: r.EntityID, TokenType: r.TokenType, TTL: r.LeaseDuration, NumUses: r.NumUses,
	}
}
