package cli

import (
	"testing"
	"time"
)

func TestRelative(t *testing.T) {
	now := time.Date(2026, 3, 9, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]string{
		"":                            "-",
		"2026-03-09T12:00:00.5Z":      "now",
		"2026-03-09T12:00:42Z":        "in 42 s",
		"2026-03-09T12:14:59Z":        "in 14 min",
		"2026-03-09T09:00:00Z":        "3 h ago",
		"2026-03-10T23:59:59.9Z":      "in 35 h",
		"2026-05-08T12:00:00.123456Z": "in 60 days",
	} {
		if got := relative(text, now); got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
}
