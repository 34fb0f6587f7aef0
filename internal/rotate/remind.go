package rotate

import (
	"context"
	"time"
)

// remindEvery is how often the journal notes that the credential of an external record is overdue.
const remindEvery = 24 * time.Hour

// remind is the step of a record whose credential somebody else replaces. remind checks what
// consumers read, and raises an alert when the deadline has passed.
func remind(ctx context.Context, e *Edit) error {
	at, lookAt := e.Planned(), e.Rec.Look.At
	switch {
	case at.IsZero() || at.After(e.Now):
		return e.Commit(ctx, "waiting", at)
	case !lookAt.IsZero() && !lookAt.After(e.Now):
		return look(ctx, e)
	}
	e.Rec.Retry = e.Now.Add(remindEvery)
	e.alertPerson("%s was to be rotated by %s, and is overdue: find out why its rotation has not run, and write a "+
		"new key to %q", e.name(), date(e.Rec.Next), e.kind.Place(e.Rec))
	return e.Commit(ctx, "overdue", e.Planned())
}
