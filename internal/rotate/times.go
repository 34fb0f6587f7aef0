package rotate

import (
	"fmt"
	"strings"
	"time"
)

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func date(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// when words a future time and how far away it is.
func when(at, now time.Time) string {
	left := at.Sub(now)
	switch {
	case left < time.Second:
		return "now"
	case left < time.Hour:
		return fmt.Sprintf("at %s (in %s)", at.UTC().Format("15:04:05"), Rough(left))
	case left < 24*time.Hour:
		return fmt.Sprintf("at %s (in %s)", at.UTC().Format("15:04"), Rough(left))
	}
	return fmt.Sprintf("on %s (in %s)", at.UTC().Format("2006-01-02 15:04"), Rough(left))
}

// bareWhen is when without its preposition, to follow "until".
func bareWhen(at, now time.Time) string {
	return strings.TrimPrefix(strings.TrimPrefix(when(at, now), "at "), "on ")
}

// notBefore returns at, or now if at has passed. A zero time stays zero.
func notBefore(at, now time.Time) time.Time {
	if at.IsZero() {
		return at
	}
	return later(at, now)
}

// Rough words a duration in one unit.
func Rough(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", max(int(d/time.Second), 1))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d/time.Minute))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d/time.Hour))
	}
	return fmt.Sprintf("%d days", int(d/(24*time.Hour)))
}
