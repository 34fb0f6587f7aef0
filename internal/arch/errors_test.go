package arch

import (
	"cmp"
	"flag"
	"go/ast"
	"go/token"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

const errorsGolden = "testdata/errors.golden"

// A message is one text of an error that a client or an operator may read.
type message struct {
	dir, kind, op string
	text          string // as a format
	args          []ast.Expr
	at            token.Pos
	src           *source
}

// String is the message's line in the golden list.
func (m message) String() string {
	return strings.TrimPrefix(m.dir, "internal/") + "\t" + cmp.Or(m.kind, "-") + "\t" + cmp.Or(m.op, "-") + "\t" +
		strconv.Quote(m.text)
}

func (m message) found(format string, args ...any) finding { return m.src.found(m.at, format, args...) }

// TestErrors compares all messages with the golden list, and checks the rules: a message names the
// field, the cause and the next step.
func TestErrors(t *testing.T) {
	all := messages(tree(t))
	used := map[string]bool{}
	for _, m := range all {
		for _, f := range checkMessage(m) {
			if _, exempt := evident[m.text]; exempt {
				used[m.text] = true
				continue
			}
			t.Error(f)
		}
		report(t, checkArgs(m))
	}
	for text := range evident {
		if !used[text] {
			t.Errorf("evident: %q needs no exemption, or is no message any more: remove it", text)
		}
	}
	var lines []string
	for _, m := range all {
		lines = append(lines, m.String())
	}
	slices.Sort(lines)
	got := strings.Join(slices.Compact(lines), "\n") + "\n"
	if *update {
		if err := os.WriteFile(errorsGolden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(errorsGolden)
	if err != nil {
		t.Fatal(err)
	}
	if d := gocmp.Diff(string(want), got); d != "" {
		t.Errorf(
			"the errors are not those of %s; read what changed, then run: go test ./internal/arch -run TestErrors "+
				"-update\n%s",
			errorsGolden,
			d)
	}
}

// nextStep matches the part of a message that says what to do: a clause after a semicolon, a
// question, an imperative, or the wanted form. A text that ends in a verb after a colon is
// completed by another text that has it.
var nextStep = regexp.MustCompile(
	`; \S+ \S+|\?|: %[svw]$|^%[sv]$|: ".*"|(?i:\b(want|must|needs?|needed|use|try|run|write|give|name|send|choose|leave|put|take|` +
		`say|ask|make|add|set|let|shorten|only|at most|at least|known|privileges required)\b)`)

// selfEvident are the kinds whose messages need no next step.
var selfEvident = map[string]bool{
	"Internal": true, // our mistake: the log has the rest, the client can do nothing
	"Usage":    true, // the command line adds how to get help
	"Hint":     true, // it is the next step
}

// checkMessage checks the rules for a message.
func checkMessage(m message) []finding {
	var found []finding
	say := func(format string, args ...any) { found = append(found, m.found(format, args...)) }
	text := m.text
	switch {
	case text == "" && m.kind == "NotFound":
		return nil // a 404 without a message, as Vault's: the path says it all
	case text == "":
		say("the message is empty: name the field, the cause and the next step")
		return found
	}
	// a line of its own
	if dot := strings.HasSuffix(text, ".") || strings.HasSuffix(text, "!"); dot && m.kind != "Hint" {
		say("%q ends like a sentence: leave the dot out", text)
	}
	if strings.TrimSpace(text) != text || strings.Contains(text, "\n") {
		say("%q has space around it or a line's end in it", text)
	}
	first, _, _ := strings.Cut(text, " ")
	if first != strings.ToLower(first) && first != "PostgreSQL" && !verb.MatchString(first) {
		say("%q begins with a capital letter: begin in lower case, but for an abbreviation", text)
	}
	if !selfEvident[m.kind] && !nextStep.MatchString(text) {
		say("%q has no next step: say what is wanted or what to do, after a semicolon", text)
	}
	return found
}

// secretWords occur in names of values that no message may print.
var secretWords = regexp.MustCompile(`(?i)(password|passwd|secret|token|plaintext|credential|private)`)

// checkArgs checks what a message prints: neither a secret nor the text of a third party.
func checkArgs(m message) []finding {
	var found []finding
	for _, a := range m.args {
		ast.Inspect(a, func(n ast.Node) bool {
			switch x := n.(type) {
			case *ast.CallExpr:
				if sel, ok := x.Fun.(*ast.SelectorExpr); ok && sel.Sel.Name == "Reveal" {
					found = append(found, m.found("%q prints a secret", m.text))
				}
				if id, ok := x.Fun.(*ast.Ident); ok && (id.Name == "len" || id.Name == "cap") {
					return false
				}
			case *ast.Ident:
				if secretWords.MatchString(x.Name) && publicNames[x.Name] == "" {
					found = append(found,
						m.found("%q prints %s: if it is no secret, list it in publicNames", m.text, x.Name))
				}
			}
			return true
		})
	}
	return found
}
