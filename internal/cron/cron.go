// Package cron computes when a schedule is due: five fields in UTC, as in crontab(5), parsed by
// robfig/cron, or a period, and black-out dates. It also has pauses, back-off, and deadlines that
// other servers know.
package cron

import (
	"strings"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/keyturn/keyturn/internal/fault"
)

// MinWindow is the shortest window in which a scheduled rotation may begin. A shorter one could
// pass during a restart, or while the rotation waits for others.
const MinWindow = time.Hour

// horizon is how far ahead a schedule must have a time: 29 February comes within eight years.
const horizon = 8 * 366 * 24 * time.Hour

// maxText is the longest schedule in bytes: each of 60 minutes takes three.
const maxText = 512

// maxShown is how much of a schedule an error repeats, in bytes.
const maxShown = 100

// A Schedule is a set of minutes. Its zero value has none; [Parse] makes others.
type Schedule struct{ at cron.Schedule }

// Parse reads five fields – minute, hour, day of the month, month, day of the week – or one of
// @yearly, @monthly, @weekly, @daily and @hourly. Times are UTC, so that none is skipped or
// repeated when clocks change. The error says what to write instead.
func Parse(text string) (Schedule, error) {
	const op = "cron.Parse"
	if len(text) > maxText {
		return Schedule{}, fault.New(op, fault.Invalid,
			"%q is longer than %d bytes; write five fields, such as \"0 3 * * SAT\"", fault.Clip(text, maxShown),
			maxText)
	}
	if strings.Contains(text, "TZ=") || strings.HasPrefix(strings.TrimSpace(text), "@every") {
		return Schedule{}, fault.New(op, fault.Invalid,
			"%q is refused: schedules are in UTC and have no intervals; write five fields, such as \"0 3 * * SAT\"",
			fault.Clip(text, maxShown))
	}
	at, err := cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor).Parse(text)
	if err != nil {
		return Schedule{}, &fault.Error{Op: op, Kind: fault.Invalid, Err: err, Msg: "\"" + fault.Clip(text, maxShown) +
			"\" is not a schedule; write five fields – minute, hour, day of the month, month, day of the week – " +
			"such as \"0 3 * * SAT\""}
	}
	s := Schedule{at}
	if s.Next(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return Schedule{}, fault.New(op, fault.Invalid,
			"%q never comes: there is no such day; choose a day that the month has", fault.Clip(text, maxShown))
	}
	return s, nil
}

// Next is the first time of the schedule after another; zero if there is none.
func (s Schedule) Next(after time.Time) time.Time {
	if s.at == nil {
		return time.Time{}
	}
	for from := after.UTC(); from.Sub(after) < horizon; from = from.AddDate(4, 0, 0) {
		if next := s.at.Next(from); !next.IsZero() { // it looks no further than five years
			return next
		}
	}
	return time.Time{}
}

// prev is the last time of the schedule that is not after another; zero if there is none.
func (s Schedule) prev(at time.Time) time.Time {
	at = at.UTC()
	from := func(back time.Duration) time.Time { return s.Next(at.Add(-back)) }
	var near, far time.Duration // from(near) is after at, from(far) is not
	for far = time.Minute; ; near, far = far, 2*far {
		if next := from(far); !next.IsZero() && !next.After(at) {
			break
		}
		if far > horizon {
			return time.Time{}
		}
	}
	for far-near > time.Second {
		if middle := near + (far-near)/2; from(middle).After(at) {
			near = middle
		} else {
			far = middle
		}
	}
	return from(far)
}
