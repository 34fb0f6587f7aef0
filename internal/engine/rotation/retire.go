package rotation

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/engine/rotation/schedule"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/storage"
)

// disableWait is how long a disabled key waits to be retired: who still uses it
// fails now, while it could be enabled again.
const disableWait = 10 * time.Minute

// retirement is a run's part that ends keys, and turns.
type retirement struct{ *run }

// wait is grace: every reader had time. Now the provider may say that the old
// key is used nevertheless.
func wait(ctx context.Context, in *run) error {
	r := retirement{in}
	t := r.turn()
	victim := t.victim()
	if victim == nil || t.End.Now {
		return r.endGrace(ctx)
	}
	if err := r.open(ctx); err != nil {
		return r.unopened(ctx, err)
	}
	if !r.def.Can.LastUsed {
		return r.endGrace(ctx)
	}
	var used time.Time
	err := call(ctx, func(ctx context.Context) (err error) {
		used, err = r.src.LastUsed(ctx, victim.ID)
		return err
	})
	r.now = time.Now().UTC()
	if err != nil {
		if OutcomeOf(err) == Permanent && r.gone(ctx, victim.ID) {
			return r.endGrace(ctx)
		}
		return r.stumble(ctx, err)
	}
	idle := r.policy().Idle
	if used.After(r.now) {
		used = r.now // its clock is ahead, or it says what cannot be
	}
	if !used.Add(idle).After(r.now) {
		return r.endGrace(ctx)
	}
	r.say("last_used", used.UTC().Format(time.RFC3339))
	again := schedule.Later(earlier(used.Add(idle), t.End.Hold), r.now.Add(time.Minute))
	if !r.now.Before(t.End.Hold) {
		r.alarm("key %q: the old key %s is still used %s after its grace; find who uses it, or rotate with leaked=true", r.rec.Name, victim.ID, r.now.Sub(t.End.After).Round(time.Minute))
		again = r.now.Add(max(idle, time.Minute))
	}
	return r.commit(ctx, "in-use", again)
}

// gone asks whether the provider does not know a key any more.
func (r retirement) gone(ctx context.Context, id string) bool {
	if !r.def.Can.List {
		return false
	}
	ids, err := r.ids(ctx)
	return err == nil && !slices.Contains(ids, id)
}

func (r retirement) endGrace(ctx context.Context) error {
	r.to(Retiring)
	if v := r.turn().victim(); v != nil {
		r.say("key_id", v.ID)
	}
	return r.commit(ctx, "retiring", r.now)
}

// retire ends the key that is left behind – disable, wait, delete, prove – and then the turn.
func retire(ctx context.Context, in *run) error {
	r := retirement{in}
	t := r.turn()
	if t.victim() == nil && !t.touched() {
		if err := r.unlock(ctx); err != nil {
			return err
		}
		return r.finish(ctx) // the provider has nothing of this turn
	}
	if err := r.open(ctx); err != nil {
		return r.unopened(ctx, err)
	}
	e := &t.End
	switch {
	case t.victim() == nil:
		return r.account(ctx)
	case e.Disabled.IsZero() && e.Retired.IsZero() && r.def.Can.Disable && !e.Now:
		return r.undo(ctx, r.src.Disable, &e.Disabled, "disabled", r.disableWait())
	case e.Retired.IsZero() && !e.Disabled.IsZero() && r.now.Before(e.Disabled.Add(r.disableWait())):
		return r.commit(ctx, "waiting", e.Disabled.Add(r.disableWait()))
	case e.Retired.IsZero():
		return r.undo(ctx, r.src.Retire, &e.Retired, "retired", 0)
	case e.Dead.IsZero():
		return r.bury(ctx)
	}
	return r.account(ctx)
}

// touched reports whether a call of the turn may have had an effect.
func (t *turn) touched() bool {
	return t.New != nil || slices.ContainsFunc(t.Attempts, func(a attempt) bool { return a.open() || len(a.IDs) > 0 })
}

// disableWait is none for a key that nobody may use.
func (r retirement) disableWait() time.Duration {
	if r.turn().End.Now {
		return 0
	}
	return min(disableWait, r.policy().Grace)
}

// undo makes a call that takes the victim away. It is repeatable; entering
// Retiring was its intent.
func (r retirement) undo(ctx context.Context, do func(context.Context, string) error, done *time.Time, what string, then time.Duration) error {
	id := r.turn().victim().ID
	if id == r.rec.Current.id() {
		return r.stumble(ctx, &Failure{Outcome: Permanent, Err: fault.New("rotation.retire", fault.Internal, "the key %s is the current one and is not retired; look at its history, and report it", id)})
	}
	err := call(ctx, func(ctx context.Context) error { return do(ctx, id) })
	if err != nil {
		return r.stumble(ctx, err)
	}
	r.now = time.Now().UTC()
	*done = r.now
	r.turn().Tries = 0
	r.say("key_id", id)
	return r.commit(ctx, what, r.now.Add(then))
}

// bury proves that the retired key is refused.
func (r retirement) bury(ctx context.Context) error {
	t := r.turn()
	e := &t.End
	cred, known := r.sec.Keys[t.victim().ID]
	if known && len(cred.Secret) > 0 && r.def.Can.Proof != ProofNone {
		err := call(ctx, func(ctx context.Context) error { return r.src.VerifyDead(ctx, cred) })
		r.now = time.Now().UTC()
		if err != nil {
			return r.stumble(ctx, err)
		}
		e.Proof = "refused"
		if r.def.Can.Proof == ProofManagement {
			e.Proof = "management"
			t.unproven("the retired key's death was told by a management call only")
		}
	} else {
		e.Proof = "none"
		t.unproven("the retired key's death was not proven by using it")
	}
	e.Dead, t.Tries = r.now, 0
	r.say("proof", e.Proof)
	return r.commit(ctx, "dead", r.now)
}

// account closes the turn's books: no late effect is still to come, and a list
// taken now shows exactly the keys that should be there.
func (r retirement) account(ctx context.Context) error {
	if done, err := creation(r).sweep(ctx, true); !done || err != nil {
		return err
	}
	t := r.turn()
	if !r.def.Can.List {
		t.unproven("the provider has no list: that nothing else is left is not proven")
		return r.finish(ctx)
	}
	var all []Listed
	err := call(ctx, func(ctx context.Context) (err error) {
		all, err = r.src.List(ctx)
		return err
	})
	r.now = time.Now().UTC()
	if err != nil {
		return r.stumble(ctx, err)
	}
	wrong, err := r.compare(ctx, all)
	if err != nil {
		return err
	}
	if len(wrong) > 0 {
		t.Tries++
		text := strings.Join(wrong, "; ")
		r.say("error", text)
		r.rec.LastError = text
		if t.Tries >= maxTries {
			r.alarm("key %q: the provider's list is not as it should be: %s", r.rec.Name, text)
		}
		return r.commit(ctx, "unaccounted", r.now.Add(schedule.Backoff(t.Tries, time.Hour)))
	}
	t.End.Listed = r.now
	if t.End.Proof == "none" {
		t.End.Proof = "not listed"
	}
	return r.finish(ctx)
}

// compare says how a list differs from what should be there. A key that an
// attempt on record made is noted as that attempt's, for sweep to retire. One with
// our label and no such record is left alone: a person must say what it is.
func (r retirement) compare(ctx context.Context, all []Listed) (wrong []string, err error) {
	t := r.turn()
	live := t.live().id()
	there := live == ""
	inst := installation(r.m.Host.Installation)
	for _, l := range all {
		switch {
		case l.ID == live:
			there = true
		case l.ID == t.victim().id():
			wrong = append(wrong, fmt.Sprintf("the retired key %s is still listed", l.ID))
			t.End.Retired, t.End.Dead = time.Time{}, time.Time{} // once more
		case l.Marker.Installation == inst && l.Marker.Key == r.rec.Tag:
			wrong = append(wrong, fmt.Sprintf("key %s with our label %q should not be there", l.ID, l.Label))
			a, err := r.onRecord(ctx, l.Marker)
			if err != nil {
				return nil, err
			}
			if a != nil {
				a.left(l.ID)
			}
		}
	}
	if !there {
		wrong = append(wrong, fmt.Sprintf("the current key %s is not listed", live))
	}
	return wrong, nil
}

// onRecord finds the attempt with a marker: one of this turn, or a copy of one of
// an earlier turn, whose key came later than the provider had said; nil if there is none.
func (r retirement) onRecord(ctx context.Context, m Marker) (*attempt, error) {
	t := r.turn()
	if a := t.attempt(m.String()); a != nil || m.Turn >= t.N {
		return a, nil
	}
	e, err := r.m.Store.Get(ctx, historyKey(r.rec.Name, m.Turn))
	if err != nil || e.Version == 0 {
		return nil, err
	}
	var past turn
	if err := decode(e, &past); err != nil {
		return nil, err
	}
	a := past.attempt(m.String())
	if a == nil {
		return nil, nil
	}
	t.Attempts = append(t.Attempts, attempt{N: a.N, Marker: a.Marker, At: a.At, Outcome: a.Outcome, Settled: true})
	return t.last(), nil
}

// finish ends the turn and plans the next.
func (r retirement) finish(ctx context.Context) error {
	rec, t := r.rec, r.turn()
	result := Done
	rec.Retry = time.Time{}
	due := rec.Next
	switch {
	case t.Back == nil:
		rec.Failures, rec.Alert, rec.LastError = 0, nil, ""
		rec.Unproven = t.Unproven
	case t.Back.ByUser:
		result = RolledBack
		if t.Put.Asked.IsZero() { // it never published: plan as if it had
			rec.Next = r.now.Add(r.policy().Period)
		}
		due = rec.Next
	default:
		result = Failed
		rec.Failures++
		rec.Retry = r.now.Add(schedule.Retry(rec.Failures))
		due = schedule.Later(rec.Next, rec.Retry)
		if t.Back.Ask {
			rec.Paused = &pause{At: r.now, Reason: t.Back.Reason, Auto: true}
		}
	}
	if rec.Queued != nil {
		due = r.now
	}
	if rec.Paused != nil {
		due = time.Time{}
	}
	t.Ended = r.now
	r.to(result)
	r.forget()
	row, err := encode(t)
	if err != nil {
		return err
	}
	trim, err := r.trim(ctx)
	if err != nil {
		return err
	}
	r.say("result", string(result))
	r.more = append(trim, storage.Set(historyKey(rec.Name, t.N), row))
	rec.Turn = nil
	if !due.IsZero() {
		due = schedule.Later(due, r.now)
	}
	return r.commit(ctx, string(result), due)
}

// How much history is kept of a key.
const (
	maxTurns   = 100
	maxJournal = 2000
)

func historyKey(name string, n uint32) string {
	return fmt.Sprintf("%s%s/%010d", historyPrefix, name, n)
}

// trim removes the oldest turns and journal rows, some at a time.
func (r retirement) trim(ctx context.Context) (ops []storage.Op, err error) {
	for prefix, keep := range map[string]int{historyPrefix: maxTurns, journalPrefix: maxJournal} {
		prefix += r.rec.Name + "/"
		var keys []string
		for e, err := range r.m.Store.Scan(ctx, prefix, storage.PrefixEnd(prefix)) {
			if e.Key == "" && err != nil {
				return nil, err
			}
			keys = append(keys, e.Key)
		}
		for _, key := range keys[:min(max(len(keys)-keep+1, 0), 40)] {
			ops = append(ops, storage.Remove(key))
		}
	}
	return ops, nil
}
