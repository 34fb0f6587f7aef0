package recipe

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/keyturn/keyturn/internal/fault"
)

// maxProblems is the maximum number of problems that one error reports. maxMessage is the maximum
// number of bytes of HCL's own words in each of them.
const (
	maxProblems = 50
	maxMessage  = 500
)

// A problem is one thing wrong with a recipe's text.
type problem struct {
	at          hcl.Range
	text        string
	unsupported bool // the feature is planned
}

// problems collects all problems of a text, so that one error can report them together.
type problems []problem

func (ps *problems) add(at hcl.Range, format string, args ...any) {
	*ps = append(*ps, problem{at: at, text: fmt.Sprintf(format, args...)})
}

func (ps *problems) unsupported(at hcl.Range, format string, args ...any) {
	*ps = append(*ps, problem{at, fmt.Sprintf(format, args...), true})
}

// diagnostics adds the errors that HCL found.
func (ps *problems) diagnostics(ds hcl.Diagnostics) {
	for _, d := range ds {
		if d.Severity != hcl.DiagError {
			continue
		}
		at := hcl.Range{}
		if d.Subject != nil {
			at = *d.Subject
		}
		text := d.Summary
		if d.Detail != "" {
			text += ": " + d.Detail
		}
		ps.add(at, "%s", clip(text))
	}
}

// clip shortens a message from HCL. Such a message can be long, because try lists the messages of
// all its arguments.
func clip(text string) string {
	if len(text) > maxMessage {
		return strings.ToValidUTF8(text[:maxMessage], "") + "…"
	}
	return text
}

// err returns one error that reports all problems in order of position, or nil if there are none.
func (ps problems) err(file string) error {
	if len(ps) == 0 {
		return nil
	}
	slices.SortStableFunc(ps, func(a, b problem) int {
		return cmp.Or(cmp.Compare(a.at.Start.Line, b.at.Start.Line), cmp.Compare(a.at.Start.Column, b.at.Start.Column))
	})
	kind := fault.Unsupported
	var lines []string
	seen := map[string]bool{}
	for _, p := range ps {
		if !p.unsupported {
			kind = fault.Invalid
		}
		text := strings.ReplaceAll(p.text, "\n", " ")
		line := fmt.Sprintf("%s:%d:%d: %s", file, max(p.at.Start.Line, 1), max(p.at.Start.Column, 1), text)
		if !seen[line] {
			seen[line] = true
			lines = append(lines, line)
		}
	}
	if n := len(lines) - maxProblems; n > 0 {
		lines = append(lines[:maxProblems], fmt.Sprintf("%s: and %d more", file, n))
	}
	return fault.New("recipe.Parse", kind, "%s", strings.Join(lines, "\n"))
}

func position(r hcl.Range) string {
	return fmt.Sprintf("%s:%d:%d", r.Filename, r.Start.Line, r.Start.Column)
}
