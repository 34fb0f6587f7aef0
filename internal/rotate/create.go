package rotate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/cron"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
)

// create creates the new credential, after a search for keys that earlier calls may have left.
func create(ctx context.Context, e *Edit) error {
	if err := e.open(ctx); err != nil {
		return openFailed(ctx, e, err)
	}
	t, can := e.turn(), e.can
	if can.CreatedByHand {
		return awaitCredential(ctx, e)
	}
	if can.Slots && e.Rec.alerts().place != nil && !t.Start.Leaked && t.last() == nil {
		// readers may use the slot that would be regenerated
		return e.Commit(ctx, "held", e.Now.Add(personWait))
	}
	if free := e.Rec.SlotsFree; can.Slots && free.After(e.Now) && !t.Start.Leaked {
		return e.Commit(ctx, "late", free)
	}
	a := t.last()
	again := a != nil && a.unresolved() && can.Retry == RetrySafe
	if !again {
		if done, err := sweep(ctx, e, false); !done || err != nil {
			return err
		}
	}
	for i := range t.Attempts {
		if !t.Attempts[i].unresolved() {
			t.Attempts[i].Before = nil // the search is over, and the size of a record is limited
		}
	}
	if !again {
		if len(t.Attempts) >= 2*maxTries {
			return giveUp(ctx, e, "creating failed %d times", len(t.Attempts))
		}
		t.Attempts = append(t.Attempts, Attempt{N: uint16(len(t.Attempts) + 1)})
		a = t.last()
	}
	if can.List && !can.Label {
		before, err := listIDs(ctx, e)
		if err != nil {
			if !again {
				t.Attempts = t.Attempts[:len(t.Attempts)-1]
			}
			return e.retry(ctx, err)
		}
		if !again { // else the first call's key may be among them
			a.Before = before
		}
	}
	m := Marker{Installation: installation(e.m.cfg.Installation), Key: e.Rec.Tag, Turn: t.N, Attempt: a.N}
	a.Marker, a.At, a.Outcome = m.String(), e.Now, ""
	a.Deadline = e.Now.Add(max(can.Timeout, time.Second))
	a.Late = a.Deadline.Add(can.Late)
	e.addDetail("marker", a.Marker)
	if err := e.Commit(ctx, "creating", a.Deadline); err != nil {
		return err
	}
	e.Now = time.Now().UTC()
	if cron.Passed(a.At.Add(can.Timeout/2), e.Now) {
		a.Outcome = Transient.String() // no call was made: its deadline would not have held
		if again {
			a.Outcome = Unknown.String()
		}
		return e.retry(ctx, errSlow)
	}
	callCtx, cancel := cron.WithDeadline(ctx, a.Deadline)
	defer cancel()
	made, err := e.target.(Creator).Create(callCtx, Order{Marker: m, Current: t.Old.Key()})
	e.Now = time.Now().UTC()
	if err != nil {
		return createFailed(ctx, e, again, err)
	}
	return created(ctx, e, made)
}

var errSlow = &Failure{Outcome: Transient,
	Err: fault.New("rotate.create", fault.Unavailable, "the storage was too slow to record the attempt")}

// created stores the new key, sealed as pending.
func created(ctx context.Context, e *Edit, made Credential) error {
	t := e.turn()
	a := t.last()
	a.Outcome = "created"
	if why := notNew(e, made.ID, made.Secret); why != "" {
		return stopForPerson(ctx, e, why)
	}
	t.New = &Ref{ID: made.ID, Account: made.Account, At: e.Now, Expires: made.Expires}
	t.Until = e.Now.Add(e.target.Settle().Timeout)
	e.Sec.Keys[made.ID] = made
	for _, v := range made.Secret {
		e.Redactor.Know(v)
	}
	e.addDetail("key_id", made.ID)
	if e.target.Settle().Successes == 0 {
		e.moveTo(Verifying)
	} else {
		e.moveTo(Settling)
	}
	return commitKept(ctx, e, "created", e.Now)
}

// notNew says why the answer of a creating call is not a new key: the key is the one in use, or
// existed before the call. Otherwise the rotation would retire a key that somebody uses.
func notNew(e *Edit, id string, fresh map[string]secret.Value) string {
	t := e.turn()
	if id == t.Old.Key() || id == e.Rec.Current.Key() {
		return fmt.Sprintf(
			"the provider answered with the current key %s instead of a new one, and may have changed its secret", id)
	}
	if slices.Contains(t.last().Before, id) {
		return fmt.Sprintf("the provider answered with the key %s, which existed before the call", id)
	}
	old := e.Sec.Keys[t.Old.Key()].Secret
	if len(fresh) > 0 && len(old) > 0 && maps.EqualFunc(fresh, old, secret.Value.Equal) {
		return fmt.Sprintf("the provider answered with the secret of the current key %s under another id, %s",
			t.Old.Key(), id)
	}
	return ""
}

// createFailed records the outcome of a failed creating call. again means that the call repeated
// an earlier one with the same marker. The earlier call may have created the key, whatever is
// known about this one.
func createFailed(ctx context.Context, e *Edit, again bool, err error) error {
	if ctx.Err() != nil {
		return ctx.Err() // the attempt stays open
	}
	t := e.turn()
	a := t.last()
	a.Outcome = OutcomeOf(err).String()
	if f, ok := errors.AsType[*Failure](err); ok && f.ID != "" {
		if why := notNew(e, f.ID, nil); why != "" {
			e.recordError(err)
			a.Outcome = Permanent.String() // nothing of it is to be looked for, and surely not retired
			return stopForPerson(ctx, e, why)
		}
		a.IDs = append(a.IDs, f.ID)
	} else if again {
		a.Outcome = Unknown.String()
	}
	switch f, _ := errors.AsType[*Failure](err); {
	case a.unresolved() && len(a.IDs) == 0 && !recoverable(e):
		e.recordError(err)
		return stopForPerson(ctx, e, "the outcome of the creating call is unknown, and a second call may do harm")
	case f != nil && f.Repeats:
		e.recordError(err)
		return stopForPerson(ctx, e, "a key was created, and the next one would fail the same way: "+e.Rec.LastError)
	case f != nil && f.Outcome == Permanent && e.kind.Resumable:
		e.recordError(err)
		t.Back = &Back{At: e.Now, Reason: e.Rec.LastError, Pause: true}
		e.alertPerson("rotation %d of %s failed: %s; the old key stays current; correct the cause, then resume", t.N,
			e.name(), e.Rec.LastError)
		e.moveTo(RollingBack)
		return e.Commit(ctx, "asks", e.Now)
	}
	return e.retry(ctx, err)
}

// recoverable reports whether the engine can recover from a creating call of unknown outcome
// without a person.
func recoverable(e *Edit) bool {
	can := e.can
	return can.Retry == RetrySafe || can.Retry == RetryReplace || can.Retry == RetryAdopt && can.List
}

// stopForPerson rolls the rotation back. The record is then paused until a person has looked, if
// its kind is resumable. Keys that are provably ours are still retired; nothing else is touched.
func stopForPerson(ctx context.Context, e *Edit, why string) error {
	t := e.turn()
	var markers []string
	for i := range t.Attempts {
		if t.Attempts[i].unresolved() {
			markers = append(markers, t.Attempts[i].Marker)
		}
	}
	t.Back = &Back{At: e.Now, Reason: why, Pause: true}
	if a := t.last(); a != nil && len(a.IDs) > 0 { // the key is known, and is retired without a person
		e.alertPerson("%s: %s; the key %s, which the call left behind, is retired; correct the cause, then resume",
			e.name(), why, strings.Join(a.IDs, ", "))
	} else {
		t.unproven("a creating call of unknown outcome may have left a key at the provider")
		e.alertPerson("%s: %s; look at the provider for a key of the call %q, delete it, then resume", e.name(),
			why, markers)
	}
	e.Rec.Queued = nil
	e.moveTo(RollingBack)
	return e.Commit(ctx, "asks", e.Now)
}

// sweep handles keys that creating calls of this rotation left behind: it finds a key by its
// marker, records it as ours, and retires it. If done is false, sweep has committed or returns an
// error. final means that sweep runs at the end of the rotation, which waits until no call can
// take effect late.
func sweep(ctx context.Context, e *Edit, final bool) (done bool, err error) {
	t := e.turn()
	for i := range t.Attempts {
		a := &t.Attempts[i]
		if len(a.IDs) > 0 && !a.Swept {
			return false, sweepOne(ctx, e, a)
		}
	}
	var open []*Attempt
	for i := range t.Attempts {
		if t.Attempts[i].unresolved() {
			open = append(open, &t.Attempts[i])
		}
	}
	can := e.can
	switch {
	case len(open) == 0:
		return true, nil
	case can.Retry == RetryReplace:
		return outlast(ctx, e, open, final)
	case final && !can.List:
		t.unproven("the provider has no list, so a lost creating call may have left a key behind")
		settleAll(open)
		return true, nil
	case !final && !recoverable(e):
		return false, stopForPerson(ctx, e, "the outcome of a creating call is unknown, and a second call may do harm")
	}
	late := latestLate(open)
	switch early := e.Now.Before(late); {
	case early && !can.Label && !final && t.Start.Leaked:
		return true, nil // a leaked credential waits for no lost call, whose key is looked for at the end
	case early && !can.Label && !final, early && final && allLooked(open):
		return false, e.Commit(ctx, "late", late)
	}
	unsure, err := leftovers(ctx, e, open)
	if err != nil {
		return false, e.retry(ctx, err)
	}
	if len(unsure) > 0 {
		settleAll(open)
		why := fmt.Sprintf("keys appeared at the provider, %q, and it has no labels to tell whether one is ours",
			unsure)
		if final {
			t.unproven(why)
			e.alertPerson("%s: %s", e.name(), why)
			return true, nil
		}
		return false, stopForPerson(ctx, e, why)
	}
	for i := range t.Attempts {
		if a := &t.Attempts[i]; len(a.IDs) > 0 && !a.Swept {
			e.addDetail("key_id", a.IDs[len(a.IDs)-1])
			return false, e.Commit(ctx, "leftover", e.Now)
		}
	}
	switch {
	case !e.Now.Before(late):
		settleAll(open)
	case final: // once more when no effect can come any more
		for _, a := range open {
			a.Looked = true
		}
		return false, e.Commit(ctx, "late", late)
	}
	return true, nil
}

// outlast waits until calls whose effect the next call replaces can no longer take effect. The
// replacement of a leaked credential waits for them only at its end.
func outlast(ctx context.Context, e *Edit, open []*Attempt, final bool) (done bool, err error) {
	switch late := latestLate(open); {
	case !e.Now.Before(late):
		settleAll(open)
	case final || !e.turn().Start.Leaked:
		return false, e.Commit(ctx, "late", late)
	}
	return true, nil
}

// allLooked reports whether the calls' leftovers were already looked for once at the end of the
// rotation.
func allLooked(open []*Attempt) bool {
	return !slices.ContainsFunc(open, func(a *Attempt) bool { return !a.Looked })
}

func settleAll(open []*Attempt) {
	for _, a := range open {
		a.Settled = true
	}
}

func latestLate(open []*Attempt) (t time.Time) {
	for _, a := range open {
		if a.Late.After(t) {
			t = a.Late
		}
	}
	return t
}

// leftovers lists the provider's keys and adds the IDs of an attempt's keys to that attempt.
// leftovers returns the keys that it cannot attribute.
func leftovers(ctx context.Context, e *Edit, open []*Attempt) (unsure []string, err error) {
	t := e.turn()
	all, err := list(ctx, e)
	if err != nil {
		return nil, err
	}
	if e.can.Label {
		for _, l := range all {
			if l.Marker.IsZero() || l.ID == t.New.Key() || l.ID == t.Old.Key() {
				continue
			}
			if a := t.attempt(l.Marker.String()); a != nil && !slices.Contains(a.IDs, l.ID) {
				a.addLeftover(l.ID)
			}
		}
		return nil, nil
	}
	a := open[0] // what a later call saw before it may be this one's
	fresh, err := lostCandidates(ctx, e, a, all)
	if err != nil {
		return nil, err
	}
	if len(fresh) == 1 && len(open) == 1 && inWindow(fresh[0].Created, a) {
		a.addLeftover(fresh[0].ID)
		return nil, nil
	}
	for _, l := range fresh {
		unsure = append(unsure, l.ID)
	}
	return unsure, nil
}

// lostCandidates returns the credentials that did not exist before a call and that the call may
// have created. A credential that was used belongs to somebody else, because nobody knows the
// secret of a lost one.
func lostCandidates(ctx context.Context, e *Edit, a *Attempt, all []Listed) (fresh []Listed, err error) {
	known := append(slices.Clone(a.Before), e.turn().New.Key(), e.turn().Old.Key(), e.Rec.Current.Key())
	for i := range e.turn().Attempts {
		known = append(known, e.turn().Attempts[i].IDs...) // a list may show for a while what is retired
	}
	for _, l := range all {
		if slices.Contains(known, l.ID) {
			continue
		}
		used := l.LastUsed
		if used.IsZero() && e.can.LastUsed {
			if used, err = lastUsed(ctx, e, l.ID); err != nil {
				return nil, err
			}
		}
		if used.IsZero() {
			fresh = append(fresh, l)
		}
	}
	return fresh, nil
}

// inWindow reports whether a key's creation time, if the provider reports one, fits an attempt.
// The provider's clock may differ from this server's by a minute. This server's own clock is held
// when it jumps by more than that (docs/security-model.md). A wider window would take somebody
// else's key for ours.
func inWindow(created time.Time, a *Attempt) bool {
	const skew = time.Minute
	return created.IsZero() || created.After(a.At.Add(-skew)) && created.Before(a.Late.Add(skew))
}

// sweepOne retires the keys that an attempt left.
func sweepOne(ctx context.Context, e *Edit, a *Attempt) error {
	for _, id := range a.IDs {
		if id == e.Rec.Current.Key() {
			continue // the key in use is never swept
		}
		failure, err := destructiveCall(ctx, e, "sweeping", callTimeout,
			func(ctx context.Context) error { return e.target.(Creator).Retire(ctx, id) })
		switch {
		case err != nil:
			return err
		case failure != nil:
			return e.retry(ctx, failure)
		}
	}
	a.Swept = true
	callSucceeded(e)
	e.addDetail("key_id", fmt.Sprint(a.IDs))
	return e.Commit(ctx, "swept", e.Now)
}
