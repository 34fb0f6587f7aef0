package fault

import "testing"

func TestClip(t *testing.T) {
	for _, tt := range []struct {
		text  string
		limit int
		want  string
	}{
		{text: "", limit: 3, want: ""},
		{text: "abc", limit: 3, want: "abc"},
		{text: "abcd", limit: 3, want: "abc…"},
		{text: "aä", limit: 2, want: "a…"}, // ä has two bytes
	} {
		if got := Clip(tt.text, tt.limit); got != tt.want {
			t.Errorf("Clip(%q, %d) = %q, want %q", tt.text, tt.limit, got, tt.want)
		}
	}
}
