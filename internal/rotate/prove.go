package rotate

import (
	"context"
	"time"
)

// settle verifies the new credential several times in a row, because providers are eventually
// consistent. verify repeats that once more after a wait.
func settle(ctx context.Context, e *Edit) error {
	if err := e.open(ctx); err != nil {
		return openFailed(ctx, e, err)
	}
	t, s := e.turn(), e.target.Settle()
	if e.can.Proof == ProofNone {
		e.moveTo(Verifying)
		return e.Commit(ctx, "settled", e.Now.Add(s.Interval))
	}
	err := tryNew(ctx, e)
	switch {
	case err == nil:
		t.Streak++
		callSucceeded(e)
		if t.Streak >= s.Successes {
			e.moveTo(Verifying)
			return e.Commit(ctx, "settled", e.Now.Add(s.Interval))
		}
		return e.Commit(ctx, "works", e.Now.Add(s.Interval))
	case ctx.Err() != nil:
		return ctx.Err()
	}
	t.Streak = 0
	if OutcomeOf(err) != Rejected {
		// A success in between resets the count of failures, but not the time limit.
		if !e.Now.Before(later(t.Until, t.New.At.Add(triesDuration))) {
			e.recordError(err)
			return giveUp(ctx, e, "the new key did not work steadily until settling ended: %s", e.Rec.LastError)
		}
		return e.retry(ctx, err)
	}
	return rejected(ctx, e, err)
}

// rejected handles a new credential that the provider refuses. The provider's replicas may not
// have caught up yet.
func rejected(ctx context.Context, e *Edit, err error) error {
	t := e.turn()
	if !e.Now.Before(t.Until) {
		e.recordError(err)
		return giveUp(ctx, e, "the new key was still refused when settling ended: %s", e.Rec.LastError)
	}
	if e.Rec.Alert == nil { // else LastError stays the error that the alert is about
		e.Rec.LastError = e.errorText(err)
	}
	e.addDetail("outcome", Rejected.String())
	return e.Commit(ctx, "refused", e.Now.Add(max(e.target.Settle().Interval, retryAfter(err))))
}

// verify is the last check before readers get the credential.
func verify(ctx context.Context, e *Edit) error {
	if err := e.open(ctx); err != nil {
		return openFailed(ctx, e, err)
	}
	t := e.turn()
	t.Proof = e.can.Proof
	switch t.Proof {
	case ProofUse:
	case ProofManagement:
		t.unproven("verified by a management call only: the new key itself was not used")
	default:
		t.Proof = ProofNone
		t.unproven("the provider has no way to verify a key")
	}
	if t.Proof != ProofNone {
		switch err := tryNew(ctx, e); {
		case err == nil:
		case ctx.Err() != nil:
			return ctx.Err()
		case OutcomeOf(err) == Rejected:
			e.moveTo(Settling) // until it has timed out
			return rejected(ctx, e, err)
		default:
			return e.retry(ctx, err)
		}
	}
	e.addDetail("proof", string(t.Proof))
	e.moveTo(Publishing)
	if e.target.Place() == nil { // publishing is a commit alone
		return publish(ctx, e)
	}
	return e.Commit(ctx, "verified", e.Now)
}

func tryNew(ctx context.Context, e *Edit) error {
	made, err := pending(e)
	if err == nil {
		err = call(ctx, func(ctx context.Context) error { return e.target.Verify(ctx, made) })
	}
	e.Now = time.Now().UTC()
	return err
}
