package core

import (
	"context"

	"github.com/keyturn/keyturn/internal/core/wrapping"
	"github.com/keyturn/keyturn/internal/route"
)

// wrappable reports whether there is something to wrap, and it may be: what
// unwraps is not wrapped again, and who has no token gets a login wrapped alone.
func wrappable(x *exchange) bool {
	rep := x.r.Reply()
	if x.entry == nil && rep.Auth == nil {
		return false
	}
	return rep.Shape != route.Bare && rep.Shape != route.Binary && (rep.Status == 0 || rep.Status < 300)
}

// wrap stores the answer under a token of its own, which the client gets in
// place of it.
func (h *house) wrap(ctx context.Context, x *exchange, e *envelope) (*wrapInfo, error) {
	a := wrapping.Answer{Path: string(x.r.Path), TTL: x.r.WrapTTL, Body: e.encode(nil)}
	if auth := x.r.Reply().Auth; auth != nil {
		a.Accessor = auth.Accessor
	}
	tok, made, err := h.wrapping.Wrap(ctx, a, x.entry)
	if err != nil {
		return nil, err
	}
	return &wrapInfo{
		Token: tok, Accessor: made.Accessor, TTL: a.TTL, CreationTime: made.Created, CreationPath: a.Path, WrappedAccessor: a.Accessor,
	}, nil
}
