package config

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/hcl/ast"

	"github.com/keyturn/keyturn/internal/fault"
)

// A Position is a line of a file.
type Position struct {
	File string
	Line int // 0: the file as a whole
}

// String returns "file:line".
func (p Position) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d", p.File, p.Line)
}

// A Problem is one mistake in a configuration.
type Problem struct {
	At   Position
	Text string
}

// Problems are all mistakes in a configuration, in the order of its lines. They are an error.
type Problems []Problem

// Error returns one line for each problem.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, one := range p {
		lines[i] = one.Text
		if one.At.File != "" {
			lines[i] = one.At.String() + ": " + one.Text
		}
	}
	return strings.Join(lines, "\n")
}

// A report collects the mistakes in a configuration, and the settings without effect.
type report struct {
	path     string         // of the file that is being read
	order    map[string]int // of the files, for sorting problems
	places   []place        // where an unknown key may belong
	problems Problems
	warnings Problems
}

// A place is a block and the names of its keys.
type place struct {
	block string
	names []string
}

// begin sets the file that is being read.
func (r *report) begin(path string) { r.path, r.order[path] = path, len(r.order) }

// maxProblems limits problems and warnings, because each may cost a search for a similar name.
const maxProblems = 200

// full reports whether further problems are ignored.
func (r *report) full() bool { return len(r.problems) >= maxProblems }

func (r *report) problem(at Position, format string, args ...any) {
	if r.full() {
		return
	}
	r.problems = append(r.problems, Problem{at, fmt.Sprintf(format, args...)})
}

func (r *report) warn(at Position, format string, args ...any) {
	if len(r.warnings) >= maxProblems {
		return
	}
	r.warnings = append(r.warnings, Problem{at, fmt.Sprintf(format, args...)})
}

// at returns the position of a node.
func (r *report) at(n ast.Node) Position { return Position{r.path, n.Pos().Line} }

// sorted returns problems in the order of files and lines, those without a file last.
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

// cause returns an error of the file system without the path, which the message already has.
func cause(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err
	}
	return err
}

// Reason returns the text of an error for the administrator: the message, then the cause.
func Reason(err error) string {
	text := fault.Message(err)
	if text == "" {
		return err.Error()
	}
	for e := err; e != nil; e = errors.Unwrap(e) {
		if _, own := e.(*fault.Error); !own && !strings.Contains(e.Error(), text) {
			return text + ": " + e.Error()
		}
	}
	return text
}
