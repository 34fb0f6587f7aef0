// Package glob matches names against patterns in which each * stands for any text, also
// for none and for slashes. There is nothing else that is special: no ?, no classes, no
// escapes, so that no pattern is malformed and matches nothing by surprise.
package glob

import "strings"

// Match reports whether the pattern stands for the whole of s. Its cost is linear in
// both: each part between two * is searched for once, where the one before it ended.
func Match(pattern, s string) bool {
	head, rest, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == s
	}
	s, ok := strings.CutPrefix(s, head)
	for ok {
		var part string
		if part, rest, star = strings.Cut(rest, "*"); !star {
			return strings.HasSuffix(s, part)
		}
		_, s, ok = strings.Cut(s, part)
	}
	return false
}
