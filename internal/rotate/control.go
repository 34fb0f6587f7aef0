package rotate

import (
	"context"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
)

// A Control offers the requests that a person or an engine may make for a record in hand. The
// machine handles them with the same steps as work that falls due.
type Control struct{ e *Edit }

// Control returns the requests that may be made for the record.
func (e *Edit) Control() Control { return Control{e} }

// A RotateRequest is a request for a rotation now.
type RotateRequest struct {
	By     string
	Leaked bool
	// KeyID says which credential leaked: the current one, or the one in its grace period. If
	// KeyID is empty, both count as leaked.
	KeyID string
}

// A RotateResult says what a request for a rotation has begun.
type RotateResult struct {
	Queued  bool // behind the one in flight
	Retires bool // the previous credential without waiting for its readers
	// Asleep is how long readers may still hold a value that is retired now.
	Asleep time.Duration
}

// RotateNow begins a rotation, with the same steps as one that fell due, and commits that. In
// place, nothing is committed yet: Drive runs the first step, which commits its own intent.
func (c Control) RotateNow(ctx context.Context, ask RotateRequest) (out RotateResult, err error) {
	e := c.e
	if err := mayBegin(e); err != nil {
		return out, err
	}
	why := Start{Reason: "manual", By: ask.By, Leaked: ask.Leaked}
	if e.Rec.Turn != nil {
		err = requestInFlight(e, ask, why, &out)
	} else {
		err = beginNow(ctx, e, ask, why, &out)
	}
	if err != nil {
		return out, err
	}
	out.Asleep = asleep(e)
	if e.kind.Style == InPlace {
		return out, nil // the first step commits its intent itself
	}
	return out, e.Commit(ctx, "rotate-now", e.Now)
}

// asleep returns how long readers may still hold a value that is retired now.
func asleep(e *Edit) time.Duration {
	var published time.Time
	if e.Rec.Turn != nil && e.Rec.Queued == nil {
		published = e.Rec.Turn.Published()
	}
	return e.timing().Asleep(published, e.Now)
}

func beginNow(ctx context.Context, e *Edit, ask RotateRequest, why Start, out *RotateResult) error {
	if ask.KeyID != "" && ask.KeyID != e.Rec.Current.Key() {
		return fault.New("rotate.RotateNow", fault.Invalid,
			"field \"key_id\": %q is not a valid key; the current one is %q", ask.KeyID, e.Rec.Current.Key())
	}
	if q := e.Rec.Queued; q != nil {
		why.Leaked = why.Leaked || q.Leaked
	}
	if err := mustBeReady(ctx, e); err != nil {
		return err
	}
	if ask.Leaked {
		e.Rec.markLeaked(e.Rec.Current.Key())
	}
	e.start(why)
	out.Retires = e.turn().Start.Leaked
	return nil
}

// mustBeReady returns why no rotation may begin on request.
func mustBeReady(ctx context.Context, e *Edit) error {
	if e.kind.Ready == nil {
		return nil
	}
	why, err := e.kind.Ready(ctx, e.Rec)
	if err == nil && why != "" {
		err = fault.New("rotate.RotateNow", fault.Held, "%s", why)
	}
	return err
}

// requestInFlight handles a request for a rotation while another one is in flight.
func requestInFlight(e *Edit, ask RotateRequest, why Start, out *RotateResult) error {
	t := e.turn()
	if !ask.Leaked {
		return fault.New("rotate.RotateNow", fault.Conflict,
			"rotation %d of %s is in flight (%s); %s, or give leaked=true, which retires the old key at once", t.N,
			e.name(), t.State, t.Advice())
	}
	victim := t.Victim().Key()
	if ask.KeyID != "" && ask.KeyID != victim && ask.KeyID != t.New.Key() && ask.KeyID != t.Old.Key() {
		return fault.New("rotate.RotateNow", fault.Invalid,
			"field \"key_id\": %q is not a key of the rotation in flight; name one of %q", ask.KeyID, t.IDs())
	}
	unpublished := t.Back == nil && t.Put.At.IsZero()
	if ask.KeyID != "" && ask.KeyID == t.New.Key() && unpublished && e.kind.Style == TwoKey {
		why.Leaked = t.Start.Leaked // the old one has not leaked
		e.Rec.markLeaked(t.New.Key())
		e.Rec.Queued, out.Queued = &why, true
		if t.mayBeRead() { // readers may have it already: it is replaced at once
			out.Retires, t.Start.Leaked, why.Leaked = true, true, true
			return nil
		}
		e.Control().RollBackUnpublished("the new key leaked before it was published", true)
		return nil
	}
	out.Retires = true
	kept := t.Live().Key()
	read := t.Back != nil || t.mayBeRead() // readers may have the one that is kept
	if ask.KeyID == "" || ask.KeyID == victim {
		e.Rec.markLeaked(victim)
	}
	if ask.KeyID == "" && read || ask.KeyID == kept {
		e.Rec.markLeaked(kept)
	}
	if t.Back != nil {
		t.Back.Leaked = true
	} else {
		t.Start.Leaked = true
		if !read {
			return nil // the rotation replaces the leaked credential
		}
	}
	t.End.Now = true
	t.End.After = earlier(t.End.After, e.Now)
	if ask.KeyID == "" || ask.KeyID != victim {
		e.Rec.Queued, out.Queued = &why, true
	}
	return nil
}

// mayBegin returns an error if no rotation may begin.
func mayBegin(e *Edit) error {
	const op = "rotate.RotateNow"
	switch {
	case e.limits.Brake:
		return fault.New(op, fault.Held,
			"rotation is paused for this mount (the brake is on); write brake=false to config first")
	case e.Rec.Paused != nil:
		return fault.New(op, fault.Held, "%s is paused (%s); resume it first", e.name(), e.Rec.Paused.Reason)
	case e.m.cfg.ClockHeld != nil && e.m.cfg.ClockHeld():
		return errClockHeld(op)
	}
	return nil
}

// RollBack rolls back the rotation in flight, and commits that. RollBack ends a pause that waits
// for a person. force allows a leaked credential to be published again.
func (c Control) RollBack(ctx context.Context, reason string, force bool) error {
	e := c.e
	if p := e.Rec.Paused; p != nil && p.Auto {
		e.Rec.Paused = nil
		e.Rec.Reviewed()
	}
	if err := mayBegin(e); err != nil {
		return err
	}
	if err := e.Unlock(ctx); err != nil {
		return err
	}
	if err := mayRollBack(ctx, e, force); err != nil {
		return err
	}
	if err := checkOldWorks(ctx, e, force); err != nil {
		return err
	}
	if t := e.turn(); e.kind.Style == InPlace && (t.New == nil || accountCredential(e, t.New.Account).ID == "") {
		return fault.New("rotate.RollBack", fault.Conflict,
			"rotation %d of %s replaces a secret that is not known; there is nothing to go back to", t.N, e.name())
	}
	t := e.turn()
	t.Back = &Back{At: e.Now, Reason: reason, ByUser: true, Put: Put{Again: t.Rollbacks}}
	if t.mayBeRead() {
		t.Rollbacks++
	}
	e.moveTo(RollingBack)
	if t.mayBeRead() && t.Old.hasLeaked() {
		e.alertPerson("%s: the key %s, which has leaked, is published again by a forced rollback; rotate again as "+
			"soon as consumers no longer need it", e.name(), t.Old.Key())
	}
	return e.Commit(ctx, "rollback", e.Now)
}

func mayRollBack(ctx context.Context, e *Edit, force bool) error {
	refuse := func(format string, args ...any) error {
		return fault.New("rotate.RollBack", fault.Conflict, format, args...)
	}
	t := e.turn()
	switch {
	case t == nil:
		return refuse("no rotation of %s is in flight, and the key that %q replaced has been retired; rotate instead",
			e.name(), e.Rec.Current.Key())
	case t.Back != nil:
		return refuse("rotation %d of %s is already being rolled back (%s); wait until it has ended", t.N, e.name(),
			t.State)
	case t.State == Retiring:
		return refuse("rotation %d of %s is already retiring the old key; rotate once it has ended", t.N, e.name())
	case !t.mayBeRead():
		return nil
	case len(e.Sec.Previous) == 0 && !canPublishOld(ctx, e):
		return refuse("nothing was published before rotation %d of %s; there is nothing to go back to", t.N, e.name())
	case (t.Start.Leaked || t.Old.hasLeaked()) && !force:
		return refuse("the old key is known to have leaked; give force=true to publish it anyway")
	}
	return nil
}

// checkOldWorks refuses a rollback to a key that the provider refuses. Otherwise readers would get
// a dead key, and the working one would be retired. If the provider cannot say now whether the old
// key works, the rollback goes ahead.
func checkOldWorks(ctx context.Context, e *Edit, force bool) error {
	t := e.turn()
	old, known := e.Sec.Keys[t.Old.Key()]
	if force || !known || !t.mayBeRead() || e.kind.Style == InPlace || e.open(ctx) != nil || e.can.Proof == ProofNone {
		return nil
	}
	short, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	err := e.target.Verify(short, old)
	if e.Now = time.Now().UTC(); err == nil || OutcomeOf(err) != Rejected {
		return nil
	}
	return fault.New("rotate.RollBack", fault.Conflict, "the provider refuses the old key %q: somebody has deleted "+
		"or disabled it there; %s, or give force=true to publish it anyway", old.ID, adviceRotate(e))
}

// canPublishOld reports whether a rollback is possible although consumers read nothing before the
// rotation. A rollback is possible if there is an old credential that can be published again, or
// if consumers surely have not yet read anything that this rotation published.
func canPublishOld(ctx context.Context, e *Edit) bool {
	if e.open(ctx) != nil {
		return false
	}
	if e.target.Place() == nil { // readers get the old one from the record
		_, known := e.Sec.Keys[e.turn().Old.Key()]
		return known
	}
	if len(oldFields(e)) > 0 {
		return true
	}
	same, _, err := unchanged(ctx, e)
	return same && err == nil
}

// Pause stops the record in its present state, and commits that.
func (c Control) Pause(ctx context.Context, reason string) error {
	e := c.e
	if e.Rec.Paused != nil {
		return nil
	}
	e.Rec.Paused = &Pause{At: e.Now, Reason: reason}
	return e.Commit(ctx, "paused", e.Planned())
}

// Resume lets a paused record continue, and commits that. If the record was paused in the middle
// of a rotation to wait for a person, the step is retried at once, so that the caller learns
// whether the cause is gone.
func (c Control) Resume(ctx context.Context) error {
	e := c.e
	p := e.Rec.Paused
	if t := e.Rec.Turn; p == nil && t != nil && t.Back != nil && t.Back.Pause { // else the rollback ends in a pause
		t.Back.Pause, e.Rec.Alert = false, nil
		return e.Commit(ctx, "resumed", e.Planned())
	}
	if p == nil {
		return nil
	}
	e.Rec.Paused = nil
	if p.Auto {
		e.Rec.Retry = time.Time{}
		e.Rec.Reviewed()
		if q := e.Rec.Queued; q != nil {
			q.After = time.Time{}
		}
	}
	if err := e.Commit(ctx, "resumed", e.Planned()); err != nil || !p.Auto || e.Rec.Turn == nil {
		return err
	}
	if mayBegin(e) != nil || e.busy("rotate.Resume") != nil || inGrace(e) {
		return nil // the record is due, and continues when that has ended
	}
	if err := steps[e.kind.Style][e.Rec.State()](ctx, e); err != nil || e.Rec.Paused == nil {
		return err // after any other failure, the record is due
	}
	return fault.New("rotate.Resume", fault.Held, "it is paused again: %s", e.Rec.Paused.Reason)
}

// RetryCorrected retries at once what has failed, because the configuration was corrected.
// RetryCorrected ends a pause that waits for a person. The caller commits.
func (c Control) RetryCorrected() {
	e := c.e
	rec := e.Rec
	if rec.Paused != nil && rec.Paused.Auto {
		rec.Paused = nil
		rec.Reviewed()
	}
	switch {
	case rec.Turn != nil && rec.Turn.Tries > 0:
		rec.Turn.Tries, e.retryNow = 0, true
	case rec.Turn == nil && rec.Queued != nil:
		rec.Queued.After = time.Time{}
	case rec.Turn == nil && rec.Failures > 0:
		rec.Queued, rec.Retry = &Start{Reason: "retry"}, time.Time{}
	}
}

// Drive runs the steps of the rotation in flight at once, until done reports true, a step fails,
// or the record has to wait. Drive returns the error of the failed call, or nil if the record
// waits.
func (c Control) Drive(ctx context.Context, done func(r *Record) bool) error {
	e := c.e
	for e.Rec.Turn != nil && e.Rec.Paused == nil && !done(e.Rec) && !inGrace(e) {
		if err := e.busy("rotate.Drive"); err != nil {
			return err
		}
		e.auditErr = nil
		if err := steps[e.kind.Style][e.Rec.State()](ctx, e); err != nil {
			return err
		}
		if e.auditErr != nil {
			return e.auditErr
		}
		if e.Now = time.Now().UTC(); e.Rec.Turn != nil && e.Rec.Due.Sub(e.Now) >= time.Second {
			return nil
		}
	}
	return nil
}

// inGrace reports whether the users of the old credential still have time.
func inGrace(e *Edit) bool {
	t := e.turn()
	return t.State == Grace && !t.End.Now && time.Now().Before(t.End.After)
}

// DestructiveCall makes a destructive call of the engine's own. As in the steps of a rotation, a
// commit that asserts the record's version comes before the call. The call ends within two
// minutes.
func (c Control) DestructiveCall(ctx context.Context, what string, do func(ctx context.Context) error) error {
	failure, err := destructiveCall(ctx, c.e, what, callTimeout, do)
	if err != nil {
		return err
	}
	return failure
}

// RetireNow ends the grace period of the old credential now.
func (c Control) RetireNow() {
	e := c.e
	if t := e.turn(); t != nil && (t.State == Grace || t.State == Retiring) {
		t.End.Now = true
		t.End.After = earlier(t.End.After, e.Now)
	}
}

// RollBackUnpublished rolls back a rotation that has published nothing. The caller commits it, due
// now. byUser means that the rotation does not count as failed.
func (c Control) RollBackUnpublished(why string, byUser bool) {
	e := c.e
	e.turn().Back = &Back{At: e.Now, Reason: why, ByUser: byUser}
	e.moveTo(RollingBack)
}

// Disown makes the record forget its current credential without retiring it. An engine calls it
// when the configuration points elsewhere, where the credential's ID means nothing. Lists that
// still show the credential leave it alone. The caller commits. No rotation that has made a call
// may be in flight.
func (c Control) Disown() {
	rec := c.e.Rec
	if t := rec.Turn; t != nil {
		t.Old = nil
	}
	if rec.Current != nil {
		rec.Disowned = append(rec.Disowned, rec.Current.ID)
		rec.Disowned = rec.Disowned[max(len(rec.Disowned)-maxDisowned, 0):]
		rec.Current = nil
	}
}

// Supersede begins a rotation that counts as published: the current credential is the new one,
// and old, the credential before it, gets its grace period. The caller commits it, due when the
// grace period ends.
func (c Control) Supersede(why Start, old *Ref) {
	e := c.e
	e.start(why)
	t := e.turn()
	t.New, t.Old, t.Put = e.Rec.Current, old, Put{IntendedAt: e.Now, At: e.Now, Next: e.Rec.Next}
	t.enter(Grace, e.Now)
	planEnd(e, e.Now, false)
}

// Abandon ends the rotation in flight in its present state, and commits that. A person handles
// what the rotation left at the provider, as why says.
func (c Control) Abandon(ctx context.Context, why string) error {
	e := c.e
	if err := e.Unlock(ctx); err != nil {
		return err
	}
	t := e.turn()
	if !t.mayBeRead() && t.Back == nil {
		c.RollBackUnpublished(why, true)
	}
	if t.State != Retiring {
		e.moveTo(Retiring)
	}
	t.unproven(why)
	return finish(ctx, e)
}

// Retime applies a changed timing to the planned rotation and to a grace period in progress.
// Retime returns when the record is due, for the caller's commit. An overdue rotation stays
// overdue, unless the schedule itself changed.
func (c Control) Retime(was Timing) time.Time {
	e := c.e
	rec, now := e.Rec, e.timing()
	if now.When != was.When {
		same := was.When
		same.Window = now.When.Window
		if same != now.When || !rec.Next.Before(e.Now) || now.When.Missed(rec.Next, e.Now) {
			rec.Next = now.When.Next(rec.LastRotated, e.Now)
		}
		c.ResetFailures()
	}
	t := rec.Turn
	if t == nil || t.State != Grace || t.End.Now || now.Hold(false) == was.Hold(false) {
		return e.Planned()
	}
	end := t.End
	planEnd(e, t.Published(), false)
	t.End.Used, t.End.Revived = end.Used, end.Revived
	return later(t.End.After, e.Now)
}

// ResetFailures resets the count of failed rotations. The cause of the failures may be gone, so
// the next rotation is not delayed.
func (c Control) ResetFailures() {
	e := c.e
	e.Rec.Failures, e.Rec.Retry = 0, time.Time{}
	if e.Rec.Turn == nil {
		e.Rec.LastError = ""
		e.Rec.Reviewed()
	}
}

// DeleteWhenDone deletes the record once its rotation in flight has ended, and commits that. A
// credential that was not published is retired; a replaced one gets its grace period. The current
// credential stays.
func (c Control) DeleteWhenDone(ctx context.Context) error {
	e := c.e
	t := e.turn()
	if t == nil {
		return e.Delete(ctx)
	}
	if err := e.Unlock(ctx); err != nil {
		return err
	}
	e.Rec.Gone, e.Rec.Queued, e.Rec.Paused = true, nil, nil
	due := e.Rec.Due
	switch _, ours := e.Sec.Keys[t.Victim().Key()]; {
	case !t.mayBeRead() && t.Back == nil && (e.kind.Style == TwoKey || t.State != e.kind.Style.first()):
		c.RollBackUnpublished("its record was deleted", true)
		due = e.Now
	case t.mayBeRead() && t.Back == nil && t.Old != nil && t.Old.Adopted && !ours:
		t.Old = nil // it existed before the record, and continues to work
		due = e.Now
	}
	return e.Commit(ctx, "deleting", due)
}
