package cron

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
)

// A When says when something is rotated automatically. The zero value means never.
type When struct {
	Period   time.Duration `json:"period,omitempty"`
	Schedule string        `json:"schedule,omitempty"` // five fields, UTC
	Window   time.Duration `json:"window,omitempty"`   // how long after the schedule's time it may still begin
	Jitter   time.Duration `json:"jitter,omitempty"`   // the longest random delay that Next adds
	Off      bool          `json:"off,omitempty"`      // only on request
	Blackout Blackout      `json:"blackout,omitempty"` // days on which no rotation begins
}

// Check returns an error for contradictions, with the names of the API's fields. least is the
// shortest period that is not a typing error.
func (w When) Check(least time.Duration) error {
	const op = "cron.Check"
	switch {
	case w.Period != 0 && w.Schedule != "":
		return fault.New(op, fault.Invalid,
			"fields \"rotation_period\" and \"rotation_schedule\" exclude each other; give one, and set the other "+
				"to \"\"")
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
	}
	if w.Schedule != "" {
		if _, err := Parse(w.Schedule); err != nil {
			return fault.New(op, fault.Invalid, "field \"rotation_schedule\": %s", fault.Message(err))
		}
	}
	if w.Blackout != "" && !w.Never() && (w.Next(time.Time{}, time.Now()).IsZero() || w.Blackout.endless()) {
		return fault.New(op, fault.Invalid, "field \"blackout\": the dates leave no day for the schedule; give fewer")
	}
	longest := w.Interval() / 2 // a longer jitter could skip a time of the schedule
	if w.Window != 0 {
		longest = min(longest, w.Window/2) // the rest is left for retries
	}
	switch {
	case w.Jitter < 0:
		return fault.New(op, fault.Invalid, "field \"jitter\" must not be negative; leave it out for none")
	case w.Jitter > longest && !w.Off:
		return fault.New(op, fault.Invalid, "field \"jitter\": %s is more than %s, half of the rotation window or of "+
			"the shortest time between two rotations; give a shorter one", w.Jitter, longest)
	}
	return nil
}

// A Change is a change of a [When]. nil fields are not changed.
type Change struct {
	Period   *time.Duration
	Schedule *string
	Window   *time.Duration
	Jitter   *time.Duration
	Off      *bool
	Blackout *Blackout
}

// Apply changes w. A period replaces a schedule, and vice versa, because clients usually send only
// the new one.
func (w *When) Apply(c Change) {
	switch {
	case c.Schedule != nil && *c.Schedule != "" && c.Period == nil:
		w.Period = 0
	case c.Period != nil && *c.Period != 0 && c.Schedule == nil:
		w.Schedule, w.Window = "", 0
	case c.Schedule != nil && *c.Schedule == "":
		w.Window = 0
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
	if c.Jitter != nil {
		w.Jitter = *c.Jitter
	}
	if c.Off != nil {
		w.Off = *c.Off
	}
	if c.Blackout != nil {
		w.Blackout = *c.Blackout
	}
}

// Never reports whether there are no automatic rotations.
func (w When) Never() bool { return w.Off || w.Period == 0 && w.Schedule == "" }

// Next is the time of the next rotation after the last one, never before now; zero: never. Store
// it unchanged, because each call draws the jitter anew, and so that a missing time never counts
// as overdue.
func (w When) Next(last, now time.Time) time.Time {
	base := w.base(last, now)
	if base.IsZero() {
		return base
	}
	at := w.Allowed(base)
	if w.Jitter <= 0 || at.IsZero() || w.Schedule == "" && !at.After(now) {
		return at
	}
	if late := at.Add(rand.N(w.Jitter)); !w.Blackout.Has(late) && !w.Missed(at, late) {
		return late
	}
	return at
}

// minLeft is how much of a window must be left after black-out dates for a rotation to begin in
// it.
const minLeft = 10 * time.Minute

// Allowed returns at or, if at lies on a black-out date, the first moment after it that the
// schedule allows: in a window, if there are windows; zero if there is none for years.
func (w When) Allowed(at time.Time) time.Time {
	free := w.Blackout.After(at)
	if free.Equal(at) || free.IsZero() || w.Schedule == "" {
		return free
	}
	s, err := Parse(w.Schedule)
	if err != nil {
		return free // impossible, because it was checked when it was written
	}
	for start := at; ; free = w.Blackout.After(at) {
		switch {
		case free.IsZero() || free.Sub(start) > horizon:
			return time.Time{}
		case w.Window > 0 && s.prev(free).Add(w.Window).Sub(free) >= minLeft:
			return free
		}
		if at = s.Next(free.Add(-time.Second)); !w.Blackout.Has(at) {
			return at
		}
	}
}

// base is Next without jitter.
func (w When) base(last, now time.Time) time.Time {
	switch {
	case w.Never():
		return time.Time{}
	case w.Schedule != "":
		s, err := Parse(w.Schedule)
		if err != nil {
			return time.Time{} // impossible, because it was checked when it was written
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

// anyTime is where Interval begins to compare the times of a schedule.
var anyTime = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// Interval is the shortest time between two rotations at any time; zero: never.
func (w When) Interval() time.Duration { return w.Shortest(anyTime) }

// gaps is how many times of a schedule are compared to find the shortest interval.
const gaps = 64

// Shortest is the shortest time between the next rotations; zero: never.
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

// Missed reports whether the window of a rotation that was due has ended. Without a window, it
// never does.
func (w When) Missed(due, now time.Time) bool {
	return w.Window > 0 && now.After(w.windowEnd(due))
}

// windowEnd is the end of the window in which due lies. If due lies in none, because the rotation
// was not planned by the schedule, windowEnd is as if a window began there.
func (w When) windowEnd(due time.Time) time.Time {
	if s, err := Parse(w.Schedule); err == nil {
		if end := s.prev(due).Add(w.Window); end.After(due) {
			return end
		}
	}
	return due.Add(w.Window)
}

// The first and the longest wait between attempts; it doubles in between.
const (
	firstRetry = 10 * time.Second
	lastRetry  = time.Hour
)

// Backoff is how long to wait after a number of failed attempts: first, doubled each time, up to
// longest.
func Backoff(failed int, first, longest time.Duration) time.Duration {
	wait := first
	for ; failed > 1 && wait < longest; failed-- {
		wait *= 2
	}
	return min(wait, longest)
}

// Retry is the time of the next attempt after a number of failed ones.
func Retry(failed int, now time.Time) time.Time {
	return now.Add(Backoff(failed, firstRetry, lastRetry))
}

// Again is when a rotation that has failed is retried: with back-off, but not later than at the
// end of its window. over means that the window has ended; then it is the time of the next
// rotation, and failures are counted from zero.
func (w When) Again(due, last time.Time, failed int, now time.Time) (at time.Time, over bool) {
	at = Retry(failed, now)
	if due.IsZero() || !w.Missed(due, at) {
		return at, false
	}
	if end := w.windowEnd(due).Add(-time.Second); end.Sub(now) >= firstRetry {
		return end, false
	}
	return w.Next(last, now), true
}

// Pause waits for d, and reports false if ctx ends first.
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
