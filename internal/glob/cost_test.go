package glob_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/internal/costtest"
	"github.com/keyturn/keyturn/internal/glob"
)

// FuzzMatchCost: matching is linear in pattern and text; both are fields of requests. The two
// stand around a line break.
func FuzzMatchCost(f *testing.F) {
	const limit = 64 << 10
	costtest.Fuzz(f, costtest.Parser{Limit: limit, Parse: func(text string) error {
		if len(text) > limit {
			return errors.New("too long")
		}
		pattern, s, _ := strings.Cut(text, "\n")
		if s == "" {
			s = strings.Repeat("a", len(text))
		}
		glob.Match(pattern, s)
		return nil
	}}, costtest.Shape{Unit: "*a"}, costtest.Shape{Unit: "*"}, costtest.Shape{Unit: "*aab"},
		costtest.Shape{Head: "*aaaaaaaaaaab*\n", Unit: "a"})
}
