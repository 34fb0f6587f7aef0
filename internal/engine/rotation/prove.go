package rotation

import (
	"context"
	"time"
)

// proving is a run's part that tries the new key.
type proving struct{ *run }

// prove settles: providers are eventually consistent, so the new key must work
// some times in a row, and then once more after a wait.
func prove(ctx context.Context, in *run) error {
	r := proving{in}
	if err := r.open(ctx); err != nil {
		return r.unopened(ctx, err)
	}
	t, s := r.turn(), r.settle()
	if r.def.Can.Proof == ProofNone {
		r.to(Verifying)
		return r.commit(ctx, "settled", r.now.Add(s.Interval))
	}
	err := r.tryNew(ctx)
	switch {
	case err == nil:
		t.Streak++
		t.Tries = 0
		if t.Streak >= s.Successes {
			r.to(Verifying)
			return r.commit(ctx, "settled", r.now.Add(s.Interval))
		}
		return r.commit(ctx, "works", r.now.Add(s.Interval))
	case ctx.Err() != nil:
		return ctx.Err()
	}
	t.Streak = 0
	if OutcomeOf(err) != Rejected {
		return r.stumble(ctx, err)
	}
	return r.rejected(ctx, err)
}

// rejected deals with a new key that the provider does not take: word of it may
// not have spread.
func (r proving) rejected(ctx context.Context, err error) error {
	t := r.turn()
	if !r.now.Before(t.Until) {
		r.note(err)
		return r.giveUp(ctx, "the new key was still refused when settling ended: %s", r.rec.LastError)
	}
	r.say("outcome", Rejected.String())
	return r.commit(ctx, "refused", r.now.Add(max(r.settle().Interval, retryAfter(err))))
}

// verify is the last proof before readers get the key.
func verify(ctx context.Context, in *run) error {
	r := proving{in}
	if err := r.open(ctx); err != nil {
		return r.unopened(ctx, err)
	}
	t := r.turn()
	t.Proof = r.def.Can.Proof
	switch t.Proof {
	case ProofUse:
	case ProofManagement:
		t.unproven("verified by a management call only: the new key itself was not used")
	default:
		t.Proof = ProofNone
		t.unproven("the provider has no way to verify a key")
	}
	if t.Proof != ProofNone {
		switch err := r.tryNew(ctx); {
		case err == nil:
		case ctx.Err() != nil:
			return ctx.Err()
		case OutcomeOf(err) == Rejected:
			r.to(Settling)
			return r.rejected(ctx, err)
		default:
			return r.stumble(ctx, err)
		}
	}
	r.say("proof", string(t.Proof))
	r.to(Publishing)
	return r.commit(ctx, "verified", r.now)
}

func (r proving) tryNew(ctx context.Context) error {
	made, err := r.pending()
	if err == nil {
		err = call(ctx, func(ctx context.Context) error { return r.src.Verify(ctx, made) })
	}
	r.now = time.Now().UTC()
	return err
}
