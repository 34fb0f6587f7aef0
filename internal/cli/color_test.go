package cli

import (
	"bytes"
	"testing"
)

// TestColorAllowed checks what switches colours off.
func TestColorAllowed(t *testing.T) {
	for name, tt := range map[string]struct {
		env     map[string]string
		format  string
		noColor bool
		want    bool
	}{
		"a terminal":         {nil, "table", false, true},
		"NO_COLOR":           {map[string]string{"NO_COLOR": "1"}, "table", false, false},
		"VAULT_CLI_NO_COLOR": {map[string]string{"VAULT_CLI_NO_COLOR": "1"}, "table", false, false},
		"TERM=dumb":          {map[string]string{"TERM": "dumb"}, "table", false, false},
		"-no-color":          {nil, "table", true, false},
		"JSON":               {nil, "json", false, false},
	} {
		s := &session{env: Env{Getenv: func(name string) string { return tt.env[name] }},
			out: printer{stdout: new(bytes.Buffer), format: tt.format, noColor: tt.noColor}}
		if got := colorAllowed(s); got != tt.want {
			t.Errorf("%s: %t", name, got)
		}
		if useColor(s) {
			t.Errorf("%s: output that is not a terminal has colours", name)
		}
	}
}

func TestColorOf(t *testing.T) {
	for name, tt := range map[string]struct {
		data map[string]any
		want color
	}{
		"healthy": {map[string]any{"state": "scheduled", "overdue_seconds": 0, "failures": 0, "attempts": 0}, plain},
		"waiting": {map[string]any{"state": "grace"}, yellow},
		"paused":  {map[string]any{"state": "scheduled", "pause_reason": "by ann"}, yellow},
		"alert":   {map[string]any{"state": "scheduled", "alert": "a"}, red},
		"overdue": {map[string]any{"state": "scheduled", "overdue_seconds": 700}, red},
		"failed":  {map[string]any{"state": "creating", "attempts": 1}, red},
	} {
		if got := colorOf(tt.data); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
	if got, want := paint([]string{"a", "b", "c"}, []color{plain, red}), "a\n\x1b[31mb\x1b[0m\nc\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
