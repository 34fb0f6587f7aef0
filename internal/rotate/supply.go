package rotate

import (
	"context"
	"slices"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
)

// Supply gives a rotation the credential that a person has created, after a successful Verify, and
// commits that. A credential that the provider refuses changes nothing. If the provider cannot be
// asked now, warn is called: the rotation verifies the credential before it publishes it.
func (c Control) Supply(ctx context.Context, made Credential, by string, warn func(format string, args ...any)) error {
	const op = "rotate.Supply"
	e := c.e
	if err := mayBegin(e); err != nil {
		return err
	}
	if err := e.open(ctx); err != nil {
		return err
	}
	switch t := e.turn(); {
	case !e.can.CreatedByHand:
		return fault.New(op, fault.Conflict, "%s is created through the provider's API; rotate it instead", e.name())
	case t != nil && !t.awaitsCredential():
		return fault.New(op, fault.Conflict, "rotation %d of %s does not wait for a new key (%s); to supply "+
			"one, %s", t.N, e.name(), t.State, t.Advice())
	case t == nil:
		if err := mustBeReady(ctx, e); err != nil {
			return err
		}
	}
	for _, v := range made.Secret {
		e.Redactor.Know(v)
	}
	if err := verifySupplied(ctx, e, made, warn); err != nil {
		return err
	}
	if e.turn() == nil {
		e.start(Start{Reason: "manual", By: by})
	}
	t := e.turn()
	t.Attempts = append(t.Attempts[:0], Attempt{N: 1, At: e.Now, Deadline: e.Now, Late: e.Now, Settled: true})
	if why := notNew(e, made.ID, made.Secret); why != "" {
		return fault.New(op, fault.Invalid, "the supplied key is not a new one: its ID or its secret is that of the "+
			"current key %s; create another key at the provider", t.Old.Key())
	}
	if err := claim(ctx, e); err != nil { // before the records are read
		return err
	}
	if err := mustBeUnknown(ctx, e, made.ID); err != nil {
		return err
	}
	e.Rec.Reviewed()
	e.addDetail("supplied_by", by)
	return created(ctx, e, made)
}

// mustBeUnknown returns an error if a record of the mount already knows the credential: the
// rotation of one would retire the credential of the other.
func mustBeUnknown(ctx context.Context, e *Edit, id string) error {
	known, _, err := e.m.knownKeys(ctx)
	if err != nil {
		return err
	}
	if known[id] || slices.Contains(e.Rec.Disowned, id) {
		return fault.New("rotate.Supply", fault.Invalid, "the supplied key is not a new one: %s is or was the key of "+
			"a rotation here; create another key at the provider", id)
	}
	return nil
}

// verifySupplied verifies a supplied credential, within the limit on writes by hand.
func verifySupplied(ctx context.Context, e *Edit, made Credential, warn func(format string, args ...any)) error {
	const op = "rotate.Supply"
	if e.can.Proof == ProofNone {
		return nil
	}
	short, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	wait, answer, err := tryCounted(ctx, short, e, made)
	switch {
	case err != nil:
		return err
	case wait > 0:
		return fault.New(op, fault.Unavailable, "too many keys were tried at the provider; try again in %s",
			Rough(wait))
	case ctx.Err() != nil:
		return ctx.Err()
	case answer != nil && OutcomeOf(answer) == Rejected:
		return fault.New(op, fault.Invalid, "the provider refuses the supplied key (%s); check that all of it was "+
			"copied, and that it is a key for this account; if it needs a minute to become valid, supply it again",
			e.errorText(answer))
	case answer != nil:
		warn("the key could not be verified now (%s); the rotation verifies it before it publishes it",
			e.errorText(answer))
	}
	return nil
}

// ConfirmRetired records that a person has deleted the old credential at the provider, and commits
// that. ConfirmRetired refuses while the provider still accepts the credential.
func (c Control) ConfirmRetired(ctx context.Context, by string) error {
	const op = "rotate.ConfirmRetired"
	e := c.e
	t := e.turn()
	if err := e.open(ctx); err != nil {
		return err
	}
	if t == nil || t.State != Retiring || t.Victim() == nil || !e.can.RetiredByHand || !t.End.Retired.IsZero() {
		return fault.New(op, fault.Conflict, "%s does not wait for a person to delete a key; its status says what it "+
			"waits for", e.name())
	}
	victim := t.Victim().ID
	if cred, ok := testable(e, victim); ok {
		short, cancel := context.WithTimeout(ctx, checkTimeout)
		err := e.target.VerifyDead(short, cred)
		cancel()
		switch e.Now = time.Now().UTC(); {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && OutcomeOf(err) == Alive:
			return fault.New(op, fault.Conflict, "the provider still accepts the key %s; delete it there first",
				victim)
		case err != nil:
			return fault.New(op, fault.Upstream, "it could not be verified that the key %s is dead: %s; try again "+
				"later", victim, e.errorText(err))
		}
	}
	t.End.Retired = e.Now
	e.Rec.Reviewed()
	e.addDetail("confirmed_by", by)
	return e.Commit(ctx, "confirmed", e.Now)
}

// awaitsCredential reports whether the rotation waits for a person to supply the new credential.
func (t *Turn) awaitsCredential() bool { return t.State == Creating && t.New == nil && t.Back == nil }
