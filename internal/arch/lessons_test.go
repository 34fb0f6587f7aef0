package arch

import (
	"go/ast"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// lessonSuite has the tests that all rotating things share.
const lessonSuite = "internal/rotate/rotatetest/lessons.go"

// TestLessons compares docs/lessons.md with the tests that it names: each exists, its comment has
// the threads of the row, and the page has every thread in a file threads_test.go or the suite.
func TestLessons(t *testing.T) {
	text, err := os.ReadFile(root + "/docs/lessons.md")
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]string{}
	for _, s := range tree(t) {
		for _, d := range s.file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if ok && f.Recv == nil && (s.suffix && strings.HasPrefix(f.Name.Name, "Test") || s.path == lessonSuite) {
				tests[s.path+":"+f.Name.Name] = f.Doc.Text()
			}
		}
	}
	for _, complaint := range checkLessons(string(text), tests) {
		t.Error(complaint)
	}
}

var (
	threadIn   = regexp.MustCompile(`\[([^\]]+)\]`)
	linkOf     = regexp.MustCompile(`(?m)^\[([^\]]+)\]: (\S+)$`)
	testIn     = regexp.MustCompile("`([^` ]+(?:_test\\.go:Test\\w+|/lessons\\.go:\\w+))`")
	linkInText = regexp.MustCompile(`(?m)^https://\S+$`)
)

// checkLessons checks a page. tests are the comments of all tests, by "file:name".
func checkLessons(page string, tests map[string]string) (wrong []string) {
	links := map[string]string{}
	for _, m := range linkOf.FindAllStringSubmatch(page, -1) {
		links[m[1]] = m[2]
	}
	rows := 0
	for line := range strings.Lines(page) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 || !strings.Contains(cells[1], "[") {
			continue
		}
		var threads []string
		for _, m := range threadIn.FindAllStringSubmatch(cells[1], -1) {
			if links[m[1]] == "" {
				wrong = append(wrong, "docs/lessons.md: ["+m[1]+"] has no link at the end of the page")
			}
			threads = append(threads, links[m[1]])
		}
		named := testIn.FindAllStringSubmatch(line, -1)
		if len(cells) == 6 {
			if rows++; len(named) == 0 {
				wrong = append(wrong, "docs/lessons.md: the row of "+strings.TrimSpace(cells[1])+
					" names no test, as path/of_test.go:TestName")
			}
		}
		for _, m := range named {
			comment, there := tests[m[1]]
			if !there {
				wrong = append(wrong, "docs/lessons.md: there is no test "+m[1])
				continue
			}
			in := linkInText.FindAllString(comment, -1)
			for _, thread := range threads {
				if !slices.Contains(in, thread) {
					wrong = append(wrong,
						m[1]+": its comment lacks "+thread+", which docs/lessons.md says that it is of")
				}
			}
		}
	}
	if rows == 0 {
		wrong = append(wrong, "docs/lessons.md: no row was found: the form of the tables has changed")
	}
	for name, comment := range tests {
		for _, link := range linkInText.FindAllString(comment, -1) {
			if (strings.Contains(name, "threads_test.go:") || strings.HasPrefix(name, lessonSuite)) &&
				!strings.Contains(page, ": "+link+"\n") {
				wrong = append(wrong, name+": docs/lessons.md lacks "+link)
			}
		}
	}
	return wrong
}

func TestCheckLessonsFinds(t *testing.T) {
	const link = "https://example.com/1"
	page := "| threads | hurt | does | tests |\n|---|---|---|---|\n" +
		"| [a#1] | x | y | `p/x_test.go:TestA` |\n\n[a#1]: " + link + "\n"
	right := map[string]string{"p/x_test.go:TestA": "TestA is right.\n\n" + link + "\n"}
	for name, tt := range map[string]struct {
		page  string
		tests map[string]string
		want  int
	}{
		"right":           {page, right, 0},
		"no such test":    {page, map[string]string{"p/x_test.go:TestB": link}, 1},
		"no thread in it": {page, map[string]string{"p/x_test.go:TestA": "TestA is wrong."}, 1},
		"no link":         {strings.ReplaceAll(page, ": "+link, ""), right, 2},
		"no test":         {strings.ReplaceAll(page, "x_test.go:TestA", "x.go"), right, 1},
		"no table":        {"# Lessons", right, 1},
		"thread of nowhere": {page,
			map[string]string{"p/x_test.go:TestA": link, "p/threads_test.go:TestB": "https://example.com/2"}, 1},
	} {
		if got := checkLessons(tt.page, tt.tests); len(got) != tt.want {
			t.Errorf("%s: %q, want %d complaints", name, got, tt.want)
		}
	}
}
