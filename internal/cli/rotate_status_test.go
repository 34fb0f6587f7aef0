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

// TestRotationNote checks that a rotation that has continued after an error does not show the
// error.
func TestRotationNote(t *testing.T) {
	failed := func(states ...string) (all []any) {
		for _, state := range states {
			all = append(all, map[string]any{"state": state, "text": "broken"})
		}
		return all
	}
	for name, tt := range map[string]struct {
		turn map[string]any
		want string
	}{
		"done":    {map[string]any{"result": "done", "errors": failed("creating", "creating")}, "went on after 2 errors"},
		"once":    {map[string]any{"result": "grace", "errors": failed("creating")}, "went on after 1 error"},
		"failing": {map[string]any{"result": "retiring", "errors": failed("creating", "retiring")}, "broken"},
		"failed":  {map[string]any{"result": "failed", "errors": failed("creating")}, "broken"},
		"rolled back": {map[string]any{"result": "failed", "errors": failed("creating"), "rolled_back_because": "why"},
			"why"},
		"well": {map[string]any{"result": "done"}, ""},
	} {
		if got := rotationNote(tt.turn); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}
