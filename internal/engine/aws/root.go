package aws

import (
	"context"
	"slices"
	"time"

	"github.com/keyturn/keyturn/internal/engine/aws/client"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/route"
)

type rotateIn struct {
	Replace *string `json:"replace_key" doc:"The user's second key. It is deleted to make room for the new one, even if it was used within the last day."`
}

type rotateOut struct {
	KeyID string `json:"access_key"`
}

// rotateRoot replaces the key of config/root.
func (s *configRoutes) rotateRoot(ctx context.Context, r *route.Request, in rotateIn) (out *rotateOut, err error) {
	return out, s.records.Change(ctx, rootKind, rootKind, notConfigured(), func(e *rotate.Edit) error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rotateWithin)
		defer cancel()
		if err := e.Unlock(ctx); err != nil {
			return err
		}
		was := e.CurrentID()
		err := s.finishRotation(ctx, e, in.Replace)
		if e.CurrentID() == was && err == nil {
			err = s.startRotation(ctx, r, e, in.Replace)
		}
		if id := e.CurrentID(); id != was { // the remaining steps are due
			out = &rotateOut{KeyID: id}
			return nil
		}
		return err
	})
}

// startRotation starts a rotation, and drives it as far as it goes without a long wait.
func (s *configRoutes) startRotation(ctx context.Context, r *route.Request, e *rotate.Edit, replace *string) error {
	c, cfg, err := s.clients.current(ctx)
	if err != nil {
		return err
	}
	if cfg.KeyID == "" {
		return invalid("there is no access_key in config/root to rotate; credentials come from this server's " +
			"environment, where they are replaced by hand")
	}
	if err := s.makeRoom(ctx, c, e, &rotationRequest{r: r, replace: replace}); err != nil {
		return err
	}
	if err := e.Control().Resume(ctx); err != nil {
		return err
	}
	if _, err := e.Control().RotateNow(ctx, rotate.RotateRequest{By: r.Caller.DisplayName}); err != nil {
		return err
	}
	err = e.Control().Drive(ctx, keyReplaced)
	switch t := e.Rec.Turn; {
	case t != nil && t.Replaced() && e.CurrentID() == e.Rec.Current.Key():
		s.retirePrevious(ctx, e)
		return nil
	case err == nil:
		return pendingError(e.Rec, rootDataOf(e.Rec).User)
	case e.Rec.State() == rotate.RollingBack: // it ends at once if there is no key to look for
		_ = e.Control().Drive(ctx, untilEnd) // a failed step is due again
	}
	return err
}

// retirePrevious deletes the replaced key once nothing is issued with it any more. A failed step
// is due again.
func (s *configRoutes) retirePrevious(ctx context.Context, e *rotate.Edit) {
	s.clients.waitIssuing(ctx, e.Rec.Turn.Old.Key())
	e.Control().RetireNow()
	_ = driveUntil(ctx, e, retireWithin, untilEnd)
}

// finishRotation finishes the rotation in flight.
func (s *configRoutes) finishRotation(ctx context.Context, e *rotate.Edit, replace *string) error {
	if e.Rec.Turn == nil {
		return nil
	}
	c, _, err := s.clients.current(ctx)
	if err != nil {
		return err
	}
	account, err := s.clients.accountOf(ctx, c)
	if err != nil {
		return err
	}
	if id, err := strandedKey(e.Rec, account); err != nil {
		if id == "" || replace == nil || *replace != id {
			return err
		}
		return e.Control().Abandon(ctx, "a person was to delete the key "+id+" in another account")
	}
	if !e.Rec.Turn.Replaced() {
		if err := driveUntil(ctx, e, stepWithin, keyReplaced); err != nil {
			return err
		}
	}
	t := e.Rec.Turn
	if t == nil {
		return nil
	}
	if t.Replaced() {
		s.clients.waitIssuing(ctx, t.Old.Key())
		e.Control().RetireNow()
		if err := driveUntil(ctx, e, stepWithin, untilEnd); err != nil || e.Rec.Turn == nil {
			return err
		}
	}
	return pendingError(e.Rec, rootDataOf(e.Rec).User)
}

// A rotationRequest is the request that starts a rotation. A scheduled rotation has none.
type rotationRequest struct {
	r       *route.Request
	replace *string
}

// makeRoom deletes the user's second key, if there is one and it may be deleted.
func (s *configRoutes) makeRoom(ctx context.Context, c *client.Client, e *rotate.Edit, by *rotationRequest) error {
	const op = "aws.rotateRoot"
	who, err := c.WhoAmI(ctx)
	if err != nil {
		return upstreamError(op, err)
	}
	name, err := userOf(who)
	if err != nil {
		return err
	}
	keys, err := c.Keys(ctx, name)
	if err != nil {
		return upstreamError(op, err)
	}
	r := e.Rec
	d := rootDataOf(r)
	keys = d.Deleted.without(keys)
	i := slices.IndexFunc(keys, func(k client.Key) bool { return k.ID != r.Current.Key() })
	if len(keys) < 2 || i < 0 {
		return nil
	}
	why, err := deletionReason(ctx, c, keys[i], by.replace)
	if err != nil {
		return err
	}
	// If another server has rotated meanwhile, its new key is current there, and looks unused
	// here.
	err = e.Control().DestructiveCall(ctx, "making-room",
		func(ctx context.Context) error { return c.DeleteKey(ctx, name, keys[i].ID) })
	if fault.Is(err, fault.Conflict) {
		return err
	}
	if err != nil {
		return upstreamError(op, err)
	}
	d.Deleted.add(keys[i].ID)
	by.r.Warn("AWS allows two keys, and user %s had two: %s was deleted, because %s", name, keys[i].ID, why)
	return d.store(r)
}

// deletionReason says why a key may be deleted to make room; an error if it must stay.
func deletionReason(ctx context.Context, c *client.Client, k client.Key, replace *string) (why string, err error) {
	if replace != nil && *replace == k.ID {
		return "replace_key names it", nil
	}
	if !k.Active {
		return "it was inactive", nil
	}
	used, err := c.LastUsed(ctx, k.ID)
	if err != nil {
		return "", upstreamError("aws.rotateRoot", err)
	}
	switch {
	case used.IsZero():
		return "it was never used", nil
	case time.Since(used) >= unusedFor:
		return "it was last used at " + used.UTC().Format(time.RFC3339), nil
	}
	return "", fault.New("aws.rotateRoot", fault.Invalid, "the user has two keys, as many as AWS allows, and the "+
		"other one, %s, was used at %s; nothing was changed; to delete it anyway, send replace_key=%s", k.ID,
		used.UTC().Format(time.RFC3339), k.ID)
}
