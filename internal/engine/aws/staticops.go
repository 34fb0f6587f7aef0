package aws

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/keyturn/keyturn/internal/engine/aws/client"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/route"
)

// rotateNowIn requests a rotation.
type rotateNowIn struct {
	Name    string  `path:"name" doc:"The static role's name."`
	Replace *string `json:"replace_key" default:"none" doc:"A key of the user that is deleted at once to make room for the new one: the previous key in its grace period, or a key that was not created by Keyturn."`
	Back    *bool   `json:"roll_back" default:"false" doc:"Whether to roll back the rotation in flight instead: the previous key, which must still be in its grace period, is published again, and the new one is retired."`
}

func unknownStatic(name string) error {
	return fault.New("aws.static", fault.Invalid, "unknown static role: %s; list static-roles/", name)
}

// rotateNow rotates on request. If a rotation is in flight, it counts as the requested one.
func (s *staticRoutes) rotateNow(ctx context.Context, r *route.Request, in rotateNowIn) (route.None, error) {
	return route.None{},
		s.records.Change(ctx, staticKind, in.Name, unknownStatic(in.Name), func(e *rotate.Edit) error {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), createWithin)
			defer cancel()
			if e.Rec.Gone {
				return unknownStatic(in.Name)
			}
			if err := e.Unlock(ctx); err != nil {
				return err
			}
			var replace string
			set(&replace, in.Replace)
			if in.Back != nil && *in.Back {
				if replace != "" {
					return invalid("fields \"replace_key\" and \"roll_back\": give one of them")
				}
				if err := e.Control().RollBack(ctx, "rolled back by "+r.Caller.DisplayName, false); err != nil {
					return err
				}
				return e.Control().Drive(ctx,
					func(rec *rotate.Record) bool { return rec.State() != rotate.RollingBack })
			}
			if replace != "" && hasKey(e.Rec, e.Sec) && replace == e.Rec.Current.ID {
				return invalid(
					"field \"replace_key\": %s is the key that is published now; leave replace_key out, and "+
						"it is retired after its grace period", replace)
			}
			was := e.CurrentID()
			if err := s.finishRotation(ctx, e, replace); err != nil {
				return err
			}
			if hasKey(e.Rec, e.Sec) && e.CurrentID() != was {
				return nil
			}
			if err := s.deleteKey(ctx, e, replace); err != nil {
				return err
			}
			if err := e.Control().Resume(ctx); err != nil {
				return err
			}
			if _, err := e.Control().RotateNow(ctx, rotate.RotateRequest{By: r.Caller.DisplayName}); err != nil {
				return err
			}
			return driveRequested(ctx, e, was)
		})
}

// finishRotation finishes the rotation in flight. The previous key keeps its grace period, unless
// replace names it.
func (s *staticRoutes) finishRotation(ctx context.Context, e *rotate.Edit, replace string) error {
	t := e.Rec.Turn
	if t == nil {
		return nil
	}
	const op = "aws.rotate"
	if v := t.Victim(); v != nil && !t.Published().IsZero() && t.End.Retired.IsZero() { // in its grace period
		if replace != v.ID {
			return fault.New(op, fault.Unavailable, "the previous key, %s, is not retired yet, and AWS allows two; "+
				"wait until %s, or send replace_key=%s to delete it now", v.ID, e.Rec.Due.Format(time.RFC3339), v.ID)
		}
		e.Control().RetireNow()
	}
	if t.Replaced() && t.Old == nil && len(t.IDs()) == 1 { // it is done, except that AWS must list the new key
		return e.Control().Abandon(ctx, "another rotation was requested before AWS listed the new key")
	}
	done := untilEnd
	if !t.Replaced() {
		done = keyReplaced
	}
	switch err := driveUntil(ctx, e, stepWithin, done); {
	case err != nil:
		return err
	case e.Rec.Turn != nil && !done(e.Rec):
		return pendingError(e.Rec, staticDataOf(e.Rec).User)
	}
	return nil
}

// deleteKey deletes a key that is in the way. On another server it may have become the one that is
// given out.
func (s *staticRoutes) deleteKey(ctx context.Context, e *rotate.Edit, id string) error {
	if id == "" || id == e.Rec.Current.Key() {
		return nil
	}
	d := staticDataOf(e.Rec)
	c, done, err := s.users.client(ctx, &d)
	if err != nil {
		return upstreamError("aws.rotate", err)
	}
	defer done()
	keys, err := c.Keys(ctx, d.User)
	if err != nil {
		return upstreamError("aws.rotate", err)
	}
	if !slices.ContainsFunc(keys, func(k client.Key) bool { return k.ID == id }) {
		return nil
	}
	err = e.Control().DestructiveCall(ctx, "making-room",
		func(ctx context.Context) error { return c.DeleteKey(ctx, d.User, id) })
	if err != nil && !fault.Is(err, fault.Conflict) {
		err = upstreamError("aws.rotate", err)
	}
	return err
}

// driveRequested drives a requested rotation, and returns its result. was is the previous key.
func driveRequested(ctx context.Context, e *rotate.Edit, was string) error {
	err := e.Control().Drive(ctx, keyReplaced)
	switch {
	case e.CurrentID() != was:
		return nil // the remaining steps are due
	case err == nil:
		return pendingError(e.Rec, staticDataOf(e.Rec).User)
	case e.Rec.State() == rotate.RollingBack: // it ends at once if there is no key to look for
		_ = e.Control().Drive(ctx, untilEnd) // a failed step is due again
	}
	return err
}

// errNoRole tells remove that there is nothing to remove.
var errNoRole = errors.New("there is no such role")

// remove deletes a role. The published key stays valid, and the rotation in flight is finished.
func (s *staticRoutes) remove(ctx context.Context, r *route.Request, in nameIn) (route.None, error) {
	err := s.records.Change(ctx, staticKind, in.Name, errNoRole, func(e *rotate.Edit) error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), createWithin)
		defer cancel()
		if e.Rec.Gone {
			return nil
		}
		if err := e.Unlock(ctx); err != nil {
			return err
		}
		if hasKey(e.Rec, e.Sec) {
			r.Warn("user %s keeps the access key %s, which nobody rotates any more", staticDataOf(e.Rec).User,
				e.Rec.Current.ID)
		}
		if t := e.Rec.Turn; t != nil && t.Replaced() && t.Old != nil && !t.End.Disabled.IsZero() {
			if _, ours := e.Sec.Keys[t.Old.ID]; !ours {
				r.Warn("the access key %s, which was there before the role, was set inactive at %s and stays so; "+
					"set it active, or delete it, in AWS", t.Old.ID, t.End.Disabled.Format(time.RFC3339))
			}
		}
		if err := e.Control().DeleteWhenDone(ctx); err != nil {
			return err
		}
		if t := e.Rec.Turn; t != nil && t.Victim() == nil {
			_ = e.Control().Drive(ctx, untilEnd) // a failed step is due again
		}
		return nil
	})
	if errors.Is(err, errNoRole) {
		err = nil
	}
	return route.None{}, err
}
