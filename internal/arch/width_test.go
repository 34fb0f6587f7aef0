package arch

import (
	"go/ast"
	"go/token"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

// Lines of code end before column capCode, lines that are only comment before capComment; a tab
// counts as four columns.
const capCode, capComment = 120, 100

// longText is the length of a text that is not broken in tests.
const longText = 60

var aligned = regexp.MustCompile(` {2,}`)

func TestWidths(t *testing.T) {
	for _, s := range tree(t) {
		report(t, checkWidths(s))
	}
}

// checkWidths passes over lines with a raw string, which cannot be broken: tags of fields,
// statements and texts of others.
func checkWidths(s *source) []finding {
	if s.generated {
		return nil
	}
	raw := map[int]bool{}
	ast.Inspect(s.file, func(n ast.Node) bool {
		b, ok := n.(*ast.BasicLit)
		if ok && b.Kind == token.STRING && (b.Value[0] == '`' || s.suffix && len(b.Value) > longText) {
			for l := s.line(b.Pos()); l <= s.line(b.End()); l++ {
				raw[l] = true
			}
		}
		return true
	})
	var found []finding
	at := 0
	for line := range strings.Lines(s.text) {
		at++
		line = strings.TrimRight(line, "\n")
		most := capCode
		if strings.HasPrefix(strings.TrimSpace(line), "//") {
			most = capComment
		}
		if s.suffix {
			line = aligned.ReplaceAllString(line, " ")
		}
		if n := utf8.RuneCountInString(line) + 3*strings.Count(line, "\t"); n >= most && !raw[at] {
			pos := s.fset.File(s.file.Package).LineStart(at)
			found = append(found, s.found(pos, "line of %d columns: break it before column %d", n, most))
		}
	}
	return found
}

func TestCheckWidths(t *testing.T) {
	long := strings.Repeat("x", capCode-len("var a = \"\""))
	for text, want := range map[string]int{
		"var a = \"" + long + "\"":             1,
		"var a = \"" + long[1:] + "\"":         0,
		"var a = `" + long + "\n" + long + "`": 0,
		"// " + long[:capComment-3]:            1,
		"// " + long[:capComment-4]:            0,
	} {
		s, err := parse("internal/x/x.go", "package x\n\n"+text+"\n")
		if err != nil {
			t.Fatal(err)
		}
		if found := checkWidths(s); len(found) != want {
			t.Errorf("%.40q…: %v, want %d findings", text, found, want)
		}
	}
}
