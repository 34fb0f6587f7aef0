// Package arch contains tests of the code itself: imports, sizes, documentation, forbidden
// spellings. The tables that they use are those of ARCHITECTURE.md.
//
// It reads files rather than calling the go command, so that the test cache notices changes of
// every file. A rule is a function of one parsed file, or of the whole tree, that returns
// findings; each has a test that shows it a violation.
package arch

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const (
	root   = "../.."
	module = "github.com/keyturn/keyturn"
)

// A source is one Go file of the tree.
type source struct {
	path string // from the root, with slashes
	dir  string
	text string
	fset *token.FileSet
	file *ast.File
	// test: a _test.go file, or a file of a package that only tests use.
	test bool
	// suffix: a _test.go file.
	suffix    bool
	generated bool
}

// A finding is a place that violates a rule.
type finding struct {
	at  string // "internal/lease/lease.go:12"
	say string // what is wrong, and what to write instead
}

func (f finding) String() string { return f.at + ": " + f.say }

func (s *source) found(at token.Pos, format string, args ...any) finding {
	return finding{fmt.Sprintf("%s:%d", s.path, s.line(at)), fmt.Sprintf(format, args...)}
}

func (s *source) line(p token.Pos) int { return s.fset.Position(p).Line }

var generatedMark = regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`)

func parse(name, text string) (*source, error) {
	s := &source{path: name, dir: path.Dir(name), text: text, fset: token.NewFileSet()}
	s.suffix = strings.HasSuffix(name, "_test.go")
	s.test = s.suffix || forTests(s.dir)
	s.generated = generatedMark.MatchString(text)
	var err error
	s.file, err = parser.ParseFile(s.fset, name, text, parser.ParseComments)
	return s, err
}

// forTests reports whether a folder contains only code for tests: suites, fakes, whole-system
// tests and benchmarks.
func forTests(dir string) bool {
	top, _, _ := strings.Cut(dir, "/")
	base := path.Base(dir)
	return top == "test" || top == "bench" || base == "faulty" || strings.HasSuffix(base, "test")
}

// imports yields the paths that the file imports, with their positions.
func (s *source) imports() map[string]token.Pos {
	all := make(map[string]token.Pos, len(s.file.Imports))
	for _, spec := range s.file.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err == nil {
			all[p] = spec.Pos()
		}
	}
	return all
}

var load = sync.OnceValues(func() ([]*source, error) {
	var all []*source
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if file != root && (name == "testdata" || name == "vendor" || name[0] == '.' || name[0] == '_') {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		s, err := parse(filepath.ToSlash(rel), string(text))
		if err != nil {
			return err
		}
		all = append(all, s)
		return nil
	})
	return all, err
})

// tree returns every Go file, parsed once for all tests.
func tree(t *testing.T) []*source {
	t.Helper()
	all, err := load()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		t.Fatal("no Go files found; the walk is broken")
	}
	return all
}

// counted reports whether a file counts for sizes.
func (s *source) counted() bool { return !s.suffix && !s.generated }

func report(t *testing.T, found []finding) {
	t.Helper()
	for _, f := range found {
		t.Error(f)
	}
}

// sample parses Go source as a file with the given name.
func sample(t *testing.T, name, text string) *source {
	t.Helper()
	s, err := parse(name, text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
