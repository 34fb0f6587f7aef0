package cron

import (
	"context"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
)

// A When says when something is rotated by itself. Its zero value is never.
type When struct {
	Period   time.Duration `json:"period,omitempty"`
	Schedule string        `json:"schedule,omitempty"` // five fields, UTC
	Window   time.Duration `json:"window,omitempty"`   // how long after the schedule's time it may still begin
	Off      bool          `json:"off,omitempty"`      // by request alone
}

// Check finds what cannot be. Its messages name fields of the API. least is the shortest period
// that is no typing error.
func (w When) Check(least time.Duration) error {
	const op = "cron.Check"
	switch {
	case w.Period != 0 && w.Schedule != "":
		return fault.New(op, fault.Invalid,
			"fields \"rotation_period\" and \"rotation_schedule\" exclude each other; give one, and set the other to \"\"")
	case w.Period != 0 && w.Period < least:
		return fault.New(op, fault.Invalid, "field \"rotation_period\": %s is less than %s; give a longer one",
			w.Period, least)
	case w.Window != 0 && w.Schedule == "":
		return fault.New(op, fault.Invalid,
			"field \"rotation_window\" needs rotation_schedule; a rotation_period has no window")
	case w.Window != 0 && w.Window < MinWindow:
		return fault.New(op, fault.Invalid,
			"field \"rotation_window\": %s is less than %s; give a longer one, or leave it out for none", w.Window,
			MinWindow)
	case w.Schedule == "":
		return nil
	}
	if _, err := Parse(w.Schedule); err != nil {
		return fault.New(op, fault.Invalid, "field \"rotation_schedule\": %s", fault.Message(err))
	}
	return nil
}

// A Change is what a write says of a [When]. What is nil was not given.
type Change struct {
	Period   *time.Duration
	Schedule *string
	Window   *time.Duration
	Off      *bool
}

// Apply changes w. One of period and schedule that is given replaces the other: whoever writes
// one has mostly left the other out of what is written.
func (w *When) Apply(c Change) {
	switch {
	case c.Schedule != nil && *c.Schedule != "" && c.Period == nil:
		w.Period = 0
	case c.Period != nil && *c.Period != 0 && c.Schedule == nil:
		w.Schedule, w.Window = "", 0
	}
	if c.Period != nil {
		w.Period = *c.Period
	}
	if c.Schedule != nil {
		w.Schedule = *c.Schedule
	}
	if c.Window != nil {
		w.Window = *c.Window
	}
	if c.Off != nil {
		w.Off = *c.Off
	}
}

// Never reports whether nothing is rotated by itself.
func (w When) Never() bool { return w.Off || w.Period == 0 && w.Schedule == "" }

// Next is the time of the rotation after the last one, never before now; zero for never.
// Store it as it is, so that nothing that is missing is ever taken for overdue.
func (w When) Next(last, now time.Time) time.Time {
	switch {
	case w.Never():
		return time.Time{}
	case w.Schedule != "":
		s, err := Parse(w.Schedule)
		if err != nil {
			return time.Time{} // was checked when it was written
		}
		return s.Next(now)
	case last.IsZero() || last.After(now): // the clock was ahead
		return now.Add(w.Period)
	}
	if at := last.Add(w.Period); at.After(now) {
		return at
	}
	return now
}

// gaps is how many times of a schedule are looked at to find the shortest time between two.
const gaps = 64

// Shortest is the shortest time between two rotations, as far as is seen from now; zero for never.
func (w When) Shortest(now time.Time) time.Duration {
	if w.Never() || w.Schedule == "" {
		return w.Period
	}
	s, err := Parse(w.Schedule)
	if err != nil {
		return 0
	}
	at, short := s.Next(now), time.Duration(0)
	for range gaps {
		next := s.Next(at)
		if next.IsZero() {
			break
		}
		if gap := next.Sub(at); short == 0 || gap < short {
			short = gap
		}
		at = next
	}
	return short
}

// Missed reports whether a rotation that was due at some time may not begin any more.
func (w When) Missed(due, now time.Time) bool { return Missed(due, w.Window, now) }

// Waits between tries, doubled from the first to the last.
const (
	firstRetry = 10 * time.Second
	lastRetry  = time.Hour
)

// Backoff is how long to wait after so many tries have failed in a row: first, doubled each time,
// up to longest.
func Backoff(failed int, first, longest time.Duration) time.Duration {
	wait := first
	for ; failed > 1 && wait < longest; failed-- {
		wait *= 2
	}
	return min(wait, longest)
}

// Retry is when the next try is made after so many have failed in a row.
func Retry(failed int, now time.Time) time.Time {
	return now.Add(Backoff(failed, firstRetry, lastRetry))
}

// Again is when a rotation that was due at some time, and has failed so many times in a row, is
// tried again: after ever longer waits, and where the window ends before that, at its end. over
// means that the window is used up: it is the time of the next rotation then, whose failures are
// counted anew.
func (w When) Again(due, last time.Time, failed int, now time.Time) (at time.Time, over bool) {
	at = Retry(failed, now)
	if due.IsZero() || !w.Missed(due, at) {
		return at, false
	}
	if end := due.Add(w.Window - time.Second); end.Sub(now) >= firstRetry {
		return end, false
	}
	return w.Next(last, now), true
}

// Pause waits for d, and reports false where ctx ended first.
func Pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
