package database

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
)

// remove frees the name at once, and keeps the connection as a tombstone for revocations.
func (s *configRoutes) remove(ctx context.Context, r *route.Request, in nameIn) (route.None, error) {
	err := s.writes.do(ctx, namePrefix+in.Name, func() error {
		c, err := s.conns.byName(ctx, in.Name)
		if err != nil || c == nil {
			return err
		}
		c.DeletedAt = time.Now().UTC()
		return s.records.Change(ctx, rootKind, c.ID, nil, func(e *rotate.Edit) error {
			c.Root.legacyRoot, c.PendingPassword = legacyRoot{}, secret.Value{} // the record has it
			ops, abs, err := s.tombstones.scheduleOps(c, c.DeletedAt.Add(firstCheck),
				storage.Remove(namePrefix+in.Name))
			switch {
			case err != nil:
				return err
			case e.Rec.Turn != nil:
				r.Warn("a rotation of the password of %q was under way, and continues until its result is known",
					c.Username)
			case e.New() && e.Rec.Due.IsZero():
				_, err := s.m.Store.CommitWith(ctx, append(ops, expectNew(e)...), abs)
				return err
			}
			if err := e.Unlock(ctx); err != nil {
				return err
			}
			e.Ops, e.Abs = ops, abs
			return e.Control().DeleteWhenDone(ctx)
		})
	})
	if err != nil {
		return route.None{}, err
	}
	left, err := s.staticRolesOf(ctx, in.Name)
	if len(left) > 0 {
		r.Warn("the static roles %q stay, and their passwords are not rotated until config/%s is written again", left,
			in.Name)
	}
	return route.None{}, err
}

// staticRolesOf returns static roles that use a connection, at most 20.
func (s *configRoutes) staticRolesOf(ctx context.Context, connection string) (roles []string, err error) {
	const most = 20
	prefix := ownedKey(connection, "")
	for e, err := range s.m.Store.Scan(ctx, prefix, storage.PrefixEnd(prefix)) {
		if err != nil {
			return nil, err
		}
		if name := string(e.Value); !slices.Contains(roles, name) {
			roles = append(roles, name)
		}
		if len(roles) == most {
			break
		}
	}
	return roles, nil
}

// rotateRoot rotates the administrator's password on request.
func (s *configRoutes) rotateRoot(ctx context.Context, r *route.Request, in nameIn) (route.None, error) {
	return route.None{}, s.writes.do(ctx, namePrefix+in.Name, func() error {
		c, err := s.conns.byName(ctx, in.Name)
		if err == nil && c == nil {
			err = fault.New("database.rotateRoot", fault.Invalid, "there is no connection %q; list config/", in.Name)
		}
		if err == nil {
			err = s.roots.checkRotatable(c)
		}
		if err == nil {
			err = s.roots.rotate(ctx, c)
		}
		if err != nil {
			return err
		}
		return s.warnSharedAdmin(ctx, r, c)
	})
}

// warnSharedAdmin names the other connections that still have the previous password of the same
// administrator.
func (s *configRoutes) warnSharedAdmin(ctx context.Context, r *route.Request, c *connection) error {
	siblings, err := s.conns.siblings(ctx, c)
	if err != nil {
		return err
	}
	var names []string
	for _, other := range siblings {
		if other.Username == c.Username && c.Username != "" {
			names = append(names, other.Name)
		}
	}
	if len(names) > 0 {
		r.Warn("%q is the administrator of other connections to the same database, too, which have the password "+
			"from before and can do nothing any more: %s; give each an administrator of its own", c.Username,
			strings.Join(names, ", "))
	}
	return nil
}
