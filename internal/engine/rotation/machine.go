package rotation

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/engine/rotation/schedule"
	"github.com/keyturn/keyturn/internal/fault"
)

// steps is what is done in each state: the first half of the state machine's table.
var steps = map[State]func(ctx context.Context, r *run) error{
	Scheduled:   begin,
	Creating:    create,
	Settling:    prove,
	Verifying:   verify,
	Publishing:  publish,
	Grace:       wait,
	RollingBack: takeBack,
	Retiring:    retire,
}

// A way is a row of the table's other half: where a state may lead.
type way struct {
	next []State
	// gives is where a turn goes when the provider refuses for good or too
	// often; "": it is tried on for as long as it takes, and a person is called.
	gives State
}

var ways = map[State]way{
	Scheduled:   {next: []State{Creating}},
	Creating:    {next: []State{Settling, RollingBack}, gives: RollingBack},
	Settling:    {next: []State{Verifying, RollingBack}, gives: RollingBack},
	Verifying:   {next: []State{Publishing, Settling, RollingBack}, gives: RollingBack},
	Publishing:  {next: []State{Grace, RollingBack}},
	Grace:       {next: []State{Retiring, RollingBack}},
	RollingBack: {next: []State{Grace, Retiring}},
	Retiring:    {next: []State{Done, RolledBack, Failed}},
}

// maxTries is how many calls in a row may fail before a state gives way: some
// 45 minutes of trying.
const maxTries = 9

// longestWait is the longest back-off of what is never given up.
const longestWait = 6 * time.Hour

// callTimeout bounds each call that has no timeout of its own.
const callTimeout = 2 * time.Minute

// brakeWait is how long a key that fell due under the brake waits before it
// looks again. Half of it is random: when the brake is let go, not all turn at once.
const brakeWait = 2 * time.Minute

// Work does one step of a key.
func (b *backend) Work(ctx context.Context, kind, name string) error {
	if kind != workKind {
		return fault.New("rotation.Work", fault.Internal, "work of unknown kind %q", kind)
	}
	release, err := b.locks.take(ctx, name)
	if err != nil {
		return err
	}
	defer release()
	r, err := b.load(ctx, name)
	if err != nil || r == nil {
		return err // a deleted key's item went with it
	}
	r.working = true
	return r.step(ctx)
}

// step does what is due, if anything is.
func (r *run) step(ctx context.Context) error {
	if r.rec.Due.IsZero() || r.rec.Due.After(r.now) {
		return nil // an item of the past
	}
	if r.m.Host.ClockHeld != nil && r.m.Host.ClockHeld() {
		return fault.New("rotation.Work", fault.Held, "the server's clock has jumped and is held; confirm it first (sys/clock/trust)")
	}
	if r.rec.Paused != nil {
		return r.commit(ctx, "paused", time.Time{})
	}
	c, err := r.config(ctx)
	if err != nil {
		return err
	}
	if c.Brake {
		return r.commit(ctx, braked, r.now.Add(brakeWait/2+rand.N(brakeWait/2)))
	}
	if r.state() == Grace && r.now.Before(r.turn().End.After) {
		return r.commit(ctx, "waiting", r.turn().End.After)
	}
	return r.audited(ctx, steps[r.state()])
}

// audited runs a step between the two lines of its audit entry. Without the first line
// it does not run.
func (r *run) audited(ctx context.Context, step func(context.Context, *run) error) error {
	ran := false
	var stepErr error
	a := engine.Automatic{
		Operation: "rotate", Path: r.m.Settings().Path + "keys/" + r.rec.Name,
		Detail: map[string]string{"key": r.rec.Name, "turn": strconv.FormatUint(uint64(r.number()), 10), "step": string(r.state())},
	}
	// Retiring a leaked key only takes access away: it does not wait for a device.
	if s := r.state(); (s == Grace || s == Retiring) && r.turn() != nil {
		a.Takes = r.turn().Start.Leaked
	}
	err := r.m.Host.Audited(ctx, a, func(ctx context.Context) error {
		ran = true
		if stepErr = step(ctx, r); stepErr != nil {
			return stepErr
		}
		return r.failed
	})
	switch {
	case !ran:
		return err
	case stepErr != nil:
		return stepErr
	case err != nil && r.failed == nil:
		return err // the second line is owed
	}
	return nil
}

// stumble deals with a call that failed: it is tried again with back-off by
// class of error, and at last the state gives way or a person is called.
func (r *run) stumble(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err() // the server stops; the call's outcome is found by the next
	}
	r.now = time.Now().UTC()
	t, outcome := r.turn(), OutcomeOf(err)
	r.note(err)
	t.Tries++
	gives := ways[t.State].gives
	if gives != "" && (outcome == Permanent || t.Tries >= maxTries) {
		return r.giveUp(ctx, "%s failed: %s", t.State, r.rec.LastError)
	}
	if outcome == Permanent || t.Tries >= maxTries {
		r.alarm("key %q is stuck in %s: %s", r.rec.Name, t.State, r.rec.LastError)
	}
	wait := schedule.Backoff(t.Tries, longestWait)
	if outcome == Exhausted {
		wait = max(wait, time.Minute)
	}
	wait = max(wait, retryAfter(err))
	return r.commit(ctx, "stumbled", r.now.Add(wait+rand.N(wait/5)))
}

// note records an error, redacted.
func (r *run) note(err error) {
	r.failed = err
	r.rec.LastError = r.words(err)
	outcome := OutcomeOf(err).String()
	r.say("outcome", outcome)
	r.say("error", r.rec.LastError)
	t := r.turn()
	if t == nil {
		return
	}
	if len(t.Errors) == maxErrors {
		t.Errors = t.Errors[1:]
	}
	t.Errors = append(t.Errors, stumble{r.now, t.State, outcome, r.rec.LastError})
}

// giveUp takes the turn back. The old key stays current.
func (r *run) giveUp(ctx context.Context, format string, args ...any) error {
	t := r.turn()
	t.Back = &back{At: r.now, Reason: fmt.Sprintf(format, args...)}
	r.alarm("turn %d of key %q failed: %s; the old key stays current", t.N, r.rec.Name, t.Back.Reason)
	r.to(RollingBack)
	return r.commit(ctx, "gave-up", r.now)
}

// begin starts the turn that is due.
func begin(ctx context.Context, r *run) error {
	changed, err := r.changed(ctx, r.rec)
	if err != nil {
		return err
	}
	if changed {
		r.alarm("recipe %q is not the one any more that key %q is bound to; bind it anew: write keys/%s/rebind", r.rec.Bind.Name, r.rec.Name, r.rec.Name)
		return r.commit(ctx, "unbound", r.now.Add(time.Hour))
	}
	why := start{Reason: "schedule"}
	if r.rec.Queued != nil {
		why = *r.rec.Queued
	}
	r.begin(why)
	return r.commit(ctx, "begun", r.now)
}

// begin puts a new turn in flight.
func (r *run) begin(why start) {
	rec := r.rec
	rec.Turns++
	rec.Queued = nil
	t := &turn{N: rec.Turns, ID: fmt.Sprintf("%s/%d", rec.Tag, rec.Turns), Start: why, Started: r.now, Old: rec.Current}
	rec.Turn = t
	t.enter(Creating, r.now)
	r.say("reason", why.Reason)
	if why.Leaked {
		r.say("leaked", "true")
	}
}

// call bounds a call to the provider.
func call(ctx context.Context, f func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return f(ctx)
}
