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

// backoff returns how long to wait before retrying a call that failed tries times in a row.
func backoff(tries int, longest time.Duration) time.Duration {
	return cron.Backoff(tries, 10*time.Second, longest)
}

// retryRotation returns how long to wait before the next rotation after failures failed rotations
// in a row.
func retryRotation(failures int) time.Duration {
	return cron.Backoff(failures, time.Hour, 24*time.Hour)
}

// moveTo moves the rotation to state s. If the table of transitions does not allow the move,
// moveTo panics.
func (e *Edit) moveTo(s State) {
	t := e.turn()
	if !slices.Contains(transitions[e.kind.Style][t.State].next, s) {
		// a programming error, found by the first test that walks it
		panic(fmt.Sprintf("rotate: no transition from %s to %s", t.State, s))
	}
	callSucceeded(e)
	t.enter(s, e.Now)
}

// retry handles a failed call. The call is retried with a back-off that depends on the outcome.
// After maxTries failures, or at once if the failure is permanent, the rotation is rolled back,
// if its state may give up. Every failure raises an alert.
func (e *Edit) retry(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err() // the server stops; the call's outcome is found by the next
	}
	e.Now = time.Now().UTC()
	t, outcome := e.turn(), OutcomeOf(err)
	e.recordError(err)
	t.Tries++
	gives := transitions[e.kind.Style][t.State].onFailure
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
	e.alertStep(t.State,
		fmt.Sprintf("%s: %s has failed %s: %s; %s", e.name(), t.State, times(t.Tries), e.Rec.LastError,
			remedies[outcome]))
	return e.Commit(ctx, "stumbled", e.Now.Add(wait))
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times in a row", n)
}

// remedies say what an administrator can do about a failure that is retried.
var remedies = map[Outcome]string{
	Unknown:   "the call is retried once its outcome is known",
	Transient: "the call is retried with back-off; check whether the provider is up",
	Permanent: "correct the cause; until then the call is retried with back-off and keeps failing",
	Exhausted: "the provider allows no more keys; delete unused keys there",
	Rejected:  "the call is retried with back-off",
	Alive:     "the old key still works; retiring it is retried with back-off, or delete it at the provider",
	Untested:  "the call is retried with back-off",
}

// recordError records an error, redacted, in the record, the event, the journal and the rotation.
func (e *Edit) recordError(err error) {
	e.auditErr = err
	e.Rec.LastError = e.errorText(err)
	outcome := OutcomeOf(err).String()
	e.addDetail("outcome", outcome)
	e.addDetail("error", e.Rec.LastError)
	e.logErr = &Error{e.Now, e.Rec.State(), outcome, e.Redactor.Scrub(err.Error())}
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
	e.alertPerson("rotation %d of %s failed: %s; the old key stays current", t.N, e.name(), t.Back.Reason)
	e.moveTo(RollingBack)
	return e.Commit(ctx, "gave-up", e.Now)
}

// destructiveCall makes a call that retires, disables or sets a credential. All such calls go
// through destructiveCall, because they follow two rules:
//
//   - A commit that asserts the record's version comes right before the call. If another server
//     has changed the record since it was read, the commit fails and no call is made.
//   - That commit records until when the call may be under way, and the call ends before then.
//     Until then no other server drives the record or starts another such call.
//
// failure is the error of the call; err says why no call was made.
func destructiveCall(ctx context.Context, e *Edit, what string, within time.Duration,
	do func(ctx context.Context) error) (failure, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	e.Now = time.Now().UTC()
	until := e.Now.Add(within)
	e.Rec.CallUntil = until.Add(clockMargin)
	if err := e.Commit(ctx, what, e.Rec.CallUntil); err != nil {
		return nil, err
	}
	calls, cancel := cron.WithDeadline(ctx, until)
	defer cancel()
	if calls.Err() == nil {
		failure = do(calls)
	} else { // others may act by now
		err = fault.New("rotate.destructiveCall", fault.Unavailable,
			"the storage was too slow to record the next call, or this machine was suspended; the call is retried")
	}
	e.m.returnedCalls.Store(e.kind.Records+e.Rec.Name, e.Rec.CallUntil)
	e.Now, e.Rec.CallUntil, e.Rec.Orphan = time.Now().UTC(), time.Time{}, "" // the next commit says so
	return failure, err
}

// busy returns an error while another server may still be in a destructive call.
func (e *Edit) busy(op string) error {
	if !e.Rec.CallUntil.After(time.Now()) {
		return nil
	}
	return fault.New(op, fault.Unavailable, "a call to the provider of %s may still be under way: another server "+
		"started it, or a server stopped in the middle of it; try again after %s", e.name(),
		e.Rec.CallUntil.Format(time.RFC3339))
}

// call makes a call to the provider with callTimeout.
func call(ctx context.Context, f func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return f(ctx)
}

func errClockHeld(op string) error {
	return fault.New(op, fault.Held, "the server's clock has jumped and is held; confirm it first (sys/clock/trust)")
}

// openFailed handles a target that cannot be opened. A wrong configuration or wrong credentials
// are retried as a permanent failure. If our own store does not answer, the error is returned
// unchanged.
func openFailed(ctx context.Context, e *Edit, err error) error {
	switch fault.KindOf(err) {
	case fault.Invalid, fault.Held, fault.NotFound, fault.Unsupported, fault.Denied:
		return e.retry(ctx, &Failure{Outcome: Permanent, Err: err})
	}
	return err
}

const (
	// maxTries is how many calls in a row may fail before a state gives up. triesTake is how long
	// maxTries failures take.
	maxTries      = 9
	triesDuration = 45 * time.Minute
	// longestWait is the longest back-off of a call that never gives up. longestDoubt is the
	// longest one while it is unknown which secret is in force, and for eager kinds.
	longestWait  = 6 * time.Hour
	longestDoubt = time.Hour
	// callTimeout bounds each call that has no timeout of its own.
	callTimeout = 2 * time.Minute
	// brakeWait is how long a record that is due waits before it checks the brake again. Half of
	// the wait is random, so that not all records rotate at once when the brake is released.
	brakeWait = 2 * time.Minute
	// readyWait is how long a record waits before it checks again whether a rotation may begin.
	readyWait = time.Hour
)

const (
	// clockMargin is the largest difference allowed between the clocks of two servers.
	clockMargin = 10 * time.Second
	// resumeAfter is when another process resumes a step whose process has died. A destructive
	// call is over by then: setTimeout bounds the call, and clockMargin covers the difference
	// between the clocks.
	resumeAfter = setTimeout + clockMargin
)

// start begins a new rotation.
func (e *Edit) start(why Start) {
	rec := e.Rec
	rec.Turns++
	rec.Queued = nil
	why.Leaked = why.Leaked || rec.Current.hasLeaked()
	t := &Turn{N: rec.Turns, ID: fmt.Sprintf("%s/%d", rec.Tag, rec.Turns), Start: why, Started: e.Now,
		Old: rec.Current}
	rec.Turn = t
	t.enter(e.kind.Style.first(), e.Now)
	e.addDetail("reason", why.Reason)
	if why.Leaked {
		e.addDetail("leaked", "true")
	}
}

const (
	// setTimeout bounds all calls of one attempt to set a secret.
	setTimeout = 20 * time.Second
	// refusals is how often the provider may refuse one secret before another one is generated.
	// The refused secret may violate the provider's rules.
	refusals = 3
	// maxSets is how many attempts a rotation keeps.
	maxSets = 50
)
