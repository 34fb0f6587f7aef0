package aws

import (
	"context"
	"encoding/json"
	"log/slog"
	"time"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/engine/aws/client"
	"github.com/keyturn/keyturn/internal/fault"
)

// clockSkew is how far AWS's clock may be from ours.
const clockSkew = time.Minute

// revoker revokes issued users.
type revoker struct {
	log      *slog.Logger
	configs  *configs
	clients  *clients
	roles    *roles
	noEffect *engine.Attempts // attempts that surely created nothing
}

// undo removes a user with all that it has. A session expires on its own; AWS has no call to end
// it.
func (s *revoker) undo(ctx context.Context, u engine.Undo) (engine.Undone, error) {
	if u.Kind == sessionKind {
		return engine.Undone{}, nil
	}
	var l issuedUser
	if err := json.Unmarshal(u.Data, &l); err != nil {
		return engine.Undone{}, fault.Wrap("aws.Undo", fault.Internal, err)
	}
	if !u.Granted && s.noEffect.Has(u.Attempt) {
		return engine.Undone{}, nil
	}
	c, _, err := s.clients.current(ctx)
	if err != nil {
		return engine.Undone{}, err
	}
	if err := s.clients.checkAccount(ctx, c, "user "+l.User, l.Account); err != nil {
		return engine.Undone{}, err
	}
	existed, err := s.existedBefore(ctx, c, u, l.User)
	if err == nil && !existed {
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

// existedBefore reports whether the user of an attempt that was not granted existed before the
// attempt, because a template can generate a name that exists.
func (s *revoker) existedBefore(ctx context.Context, c *client.Client, u engine.Undo, name string) (bool, error) {
	if u.Granted {
		return false, nil
	}
	exists, created, err := c.User(ctx, name)
	switch started := u.Late.Add(-late - createWithin); {
	case client.CodeOf(err) == "AccessDenied": // then assume that it is ours, because names hardly ever collide
		return false, nil
	case err != nil || !exists || created == nil || !created.Before(started.Add(-clockSkew)):
		return false, err
	}
	s.log.Warn("a user was to be created whose name existed; the existing user stays", "user", name, "created",
		*created)
	return true, nil
}

// bounds returns the current TTLs of a lease's role.
func (s *revoker) bounds(ctx context.Context, u engine.Undo) (ttl, longest time.Duration, err error) {
	var l issuedUser
	if err := json.Unmarshal(u.Data, &l); err != nil {
		return 0, 0, fault.Wrap("aws.Bounds", fault.Internal, err)
	}
	ro, err := s.roles.get(ctx, l.Role)
	if err != nil {
		return 0, 0, err
	}
	if ro != nil && ro.ID != l.RoleID {
		ro = nil // it was deleted and written again
	}
	return s.configs.userTTLs(ctx, ro)
}
