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

// requestAudit writes the audit entries of requests. It caches the rendered auth block of each
// token that has been used recently.
type requestAudit struct {
	trail *trail
	log   *slog.Logger

	auths  sync.Map // *token.Entry → *audit.Auth; a changed token has a new *token.Entry
	cached atomic.Int64
}

// maxCachedAuths is how many auth blocks are cached. Above it, all are dropped.
const maxCachedAuths = 4096

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
		Token: x.r.Token, Accessor: e.Accessor, DisplayName: e.DisplayName, Policies: e.Policies(),
		TokenPolicies: e.Policies(),
		Metadata:      e.Meta, EntityID: e.EntityID, TokenType: kind, TTL: e.TTL, Issued: e.Created,
		NumUses: max(e.Uses, 0),
	}
	if e.Large() {
		return out
	}
	if a.cached.Add(1) > maxCachedAuths {
		a.auths.Clear()
		a.cached.Store(1)
	}
	a.auths.Store(e, out)
	return out
}

// entry returns the request entry of x. Once it has been written, only its error may change.
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
	if x.mount != nil {
		clear = x.mount.Entry().Tune.AuditClearRequest
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

// withSecret is the data of a request whose path contains a secret. It adds the secret as a field,
// so that the audit log shows its HMAC, as it does for a secret in the body.
func withSecret(r *route.Request, name string, value secret.Value) map[string]any {
	data := map[string]any{}
	for field, values := range r.Query {
		data[field] = values
	}
	err := wire.EachField(r.Body, func(field string, value []byte) error {
		data[field] = wire.RawOf(value)
		return nil
	})
	if err != nil && len(r.Body) > 0 { // not an object; the handler refuses it
		data["body"] = wire.RawOf(r.Body)
	}
	data[name] = value
	return data
}

// request writes the request entry, before the request has any effect.
func (a *requestAudit) request(ctx context.Context, x *exchange) error {
	if !a.trail.broker.Enabled() {
		return nil // spare making an entry that the broker would ignore
	}
	return a.write(ctx, x, a.entry(x))
}

// write writes entries of an admitted request. If no device works, a request that an operator
// needs to repair that is served nevertheless, and its entries are stored until a device works.
func (a *requestAudit) write(ctx context.Context, x *exchange, lines ...*audit.Entry) error {
	err := a.trail.broker.Write(ctx, lines...)
	if err == nil || !x.route.Rescue {
		return err
	}
	if oerr := a.trail.storePending(ctx, lines...); oerr != nil {
		// Refusing would leave the operator without any way to seal.
		a.log.Error("an audit entry is lost: no device writes, and it could not be kept", "request_id", x.r.ID, "path",
			x.r.Shown(), "error", oerr)
	}
	return nil
}

// refused writes both entries of a request that was not admitted, and returns why, or the error of
// the write if no device works.
func (a *requestAudit) refused(ctx context.Context, x *exchange, why error) error {
	q := a.entry(x)
	if q.Decision != nil {
		q.Decision.Allowed = !fault.Is(why, fault.Denied)
	}
	q.Error = audit.ErrorText(clientMessage(why))
	if err := a.trail.broker.Write(ctx, q, q.Answered(time.Now(), nil, q.Error)); err != nil {
		return err
	}
	return why
}

// failed writes the response entry of a request whose handler failed.
func (a *requestAudit) failed(ctx context.Context, x *exchange, res result) error {
	q := a.entry(x)
	lines := []*audit.Entry{q.Answered(time.Now(), nil, audit.ErrorText(clientMessage(res.err)))}
	if res.requestPending {
		lines = []*audit.Entry{q, lines[0]}
	}
	if err := a.write(ctx, x, lines...); err != nil {
		return err
	}
	return res.err
}

// response writes the response entry, before the answer is sent. If requestPending, it writes the
// request entry with it.
func (a *requestAudit) response(ctx context.Context, x *exchange, e *envelope, requestPending bool) error {
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
		out.Data = audit.Data{V: data, Clear: x.mount.Entry().Tune.AuditClearResponse}
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
	if requestPending {
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
