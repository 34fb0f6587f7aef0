package aws

import (
	"context"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
)

// Unfinished implements [engine.Keeper]. A rotation may have created a key that only this server
// knows, and a replaced key lives until the end of its grace period.
func (b *backend) Unfinished(ctx context.Context) error {
	e, err := b.records.View(ctx, rootKind, rootKind)
	switch {
	case err != nil:
		return err
	case e != nil && e.Rec.Turn != nil:
		return fault.New("aws.disable", fault.Conflict, "a rotation of the key of config/root is under way, begun "+
			"at %s, and nobody would finish it once the mount is gone; wait for its end, or disable it with "+
			"force=true and delete in AWS what it has created for user %s",
			e.Rec.Turn.Started.Format(time.RFC3339), rootDataOf(e.Rec).User)
	}
	for r, err := range b.records.Records(ctx, staticKind) {
		if err != nil {
			return err
		}
		t := r.Turn
		switch {
		case r.Gone || t == nil: // the role was deleted, so its keys may stay as they are
		case !t.Replaced():
			return fault.New("aws.disable", fault.Conflict, "a rotation of static role %q is under way, and nobody "+
				"would finish it once the mount is gone; wait for its end, or disable it with force=true and delete "+
				"in AWS what it has created", r.Name)
		case t.Old != nil && !t.Old.Adopted: // an adopted key was there before the role, and continues to work
			return fault.New("aws.disable", fault.Conflict, "the access key %s, which static role %q has replaced, "+
				"is valid until %s, and nobody would delete it once the mount is gone; wait, or disable it with "+
				"force=true and delete the key in AWS", t.Old.ID, r.Name, r.Due.Format(time.RFC3339))
		}
	}
	return nil
}
