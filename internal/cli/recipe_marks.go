package cli

import (
	"fmt"
	"slices"
	"strings"
)

// changeMark marks the places of a new recipe that its author must fill in. A recipe that still has one is not tested.
const changeMark = "# CHANGE"

// marked are the lines of a recipe that are still to be filled in.
func marked(source string) (lines []string) {
	n := 0
	for line := range strings.Lines(source) {
		if n++; strings.Contains(line, changeMark) {
			lines = append(lines, fmt.Sprint(n))
		}
	}
	return slices.Clip(lines)
}
