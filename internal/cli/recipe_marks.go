package cli

import (
	"fmt"
	"slices"
	"strings"
)

// changeMark marks the lines of a new recipe that its author must fill in. A recipe with a mark is
// not tested.
const changeMark = "# CHANGE"

// unfilledLines returns the numbers of the lines of a recipe that still have the mark.
func unfilledLines(source string) (lines []string) {
	n := 0
	for line := range strings.Lines(source) {
		if n++; strings.Contains(line, changeMark) {
			lines = append(lines, fmt.Sprint(n))
		}
	}
	return slices.Clip(lines)
}
