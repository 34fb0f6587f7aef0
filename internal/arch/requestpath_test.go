package arch

import (
	"go/ast"
	"slices"
	"strings"
	"testing"
)

// rawPaths are files that read the path of a request, which may contain a token, with the reason.
// All others use Request.Shown.
var rawPaths = map[string]string{
	"internal/auth/token/create.go":      "a new token's path, which names the route that made it",
	"internal/core/tokens.go":            "a new token's path, which names the login",
	"internal/core/leasing.go":           "a lease's id begins with the path; no leased path has a secret",
	"internal/core/policies/policies.go": "what the policies judge",
	"internal/core/pipeline.go":          "routing and the policies",
	"internal/server/httpapi/flights.go": "kept until the request is done, and redacted in lists",
	"internal/server/httpapi/httpapi.go": "the status pages, and the path before it is parsed",
	"internal/server/httpapi/request.go": "parsing",
}

// pathFolders are the folders that handle requests.
var pathFolders = []string{"internal/core", "internal/server/httpapi", "internal/auth", "internal/engine"}

// TestRequestPaths: the path of a request is not shown, because it may contain a token.
func TestRequestPaths(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range tree(t) {
		report(t, checkRequestPaths(s, seen))
	}
	for file := range rawPaths {
		if !seen[file] {
			t.Errorf("%s does not read the path of a request any more: take it from the list", file)
		}
	}
}

func checkRequestPaths(s *source, seen map[string]bool) (found []finding) {
	in := func(dir string) bool { return s.dir == dir || strings.HasPrefix(s.dir, dir+"/") }
	if s.test || s.dir == "internal/core/coretest" || !slices.ContainsFunc(pathFolders, in) {
		return nil
	}
	ast.Inspect(s.file, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok || sel.Sel.Name != "Path" || !isRequest(sel.X) {
			return true
		}
		if seen[s.path] = true; rawPaths[s.path] == "" {
			found = append(found, s.found(n.Pos(),
				"the path of a request may have a token in it: use Shown, or list the file in "+
					"internal/arch/requestpath_test.go with what it needs the path for"))
		}
		return true
	})
	return found
}

// isRequest reports whether an expression is called like a request, or like the URL of one.
func isRequest(e ast.Expr) bool {
	switch x := e.(type) {
	case *ast.Ident:
		return slices.Contains([]string{"r", "q", "req", "request"}, x.Name)
	case *ast.SelectorExpr:
		return slices.Contains([]string{"r", "request", "URL"}, x.Sel.Name)
	}
	return false
}

func TestCheckRequestPathsFinds(t *testing.T) {
	for text, want := range map[string]int{
		`func f() { use(r.Path) }`:           1,
		`func f() { use(string(x.r.Path)) }`: 1,
		`func f() { use(h.URL.Path) }`:       1,
		`func f() { use(r.Shown()) }`:        0,
		`func f() { use(r.Mount.Path) }`:     0,
		`func f() { use(entry.Path) }`:       0,
	} {
		got := checkRequestPaths(sample(t, "internal/core/x/x.go", "package x\n"+text), map[string]bool{})
		if len(got) != want {
			t.Errorf("%s: got %v, want %d findings", text, got, want)
		}
	}
}
