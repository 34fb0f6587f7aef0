package core

import (
	"context"

	"github.com/keyturn/keyturn/internal/core/wrapping"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
)

// wrappable reports whether there is something to wrap, and it may be: what
// unwraps is not wrapped again, and who has no token gets a login wrapped alone.
func wrappable(x *exchange) bool {
	rep := x.r.Reply()
	if x.entry == nil && rep.Auth == nil {
		return false
	}
	return rep.Stream == nil && rep.Shape != route.Bare && rep.Shape != route.Binary && (rep.Status == 0 || rep.Status < 300)
}

// errInTheClear refuses an answer that cannot be wrapped where the policy demands that it is.
func errInTheClear(x *exchange) error {
	return fault.New("core.wrap", fault.Denied, "permission denied: your policies demand a wrapped answer (min_wrapping_ttl, max_wrapping_ttl), and that of %q cannot be wrapped; use a token whose policies set no such bound for this path", x.r.Shown())
}

// capWrapping bounds how long an answer stays wrapped by the mount and the system, before
// the policies are asked whether it may.
func (h *house) capWrapping(x *exchange) {
	if most := min(x.open.MaxTTL(), h.cfg.MaxTTL); x.r.WrapTTL > most {
		x.r.Warn("the wrapping TTL of %s is capped to %s, the maximum", x.r.WrapTTL, most)
		x.r.WrapTTL = most
	}
}

// wrap stores the answer under a token of its own, which the client gets in
// place of it.
func (h *house) wrap(ctx context.Context, x *exchange, e *envelope) (*wrapInfo, error) {
	a := wrapping.Answer{Path: x.r.Shown(), TTL: x.r.WrapTTL, Body: e.encode(nil)}
	if auth := x.r.Reply().Auth; auth != nil {
		a.Accessor, a.TokenID = auth.Accessor, auth.TokenID
	}
	tok, made, err := h.wrapping.Wrap(ctx, a, x.entry)
	if err != nil {
		return nil, err
	}
	return &wrapInfo{
		Token: tok, Accessor: made.Accessor, TTL: a.TTL, CreationTime: made.Created, CreationPath: a.Path, WrappedAccessor: a.Accessor,
	}, nil
}
