package rotate

import (
	"time"

	"github.com/keyturn/keyturn/internal/cron"
)

// Planned returns when the record is next due, computed from the stored record alone; zero if it
// is not due at all.
func (e *Edit) Planned() time.Time {
	rec := e.Rec
	switch {
	case rec.Paused != nil && !rec.inDoubt():
		return time.Time{}
	case rec.Paused != nil:
		return later(rec.Look.At, e.Now) // looking changes nothing at the provider
	case rec.Turn != nil && !rec.Due.IsZero() && !e.retryNow:
		return rec.Due
	case rec.Turn != nil:
		return e.Now
	case rec.Queued != nil:
		return later(rec.Queued.After, e.Now)
	}
	at := later(rec.Next, rec.Retry)
	if !rec.Look.At.IsZero() && (at.IsZero() || rec.Look.At.Before(at)) {
		at = rec.Look.At
	}
	if at.IsZero() {
		return at // on request only
	}
	return later(at, e.Now)
}

// Upcoming returns the times of the next n rotations by schedule: the planned one as it is stored,
// and those after it without jitter, as if each were made on time.
func (r *Record) Upcoming(w cron.When, now time.Time, n int) (times []time.Time) {
	w.Jitter = 0
	for at := notBefore(r.Next, now); len(times) < n && !at.IsZero(); at = w.Next(at, at) {
		times = append(times, at)
	}
	return times
}
