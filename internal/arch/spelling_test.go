package arch

import (
	"go/ast"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A spelling is a forbidden text, and its replacement.
type spelling struct {
	not     string // a regular expression over one line of code
	instead string
	but     []string // folders where it is right; "tests": in any test; "main": in any command
}

// hostFiles are folders that may open files of this machine, because the operator names them, not
// a client.
var hostFiles = []string{
	"internal/hostfile", "internal/audit/file", "internal/storage/pebble", "internal/seal/static", "internal/server",
	"internal/cli", "internal/demo", "internal/plugins", "cmd", "tools",
}

var spellings = []spelling{
	{`errors\.Wrapf?\(`, `fmt.Errorf("doing x: %w", err), or fault.Wrap at a room's door`, nil},
	{`\binterface\{\}`, "any", nil},
	{`\bos\.(Open|OpenFile|OpenRoot|OpenInRoot|ReadFile|ReadDir|DirFS|Stat|Lstat|Readlink|Create|CreateTemp|WriteFile|Mkdir|MkdirAll|MkdirTemp|Rename|Remove|RemoveAll|Symlink|Link|Chmod|Truncate)\(`,
		"hostfile: files of this machine are not a client's", append(hostFiles, "tests")},
	{`\bioutil\.`, "os or io", nil},
	{`\bhttp\.(DefaultClient|DefaultTransport|Get|Post|PostForm|Head)\b`,
		"outbound's dialer on the server, a client with a timeout elsewhere", []string{"tests"}},
	{`(^|[^.\w])((net|tls)\.(Dialer\{|Dial\w*\()|http\.(Transport|Client)\{|new\((net\.Dialer|tls\.Dialer|http\.Transport|http\.Client)\))`,
		"outbound's dialer and client: they guard where it goes, and bound what comes back", []string{
			"internal/outbound", "internal/server", "internal/demo", "internal/cli", "bench", "cmd",
			"tools", "tests",
		}},
	{`\bhttp\.(Handle|HandleFunc|DefaultServeMux)\b`, "a ServeMux of your own", nil},
	{`\bos\.Exit\(`, "return a code to main", []string{"main", "tests"}},
	{`\bslog\.(Debug|Info|Warn|Error)(Context)?\(`, "the *slog.Logger that you were given", nil},
	{`\blog\.(Print|Fatal|Panic)(f|ln)?\(`, "the *slog.Logger that you were given, or an error", nil},
	{`\bunsafe\.`, "safe Go", nil},
	{`\bInsecureSkipVerify: *true`, "a configured CA", nil},
	{`/work/`, "a path that every machine has", nil},
}

// importsNot are packages that must not be imported, with their replacements.
var importsNot = map[string]string{
	"github.com/pkg/errors":             "errors and fmt.Errorf with %w",
	"github.com/stretchr/testify":       "plain if got != want, and go-cmp",
	"github.com/golang/mock":            "a fake that passes the contract's suite",
	"go.uber.org/mock":                  "a fake that passes the contract's suite",
	"github.com/spf13/cobra":            "flag, and the tree of commands in cli",
	"github.com/hashicorp/vault/sdk":    "our own route and wire",
	"github.com/mitchellh/mapstructure": "wire.Decode into a struct",
	"io/ioutil":                         "os or io",
	"log":                               "log/slog",
	"math/rand":                         "crypto/rand for what must not be guessed, math/rand/v2 for jitter",
	"plugin":                            "a folder and the generated table",
}

// wrapping matches wrong beginnings of an error's text: it must say what was being done, in lower
// case, such as "reading the key ring: …", without saying that it failed.
var wrapping = regexp.MustCompile("^[\"`](?i:failed|failure|unable|could not|cannot to|error|err)\\b")

func TestSpelling(t *testing.T) {
	for _, s := range tree(t) {
		report(t, checkSpelling(s))
		report(t, checkImportsNot(s))
		report(t, checkWrapping(s))
	}
}

func checkSpelling(s *source) []finding {
	if s.dir == "internal/arch" {
		return nil
	}
	var found []finding
	n := 0
	for line := range strings.Lines(s.text) {
		n++
		code, _, _ := strings.Cut(line, "// ")
		for _, sp := range spellings {
			if slices.ContainsFunc(sp.but,
				func(f string) bool { return within(s.dir, f) || f == "tests" && s.test || f == s.file.Name.Name }) {
				continue
			}
			if at := matcher(sp.not).FindString(code); at != "" {
				found = append(found, s.found(s.fset.File(s.file.Pos()).LineStart(n), "%s: write %s", at, sp.instead))
			}
		}
	}
	return found
}

var matchers = map[string]*regexp.Regexp{}

func matcher(expr string) *regexp.Regexp {
	if matchers[expr] == nil {
		matchers[expr] = regexp.MustCompile(expr)
	}
	return matchers[expr]
}

func checkImportsNot(s *source) []finding {
	var found []finding
	for imp, at := range s.imports() {
		for not, instead := range importsNot {
			if imp == not || strings.Contains(not, ".") && within(imp, not) {
				found = append(found, s.found(at, "imports %s: use %s", imp, instead))
			}
		}
		if imp == "github.com/hashicorp/vault" {
			found = append(found, s.found(at, "imports the server of another product: only its API client is linked"))
		}
	}
	return found
}

// checkWrapping looks at the texts of errors.
func checkWrapping(s *source) []finding {
	var found []finding
	ast.Inspect(s.file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		makes := selects(call.Fun, "fmt", "Errorf") || selects(call.Fun, "errors", "New") ||
			selects(call.Fun, "fault", "New", "Wrap")
		for _, arg := range call.Args {
			lit, ok := arg.(*ast.BasicLit)
			if ok && makes && lit.Kind == token.STRING && wrapping.MatchString(lit.Value) {
				found = append(found, s.found(lit.Pos(), "error text %s: say what was being done, %q", lit.Value,
					"reading the key ring: %w"))
			}
		}
		return true
	})
	return found
}

// TestProse keeps details of one machine out of the texts for users.
func TestProse(t *testing.T) {
	var files []string
	for _, glob := range []string{"*.md", "Makefile", "docs/*.md", "docs/*/*.md", "deploy/*/*", "test/*.sh", ".ci/*"} {
		some, err := filepath.Glob(filepath.Join(root, glob))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, some...)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			continue // a folder
		}
		if at := strings.Index(string(text), "/work/"); at >= 0 {
			t.Errorf("%s: names a folder of one machine: %q", f, string(text[at:min(at+30, len(text))]))
		}
	}
}

// TestNotice: the notice names every library under the Mozilla Public License. All that are linked
// have one publisher.
func TestNotice(t *testing.T) {
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	notice, err := os.ReadFile(filepath.Join(root, "NOTICE"))
	if err != nil {
		t.Fatal(err)
	}
	names := strings.Fields(string(notice))
	for line := range strings.Lines(string(mod)) {
		name, _, _ := strings.Cut(strings.TrimSpace(strings.TrimPrefix(line, "require ")), " ")
		if strings.HasPrefix(name, "github.com/hashicorp/") && !slices.Contains(names, name) {
			t.Errorf("go.mod requires %s, which NOTICE does not name: read its licence and add it", name)
		}
	}
}

func TestSpellingSparesMain(t *testing.T) {
	s := sample(t, "cmd/keyturn/main.go", "package main\nfunc f() { os.Exit(1) }")
	if got := checkSpelling(s); len(got) != 0 {
		t.Errorf("got %v", got)
	}
}

func TestSpellingFinds(t *testing.T) {
	for _, tt := range []struct {
		check func(*source) []finding
		file  string
		text  string
		want  int
	}{
		{checkSpelling, "internal/x/x.go", "var _ = errors.Wrap(err, s)", 1},
		{checkSpelling, "internal/x/x.go", "var _ interface{}", 1},
		{checkSpelling, "internal/x/x.go", "var _ any // not interface{}", 0},
		{checkSpelling, "internal/x/x.go", "var _ = http.Get", 1},
		{checkSpelling, "internal/x/x.go", "var _ = http.Getter", 0},
		{checkSpelling, "internal/engine/x/x.go", "var _ = &http.Transport{}", 1},
		{checkSpelling, "internal/engine/x/x.go", "var _ = new(net.Dialer)", 1},
		{checkSpelling, "internal/engine/x/x.go", "var _ *http.Client", 0},
		{checkSpelling, "internal/outbound/x.go", "var _ = &http.Transport{}", 0},
		{checkSpelling, "internal/x/x_test.go", "var _ = http.Get", 0},
		{checkSpelling, "internal/x/x.go", "func f() { os.Exit(1) }", 1},

		{checkSpelling, "internal/engine/x/x.go", "func f() { os.ReadFile(s) }", 1},
		{checkSpelling, "internal/engine/x/x.go", "func f() { os.Stat(s) }", 1},
		{checkSpelling, "internal/engine/x/x_test.go", "func f() { os.ReadFile(s) }", 0},
		{checkSpelling, "internal/hostfile/x.go", "func f() { os.ReadFile(s) }", 0},

		{checkSpelling, "internal/x/x.go", "func f() { slog.Info(s) }", 1},
		{checkSpelling, "internal/x/x.go", "func f() { l.Info(s) }", 0},
		{checkSpelling, "internal/x/x.go", "var _ = `/work/main`", 1},
		{checkImportsNot, "internal/x/x.go", `import "github.com/stretchr/testify/require"`, 1},
		{checkImportsNot, "internal/x/x.go", `import "log"`, 1},
		{checkImportsNot, "internal/x/x.go", `import "log/slog"`, 0},
		{checkImportsNot, "internal/x/x.go", `import "math/rand/v2"`, 0},
		{checkImportsNot, "internal/x/x.go", `import "github.com/hashicorp/vault"`, 1},
		{checkImportsNot, "internal/x/x.go", `import "github.com/hashicorp/vault/api"`, 0},
		{checkWrapping, "internal/x/x.go", `var _ = fmt.Errorf("failed to read: %w", err)`, 1},
		{checkWrapping, "internal/x/x.go", `var _ = errors.New("Error: no")`, 1},
		{checkWrapping, "internal/x/x.go", `var _ = fault.New(op, fault.Invalid, "unable to")`, 1},
		{checkWrapping, "internal/x/x.go", `var _ = fmt.Errorf("reading: %w", err)`, 0},
		{checkWrapping, "internal/x/x.go", `var _ = fmt.Errorf("errand")`, 0},
		{checkWrapping, "internal/x/x.go", `var _ = fmt.Sprintf("failed")`, 0},
	} {
		if got := tt.check(sample(t, tt.file, "package x\n"+tt.text)); len(got) != tt.want {
			t.Errorf("%s: got %v, want %d findings", tt.text, got, tt.want)
		}
	}
}
