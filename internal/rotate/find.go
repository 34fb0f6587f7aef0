package rotate

import (
	"context"
	"slices"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/storage"
)

// Unsettled reports whether it is unknown which secret an account has. Only records of the style
// in-place can be unsettled.
func (r *Record) Unsettled(account string) bool {
	t := r.Turn
	if t == nil || t.New == nil || t.New.Account != account {
		return false
	}
	return t.State == RollingBack || t.maybeSet()
}

// ResolveSecret finds out which secret is in force, if that is unknown. ResolveSecret tries the
// known secrets, sets none, and commits what it finds. After nil, and without a rotation in
// flight, the secret of Current is in force. An error says why the secret in force is still
// unknown.
func (c Control) ResolveSecret(ctx context.Context) error {
	e := c.e
	t := e.turn()
	if t == nil || t.New == nil || !e.Rec.Unsettled(t.New.Account) {
		return nil
	}
	if err := e.open(ctx); err != nil {
		return err
	}
	if t.State == RollingBack {
		return resolveOld(ctx, e)
	}
	if outdated(e, t.New) {
		return fault.New("rotate.ResolveSecret", fault.Unavailable,
			"the secret was created for a server that %s no longer points to; a new one is set at the current server",
			e.name())
	}
	err := tryNew(ctx, e)
	switch {
	case err == nil:
		return makeCurrent(ctx, e, nil)
	case OutcomeOf(err) == Rejected && accountCredential(e, t.New.Account).ID != "":
		return nil
	}
	return err
}

// resolveOld tries whether the old secret of a rotation that is being rolled back is in force.
func resolveOld(ctx context.Context, e *Edit) error {
	if err := e.busy("rotate.ResolveSecret"); err != nil {
		return err // that call may set either secret yet
	}
	old, known := restorable(e, e.turn().New.Account)
	if !known {
		return finish(context.WithoutCancel(ctx), e)
	}
	err := call(ctx, func(ctx context.Context) error { return e.target.Verify(ctx, old) })
	if e.Now = time.Now().UTC(); err != nil {
		return err
	}
	return finish(context.WithoutCancel(ctx), e)
}

// SetCurrent makes a credential current for its account, because an administrator vouches for it.
// A rotation in flight ends: whatever its outcome, this credential is in force. The caller
// commits.
func (c Control) SetCurrent(ctx context.Context, given Credential, why string) error {
	e := c.e
	if err := e.busy("rotate.SetCurrent"); err != nil {
		return err
	}
	if err := e.Unlock(ctx); err != nil {
		return err
	}
	rec := e.Rec
	if t := rec.Turn; t != nil {
		t.Back = &Back{At: e.Now, Reason: why, ByUser: true}
		t.Ended = e.Now
		e.moveTo(RolledBack)
		row, err := encode(t)
		if err != nil {
			return err
		}
		e.Ops = append(e.Ops, storage.Set(e.kind.past(rec.Name, t.N), row))
		rec.Turn = nil
	}
	rec.Idle = slices.DeleteFunc(rec.Idle, func(r *Ref) bool { return r.Account == given.Account })
	rec.Current = &Ref{ID: given.ID, Account: given.Account, At: e.Now, Expires: given.Expires, Adopted: true}
	rec.Failures, rec.Retry, rec.LastError, rec.Alert, rec.Unproven = 0, time.Time{}, "", nil, nil
	e.Sec.Keys[given.ID] = given
	e.Sec.forget(rec)
	e.Sec.Know(e.Redactor)
	e.addDetail("key_id", given.ID)
	return nil
}
