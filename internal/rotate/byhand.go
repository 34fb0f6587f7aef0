package rotate

import (
	"context"
	"fmt"
	"time"
)

// reminder is how often a record that waits for a person says so again: one event and one row of
// the journal.
const reminder = 24 * time.Hour

// retiredCheck returns how long to wait before a credential that a person is to retire is tried
// again: longer, the longer it takes.
func retiredCheck(e *Edit) time.Duration {
	return min(max(e.Now.Sub(e.turn().End.After)/4, time.Minute), 6*time.Hour)
}

// awaitCredential waits for a person to create the new credential and to supply it. The wait has
// no end, because the old credential stays current meanwhile.
func awaitCredential(ctx context.Context, e *Edit) error {
	t, task, urgent := e.turn(), e.can.Task, ""
	if t.Start.Leaked {
		urgent = "; the current key " + t.Old.Key() + " has leaked, and stays valid until then"
	}
	e.alertPerson("rotation %d of %s waits for a person to create a new key: %s; then supply it: %s%s", t.N, e.name(),
		task.Instructions, task.Supply, urgent)
	return e.Commit(ctx, "awaits-key", e.Now.Add(reminder))
}

// awaitDeletion waits for a person to delete the old credential at the provider. gone means that
// the provider refuses the credential. If gone is false, awaitDeletion has committed or returns an
// error. The deletion of a credential that cannot be tried is confirmed by a person.
func awaitDeletion(ctx context.Context, e *Edit) (gone bool, err error) {
	victim, task := e.turn().Victim(), e.can.Task
	what := fmt.Sprintf("%s: delete the key %s at the provider: %s", e.name(), victim.ID, task.Instructions)
	cred, ok := testable(e, victim.ID)
	if !ok {
		e.alertPerson("%s; then confirm it: %s", what, task.Confirm)
		return false, e.Commit(ctx, "awaits-deletion", e.Now.Add(reminder))
	}
	err = call(ctx, func(ctx context.Context) error { return e.target.VerifyDead(ctx, cred) })
	e.Now = time.Now().UTC()
	switch {
	case ctx.Err() != nil:
		return false, ctx.Err()
	case err == nil:
		e.Rec.Reviewed()
		return true, nil
	case OutcomeOf(err) == Alive:
		e.alertPerson("%s; the provider still accepts it, and is asked again from time to time", what)
		return false, e.Commit(ctx, "awaits-deletion", e.Now.Add(retiredCheck(e)))
	}
	return false, e.retry(ctx, err)
}

// testable returns a credential by its ID, and whether it can be tried at the provider.
func testable(e *Edit, id string) (c Credential, ok bool) {
	c, known := e.Sec.Keys[id]
	return c, known && len(c.Secret) > 0 && e.can.Proof != ProofNone
}
