package rotate

import (
	"context"
	"slices"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
)

const (
	// resumeAfter is when a step is taken up again that its process has not survived.
	resumeAfter = 30 * time.Second
	// setTimeout bounds all calls of one attempt to set a secret.
	setTimeout = 20 * time.Second
	// refusals is how often the provider may refuse one secret before another is generated: it may be against the
	// provider's rules.
	refusals = 3
)

// set replaces a secret in place. The new one is durable, next to the old one, before the provider is told of it. An
// attempt whose outcome is unknown goes on until it is known, with the same secret: first the secret is tried, because it
// may be the one in force. A secret that the provider surely does not have ends the rotation.
func set(ctx context.Context, e *Edit) error {
	t := e.turn()
	told := t.last() != nil && t.last().open() // the provider may have the new secret
	if err := e.open(ctx); err != nil {
		return setFailed(ctx, e, told, &Failure{Outcome: Permanent, Err: err})
	}
	// A client that goes away must not leave a secret of which nobody knows whether it is set.
	calls, cancel := context.WithTimeout(context.WithoutCancel(ctx), setTimeout)
	defer cancel()
	if told {
		switch err := tryNew(calls, e); {
		case err == nil:
			return replaced(calls, e, nil)
		case OutcomeOf(err) != Rejected && OutcomeOf(err) != Untested:
			return setFailed(ctx, e, told, err)
		}
	}
	if again := told && t.Refused < refusals && !ended(t.New, e.Now); !again {
		if err := generate(calls, e); err != nil {
			return setFailed(ctx, e, told, err)
		}
		if err := e.Commit(ctx, "setting", e.Now.Add(resumeAfter)); err != nil {
			return err
		}
	}
	made, err := pending(e)
	if err == nil {
		err = e.target.(Setter).Set(calls, before(e, made.Account), made)
	}
	if err != nil {
		if OutcomeOf(err) != Unknown {
			t.Refused++
		}
		return setFailed(ctx, e, told, err)
	}
	switch err := tryNew(calls, e); {
	case err == nil:
		return replaced(calls, e, nil)
	case OutcomeOf(err) == Untested:
		return replaced(calls, e, err)
	case OutcomeOf(err) == Rejected:
		return refused(calls, e, err)
	default: // a login that had no effect says nothing of the call that has set the secret
		return setFailed(ctx, e, true, err)
	}
}

// before is the credential that an account has now, as far as is known.
func before(e *Edit, account string) Credential {
	for _, c := range append([]*Ref{e.Rec.Current}, e.Rec.Idle...) {
		if c != nil && c.Account == account {
			return e.Sec.Keys[c.ID]
		}
	}
	return Credential{}
}

// ended reports whether a credential expires before it could be of use.
func ended(c *Ref, now time.Time) bool {
	return c != nil && !c.Expires.IsZero() && !c.Expires.After(now.Add(time.Minute))
}

// generate makes a new secret, and notes that it is about to be set.
func generate(ctx context.Context, e *Edit) error {
	t := e.turn()
	made, err := e.target.(Setter).Generate(ctx)
	e.Now = time.Now().UTC()
	if err != nil {
		return err
	}
	if t.New != nil {
		delete(e.Sec.Keys, t.New.ID)
	}
	for i := range t.Attempts {
		t.Attempts[i].Settled = true // its secret is surely not in force
	}
	t.New, t.Refused = &Ref{ID: made.ID, Account: made.Account, At: e.Now, Expires: made.Expires}, 0
	e.Sec.Keys[made.ID] = made
	for _, v := range made.Secret {
		e.Redactor.Know(v)
	}
	t.Attempts = append(t.Attempts, Attempt{N: uint16(len(t.Attempts) + 1), At: e.Now, Deadline: e.Now.Add(setTimeout)})
	return nil
}

// replaced makes the new secret the current one. untested says why it could not be tried.
func replaced(ctx context.Context, e *Edit, untested error) error {
	rec, t := e.Rec, e.turn()
	t.last().Outcome = "created"
	t.Proof = e.can.Proof
	if untested != nil {
		t.Proof = ProofNone
		t.unproven(e.words(untested))
	}
	t.Put = Put{Asked: e.Now, At: e.Now, Next: e.timing().When.Next(e.Now, e.Now)}
	if rec.Current != nil {
		rec.Idle = append(rec.Idle, rec.Current)
	}
	rec.Idle = slices.DeleteFunc(rec.Idle, func(c *Ref) bool { return c.Account == t.New.Account })
	rec.Current, rec.LastRotated, rec.Next = t.New, t.Put.At, t.Put.Next
	if err := join(ctx, e); err != nil {
		return err
	}
	e.Say("key_id", t.New.Key())
	e.Say("proof", string(t.Proof))
	return finish(ctx, e)
}

// refused deals with a secret that the provider says it has set, and refuses. The old one is set again.
func refused(ctx context.Context, e *Edit, err error) error {
	t := e.turn()
	err = &Failure{Outcome: Rejected, Err: fault.New("rotate.set", fault.Upstream, "the provider says that it has set the new secret, and refuses it: %s", e.words(err))}
	if before(e, t.New.Account).ID == "" {
		return setFailed(ctx, e, true, err)
	}
	e.note(err)
	t.Back = &Back{At: e.Now, Reason: e.Rec.LastError}
	e.to(RollingBack)
	if err := e.Commit(ctx, "gave-up", e.Now.Add(resumeAfter)); err != nil {
		return err
	}
	return restore(ctx, e)
}

// restore sets the old secret again.
func restore(ctx context.Context, e *Edit) error {
	if err := e.open(ctx); err != nil {
		return unopened(ctx, e, err)
	}
	made, err := pending(e)
	if err == nil {
		err = call(ctx, func(ctx context.Context) error { return e.target.(Setter).Set(ctx, made, before(e, made.Account)) })
	}
	e.Now = time.Now().UTC()
	if err != nil {
		return e.retry(ctx, err)
	}
	return finish(ctx, e)
}

// setFailed deals with an attempt that failed. told means that the provider may have the new secret: then the attempt goes
// on until that is known, whatever window there is. One that surely changed nothing ends the rotation: the old secret is the
// right one.
func setFailed(ctx context.Context, e *Edit, told bool, err error) error {
	e.Now = time.Now().UTC()
	t := e.turn()
	if told || OutcomeOf(err) == Unknown && t.last() != nil {
		return e.retry(ctx, err)
	}
	if a := t.last(); a != nil {
		a.Outcome = OutcomeOf(err).String()
	}
	e.note(err)
	t.Back = &Back{At: e.Now, Reason: e.Rec.LastError}
	if err := e.Unlock(ctx); err != nil {
		return err
	}
	return finish(ctx, e)
}
