package database

import (
	"time"

	"github.com/keyturn/keyturn/internal/cron"
	"github.com/keyturn/keyturn/internal/fault"
)

// A when says when something is rotated by itself. Its zero value is never.
type when struct {
	Period   time.Duration `json:"period,omitempty"`
	Schedule string        `json:"schedule,omitempty"` // cron, five fields, UTC
	Window   time.Duration `json:"window,omitempty"`   // how long after the schedule's time it may still begin
	Off      bool          `json:"off,omitempty"`      // by request alone
}

// minPeriod keeps a typing error from rotating all the time.
const minPeriod = 5 * time.Second

// check finds what cannot be. Field names are those of the API.
func (w when) check() error {
	switch {
	case w.Period != 0 && w.Schedule != "":
		return invalid("fields \"rotation_period\" and \"rotation_schedule\" exclude each other; give one, and set the other to \"\"")
	case w.Period != 0 && w.Period < minPeriod:
		return invalid("field \"rotation_period\": %s is less than %s", w.Period, minPeriod)
	case w.Window != 0 && w.Schedule == "":
		return invalid("field \"rotation_window\" needs rotation_schedule; a rotation_period has no window")
	case w.Window != 0 && w.Window < cron.MinWindow:
		return invalid("field \"rotation_window\": %s is less than %s", w.Window, cron.MinWindow)
	case w.Schedule == "":
		return nil
	}
	if _, err := cron.Parse(w.Schedule); err != nil {
		return invalid("field \"rotation_schedule\": %s", fault.Message(err))
	}
	return nil
}

// never reports whether nothing is rotated by itself.
func (w when) never() bool { return w.Off || w.Period == 0 && w.Schedule == "" }

// next is the time of the rotation after the last one, never before now; zero for never.
// It is stored as it is, so that nothing that is missing is ever taken for overdue.
func (w when) next(last, now time.Time) time.Time {
	switch {
	case w.never():
		return time.Time{}
	case w.Schedule != "":
		s, err := cron.Parse(w.Schedule)
		if err != nil {
			return time.Time{} // was checked when it was written
		}
		return s.Next(now)
	case last.IsZero():
		return now.Add(w.Period)
	}
	if at := last.Add(w.Period); at.After(now) {
		return at
	}
	return now
}

// missed reports whether a rotation that was due at some time may not begin any more.
func (w when) missed(due, now time.Time) bool {
	return cron.Missed(due, w.Window, now)
}

// Waits between tries, doubled from the first to the last.
const (
	firstRetry = 10 * time.Second
	lastRetry  = time.Hour
)

// retry is when the next try is made after so many have failed in a row.
func retry(failed int, now time.Time) time.Time {
	wait := firstRetry
	for ; failed > 1 && wait < lastRetry; failed-- {
		wait *= 2
	}
	return now.Add(min(wait, lastRetry))
}
