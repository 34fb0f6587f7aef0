package aws

import (
	"context"
	"encoding/json"
	"time"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/engine/aws/client"
	"github.com/keyturn/keyturn/internal/fault"
)

// clockSkew is how far AWS's clock may be from ours.
const clockSkew = time.Minute

// Undo removes a user with all that it has. A session ends by itself; AWS has no call to end it.
func (b *backend) Undo(ctx context.Context, u engine.Undo) (engine.Undone, error) {
	if u.Kind == sessionKind {
		return engine.Undone{}, nil
	}
	var l issuedUser
	if err := json.Unmarshal(u.Data, &l); err != nil {
		return engine.Undone{}, fault.Wrap("aws.Undo", fault.Internal, err)
	}
	if !u.Granted && b.noEffect.Has(u.Attempt) {
		return engine.Undone{}, nil
	}
	c, _, err := b.client(ctx)
	if err != nil {
		return engine.Undone{}, err
	}
	if err := b.checkAccount(ctx, c, "user "+l.User, l.Account); err != nil {
		return engine.Undone{}, err
	}
	theirs, err := b.existedBefore(ctx, c, u, l.User)
	if err == nil && !theirs {
		err = c.RemoveUser(ctx, l.User)
	}
	if err != nil {
		return engine.Undone{}, upstreamError("aws.Undo", err)
	}
	if !u.Granted && time.Now().Before(u.Late) {
		return engine.Undone{Again: u.Late}, nil // a call of the attempt may still take effect
	}
	return engine.Undone{}, nil
}

// existedBefore reports whether the user of an attempt that may have made none was there before it began: a template
// can make a name that somebody has.
func (b *backend) existedBefore(ctx context.Context, c *client.Client, u engine.Undo, name string) (bool, error) {
	if u.Granted {
		return false, nil
	}
	there, made, err := c.User(ctx, name)
	switch began := u.Late.Add(-late - createWithin); {
	case client.CodeOf(err) == "AccessDenied": // it may not be asked: names are hardly ever taken
		return false, nil
	case err != nil || !there || made == nil || !made.Before(began.Add(-clockSkew)):
		return false, err
	}
	b.m.Log.Warn("a user was to be made whose name was taken; that one stays", "user", name, "made", *made)
	return true, nil
}

// Renew has nothing to do: a user lives until it is removed.
func (b *backend) Renew(context.Context, engine.Undo, time.Time) error { return nil }

// Bounds are the TTLs of a lease's role, as they are now.
func (b *backend) Bounds(ctx context.Context, u engine.Undo) (ttl, most time.Duration, err error) {
	var l issuedUser
	if err := json.Unmarshal(u.Data, &l); err != nil {
		return 0, 0, fault.Wrap("aws.Bounds", fault.Internal, err)
	}
	ro, err := b.role(ctx, l.Role)
	if err != nil {
		return 0, 0, err
	}
	if ro != nil && ro.ID != l.RoleID {
		ro = nil // another life of the name
	}
	return b.userTTLs(ctx, ro)
}
