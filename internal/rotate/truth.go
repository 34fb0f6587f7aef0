package rotate

import (
	"context"
	"fmt"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
)

// A reading is what consumers read while a rotation that has published is in flight.
type reading uint8

const (
	readsLive    reading = iota // the credential that was published
	readsVictim                 // the one that is about to be retired
	readsOther                  // a value that this rotation has not published
	readsNothing                // the place is empty, or deleted
)

// personWait is the time between two checks while a person must act on a credential that consumers
// read: it is disabled or refused.
const personWait = time.Hour

// reconcile compares what consumers read with what was published, before the victim is disabled
// or retired. If a person has written the victim's value to the place, the victim becomes current
// again and the other credential gets its grace period. done means that reconcile has committed
// or failed. Otherwise consumers no longer read the victim.
func reconcile(ctx context.Context, e *Edit) (done bool, err error) {
	t, place := e.turn(), e.target.Place()
	if place == nil || t.Victim() == nil {
		return false, nil
	}
	there, err := place.Read(ctx)
	e.Now = time.Now().UTC()
	switch {
	case err == nil:
	case fault.Is(err, fault.NotFound) || fault.Is(err, fault.Invalid):
		// there is no such place any more, and nobody reads it
		there = nil
	default:
		return true, e.retry(ctx, err)
	}
	t.PlaceProblem = ""
	switch classify(e, there) {
	case readsVictim:
		return true, victimWritten(ctx, e, there)
	case readsNothing:
		if t.Live() == nil { // the first rotation is rolled back
			break
		}
		t.PlaceProblem = "the published secret is gone: it was deleted, or its mount was; undelete it, or " +
			adviceRotate(e)
	case readsOther:
		t.PlaceProblem = "the published secret holds a value that no rotation has published; write the right " +
			"value, or " + adviceWorking(e)
	}
	switch {
	case t.PlaceProblem != "" && alertedAbout(e, about(there)): // that alert names the writer and the remedy
	case t.PlaceProblem != "":
		e.alertPlace(about(there), "%s", t.PlaceProblem)
	default:
		e.endPlaceAlert()
	}
	if sleep := e.timing().Sleep; !t.End.Held.IsZero() && sleep > 0 && !t.leaked() {
		t.End.Held = time.Time{} // readers of the victim must read again
		return true, e.Commit(ctx, "waiting", e.Now.Add(sleep))
	}
	return false, nil
}

// classify returns what consumers read.
func classify(e *Edit, there *Published) reading {
	t := e.turn()
	switch {
	case there == nil || len(there.Fields) == 0:
		return readsNothing
	case readsCredential(e, there, t.Live()):
		return readsLive
	case readsCredential(e, there, t.Victim()):
		return readsVictim
	}
	return readsOther
}

// readsCredential reports whether consumers read a secret of credential c.
func readsCredential(e *Edit, there *Published, c *Ref) bool {
	if made, known := e.Sec.Keys[c.Key()]; known {
		return readsSecretOf(e, there, made)
	}
	if c.Key() != e.turn().Old.Key() {
		return false
	}
	for field, v := range e.Sec.Previous { // what consumers read before the rotation
		if got, ok := there.Fields[field]; ok && !v.Empty() && got.Equal(v) {
			return true
		}
	}
	return false
}

// readsSecretOf reports whether consumers read any of a credential's secrets.
func readsSecretOf(e *Edit, there *Published, made Credential) bool {
	fields := e.target.Place().Fields(Credential{ID: made.ID, Secret: made.Secret})
	for field, want := range fields {
		if v, ok := there.Fields[field]; ok && !want.Empty() && v.Equal(want) {
			return true
		}
	}
	return false
}

// victimWritten handles a place that holds the victim's value again, because somebody has written
// that value. The victim becomes current again, unless the victim is disabled, the provider
// refuses the victim, or the victim has leaked and another credential can be published.
func victimWritten(ctx context.Context, e *Edit, there *Published) error {
	t := e.turn()
	victim := t.Victim()
	switch {
	case !t.End.Disabled.IsZero():
		e.alertPerson(
			"%s: the published secret holds the disabled key %s again; enable it at the provider, or %s",
			e.name(), victim.ID, adviceWorking(e))
		t.End.Held = e.Now
		return e.Commit(ctx, "held", e.Now.Add(personWait))
	case t.Back == nil && t.leaked():
		e.alertPerson(
			"%s: somebody wrote the leaked key %s to the published secret again; the new key is published once more",
			e.name(), victim.ID)
		t.Put = Put{Again: t.Put.Again + 1}
		e.moveTo(Publishing)
		return e.Commit(ctx, "overwritten", e.Now)
	case t.Back != nil && t.leaked() && len(oldFields(e)) > 0:
		e.alertPerson("%s: somebody wrote the leaked key %s to the published secret again; the previous key is "+
			"published once more", e.name(), victim.ID)
		t.Back.Put = Put{Again: t.Rollbacks}
		t.Rollbacks++
		e.moveTo(RollingBack)
		return e.Commit(ctx, "overwritten", e.Now)
	}
	if made, known := e.Sec.Keys[victim.ID]; known && e.can.Proof != ProofNone {
		err := call(ctx, func(ctx context.Context) error { return e.target.Verify(ctx, made) })
		e.Now = time.Now().UTC()
		if err != nil && OutcomeOf(err) == Rejected {
			e.alertPerson("%s: the published secret holds the key %s again, but the provider refuses it; %s", e.name(),
				victim.ID, adviceWorking(e))
			t.End.Held = e.Now
			return e.Commit(ctx, "held", e.Now.Add(personWait))
		}
		if err != nil {
			return e.retry(ctx, err)
		}
	}
	swapVictim(e, there.Version, fmt.Sprintf("somebody wrote the key %s to the published secret", victim.ID))
	if victim.hasLeaked() { // and no other credential can be published
		e.alertPerson("%s: consumers read the leaked key %s again, because somebody wrote it to the published "+
			"secret; it is replaced", e.name(), victim.ID)
		e.Rec.Queued = &Start{Reason: "leaked", Leaked: true}
	}
	if err := enterGrace(ctx, e); err != nil {
		return err
	}
	alertSwaps(e)
	return e.Commit(ctx, "written", t.End.After)
}

// swapVictim swaps the victim and the live credential, because the victim was written to its place
// as the given version.
func swapVictim(e *Edit, version int, why string) {
	t := e.turn()
	by := Put{IntendedAt: e.Now, At: e.Now, Next: e.timing().When.Next(e.Now, e.Now), Version: version}
	if t.Back == nil {
		t.Back = &Back{At: e.Now, Reason: why, ByUser: true, Put: by}
	} else {
		by.Again = t.Put.Again
		t.Back, t.Put = nil, by
	}
	e.Rec.Current, e.Rec.Next = t.Live(), by.Next
	t.Swaps++
}

// manySwaps is how often the keys of a rotation may replace each other before an alert is raised.
// Once back and once forth is normal: somebody tried the old key.
const manySwaps = 3

// alertSwaps raises an alert if two keys replace each other again and again. After each swap the
// other key gets a whole grace period, so neither key is ever retired and no failing call would
// report the problem.
func alertSwaps(e *Edit) {
	if t := e.turn(); t.Swaps >= manySwaps {
		e.alertPerson("%s: the keys %s and %s have replaced each other %d times since %s, so neither is retired; "+
			"find out who writes them to the published secret", e.name(), t.Old.Key(), t.New.Key(), t.Swaps,
			date(t.Put.IntendedAt))
	}
}

// about describes what a place holds, for an alert about the place.
func about(there *Published) string {
	if there == nil || len(there.Fields) == 0 {
		return "nothing"
	}
	return fmt.Sprintf("version %d", there.Version)
}
