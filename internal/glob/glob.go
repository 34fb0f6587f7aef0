// Package glob matches names against patterns in which each * matches any text, including none and
// slashes. Nothing else is special: no ?, no classes, no escapes. Therefore every pattern is
// valid.
package glob

import "strings"

// Match reports whether the pattern matches the whole of s. Its cost is linear in both, because
// each part between two * is searched for once, after the previous one.
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
