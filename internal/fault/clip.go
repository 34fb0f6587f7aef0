package fault

import "strings"

// Clip shortens a text that an error, a warning or a record repeats. A text longer than limit
// bytes is cut there, without splitting a character, and ends in "…".
func Clip(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	return strings.ToValidUTF8(text[:limit], "") + "…"
}
