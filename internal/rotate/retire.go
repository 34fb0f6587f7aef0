package rotate

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/storage"
)

// wait is the step of the grace period. Every reader has had time to read the new credential. If
// the provider reports that the old key is still in use, wait extends the grace.
func wait(ctx context.Context, e *Edit) error {
	t := e.turn()
	victim := t.Victim()
	if victim == nil {
		return endGrace(ctx, e)
	}
	if err := e.open(ctx); err != nil {
		return openFailed(ctx, e, err)
	}
	if done, err := reconcile(ctx, e); done || err != nil {
		return err
	}
	if t.End.Now || !e.can.LastUsed {
		return endGrace(ctx, e)
	}
	used, err := lastUsed(ctx, e, victim.ID)
	if err != nil {
		if OutcomeOf(err) == Permanent && notListed(ctx, e, victim.ID) {
			return endGrace(ctx, e)
		}
		return e.retry(ctx, err)
	}
	if used.After(e.Now) {
		used = e.Now // the provider's clock is ahead, or its answer is impossible
	}
	idle := e.timing().Idle
	t.End.Used = used
	callSucceeded(e)
	e.Rec.LastError = ""
	used = t.Needed()
	if !used.Add(idle).After(e.Now) {
		return endGrace(ctx, e)
	}
	e.addDetail("last_used", used.UTC().Format(time.RFC3339))
	again := later(earlier(used.Add(idle), t.End.Hold), e.Now.Add(time.Minute))
	if !e.Now.Before(t.End.Hold) {
		e.alertPerson("%s: the old key %s is still in use %s after its grace period; find out who uses it, or "+
			"rotate with leaked=true", e.name(), victim.ID, e.Now.Sub(t.End.After).Round(time.Minute))
		again = e.Now.Add(max(idle, time.Minute))
	}
	return e.Commit(ctx, "in-use", again)
}

// notListed reports whether the provider no longer lists a key.
func notListed(ctx context.Context, e *Edit, id string) bool {
	if !e.can.List {
		return false
	}
	ids, err := listIDs(ctx, e)
	return err == nil && !slices.Contains(ids, id)
}

// endGrace moves the rotation to Retiring and makes the first call there, which has its own
// commit before it.
func endGrace(ctx context.Context, e *Edit) error {
	if done, err := keepOldIfLiveRefused(ctx, e); done || err != nil {
		return err
	}
	e.moveTo(Retiring)
	if e.turn().Victim() == nil {
		return retire(ctx, e)
	}
	return continueRetiring(ctx, e) // what consumers read has just been compared
}

// keepOldIfLiveRefused keeps the old key as long as the provider refuses the key that readers
// have, because the old key may be the only one that works. An old key that nobody may use any
// more is not kept.
func keepOldIfLiveRefused(ctx context.Context, e *Edit) (done bool, err error) {
	t := e.turn()
	if t.Victim() == nil || t.End.Now || e.can.Proof == ProofNone {
		return false, nil
	}
	live, known := e.Sec.Keys[t.Live().Key()]
	if !known {
		return false, nil
	}
	err = call(ctx, func(ctx context.Context) error { return e.target.Verify(ctx, live) })
	e.Now = time.Now().UTC()
	switch {
	case ctx.Err() != nil:
		return true, ctx.Err()
	case err == nil || OutcomeOf(err) != Rejected:
		return false, nil
	}
	e.recordError(err)
	remedy := "enable the first key again"
	switch by := e.kind.RollBack; {
	case t.Back != nil: // it cannot be rolled back again
	case by != nil:
		remedy += ", or go back to the second: " + by(e.Rec.Name)
	case e.kind.Resumable:
		remedy += ", or roll back to the second"
	}
	e.alertStep(t.State,
		fmt.Sprintf("%s: the provider refuses the key %s, which its consumers read: somebody has deleted or "+
			"disabled it there; the key %s is not retired; %s", e.name(), live.ID, t.Victim().ID, remedy))
	return true, e.Commit(ctx, "held", e.Now.Add(personWait))
}

// retire retires the old key – disable, wait, delete, verify that it is dead – and then ends the
// rotation.
func retire(ctx context.Context, e *Edit) error {
	t := e.turn()
	if t.Victim() == nil && !t.Touched() {
		if err := e.Unlock(ctx); err != nil {
			return err
		}
		return finish(ctx, e) // the provider has nothing of this rotation
	}
	if err := e.open(ctx); err != nil {
		return openFailed(ctx, e, err)
	}
	if t.End.Retired.IsZero() && !t.Published().IsZero() {
		if done, err := reconcile(ctx, e); done || err != nil {
			return err
		}
	}
	return continueRetiring(ctx, e)
}

// continueRetiring makes the next of these calls: disable, retire, verify. continueRetiring
// continues without a commit where none is needed: verifying only reads, and retiring is
// repeatable.
func continueRetiring(ctx context.Context, e *Edit) error {
	t, end := e.turn(), &e.turn().End
	switch {
	case t.Victim() == nil:
		return checkEndState(ctx, e)
	case end.Disabled.IsZero() && end.Retired.IsZero() && e.can.Disable && !end.Now:
		return disableVictim(ctx, e)
	case end.Retired.IsZero() && !end.Disabled.IsZero() && e.Now.Before(end.Disabled.Add(disabledWait(e))):
		return e.Commit(ctx, "waiting", end.Disabled.Add(disabledWait(e)))
	case end.Retired.IsZero() && !end.Disabled.IsZero() && e.can.ListsDisabled && !end.Now:
		return retireDisabled(ctx, e)
	case end.Retired.IsZero():
		return retireVictim(ctx, e)
	}
	return conclude(ctx, e)
}

// conclude verifies that the provider refuses the retired key, and that the provider has exactly
// the keys that it should have.
func conclude(ctx context.Context, e *Edit) error {
	if e.turn().End.Dead.IsZero() {
		if done, err := verifyRetired(ctx, e); !done || err != nil {
			return err
		}
	}
	return checkEndState(ctx, e)
}

// retireDisabled retires a disabled credential, unless somebody has enabled the credential again.
// In that case somebody needs it, and a new grace period begins.
func retireDisabled(ctx context.Context, e *Edit) error {
	all, err := list(ctx, e)
	if err != nil {
		return e.retry(ctx, err)
	}
	end, id := &e.turn().End, e.turn().Victim().Key()
	if i := slices.IndexFunc(all, func(l Listed) bool { return l.ID == id }); i >= 0 && !all[i].Disabled {
		end.Disabled, end.Revived = time.Time{}, e.Now
		e.addDetail("revived", id)
		e.moveTo(Grace)
		end.After = e.Now.Add(e.timing().Idle)
		return e.Commit(ctx, "revived", end.After)
	}
	return retireVictim(ctx, e)
}

// disabledWait returns how long a disabled credential waits before it is retired. During that time
// its users already fail, while an administrator can still enable the credential. A credential
// that nobody may use any more does not wait.
func disabledWait(e *Edit) time.Duration {
	if e.turn().End.Now {
		return 0
	}
	return e.timing().DisabledWait
}

func disableVictim(ctx context.Context, e *Edit) error {
	if done, err := callOnVictim(ctx, e, "disabling", e.target.(Disabler).Disable); !done || err != nil {
		return err
	}
	e.turn().End.Disabled = e.Now
	if wait := disabledWait(e); wait > 0 {
		return e.Commit(ctx, "disabled", e.Now.Add(wait))
	}
	return continueRetiring(ctx, e)
}

func retireVictim(ctx context.Context, e *Edit) error {
	if e.can.RetiredByHand {
		if gone, err := awaitDeletion(ctx, e); !gone || err != nil {
			return err
		}
		e.turn().End.Retired = e.Now
		return conclude(ctx, e)
	}
	if done, err := callOnVictim(ctx, e, "retiring", e.target.(Creator).Retire); !done || err != nil {
		return err
	}
	e.turn().End.Retired = e.Now
	return conclude(ctx, e)
}

// callOnVictim makes a repeatable call that disables or retires the victim. If done is false,
// callOnVictim has committed what went wrong or returns an error.
func callOnVictim(ctx context.Context, e *Edit, intent string, do func(context.Context, string) error) (done bool,
	err error) {
	id := e.turn().Victim().ID
	if id == e.Rec.Current.Key() {
		return false,
			e.retry(ctx, &Failure{Outcome: Permanent, Err: fault.New("rotate.retire", fault.Internal,
				"the key %s is current and is not retired; this is a bug: report it with the key's history",
				id)})
	}
	e.addDetail("key_id", id)
	before := e.Rec.SlotsFree
	if e.can.Slots {
		e.Rec.SlotsFree = later(before, time.Now().UTC().Add(callTimeout+e.can.Late))
	}
	failure, err := destructiveCall(ctx, e, intent, callTimeout,
		func(ctx context.Context) error { return do(ctx, id) })
	if err == nil && (failure == nil || OutcomeOf(failure) != Unknown) {
		e.Rec.SlotsFree = before // the call is over
	}
	switch {
	case err != nil:
		return false, err
	case failure != nil:
		return false, e.retry(ctx, failure)
	}
	if e.turn().End.Accepted == 0 { // else the alert that the key still works stands until the provider refuses it
		callSucceeded(e)
	}
	e.addDetail("key_id", id)
	return true, nil
}

// maxAccepted is how often the provider may accept a retired credential before the credential is
// retired once more. The provider's replicas need some seconds, and the back-off gives them half
// a minute.
const maxAccepted = 3

// newKeyLag is how long a provider that is eventually consistent may refuse a new credential and
// not list it. In that time neither proves that a credential is gone which was never published.
const newKeyLag = time.Minute

// verifyRetired verifies that the provider refuses the retired key. If done is false,
// verifyRetired has committed what went wrong or returns an error.
func verifyRetired(ctx context.Context, e *Edit) (done bool, err error) {
	t := e.turn()
	end := &t.End
	if t.Back != nil && !t.mayBeRead() {
		if provable := earlier(t.Until, t.New.At.Add(newKeyLag)); e.Now.Before(provable) {
			return false, e.Commit(ctx, "young", provable)
		}
	}
	if cred, ok := testable(e, t.Victim().ID); ok {
		err := call(ctx, func(ctx context.Context) error { return e.target.VerifyDead(ctx, cred) })
		e.Now = time.Now().UTC()
		if err != nil {
			if OutcomeOf(err) == Alive {
				t.Tries = end.Accepted // retiring once more succeeds in between, and does not count
				if end.Accepted++; end.Accepted >= maxAccepted {
					end.Retired = time.Time{} // the provider has said that it is deleted, and was wrong: once more
				}
			}
			return false, e.retry(ctx, err)
		}
		end.Proof = "refused"
		if e.can.Proof == ProofManagement {
			end.Proof = "management"
			t.unproven("the retired key was verified to be dead by a management call only")
		}
	} else {
		end.Proof = "none"
		if e.can.RetiredByHand {
			end.Proof = "confirmed"
		}
		t.unproven("the retired key was not verified to be dead by using it")
	}
	end.Dead = e.Now
	callSucceeded(e)
	e.addDetail("proof", end.Proof)
	return true, nil
}

// maxWrongLists is how often in a row the provider's list may be wrong before an alert is raised.
// The list may lag for the first minute.
const maxWrongLists = 4

// checkEndState checks the end state: no late effect is still to come, and the provider's present
// list shows exactly the keys that should exist.
func checkEndState(ctx context.Context, e *Edit) error {
	if done, err := sweep(ctx, e, true); !done || err != nil {
		return err
	}
	t := e.turn()
	if e.can.Slots && t.Start.Leaked {
		if done, err := outlastLeaked(ctx, e); !done || err != nil {
			return err
		}
	}
	if !e.can.List {
		if !e.can.Slots { // where each credential has a slot, there is nowhere for another one
			t.unproven("the provider has no list, so it is not verified that nothing else is left")
		}
		return finish(ctx, e)
	}
	all, err := list(ctx, e)
	if err != nil {
		return e.retry(ctx, err)
	}
	wrong, err := compare(ctx, e, all)
	if err != nil {
		return err
	}
	if missing := t.Live(); len(wrong) == 0 && missing != nil &&
		!slices.ContainsFunc(all, func(l Listed) bool { return l.ID == missing.ID }) {
		wrong = append(wrong, fmt.Sprintf("the current key %s is not listed", missing.ID))
		// Somebody has deleted it. The next rotation replaces it, and must not wait for this one,
		// above all if a person has ended a rollback for it.
		if t.End.WrongLists >= maxTries || t.Back != nil && t.End.Now {
			t.unproven(wrong[0])
			return finish(ctx, e)
		}
	}
	if len(wrong) > 0 {
		t.End.WrongLists++ // what succeeds in between, such as retiring once more, does not count
		t.Tries = t.End.WrongLists
		text := strings.Join(wrong, "; ")
		e.addDetail("error", text)
		e.Rec.LastError = text
		if t.End.WrongLists >= maxWrongLists {
			e.alertPerson("%s: the provider's list is not as expected: %s; it is read again with back-off; check "+
				"which keys the provider shows", e.name(), text)
		}
		return e.Commit(ctx, "unaccounted", e.Now.Add(backoff(t.End.WrongLists, time.Hour)))
	}
	t.End.Listed = e.Now
	if t.End.Proof == "none" {
		t.End.Proof = "not listed"
	}
	return finish(ctx, e)
}

// outlastLeaked waits, at the end of a rotation of slots that has waited for no lost call, until
// none can take effect any more, and then tries the new credential. If such a call has replaced
// it, another rotation begins at once. If done is false, outlastLeaked has committed or returns an
// error.
func outlastLeaked(ctx context.Context, e *Edit) (done bool, err error) {
	if free := e.Rec.SlotsFree; free.After(e.Now) {
		return false, e.Commit(ctx, "late", free)
	}
	t := e.turn()
	live, ok := testable(e, t.Live().Key())
	if !ok || t.Back != nil {
		return true, nil
	}
	err = call(ctx, func(ctx context.Context) error { return e.target.Verify(ctx, live) })
	e.Now = time.Now().UTC()
	switch {
	case ctx.Err() != nil:
		return false, ctx.Err()
	case err != nil && OutcomeOf(err) == Rejected:
		t.unproven("a lost call has replaced the new key after it was published; another rotation follows at once")
		e.Rec.Queued = &Start{Reason: "retry", Leaked: true}
	case err != nil:
		return false, e.retry(ctx, err)
	}
	return true, nil
}

// compare describes how a list differs from the keys that should exist. If a recorded attempt
// created the key, compare notes the key in that attempt, so that sweep retires it. A key with
// our label and without such a record is left alone, because only a person can tell what it is.
func compare(ctx context.Context, e *Edit, all []Listed) (wrong []string, err error) {
	t := e.turn()
	inst := installation(e.m.cfg.Installation)
	for _, l := range all {
		switch {
		case l.ID == t.Live().Key():
		case slices.Contains(e.Rec.Disowned, l.ID):
			t.unproven(fmt.Sprintf("key %s, from before the configuration was changed, is still listed; delete it "+
				"at the provider once nobody uses it", l.ID))
		case l.ID == t.Victim().Key():
			wrong = append(wrong, fmt.Sprintf("the retired key %s is still listed", l.ID))
			t.End.Retired, t.End.Dead = time.Time{}, time.Time{} // once more
		case t.leftBy(l.ID) != nil:
			wrong = append(wrong, fmt.Sprintf("the key %s, which a lost call left behind, is still listed", l.ID))
			t.leftBy(l.ID).addLeftover(l.ID)
		case l.Marker.Installation == inst && l.Marker.Key == e.Rec.Tag:
			wrong = append(wrong, fmt.Sprintf("key %s with our label %q should not be there", l.ID, l.Label))
			a, err := recordedAttempt(ctx, e, l.Marker)
			if err != nil {
				return nil, err
			}
			if a != nil {
				a.addLeftover(l.ID)
			}
		}
	}
	return wrong, nil
}

// recordedAttempt returns the attempt with a marker, or nil. recordedAttempt searches this
// rotation and the earlier rotation that the marker names, because a key may appear later than the
// provider promised. An attempt of an earlier rotation is copied to this one.
func recordedAttempt(ctx context.Context, e *Edit, m Marker) (*Attempt, error) {
	t := e.turn()
	if a := t.attempt(m.String()); a != nil || m.Turn >= t.N {
		return a, nil
	}
	row, err := e.m.cfg.Store.Get(ctx, e.kind.past(e.Rec.Name, m.Turn))
	if err != nil || row.Version == 0 {
		return nil, err
	}
	var past Turn
	if err := decode(row, &past); err != nil {
		return nil, err
	}
	a := past.attempt(m.String())
	if a == nil {
		return nil, nil
	}
	t.Attempts = append(t.Attempts, Attempt{N: a.N, Marker: a.Marker, At: a.At, Outcome: a.Outcome, Settled: true})
	return t.last(), nil
}

// finish ends the rotation and plans the next one.
func finish(ctx context.Context, e *Edit) error {
	rec, t := e.Rec, e.turn()
	result := Done
	rec.Retry = time.Time{}
	switch {
	case t.Back == nil:
		rec.Failures, rec.LastError = 0, ""
		rec.Reviewed()
		rec.Unproven = t.Unproven
	case t.Back.ByUser:
		result = RolledBack
		if !t.mayBeRead() { // it never published: plan as if it had
			rec.Next = e.timing().When.Next(e.Now, e.Now)
		}
	default:
		result = Failed
		rec.Failures++
		rec.LastError = t.Back.Reason
		planRetry(e)
		if t.Start.Leaked && rec.Queued == nil { // a leaked credential does not wait for the schedule
			rec.Queued = &Start{Reason: "retry", By: t.Start.By, Leaked: true,
				After: e.Now.Add(retryRotation(rec.Failures))}
		}
		if t.Back.Pause && e.kind.Resumable {
			rec.Paused = &Pause{At: e.Now, Reason: t.Back.Reason, Auto: true}
		}
	}
	if rec.Look.Failed == 0 && rec.Look.By == "" {
		endLooks(e)
	}
	t.Ended = e.Now
	e.moveTo(result)
	e.addDetail("result", string(result))
	e.Sec.forget(rec)
	row, err := encode(t)
	if err != nil {
		return err
	}
	rec.Turn = nil
	if rec.Gone {
		return e.Delete(ctx)
	}
	unlooked, err := planOwedLook(ctx, e)
	if err != nil {
		return err
	}
	e.Ops = append(append(e.Ops, unlooked...), storage.Set(e.kind.past(rec.Name, t.N), row))
	if t.N > MaxHistory {
		e.Ops = append(e.Ops, storage.Remove(e.kind.past(rec.Name, t.N-MaxHistory)))
	}
	return e.Commit(ctx, string(result), e.Planned())
}

// planRetry plans the next rotation after a failed one. A rotation in place has made one attempt.
// Any other rotation has retried for as long as its states allow, and may have left a key behind,
// unless its kind is eager.
func planRetry(e *Edit) {
	rec, when := e.Rec, e.timing().When
	eager := e.kind.Style == InPlace || e.kind.Eager
	at, over := when.Again(rec.Next, rec.LastRotated, rec.Failures, e.Now)
	switch {
	case rec.Next.IsZero():
		return // it was requested, and is requested again
	case over:
		e.missed = rec.Next
		rec.Next, rec.Failures = at, 0
		return
	case !eager:
		at = e.Now.Add(retryRotation(rec.Failures))
		if when.Missed(rec.Next, at) {
			e.missed = rec.Next
			rec.Next, rec.Failures = when.Next(rec.LastRotated, e.Now), 0
			return
		}
	}
	rec.Retry = at
}
