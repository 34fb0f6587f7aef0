package rotate

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/keyturn/keyturn/internal/cron"
	"github.com/keyturn/keyturn/internal/fault"
)

// backoff is how long to wait before a call is tried again after so many have failed in a row.
func backoff(tries int, longest time.Duration) time.Duration {
	return cron.Backoff(tries, 10*time.Second, longest)
}

// retryRotation is how long to wait before another rotation after so many have failed in a row.
func retryRotation(failures int) time.Duration {
	return cron.Backoff(failures, time.Hour, 24*time.Hour)
}

// to moves the rotation to another state, as the table of transitions allows.
func (e *Edit) to(s State) {
	t := e.turn()
	if !slices.Contains(transitions[e.kind.Style][t.State].next, s) {
		panic(fmt.Sprintf("rotate: no transition from %s to %s", t.State, s)) // a programming error, found by the first test that walks it
	}
	worked(e)
	t.enter(s, e.Now)
}

// retry deals with a call that failed: it is tried again with back-off by
// class of error, and at last the state gives up or a person is called.
func (e *Edit) retry(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err() // the server stops; the call's outcome is found by the next
	}
	e.Now = time.Now().UTC()
	t, outcome := e.turn(), OutcomeOf(err)
	e.note(err)
	t.Tries++
	gives := transitions[e.kind.Style][t.State].gives
	if gives != "" && (outcome == Permanent || t.Tries >= maxTries) {
		return giveUp(ctx, e, "%s failed: %s", t.State, e.Rec.LastError)
	}
	longest := longestWait
	if e.kind.Style == InPlace || e.kind.Eager {
		longest = longestDoubt
	}
	wait := backoff(t.Tries, longest)
	if outcome == Exhausted {
		wait = max(wait, time.Minute)
	}
	wait = max(wait, retryAfter(err))
	wait += rand.N(wait / 5)
	e.raise(t.State, fmt.Sprintf("%s: %s has failed %s: %s; %s", e.name(), t.State, times(t.Tries), e.Rec.LastError, remedies[outcome]))
	return e.Commit(ctx, "stumbled", e.Now.Add(wait))
}

// times words a number of failures.
func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times in a row", n)
}

// remedies say what there is to do about a failure that is retried.
var remedies = map[Outcome]string{
	Unknown:   "the call is retried once it is known what it has done",
	Transient: "the call is retried with back-off; check whether the provider is up",
	Permanent: "correct the cause; until then the call is retried with back-off, and fails",
	Exhausted: "the provider allows no more keys; delete unused keys there",
	Rejected:  "the call is retried with back-off",
	Alive:     "the old key still works; retiring it is retried with back-off, or delete it at the provider",
	Untested:  "the call is retried with back-off",
}

// note records an error, redacted.
func (e *Edit) note(err error) {
	e.failed = err
	e.Rec.LastError = e.words(err)
	outcome := OutcomeOf(err).String()
	e.Say("outcome", outcome)
	e.Say("error", e.Rec.LastError)
	e.trouble = &Error{e.Now, e.Rec.State(), outcome, e.Redactor.Scrub(err.Error())}
	t := e.turn()
	if t == nil {
		return
	}
	if len(t.Errors) == maxErrors {
		t.Errors = t.Errors[1:]
	}
	t.Errors = append(t.Errors, Error{e.Now, t.State, outcome, e.Rec.LastError})
}

// giveUp rolls the rotation back. The old credential stays current.
func giveUp(ctx context.Context, e *Edit, format string, args ...any) error {
	t := e.turn()
	t.Back = &Back{At: e.Now, Reason: fmt.Sprintf(format, args...)}
	e.alarm("rotation %d of %s failed: %s; the old key stays current", t.N, e.name(), t.Back.Reason)
	e.to(RollingBack)
	return e.Commit(ctx, "gave-up", e.Now)
}

// destroy makes a call that takes something away at the provider: it retires, disables or sets a
// credential. All such calls go through here, because of two rules:
//
//   - The commit that asserts the record's version comes right before the call. A server that has read
//     a record which another one has changed since makes no call by it.
//   - That commit says until when the call may be under way, and the call ends before. Until then no
//     other server drives the record, and none begins another such call.
//
// failure is what the call has failed with, err why it was not made.
func destroy(ctx context.Context, e *Edit, what string, within time.Duration, do func(ctx context.Context) error) (failure, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	e.Now = time.Now().UTC()
	until := e.Now.Add(within)
	e.Rec.Calling = until.Add(clockMargin)
	if err := e.Commit(ctx, what, e.Rec.Calling); err != nil {
		return nil, err
	}
	calls, cancel := cron.WithDeadline(ctx, until)
	defer cancel()
	if calls.Err() == nil {
		failure = do(calls)
	} else { // others may act by now
		err = fault.New("rotate.destroy", fault.Unavailable, "the storage was too slow to record that a key is about to be retired, or this machine was suspended; the call is retried")
	}
	e.m.returned.Store(e.kind.Records+e.Rec.Name, e.Rec.Calling)
	e.Now, e.Rec.Calling = time.Now().UTC(), time.Time{} // the next commit says so
	return failure, err
}

// busy is an error while a call that takes away may be under way on another server.
func (e *Edit) busy(op string) error {
	if !e.Rec.Calling.After(time.Now()) {
		return nil
	}
	return fault.New(op, fault.Unavailable, "a call to the provider of %s may still be under way: another server has begun it, or one has stopped in the middle of it; try again after %s", e.name(), e.Rec.Calling.Format(time.RFC3339))
}

// call bounds a call to the provider.
func call(ctx context.Context, f func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return f(ctx)
}

func errClockHeld(op string) error {
	return fault.New(op, fault.Held, "the server's clock has jumped and is held; confirm it first (sys/clock/trust)")
}

// unopened deals with a target that cannot even be opened: its configuration or its
// credentials are wrong, or our own store does not answer.
func unopened(ctx context.Context, e *Edit, err error) error {
	switch fault.KindOf(err) {
	case fault.Invalid, fault.Held, fault.NotFound, fault.Unsupported, fault.Denied:
		return e.retry(ctx, &Failure{Outcome: Permanent, Err: err})
	}
	return err
}

const (
	// maxTries is how many calls in a row may fail before a state gives up, and triesTake how long
	// that takes.
	maxTries  = 9
	triesTake = 45 * time.Minute
	// longestWait is the longest back-off of a call that is never given up, longestDoubt while it
	// is not known which secret is in force, and of kinds that are eager.
	longestWait  = 6 * time.Hour
	longestDoubt = time.Hour
	// callTimeout bounds each call that has no timeout of its own.
	callTimeout = 2 * time.Minute
	// brakeWait is how long a record that fell due under the brake waits before it
	// looks again. Half of it is random: when the brake is lifted, not all rotate at once.
	brakeWait = 2 * time.Minute
	// readyWait is how long a record waits before it looks again whether a rotation may begin.
	readyWait = time.Hour
)

const (
	// clockMargin is by how much the clocks of two servers may differ.
	clockMargin = 10 * time.Second
	// resumeAfter is when a step is taken up again that its process has not survived. A call that
	// takes away is over by then: it has setTimeout, and clockMargin is left.
	resumeAfter = setTimeout + clockMargin
)

// start puts a new rotation in flight.
func (e *Edit) start(why Start) {
	rec := e.Rec
	rec.Turns++
	rec.Queued = nil
	why.Leaked = why.Leaked || rec.Current.hasLeaked()
	t := &Turn{N: rec.Turns, ID: fmt.Sprintf("%s/%d", rec.Tag, rec.Turns), Start: why, Started: e.Now, Old: rec.Current}
	rec.Turn = t
	t.enter(e.kind.Style.first(), e.Now)
	e.Say("reason", why.Reason)
	if why.Leaked {
		e.Say("leaked", "true")
	}
}

const (
	// setTimeout bounds all calls of one attempt to set a secret.
	setTimeout = 20 * time.Second
	// refusals is how often the provider may refuse one secret before another is generated: it may
	// be against the provider's rules.
	refusals = 3
	// maxSets is how many attempts of one rotation are kept.
	maxSets = 50
)
