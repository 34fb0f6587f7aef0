package core

import (
	"context"
	"log/slog"
	"time"

	"github.com/keyturn/keyturn/internal/audit"
	"github.com/keyturn/keyturn/internal/barrier"
	"github.com/keyturn/keyturn/internal/core/mounts"
	"github.com/keyturn/keyturn/internal/core/policies"
	"github.com/keyturn/keyturn/internal/core/wrapping"
	"github.com/keyturn/keyturn/internal/due"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/lease"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/token"
)

// tokens issues tokens for login methods, and cleans up after a token that has ended.
type tokens struct {
	view     *barrier.View
	store    *token.Store
	leases   *lease.Manager
	policies *policies.Manager
	mounts   *mounts.Manager
	wrapping *wrapping.Store
	trail    *trail
	log      *slog.Logger
}

// revokeWait revokes the leases of a revoked token, for as long as the caller can wait.
func (t *tokens) revokeWait(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := t.leases.RevokeOwned(ctx, id, time.Now()); err != nil {
		t.log.Warn("undoing the leases of a revoked token; the due loop goes on with it", "error", err)
	}
}

// creatorOf returns who assigns the policies of a token: the request's caller or, without one, the
// login method.
func creatorOf(r *route.Request) token.Creator {
	if r.Caller == nil {
		return token.Creator{Login: true}
	}
	return token.Creator{Policies: r.Caller.Policies, Sudo: r.Sudo}
}

// issue checks that the policies of a token may be assigned, limits its TTL by the mount and the
// system, and creates it.
func (t *tokens) issue(
	ctx context.Context, r *route.Request, s mounts.Bounds, e token.Entry, want token.Request, parent *token.Entry,
) (*route.Auth, error) {
	now := time.Now().UTC().Truncate(time.Millisecond)
	if e.Created = now; e.Path == "" {
		e.Path = string(r.Path)
	}
	if err := policies.Check(want.Names); err != nil {
		return nil, err
	}
	grant, err := token.Assign(creatorOf(r), want)
	if err != nil {
		return nil, err
	}
	root := grant.Root()
	if root && e.Batch {
		return nil, fault.New("core.issueToken", fault.Invalid,
			"batch tokens cannot be root tokens; leave the policy \"root\" out, or make a service token")
	}
	if e.Period > 0 {
		if e.Period > s.MaxTTL {
			r.Warn("the period of %s is capped to %s, the maximum", e.Period, s.MaxTTL)
			e.Period = s.MaxTTL
		}
		e.TTL = e.Period
	}
	if e.TTL == 0 && !root {
		e.TTL = s.DefaultTTL
	}
	for _, limit := range []time.Duration{s.MaxTTL, e.ExplicitMax} {
		if limit > 0 && e.TTL > limit {
			r.Warn("the TTL of %s is capped to %s, the maximum", e.TTL, limit)
			e.TTL = limit
		}
	}
	if root && e.TTL == 0 && parent != nil && !parent.Expires.IsZero() {
		return nil, fault.New("core.issueToken", fault.Invalid,
			"an expiring root token cannot create a root token that never expires; send a ttl")
	}
	if e.TTL > 0 {
		e.Expires = now.Add(e.TTL)
	} else {
		e.Renewable = false
	}
	tok, made, err := t.store.Create(ctx, &e, grant, parent)
	if err != nil {
		return nil, err
	}
	if parent != nil {
		t.warnOfMissing(ctx, r, made.Policies())
	}
	a := AuthOf(made)
	a.ClientToken, a.TokenID = tok, made.ID
	return a, nil
}

// warnOfMissing warns about assigned policies that do not exist.
func (t *tokens) warnOfMissing(ctx context.Context, r *route.Request, names []string) {
	absent, err := t.policies.Absent(ctx, names)
	if err != nil {
		return // using the token will report it
	}
	for _, name := range absent {
		r.Warn("policy %q does not exist: it allows nothing until it is written", name)
	}
}

// AuthOf returns the auth block of an answer for a token, without the token itself.
func AuthOf(e *token.Entry) *route.Auth {
	kind := "service"
	if e.Batch {
		kind = "batch"
	}
	return &route.Auth{
		Accessor: e.Accessor, Policies: e.Policies(), TokenPolicies: e.Policies(), Metadata: e.Meta,
		LeaseDuration: e.TTL,
		Renewable:     e.Renewable, EntityID: e.EntityID, TokenType: kind, Orphan: e.Orphan(), NumUses: max(e.Uses, 0),
	}
}

// expire revokes an expired token. stray removes the due item of a token that is gone.
func (t *tokens) expire(ctx context.Context, it due.Item, stray []storage.Op) error {
	a := audit.Expiry(NewRequestID(), "auth/token/",
		audit.Mount{Point: "auth/token/", Type: "token", Class: mounts.ClassAuth})
	return t.trail.revoke(ctx, a, func(ctx context.Context) error {
		return t.store.Expire(ctx, it.ID, time.Now(), it.At, stray)
	})
}

// forget removes the cubbyhole of a token, and the answer that was wrapped in it.
func (t *tokens) forget(ctx context.Context, id string) error {
	if err := t.wrapping.Forget(ctx, id); err != nil {
		return err
	}
	e := t.mounts.Snapshot().Table.At("cubbyhole/")
	if e == nil {
		return nil
	}
	prefix := "mount/" + e.UUID + "/c/" + id + "/"
	return removeBelow(ctx, t.view, prefix, storage.PrefixEnd(prefix))
}
