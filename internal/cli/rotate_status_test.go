package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/engine/rotation/recipe"
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

// TestNewRecipeShowsOutcomes: the beginnings of a recipe have an example of what a reply means otherwise than by its status, and that
// example is right once it is taken in.
func TestNewRecipeShowsOutcomes(t *testing.T) {
	var kept []string
	for line := range strings.Lines(newRecipe) {
		for _, example := range []string{`  # fail "exhausted" {`, "  #   when =", "  # }"} {
			if strings.HasPrefix(line, example) {
				line = strings.Replace(line, "# ", "", 1)
			}
		}
		kept = append(kept, line)
	}
	source := strings.Join(kept, "")
	if !strings.Contains(source, "\n  fail \"exhausted\" {\n") {
		t.Fatal("there is no example of an outcome")
	}
	if _, err := recipe.Provider.Parse("new.hcl", []byte(strings.ReplaceAll(source, "NAME", "new"))); err != nil {
		t.Errorf("a new recipe with its example taken in: %v", err)
	}
}
