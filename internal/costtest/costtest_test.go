package costtest

import (
	"errors"
	"strings"
	"testing"
)

var errRefused = errors.New("refused")

// limited refuses above a limit, and reads what is below.
func limited(limit int, read func(text string)) func(string) error {
	return func(text string) error {
		if len(text) > limit {
			return errRefused
		}
		read(text)
		return nil
	}
}

func TestCheck(t *testing.T) {
	linear := func(text string) { _ = strings.Fields(text) }
	count := 0
	square := func(text string) {
		for i := range text {
			for j := range i {
				count += int(text[j] & 1)
			}
		}
	}
	const limit = 128 << 10
	for _, tt := range []struct {
		name string
		p    Parser
		want string
	}{
		{"linear", Parser{Limit: limit, Parse: limited(limit, linear)}, ""},
		{"without a limit", Parser{Limit: limit, Parse: func(text string) error { linear(text); return nil }},
			"the limit is 131072"},
		{"quadratic", Parser{Limit: 16 << 10, Steps: 20, Parse: limited(16<<10, square)}, "and may cost "},
	} {
		_, err := tt.p.check(Shape{"x", "a b ", "y"})
		if !measurable && tt.name == "quadratic" {
			continue
		}
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

func TestFill(t *testing.T) {
	for _, tt := range []struct {
		s          Shape
		limit      int
		text, long string
	}{
		{Shape{"a", "bc", "d"}, 6, "abcbcd", "abcbcbcd"},
		{Shape{"a", "bc", "d"}, 7, "abcbcd", "abcbcbcd"},
		{Shape{"a", "", "d"}, 7, "", ""},
		{Shape{"", "x§,", ""}, 10, "x0,x1,x2,", "x0,x1,x2,x3,"},
		{Shape{"aaaa", "b", "d"}, 5, "", ""},
	} {
		if text, long := tt.s.fill(tt.limit); text != tt.text || long != tt.long {
			t.Errorf("%v up to %d: %q, %q", tt.s, tt.limit, text, long)
		}
	}
}
