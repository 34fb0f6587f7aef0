package rotation

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
)

// creation is a run's part that makes keys and finds what lost calls made.
type creation struct{ *run }

// create makes the new key. What an earlier call may have left is looked for first.
func create(ctx context.Context, in *run) error {
	r := creation{in}
	if err := r.open(ctx); err != nil {
		return r.unopened(ctx, err)
	}
	t, can := r.turn(), r.def.Can
	a := t.last()
	again := a != nil && a.open() && can.Retry == RetrySafe
	if !again {
		if done, err := r.sweep(ctx, false); !done || err != nil {
			return err
		}
	}
	if !again {
		if len(t.Attempts) >= 2*maxTries {
			return r.giveUp(ctx, "creating failed %d times", len(t.Attempts))
		}
		t.Attempts = append(t.Attempts, attempt{N: uint16(len(t.Attempts) + 1)})
		a = t.last()
	}
	was := *a
	m := Marker{Installation: installation(r.m.Host.Installation), Key: r.rec.Tag, Turn: t.N, Attempt: a.N}
	a.Marker, a.At, a.Outcome = m.String(), r.now, ""
	a.Deadline = r.now.Add(max(can.Timeout, time.Second))
	a.Late = a.Deadline.Add(can.Late)
	if can.List && !can.Label {
		before, err := r.ids(ctx)
		if err != nil {
			*a = was
			if !again {
				t.Attempts = t.Attempts[:len(t.Attempts)-1]
			}
			return r.stumble(ctx, err)
		}
		if !again { // else the first call's key may be among them
			a.Before = before
		}
	}
	r.say("marker", a.Marker)
	if err := r.commit(ctx, "creating", a.Deadline); err != nil {
		return err
	}
	r.now = time.Now().UTC()
	if r.now.After(a.At.Add(can.Timeout / 2)) {
		a.Outcome = Transient.String() // no call was made: its deadline would not have held
		return r.stumble(ctx, errSlow)
	}
	callCtx, cancel := context.WithDeadline(ctx, a.Deadline)
	defer cancel()
	made, err := r.src.Create(callCtx, Order{Marker: m, Current: t.Old.id()})
	r.now = time.Now().UTC()
	if err != nil {
		return r.notCreated(ctx, err)
	}
	return r.created(ctx, made)
}

var errSlow = &Failure{Outcome: Transient, Err: fault.New("rotation.create", fault.Unavailable, "the storage was too slow to record the attempt")}

// created keeps the new key, sealed as pending.
func (r creation) created(ctx context.Context, made Credential) error {
	t := r.turn()
	a := t.last()
	a.Outcome = "created"
	if why := r.stale(made.ID, made.Secret); why != "" {
		return r.ask(ctx, why)
	}
	t.New = &held{ID: made.ID, At: r.now, Expires: made.Expires}
	t.Until = r.now.Add(r.settle().Timeout)
	r.sec.Keys[made.ID] = made
	for _, v := range made.Secret {
		r.redactor.Know(v)
	}
	r.say("key_id", made.ID)
	r.to(Settling)
	return r.commitKept(ctx, "created", r.now)
}

// stale says why what a creating call answered is no new key: it is the one in use, or was there
// before. To go on would retire a key that somebody uses.
func (r creation) stale(id string, fresh map[string]secret.Value) string {
	t := r.turn()
	if id == t.Old.id() || id == r.rec.Current.id() {
		return fmt.Sprintf("the provider answered with the current key %s instead of a new one, and may have changed its secret", id)
	}
	if slices.Contains(t.last().Before, id) {
		return fmt.Sprintf("the provider answered with the key %s, which was there before the call", id)
	}
	old := r.sec.Keys[t.Old.id()].Secret
	if len(fresh) > 0 && len(old) > 0 && maps.EqualFunc(fresh, old, secret.Value.Equal) {
		return fmt.Sprintf("the provider answered with the secret of the current key %s under another id, %s", t.Old.id(), id)
	}
	return ""
}

// notCreated records what is known of a creating call that failed.
func (r creation) notCreated(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err() // the attempt stays open
	}
	t := r.turn()
	a := t.last()
	a.Outcome = OutcomeOf(err).String()
	if f, ok := errors.AsType[*Failure](err); ok && f.ID != "" {
		if why := r.stale(f.ID, nil); why != "" {
			r.note(err)
			a.Outcome = Permanent.String() // nothing of it is to be looked for, and surely not retired
			return r.ask(ctx, why)
		}
		a.IDs = append(a.IDs, f.ID)
	}
	if a.open() && len(a.IDs) == 0 && !r.recoverable() {
		r.note(err)
		return r.ask(ctx, "the outcome of the creating call is not known, and a second one may do harm")
	}
	return r.stumble(ctx, err)
}

// recoverable reports whether the engine itself can make good a creating call
// of unknown outcome.
func (r creation) recoverable() bool {
	can := r.def.Can
	return can.Retry == RetrySafe || can.Retry == RetryAdopt && can.List
}

// ask stops the turn and then the key, until a person has looked. What can be found
// to be ours is still cleared away; nothing else is touched.
func (r creation) ask(ctx context.Context, why string) error {
	t := r.turn()
	var markers []string
	for i := range t.Attempts {
		if t.Attempts[i].open() {
			markers = append(markers, t.Attempts[i].Marker)
		}
	}
	t.unproven("a creating call of unknown outcome may have left a key at the provider")
	t.Back = &back{At: r.now, Reason: why, Ask: true}
	r.alarm("key %q: %s; look at the provider for a key that belongs to %q, remove it, then resume", r.rec.Name, why, markers)
	r.rec.Queued = nil
	r.to(RollingBack)
	return r.commit(ctx, "asks", r.now)
}

// ids lists all ids that the provider shows.
func (r *run) ids(ctx context.Context) (out []string, err error) {
	var all []Listed
	err = call(ctx, func(ctx context.Context) error {
		all, err = r.src.List(ctx)
		return err
	})
	for _, l := range all {
		out = append(out, l.ID)
	}
	if len(out) > maxBefore {
		return nil, &Failure{Outcome: Permanent, Err: fault.New("rotation.ids", fault.TooLarge, "the provider lists %d keys without labels, more than can be told apart; delete at the provider those that nobody uses", len(out))}
	}
	return out, err
}

// sweep deals with what creating calls of this turn left behind: it finds it by
// marker, records it as ours, and retires it. It reports whether the caller may
// go on; if not, it has committed. final: no call's late effect may come any more.
func (r creation) sweep(ctx context.Context, final bool) (done bool, err error) {
	t := r.turn()
	for i := range t.Attempts {
		a := &t.Attempts[i]
		if len(a.IDs) > 0 && !a.Swept {
			return false, r.sweepOne(ctx, a)
		}
	}
	var open []*attempt
	for i := range t.Attempts {
		if t.Attempts[i].open() {
			open = append(open, &t.Attempts[i])
		}
	}
	can := r.def.Can
	switch {
	case len(open) == 0:
		return true, nil
	case final && !can.List:
		t.unproven("the provider has no list: a lost creating call may have left a key")
		settled(open)
		return true, nil
	case !final && !r.recoverable():
		return false, r.ask(ctx, "the outcome of a creating call is not known, and a second one may do harm")
	}
	late := latest(open)
	if (final || !can.Label) && r.now.Before(late) {
		return false, r.commit(ctx, "late", late)
	}
	sure, err := r.leftovers(ctx, open)
	if err != nil {
		return false, r.stumble(ctx, err)
	}
	if !sure {
		settled(open)
		why := "keys appeared at the provider, and it has no labels to tell whether one is ours"
		if final {
			t.unproven(why)
			r.alarm("key %q: %s", r.rec.Name, why)
			return true, nil
		}
		return false, r.ask(ctx, why)
	}
	for i := range t.Attempts {
		if a := &t.Attempts[i]; len(a.IDs) > 0 && !a.Swept {
			r.say("key_id", a.IDs[len(a.IDs)-1])
			return false, r.commit(ctx, "leftover", r.now)
		}
	}
	if !r.now.Before(late) {
		settled(open)
	}
	return true, nil
}

func settled(open []*attempt) {
	for _, a := range open {
		a.Settled = true
	}
}

func latest(open []*attempt) (t time.Time) {
	for _, a := range open {
		if a.Late.After(t) {
			t = a.Late
		}
	}
	return t
}

// leftovers lists the provider's keys and adds to the attempts the ids that are
// theirs. It is not sure where it cannot tell whether some are.
func (r creation) leftovers(ctx context.Context, open []*attempt) (sure bool, err error) {
	t := r.turn()
	var all []Listed
	err = call(ctx, func(ctx context.Context) error {
		all, err = r.src.List(ctx)
		return err
	})
	r.now = time.Now().UTC()
	if err != nil {
		return false, err
	}
	if r.def.Can.Label {
		for _, l := range all {
			if l.Marker.IsZero() || l.ID == t.New.id() || l.ID == t.Old.id() {
				continue
			}
			if a := t.attempt(l.Marker.String()); a != nil && !slices.Contains(a.IDs, l.ID) {
				a.left(l.ID)
			}
		}
		return true, nil
	}
	a := open[len(open)-1]
	var fresh []Listed
	for _, l := range all {
		if !slices.Contains(a.Before, l.ID) && l.ID != t.New.id() {
			fresh = append(fresh, l)
		}
	}
	if len(fresh) == 1 && len(open) == 1 && inWindow(fresh[0].Created, a) {
		a.left(fresh[0].ID)
		return true, nil
	}
	return len(fresh) == 0, nil
}

// inWindow reports whether a key can be an attempt's by its time of creation, if
// the provider tells one. Clocks may differ by five minutes.
func inWindow(created time.Time, a *attempt) bool {
	const skew = 5 * time.Minute
	return created.IsZero() || created.After(a.At.Add(-skew)) && created.Before(a.Late.Add(skew))
}

// sweepOne retires what an attempt left.
func (r creation) sweepOne(ctx context.Context, a *attempt) error {
	for _, id := range a.IDs {
		if id == r.rec.Current.id() {
			continue // whoever says what: the key in use is never swept
		}
		if err := call(ctx, func(ctx context.Context) error { return r.src.Retire(ctx, id) }); err != nil {
			return r.stumble(ctx, err)
		}
	}
	r.now = time.Now().UTC()
	a.Swept = true
	r.turn().Tries = 0
	r.say("key_id", fmt.Sprint(a.IDs))
	return r.commit(ctx, "swept", r.now)
}

// unopened deals with a provider that cannot even be asked: the binding or its
// credentials are wrong, or our own store does not answer.
func (r *run) unopened(ctx context.Context, err error) error {
	switch fault.KindOf(err) {
	case fault.Invalid, fault.Held, fault.NotFound, fault.Unsupported, fault.Denied:
		return r.stumble(ctx, &Failure{Outcome: Permanent, Err: err})
	}
	return err
}
