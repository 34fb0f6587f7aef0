package wire

import (
	"strings"
)

// SplitList takes the text of a list apart, as [Decode] does.
func SplitList(text string) []string {
	var out []string
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}

// A text that has one form of several spellings, such as a policy's name in the body of a
// request: Decode stores the form, and a Form tells it.
type canonical interface{ Canonical() string }
