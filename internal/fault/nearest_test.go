package fault

import "testing"

func TestEditDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"get", "gte", 2}, {"read", "raed", 2}, {"read", "red", 1}, {"", "abc", 3}, {"kitten", "sitting",
		3}} {
		if got := editDistance(c.a, c.b); got != c.want {
			t.Errorf("editDistance(%q, %q) = %d, want %d", c.a, c.b, got, c.want)
		}
	}
}

func TestNearest(t *testing.T) {
	known := []string{"log_level", "log_file", "ui"}
	for word, want := range map[string]string{
		"log_levle": "log_level", "log_fil": "log_file", "foo": "", "u": "", "iu": "", "": "", "uii": "ui",
	} {
		if got := Nearest(word, known); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", word, got, want)
		}
	}
}
