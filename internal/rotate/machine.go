package rotate

import (
	"context"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/keyturn/keyturn/internal/cron"
	"github.com/keyturn/keyturn/internal/fault"
)

// Work does one step of a record that fell due. kind is the kind of the due item.
func (m *Manager) Work(ctx context.Context, kind, name string) error {
	k := m.kinds[kind]
	if k == nil {
		return fault.New("rotate.Work", fault.Internal, "there is no work of kind %q for %q", kind, name)
	}
	release, err := m.lock(ctx, k, name)
	if err != nil {
		return err
	}
	defer release()
	e, err := m.load(ctx, k, name)
	if err != nil || e == nil {
		return err // a deleted record's item went with it
	}
	defer recoverExchanges(e)()
	e.working = true
	state := e.Rec.State()
	err = e.step(ctx)
	if err != nil && ctx.Err() == nil && !fault.Is(err, fault.Conflict) { // another server has made the step
		m.census.countFailed(state, classServer)
	}
	return err
}

// step does what is due, if anything is due.
func (e *Edit) step(ctx context.Context) error {
	if e.Rec.Due.IsZero() || e.Rec.Due.After(e.Now) {
		return nil // the item is stale
	}
	if e.m.cfg.ClockHeld != nil && e.m.cfg.ClockHeld() {
		return errClockHeld("rotate.Work")
	}
	if e.Rec.Gone && e.Rec.Turn == nil {
		return e.Delete(ctx)
	}
	looks := e.Rec.inDoubt() && !e.Rec.Look.At.After(e.Now)
	if e.Rec.Paused != nil && !looks {
		return e.Commit(ctx, "paused", e.Planned())
	}
	switch brake := e.limits.Brake; {
	case brake && onlyLooks(e): // the daily look waits for the next day
		endLooks(e)
		return e.Commit(ctx, braked, e.Planned())
	case brake:
		return e.Commit(ctx, braked, e.Now.Add(brakeWait/2+rand.N(brakeWait/2)))
	}
	if e.Rec.State() == Grace && e.Now.Before(e.turn().End.After) {
		return e.Commit(ctx, "waiting", e.turn().End.After)
	}
	if e.Rec.Paused != nil {
		return audited(ctx, e, look)
	}
	return audited(ctx, e, steps[e.kind.Style][e.Rec.State()])
}

// audited runs a step between the two lines of its audit entry. If the first line cannot be
// written, the step does not run.
func audited(ctx context.Context, e *Edit, do step) error {
	ran := false
	var stepErr error
	a := Action{Path: e.m.cfg.Mount() + e.kind.Path(requestName(e.kind, e.Rec)), Detail: e.kind.Details(e.Rec)}
	delete(a.Detail, "path") // it is that of the record here
	n, t := e.Rec.Number(), e.turn()
	if t == nil {
		n++ // the step that begins a rotation makes its first call, too
	}
	a.Detail["rotation"], a.Detail["step"] = strconv.FormatUint(uint64(n), 10), string(e.Rec.State())
	// Retiring a leaked credential only takes access away, so it does not wait for an audit
	// device.
	if s := e.Rec.State(); s == Grace || s == Retiring {
		a.OnlyRevokes = t.leaked()
	}
	err := e.m.cfg.Audited(ctx, a, func(ctx context.Context) error {
		ran = true
		if stepErr = do(ctx, e); stepErr != nil {
			return stepErr
		}
		return e.auditErr
	})
	switch {
	case !ran:
		return err
	case stepErr != nil:
		return stepErr
	case err != nil && e.auditErr == nil:
		return err // the second line must still be written
	}
	return nil
}

// begin starts the rotation that is due.
func begin(ctx context.Context, e *Edit) error {
	if at := e.Planned(); at.IsZero() || at.After(e.Now) {
		return e.Commit(ctx, "waiting", at) // it was due earlier before a change
	}
	if at := e.Rec.Look.At; e.Rec.Queued == nil && !at.IsZero() && !at.After(e.Now) {
		return look(ctx, e)
	}
	if e.kind.Ready != nil {
		why, err := e.kind.Ready(ctx, e.Rec)
		if err != nil {
			return err
		}
		if why != "" {
			e.alertPerson("%s", why)
			return e.Commit(ctx, "unbound", e.Now.Add(readyWait))
		}
	}
	why := Start{Reason: "schedule"}
	if e.Rec.Queued != nil {
		why = *e.Rec.Queued
	}
	switch when := e.timing().When; {
	case e.Rec.Queued != nil: // a request, or a leaked credential
	case when.Blackout.Has(e.Now):
		if e.Rec.Next = when.Allowed(e.Now); e.Rec.Next.IsZero() {
			e.alertPerson(
				"%s is due, but the black-out dates leave no time for years; remove some of them, or rotate "+
					"now", e.name())
			e.Rec.Next = e.Now.Add(24 * time.Hour)
		}
		e.addDetail("next_rotation", e.Rec.Next.UTC().Format(time.RFC3339))
		return e.Commit(ctx, "blackout", e.Planned())
	case when.Missed(e.Rec.Next, e.Now):
		return planAfterMissed(ctx, e, when)
	}
	e.start(why)
	if e.kind.Style == InPlace {
		return set(ctx, e)
	}
	return create(ctx, e) // the commit of its intent also says that the rotation has begun
}

// planAfterMissed plans the next rotation after one that missed its window.
func planAfterMissed(ctx context.Context, e *Edit, when cron.When) error {
	if e.Rec.Failures == 0 { // else the last error says why
		e.Rec.LastError = "the window of " + e.Rec.Next.UTC().Format(time.RFC3339) +
			" was missed: the server was not running, or its clock was held; the next rotation is in the next window"
	}
	e.alertPerson("%s was not rotated at %s: its window is over; it is rotated in the next window", e.name(),
		e.Rec.Next.UTC().Format(time.RFC3339))
	e.missed = e.Rec.Next
	e.Rec.Next, e.Rec.Retry, e.Rec.Failures = when.Next(e.Rec.LastRotated, e.Now), time.Time{}, 0
	return e.Commit(ctx, "missed", e.Rec.Next)
}

// steps are the functions for the states of each style.
var steps = map[Style]map[State]step{
	TwoKey: {
		Scheduled:   begin,
		Creating:    create,
		Settling:    settle,
		Verifying:   verify,
		Publishing:  publish,
		Grace:       wait,
		RollingBack: rollBack,
		Retiring:    retire,
	},
	InPlace: {
		Scheduled:   begin,
		Setting:     set,
		RollingBack: restore,
	},
	External: {Scheduled: remind},
}
