package cron

import (
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
)

// A Blackout is a list of days, in UTC, on which no scheduled rotation begins. Its zero value has
// none; [ParseBlackout] makes others. Two lists of the same days in the same order are equal.
type Blackout string

// maxBlackouts is how many entries a list of black-out dates may have, and maxDates how many bytes
// they have in all.
const (
	maxBlackouts = 100
	maxDates     = maxBlackouts * len("2026-12-24/2027-01-02,")
)

// A span is one entry of a list: all days from the first to the last, in one year or in each year.
type span struct {
	yearly      bool
	first, last time.Time // of a yearly one, only month and day count
}

const (
	dateForm   = "2006-01-02"
	yearlyForm = "01-02"
)

// ParseBlackout reads dates: "2026-12-24", "2026-12-24/2027-01-02" or, for each year,
// "12-24/01-02". The last day belongs to the span.
func ParseBlackout(dates []string) (Blackout, error) {
	if len(dates) > maxBlackouts {
		return "", fault.New("cron.ParseBlackout", fault.Invalid, "%d entries are more than %d; join neighbouring "+
			"days to one entry, such as \"2026-12-24/2027-01-02\"", len(dates), maxBlackouts)
	}
	for _, text := range dates {
		if _, ok := parseSpan(text); !ok {
			return "", fault.New("cron.ParseBlackout", fault.Invalid, "%q is not a date or a range of dates; write "+
				"\"2026-12-24\", \"2026-12-24/2027-01-02\" or, for each year, \"12-24/01-02\"",
				fault.Clip(text, maxShown))
		}
	}
	return Blackout(strings.Join(dates, ",")), nil
}

func parseSpan(text string) (s span, ok bool) {
	from, to, isRange := strings.Cut(text, "/")
	if !isRange {
		to = from
	}
	form := dateForm
	if len(from) == len(yearlyForm) {
		form, s.yearly = yearlyForm, true
	}
	var err, lastErr error
	s.first, err = time.Parse(form, from)
	s.last, lastErr = time.Parse(form, to)
	return s, err == nil && lastErr == nil && (s.yearly || !s.last.Before(s.first))
}

// Dates returns the entries of the list.
func (b Blackout) Dates() []string {
	if b == "" {
		return []string{}
	}
	return strings.Split(string(b), ",")
}

// Join returns the days of both lists.
func (b Blackout) Join(other Blackout) Blackout {
	if b == "" || other == "" {
		return b + other
	}
	return b + "," + other
}

// Has reports whether a time lies on one of the days.
func (b Blackout) Has(at time.Time) bool { return !b.After(at).Equal(at) }

// After returns at or, if at lies on one of the days, the first moment after it that does not;
// zero if there is none for years.
func (b Blackout) After(at time.Time) time.Time {
	if b == "" {
		return at
	}
	var spans []span
	for _, text := range b.Dates() {
		if s, ok := parseSpan(text); ok {
			spans = append(spans, s)
		}
	}
	y, m, d := at.UTC().Date()
	for day := time.Date(y, m, d, 0, 0, 0, 0, time.UTC); day.Sub(at) < horizon; day = day.AddDate(0, 0, 1) {
		if !covered(spans, day) {
			if day.Before(at) {
				return at
			}
			return day
		}
	}
	return time.Time{}
}

// endless reports whether the days that begin with one of the entries do not end for years.
func (b Blackout) endless() bool {
	for _, text := range b.Dates() {
		if s, ok := parseSpan(text); ok && !s.yearly && b.After(s.first).IsZero() {
			return true
		}
	}
	return false
}

func covered(spans []span, day time.Time) bool {
	for _, s := range spans {
		if s.has(day) {
			return true
		}
	}
	return false
}

func (s span) has(day time.Time) bool {
	if !s.yearly {
		return !day.Before(s.first) && !day.After(s.last)
	}
	number := func(t time.Time) int { return int(t.Month())*100 + t.Day() }
	n, first, last := number(day), number(s.first), number(s.last)
	if first <= last {
		return n >= first && n <= last
	}
	return n >= first || n <= last // over New Year
}
