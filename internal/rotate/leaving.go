package rotate

import (
	"context"
	"time"

	"github.com/keyturn/keyturn/internal/secret"
)

// enterGrace begins the grace period of the credential that readers stop using.
func enterGrace(ctx context.Context, e *Edit) error {
	t := e.turn()
	planEnd(e, t.Published(), t.leaked())
	if t.Back != nil {
		t.Unproven = nil
	} else { // for those who read it, the rotation has succeeded
		e.Rec.Failures, e.Rec.Alert, e.Rec.LastError = 0, nil, ""
	}
	if err := join(ctx, e); err != nil {
		return err
	}
	e.addDetail("key_id", t.Live().Key())
	endLooks(e)
	e.moveTo(Grace)
	return nil
}

// oldFields returns what consumers read again after a rollback. Somebody may have written the
// value that they read before the rotation, with a secret other than the old credential's. In that
// case oldFields returns the fields of the old credential, because the old credential becomes
// current.
func oldFields(e *Edit) map[string]secret.Value {
	place := e.target.Place()
	old, known := e.Sec.Keys[e.turn().Old.Key()]
	if !known || len(old.Secret) == 0 {
		return e.Sec.Previous
	}
	read := place.Credential(e.Sec.Previous).Secret
	for part, v := range place.Credential(place.Fields(old)).Secret {
		if !v.Empty() && !read[part].Equal(v) {
			return place.Fields(old)
		}
	}
	return e.Sec.Previous
}

// planEnd plans the end of life of the victim, whose replacement was published at the given
// time.
func planEnd(e *Edit, at time.Time, leaked bool) {
	t, timing := e.turn(), e.timing()
	after := at.Add(timing.Hold(leaked))
	if t.Victim() == nil {
		after = e.Now
	}
	if t.Swaps == 0 || t.Hold.IsZero() {
		t.Hold = after.Add(timing.MaxHold)
	}
	t.End = Ending{After: after, Now: leaked, Hold: t.Hold}
}

// join adds the engine's own changes for a new current credential.
func join(ctx context.Context, e *Edit) error {
	j, ok := e.target.(Joiner)
	if !ok {
		return nil
	}
	ops, err := j.Join(ctx, e.Rec, e.Sec)
	e.Ops = append(e.Ops, ops...)
	return err
}
