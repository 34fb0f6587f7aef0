package rotate

import (
	"context"
	"slices"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
)

// set replaces a secret in place. The new secret is stored durably, next to the old one, before
// the provider receives it. An attempt whose outcome is unknown is retried with the same secret
// until the outcome is known. Each retry first tries the secret, because it may already be in
// force. If the provider surely does not have the secret, the rotation ends.
func set(ctx context.Context, e *Edit) error {
	maybeSet := e.turn().maybeSet()
	if err := e.open(ctx); err != nil {
		return setOpenFailed(ctx, e, maybeSet, err)
	}
	// A client that hangs up must not leave a secret behind that may or may not be set.
	calls, cancel := context.WithTimeout(context.WithoutCancel(ctx), setTimeout)
	defer cancel()
	maybeSet, done, err := tryAgain(calls, e, maybeSet)
	switch {
	case done:
		return makeCurrent(ctx, e, nil)
	case err != nil:
		return setFailed(ctx, e, maybeSet, err)
	}
	refused := e.turn().Refused >= refusals && e.can.Retry != RetryNever
	if again := maybeSet && !refused && !expiresSoon(e.turn().New, e.Now); !again {
		if err := generate(calls, e); err != nil {
			return setFailed(ctx, e, maybeSet, err)
		}
	}
	if ctx.Err() != nil { // the client hung up before anything was sent
		return ctx.Err()
	}
	return setNew(ctx, calls, e, maybeSet)
}

// maybeSet reports whether the provider may have the new secret.
func (t *Turn) maybeSet() bool { return t.last() != nil && t.last().unresolved() }

// tryAgain tries the secret of an attempt whose outcome is unknown. tryAgain does not try a
// secret that was made for a server that the target no longer points to, because nobody can find
// out whether the secret is in force there.
func tryAgain(ctx context.Context, e *Edit, maybeSet bool) (stillMaybeSet, done bool, err error) {
	if !maybeSet || outdated(e, e.turn().New) {
		return false, false, nil
	}
	switch err := tryNew(ctx, e); {
	case err == nil:
		return true, true, nil
	case OutcomeOf(err) == Rejected || OutcomeOf(err) == Untested:
		return true, false, nil
	default:
		return true, false, err
	}
}

// setNew sets the new secret at the provider, and verifies that the provider accepts it.
func setNew(ctx, calls context.Context, e *Edit, maybeSet bool) error {
	made, err := pending(e)
	if err != nil {
		return setFailed(ctx, e, maybeSet, err)
	}
	err, uncommitted := destructiveCall(calls, e, "setting", setTimeout, func(ctx context.Context) error {
		return e.target.(Setter).Set(ctx, accountCredential(e, made.Account), made)
	})
	if uncommitted != nil {
		return uncommitted
	}
	if err != nil {
		if OutcomeOf(err) == Permanent { // a provider that is not reached has refused nothing
			e.turn().Refused++
		}
		return setFailed(ctx, e, maybeSet, err)
	}
	switch err := tryNew(calls, e); {
	case err == nil:
		return makeCurrent(ctx, e, nil)
	case OutcomeOf(err) == Untested:
		return makeCurrent(ctx, e, err)
	case OutcomeOf(err) == Rejected:
		return setRefused(ctx, e, err)
	default: // a login that had no effect says nothing about the call that has set the secret
		return setFailed(ctx, e, true, err)
	}
}

// accountCredential returns the credential that an account has now, as far as is known.
func accountCredential(e *Edit, account string) Credential {
	for _, c := range append([]*Ref{e.Rec.Current}, e.Rec.Idle...) {
		if c != nil && c.Account == account {
			return e.Sec.Keys[c.ID]
		}
	}
	return Credential{}
}

// restorable returns the credential of before. restorable reports false if there is none, if the
// credential has expired, or if it was made for a server that the target no longer points to.
func restorable(e *Edit, account string) (Credential, bool) {
	c := accountCredential(e, account)
	expired := !c.Expires.IsZero() && !c.Expires.After(e.Now)
	return c, c.ID != "" && !expired && !outdated(e, &Ref{ID: c.ID})
}

// outdated reports whether a credential was made for a server that the target no longer points
// to.
func outdated(e *Edit, c *Ref) bool {
	o, ok := e.target.(Outdater)
	return ok && c != nil && o.Outdated(e.Sec.Keys[c.ID])
}

// expiresSoon reports whether a credential expires before it could be used.
func expiresSoon(c *Ref, now time.Time) bool {
	return c != nil && !c.Expires.IsZero() && !c.Expires.After(now.Add(time.Minute))
}

// generate makes a new secret, and records that it is about to be set.
func generate(ctx context.Context, e *Edit) error {
	t := e.turn()
	made, err := e.target.(Setter).Generate(ctx)
	e.Now = time.Now().UTC()
	if err != nil {
		return &Failure{Outcome: Permanent, Err: err}
	}
	if t.New != nil {
		delete(e.Sec.Keys, t.New.ID)
	}
	for i := range t.Attempts {
		t.Attempts[i].Settled = true // its secret is not in force, or nobody can tell
	}
	t.New, t.Refused = &Ref{ID: made.ID, Account: made.Account, At: e.Now, Expires: made.Expires}, 0
	e.Sec.Keys[made.ID] = made
	for _, v := range made.Secret {
		e.Redactor.Know(v)
	}
	t.Attempts = append(t.Attempts, Attempt{N: uint16(len(t.Attempts) + 1), At: e.Now})
	if n := len(t.Attempts); n > maxSets { // refused for months
		t.Attempts = t.Attempts[n-maxSets:]
	}
	return nil
}

// makeCurrent makes the new secret the current one. untested says why the new secret could not be
// tried.
func makeCurrent(ctx context.Context, e *Edit, untested error) error {
	ctx = context.WithoutCancel(ctx)
	rec, t := e.Rec, e.turn()
	t.last().Outcome = "created"
	t.Proof = e.can.Proof
	if untested != nil {
		t.Proof = ProofNone
		t.unproven(e.errorText(untested))
	}
	t.Put = Put{IntendedAt: e.Now, At: e.Now, Next: e.timing().When.Next(e.Now, e.Now)}
	if rec.Current != nil {
		rec.Idle = append(rec.Idle, rec.Current)
	}
	rec.Idle = slices.DeleteFunc(rec.Idle, func(c *Ref) bool { return c.Account == t.New.Account })
	rec.Current, rec.LastRotated, rec.Next = t.New, t.Put.At, t.Put.Next
	if err := join(ctx, e); err != nil {
		return err
	}
	e.addDetail("key_id", t.New.Key())
	e.addDetail("proof", string(t.Proof))
	return finish(ctx, e)
}

// setRefused handles a secret that the provider says it has set but refuses. The old secret is set
// again, unless it is still in force. If no old secret is known, the attempt continues.
func setRefused(ctx context.Context, e *Edit, err error) error {
	t := e.turn()
	err = &Failure{Outcome: Rejected,
		Err: fault.New("rotate.set", fault.Upstream, "the provider confirmed the new secret, but refuses it: %s",
			e.errorText(err))}
	// The refusal may come from a replica that lags. If the account sets its own secret, nobody
	// could set another one after the new secret is forgotten, should the new one be in force
	// after all.
	if _, known := restorable(e, t.New.Account); !known || e.can.Retry == RetryNever {
		return setFailed(ctx, e, true, err)
	}
	e.recordError(err)
	markFailed(e)
	e.moveTo(RollingBack)
	ctx = context.WithoutCancel(ctx)
	if err := e.Commit(ctx, "gave-up", e.Now.Add(resumeAfter)); err != nil {
		return err
	}
	rerr := restore(ctx, e)
	e.auditErr = err // even if the old secret is in force again
	return rerr
}

// markFailed marks the rotation as failed, because of the last error.
func markFailed(e *Edit) {
	t := e.turn()
	t.Back = &Back{At: e.Now, Reason: e.Rec.LastError}
	e.alertPerson("rotation %d of %s failed: %s; the old secret stays current", t.N, e.name(), e.Rec.LastError)
}

// restore sets the old secret again, unless it is still in force.
func restore(ctx context.Context, e *Edit) error {
	if err := e.open(ctx); err != nil {
		return openFailed(ctx, e, err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), setTimeout)
	defer cancel()
	old, known := restorable(e, e.turn().New.Account)
	if !known { // it is out of reach, or of no use any more
		return finish(context.WithoutCancel(ctx), e)
	}
	err := e.target.Verify(ctx, old)
	if o := OutcomeOf(err); err != nil && (o == Rejected || o == Untested) {
		var uncommitted error
		if err, uncommitted = setOld(ctx, e, old); uncommitted != nil {
			return uncommitted
		}
		if err == nil {
			err = e.target.Verify(ctx, old)
		}
	}
	e.Now = time.Now().UTC()
	switch {
	case err == nil || OutcomeOf(err) == Untested:
	case OutcomeOf(err) == Permanent && e.can.Retry != RetryNever:
		e.recordError(err) // the provider does not accept the old one again; the next rotation sets another one
	default:
		return e.retry(context.WithoutCancel(ctx), err)
	}
	return finish(context.WithoutCancel(ctx), e)
}

func setOld(ctx context.Context, e *Edit, old Credential) (failure, err error) {
	made, err := pending(e)
	if err != nil {
		return err, nil
	}
	return destructiveCall(ctx, e, "restoring", setTimeout,
		func(ctx context.Context) error { return e.target.(Setter).Set(ctx, made, old) })
}

// setOpenFailed handles a target that cannot be opened. An error of our own store does not fail
// the rotation.
func setOpenFailed(ctx context.Context, e *Edit, maybeSet bool, err error) error {
	switch fault.KindOf(err) {
	case fault.Internal, fault.Unavailable, fault.Timeout, fault.Sealed, fault.Conflict:
		return err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err := e.Unlock(ctx); err != nil {
		return err
	}
	return setFailed(ctx, e, maybeSet, &Failure{Outcome: Permanent, Err: err})
}

// setFailed handles a failed attempt. maybeSet means that the provider may have the new secret. In
// that case the attempt is retried until the outcome is known, even outside the rotation window.
// An attempt that surely changed nothing ends the rotation, because the old secret is still the
// right one.
func setFailed(ctx context.Context, e *Edit, maybeSet bool, err error) error {
	ctx = context.WithoutCancel(ctx)
	e.Now = time.Now().UTC()
	t := e.turn()
	if maybeSet || OutcomeOf(err) == Unknown {
		return e.retry(ctx, err)
	}
	if a := t.last(); a != nil {
		a.Outcome = OutcomeOf(err).String()
	}
	e.recordError(err)
	markFailed(e)
	return finish(ctx, e)
}
