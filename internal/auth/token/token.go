// Package token is the login method at auth/token/. It creates, looks up, renews and revokes
// tokens, and stores token roles.
package token

import (
	"context"
	"net/netip"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/auth"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/token"
	"github.com/keyturn/keyturn/internal/wire"
)

// Type is the token method. Core mounts it once, at auth/token/.
var Type = auth.Type{Name: "token", Single: true, Open: func(_ context.Context, m *auth.Mount) (auth.Method, error) {
	return &method{m}, nil
}}

// lookupOut is a token in answers.
type lookupOut struct {
	Accessor       string            `json:"accessor"`
	CreationTime   int64             `json:"creation_time"`
	CreationTTL    time.Duration     `json:"creation_ttl"`
	DisplayName    string            `json:"display_name"`
	EntityID       string            `json:"entity_id"`
	ExpireTime     *time.Time        `json:"expire_time"`
	ExplicitMax    time.Duration     `json:"explicit_max_ttl"`
	ID             secret.Value      `json:"id"`
	IssueTime      time.Time         `json:"issue_time"`
	LastRenewal    *time.Time        `json:"last_renewal,omitempty"`
	LastRenewalSec int64             `json:"last_renewal_time,omitempty"`
	Meta           map[string]string `json:"meta"`
	NumUses        int               `json:"num_uses"`
	Orphan         bool              `json:"orphan"`
	Path           string            `json:"path"`
	Period         time.Duration     `json:"period,omitempty"`
	Policies       []string          `json:"policies"`
	Renewable      bool              `json:"renewable"`
	Role           string            `json:"role,omitempty"`
	TTL            int64             `json:"ttl"`
	Type           string            `json:"type"`
	BoundCIDRs     []netip.Prefix    `json:"bound_cidrs,omitempty"`
}

func outOf(e *token.Entry, tok secret.Value) *lookupOut {
	out := &lookupOut{
		Accessor: e.Accessor, CreationTime: e.Created.Unix(), CreationTTL: e.TTL, DisplayName: e.DisplayName,
		EntityID:    e.EntityID,
		ExplicitMax: e.ExplicitMax, ID: tok, IssueTime: e.Created, Meta: e.Meta, NumUses: e.Uses, Orphan: e.Orphan(),
		Path:   e.Path,
		Period: e.Period, Policies: e.Policies(), Renewable: e.Renewable, Role: e.Role, Type: "service",
		BoundCIDRs: e.BoundCIDRs,
	}
	if e.Batch {
		out.Type = "batch"
	}
	if !e.Expires.IsZero() {
		// The last moment at which the token works. Clients compute the TTL as the whole seconds
		// between issue_time and expire_time, which are also less than the TTL apart at the
		// reference server.
		last := e.Expires.Add(-time.Millisecond)
		out.ExpireTime = &last
		out.TTL = wire.Seconds(max(time.Until(e.Expires), 0))
	}
	if !e.Renewed.IsZero() {
		out.LastRenewal, out.LastRenewalSec = &e.Renewed, e.Renewed.Unix()
	}
	return out
}

type tokenIn struct {
	Token     secret.Value  `json:"token" default:"the caller's own" doc:"The token."`
	Accessor  string        `json:"accessor" doc:"For the routes by accessor: the token's accessor."`
	Increment time.Duration `json:"increment" default:"the token's TTL" doc:"For renewing: how long it should live from now on; the server may give less."`
}

func (t *method) lookupSelf(ctx context.Context, r *route.Request, _ tokenIn) (*lookupOut, error) {
	e, err := t.m.Tokens.Lookup(ctx, r.Token)
	if err != nil {
		return nil, err
	}
	return outOf(e, r.Token), nil
}

func (t *method) lookup(ctx context.Context, r *route.Request, in tokenIn) (*lookupOut, error) {
	if in.Token.Empty() {
		in.Token = r.Token
	}
	e, err := t.usable(ctx, in.Token)
	if err != nil {
		return nil, err
	}
	return outOf(e, in.Token), nil
}

// usable returns a token that is neither revoked nor expired.
func (t *method) usable(ctx context.Context, tok secret.Value) (*token.Entry, error) {
	e, err := t.m.Tokens.Lookup(ctx, tok)
	if err != nil {
		if fault.Is(err, fault.Denied) {
			return nil, fault.New("token.lookup", fault.Denied,
				"bad token: it is not known, has expired or was revoked; log in again")
		}
		return nil, err
	}
	if !e.Valid(time.Now()) {
		return nil, fault.New("token.lookup", fault.Denied,
			"bad token: it is not known, has expired or was revoked; log in again")
	}
	return e, nil
}

func (t *method) byAccessor(ctx context.Context, in tokenIn) (*token.Entry, error) {
	e, err := t.m.Tokens.ByAccessor(ctx, in.Accessor)
	if err != nil {
		return nil, err
	}
	if !e.Valid(time.Now()) {
		return nil, fault.New("token.byAccessor", fault.Invalid,
			"invalid accessor: its token has expired or was revoked; list auth/token/accessors for the valid ones")
	}
	return e, nil
}

func (t *method) lookupAccessor(ctx context.Context, r *route.Request, in tokenIn) (*lookupOut, error) {
	e, err := t.byAccessor(ctx, in)
	if err != nil {
		return nil, err
	}
	return outOf(e, secret.Value{}), nil
}

func (t *method) renewSelf(ctx context.Context, r *route.Request, in tokenIn) (route.None, error) {
	in.Token = r.Token
	return t.renew(ctx, r, in)
}

func (t *method) renew(ctx context.Context, r *route.Request, in tokenIn) (route.None, error) {
	if in.Token.Empty() {
		return route.None{}, fault.New("token.renew", fault.Invalid, "field \"token\": say which token to renew")
	}
	e, err := t.usable(ctx, in.Token)
	if err != nil {
		return route.None{}, err
	}
	return route.None{}, t.extend(ctx, r, e, in.Token, in.Increment)
}

func (t *method) renewAccessor(ctx context.Context, r *route.Request, in tokenIn) (route.None, error) {
	e, err := t.byAccessor(ctx, in)
	if err != nil {
		return route.None{}, err
	}
	return route.None{}, t.extend(ctx, r, e, secret.Value{}, in.Increment)
}

// extend renews a token by its period or by the increment, within the explicit maximum and the
// mount's maximum TTL since its creation.
func (t *method) extend(
	ctx context.Context, r *route.Request, e *token.Entry, tok secret.Value, increment time.Duration,
) error {
	if e.Batch {
		return fault.New("token.renew", fault.Invalid,
			"batch tokens cannot be renewed; create a new one before it expires")
	}
	if !e.Renewable || e.Expires.IsZero() {
		return fault.New("token.renew", fault.Invalid,
			"the token is not renewable; create a new one before it expires")
	}
	s := t.m.Settings()
	updated, err := t.m.Tokens.Update(ctx, e.ID, func(e *token.Entry) error {
		now := time.Now().UTC().Truncate(time.Millisecond) // like stored times, so that the TTL is exact
		if !e.Valid(now) {
			return fault.New("token.renew", fault.Denied, "bad token: it has expired or was revoked; log in again")
		}
		ttl := increment
		if e.Period > 0 {
			ttl = e.Period
		} else if ttl <= 0 {
			ttl = e.TTL
		}
		end := now.Add(ttl)
		limits := []time.Duration{e.ExplicitMax}
		if e.Period == 0 {
			limits = append(limits, s.MaxTTL)
		}
		for _, limit := range limits {
			if latest := e.Created.Add(limit); limit > 0 && end.After(latest) {
				r.Warn("the token cannot live past %s, its maximum; it was renewed until then",
					latest.Format(time.RFC3339))
				end = latest
			}
		}
		if !end.After(now) {
			return fault.New("token.renew", fault.Invalid,
				"the token has reached its maximum lifetime; create a new one")
		}
		e.Expires, e.Renewed = end, now
		// A later renewal without an increment uses the same one.
		if e.Period == 0 && increment > 0 {
			e.TTL = end.Sub(now)
		}
		return nil
	})
	if err != nil {
		return err
	}
	a := &route.Auth{
		ClientToken: tok, Accessor: updated.Accessor, Policies: updated.Policies(), TokenPolicies: updated.Policies(),
		Metadata: updated.Meta, LeaseDuration: updated.Expires.Sub(updated.Renewed), Renewable: updated.Renewable,
		EntityID: updated.EntityID, TokenType: "service", Orphan: updated.Orphan(), NumUses: max(updated.Uses, 0),
	}
	r.SetAuth(a)
	return nil
}

func (t *method) revokeSelf(ctx context.Context, r *route.Request, _ route.None) (route.None, error) {
	return t.revokeToken(ctx, r.Token)
}

func (t *method) revoke(ctx context.Context, _ *route.Request, in tokenIn) (route.None, error) {
	if in.Token.Empty() {
		return route.None{}, fault.New("token.revoke", fault.Invalid, "field \"token\": say which token to revoke")
	}
	return t.revokeToken(ctx, in.Token)
}

func (t *method) revokeToken(ctx context.Context, tok secret.Value) (route.None, error) {
	if err := checkNotBatch(tok); err != nil {
		return route.None{}, err
	}
	return route.None{}, t.revokeID(ctx, t.m.Tokens.ID(tok))
}

// checkNotBatch refuses a batch token, which cannot be revoked because it is not stored.
func checkNotBatch(tok secret.Value) error {
	if strings.HasPrefix(tok.RevealString(), token.BatchPrefix) {
		return fault.New("token.revoke", fault.Invalid,
			"batch tokens cannot be revoked; they expire with their parent or at the end of their TTL")
	}
	return nil
}

func (t *method) revokeID(ctx context.Context, id string) error {
	if err := t.m.Tokens.Revoke(ctx, id); err != nil {
		return err
	}
	t.m.RevokeWait(ctx, id)
	return nil
}

func (t *method) revokeOrphan(ctx context.Context, _ *route.Request, in tokenIn) (route.None, error) {
	if in.Token.Empty() {
		return route.None{}, fault.New("token.revokeOrphan", fault.Invalid,
			"field \"token\": say which token to revoke")
	}
	if err := checkNotBatch(in.Token); err != nil {
		return route.None{}, err
	}
	return route.None{}, t.m.Tokens.RevokeOrphan(ctx, t.m.Tokens.ID(in.Token))
}

// revokeAccessor also succeeds if the token is gone.
func (t *method) revokeAccessor(ctx context.Context, r *route.Request, in tokenIn) (route.None, error) {
	if in.Accessor == "" {
		return route.None{}, fault.New("token.revokeAccessor", fault.Invalid,
			"field \"accessor\" is required; give the accessor of the token to revoke")
	}
	e, err := t.m.Tokens.ByAccessor(ctx, in.Accessor)
	if fault.Is(err, fault.Invalid) {
		r.SetStatus(200)
		r.Warn("no token has this accessor: it has ended already, or never was")
		return route.None{}, nil
	}
	if err != nil {
		return route.None{}, err
	}
	return route.None{}, t.revokeID(ctx, e.ID)
}

type pageIn struct {
	After string `json:"after" doc:"Start after this name."`
	Limit int    `json:"limit" default:"100000" doc:"How many to return at most."`
}

func (t *method) accessors(ctx context.Context, r *route.Request, in pageIn) (route.Keys, error) {
	names, err := t.m.Tokens.Accessors(ctx, in.After, in.Limit)
	if len(names) == token.MaxAccessors {
		r.Warn("only the first %d accessors are shown; for more, list with after=%s", len(names), names[len(names)-1])
	}
	return route.Keys{Keys: names}, err
}

func (t *method) tidy(_ context.Context, r *route.Request, _ route.None) (route.None, error) {
	r.SetStatus(202)
	r.Warn("there is nothing to tidy: a token and its index entries are one commit")
	return route.None{}, nil
}
