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
func (b configs) rotateRoot(ctx context.Context, r *route.Request, in rotateIn) (out *rotateOut, err error) {
	return out, b.rotations.Change(ctx, rootKind, rootKind, notConfigured(), func(e *rotate.Edit) error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rotateWithin)
		defer cancel()
		if err := e.Unlock(ctx); err != nil {
			return err
		}
		was := e.CurrentID()
		err := b.finishRotation(ctx, e, in.Replace)
		if e.CurrentID() == was && err == nil {
			err = b.startRotation(ctx, r, e, in.Replace)
		}
		if id := e.CurrentID(); id != was { // what is left to do is due
			out = &rotateOut{id}
			return nil
		}
		return err
	})
}

// startRotation begins a rotation, and drives it as far as it goes without waiting for long.
func (b configs) startRotation(ctx context.Context, r *route.Request, e *rotate.Edit, replace *string) error {
	c, cfg, err := b.client(ctx)
	if err != nil {
		return err
	}
	if cfg.KeyID == "" {
		return invalid("there is no access_key in config/root to rotate; credentials come from this server's environment, where they are replaced by hand")
	}
	if err := b.makeRoom(ctx, c, e, &rotationRequest{r, replace}); err != nil {
		return err
	}
	if err := e.Control().Resume(ctx); err != nil {
		return err
	}
	if _, err := e.Control().RotateNow(ctx, rotate.Ask{By: r.Caller.DisplayName}); err != nil {
		return err
	}
	err = e.Control().Drive(ctx, keyReplaced)
	switch t := e.Rec.Turn; {
	case t != nil && t.Replaced() && e.CurrentID() == e.Rec.Current.Key():
		b.retirePrevious(ctx, e)
		return nil
	case err == nil:
		return pendingError(e.Rec, rootDataOf(e.Rec).User)
	case e.Rec.State() == rotate.RollingBack: // at once, if nothing is left to look for
		_ = e.Control().Drive(ctx, untilEnd) // what fails is due
	}
	return err
}

// retirePrevious deletes the key that was replaced, once nothing is made by it any more. What fails is due.
func (b configs) retirePrevious(ctx context.Context, e *rotate.Edit) {
	b.waitUnused(ctx, e.Rec.Turn.Old.Key())
	e.Control().RetireNow()
	_ = driveUntil(ctx, e, retireWithin, untilEnd)
}

// finishRotation brings a rotation that is in flight to its end.
func (b configs) finishRotation(ctx context.Context, e *rotate.Edit, replace *string) error {
	if e.Rec.Turn == nil {
		return nil
	}
	c, _, err := b.client(ctx)
	if err != nil {
		return err
	}
	in, err := b.account(ctx, c)
	if err != nil {
		return err
	}
	if id, err := strandedKey(e.Rec, in); err != nil {
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
		b.waitUnused(ctx, t.Old.Key())
		e.Control().RetireNow()
		if err := driveUntil(ctx, e, stepWithin, untilEnd); err != nil || e.Rec.Turn == nil {
			return err
		}
	}
	return pendingError(e.Rec, rootDataOf(e.Rec).User)
}

// An asker wants a rotation now. One that comes by schedule has none.
type rotationRequest struct {
	r       *route.Request
	replace *string
}

// makeRoom deletes the user's second key, if there is one that may go.
func (b configs) makeRoom(ctx context.Context, c *client.Client, e *rotate.Edit, by *rotationRequest) error {
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
	why, err := b.deletionReason(ctx, c, keys[i], by.replace)
	if err != nil {
		return err
	}
	// To another server that has rotated meanwhile, the new key is the current one, and here it looks unused.
	err = e.Control().TakeAway(ctx, "making-room", func(ctx context.Context) error { return c.DeleteKey(ctx, name, keys[i].ID) })
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

// deletionReason says why a key may be deleted to make room, or that it may not.
func (b configs) deletionReason(ctx context.Context, c *client.Client, k client.Key, replace *string) (why string, err error) {
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
	return "", fault.New("aws.rotateRoot", fault.Invalid, "the user has two keys, as many as AWS allows, and the other one, %s, was used at %s; nothing was changed; to delete it all the same, send replace_key=%s", k.ID, used.UTC().Format(time.RFC3339), k.ID)
}
