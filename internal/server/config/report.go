package config

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/hashicorp/hcl/hcl/ast"
)

// A report collects the mistakes in a configuration, and the settings without effect.
type report struct {
	path     string         // of the file that is being read
	order    map[string]int // of the files, for sorting problems
	problems Problems
	warnings Problems
}

func newReport() *report { return &report{order: map[string]int{}} }

// begin says which file is being read.
func (r *report) begin(path string) { r.path, r.order[path] = path, len(r.order) }

// maxProblems and maxWarnings limit a report, because each entry may cost a search for a similar
// name.
const (
	maxProblems = 200
	maxWarnings = 200
)

// full reports whether enough is known to be wrong.
func (r *report) full() bool { return len(r.problems) >= maxProblems }

func (r *report) problem(at Position, format string, args ...any) {
	if r.full() {
		return
	}
	r.problems = append(r.problems, Problem{at, fmt.Sprintf(format, args...)})
}

func (r *report) warn(at Position, format string, args ...any) {
	if len(r.warnings) >= maxWarnings {
		return
	}
	r.warnings = append(r.warnings, Problem{at, fmt.Sprintf(format, args...)})
}

// at is the position of a node.
func (r *report) at(n ast.Node) Position { return Position{r.path, n.Pos().Line} }

// sorted are problems in the order of the files' lines, what belongs to no file last.
func (r *report) sorted(all Problems) Problems {
	rank := func(file string) int {
		if n, ok := r.order[file]; ok {
			return n
		}
		return len(r.order)
	}
	slices.SortStableFunc(all, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(rank(a.At.File), rank(b.At.File)), cmp.Compare(a.At.Line, b.At.Line))
	})
	return slices.Compact(all)
}
