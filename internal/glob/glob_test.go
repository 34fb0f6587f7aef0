package glob_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/internal/glob"
)

func TestMatch(t *testing.T) {
	for _, tt := range []struct {
		pattern, s string
		want       bool
	}{
		{"", "", true}, {"", "a", false}, {"a", "a", true}, {"a", "ab", false}, {"*", "", true}, {"*", "a/b", true},
		{"team/*", "team/pa", true}, {"team/*", "team/a/b", true}, {"team/*", "team", false},
		{"*-prod", "a-prod", true},
		{"*-prod", "a-prod-b", false}, {"a*b*c", "a1b2c", true}, {"a*b*c", "ac", false}, {"a*a", "a", false},
		{"a*a", "aa", true},
		{"**", "x", true}, {"*a*", "bab", true}, {"*a*", "b", false}, {"admin[*", "admin[x", true},
		{"[a-z]", "b", false}, {"?", "b", false},
		{`\*`, "*", false}, {"*ab", "aab", true},
	} {
		if got := glob.Match(tt.pattern, tt.s); got != tt.want {
			t.Errorf("Match(%q, %q) = %v, want %v", tt.pattern, tt.s, got, tt.want)
		}
	}
}

// FuzzMatch compares with the same question put to a regular expression.
func FuzzMatch(f *testing.F) {
	f.Add("a*b*c", "a1b2c")
	f.Add("*", "\n")
	f.Fuzz(func(t *testing.T, pattern, s string) {
		if len(pattern) > 200 || strings.ToValidUTF8(pattern, "") != pattern || strings.ToValidUTF8(s, "") != s {
			t.Skip()
		}
		re, err := regexp.Compile(`(?s)\A` + strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, `.*`) + `\z`)
		if err != nil || strings.Contains(pattern, `\`) {
			t.Skip()
		}
		if got, want := glob.Match(pattern, s), re.MatchString(s); got != want {
			t.Errorf("Match(%q, %q) = %v, want %v", pattern, s, got, want)
		}
	})
}
