package arch

import (
	"go/ast"
	"path"
	"slices"
	"strconv"
	"testing"
)

// grantCallers are the only files that may say on whose behalf a token gets its policies. Login
// methods are never among them: they pass names to core, which knows the creator.
var grantCallers = map[string][]string{
	"Assign":      {"internal/core/tokens.go"},
	"Creator":     {"internal/core/tokens.go"},
	"FirstRoot":   {"internal/core/status.go"},
	"ForWrapping": {"internal/core/wrapping/wrapping.go"},
}

// TestGrants: every assignment of policies calls the one function that knows the creator. Types
// enforce most of it, because a token is made from a token.Grant, whose fields only its package
// can set; this test checks the rest.
func TestGrants(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range tree(t) {
		report(t, checkGrants(s, seen))
	}
	for name, files := range grantCallers {
		for _, f := range files {
			if !seen[name+" "+f] {
				t.Errorf("%s does not use token.%s any more: take it from the list of givers", f, name)
			}
		}
	}
}

// checkGrants finds callers of token.Assign that are not listed. Inside package token, it finds
// code that makes a grant elsewhere, or that sets a token's policies without a grant.
func checkGrants(s *source, seen map[string]bool) (found []finding) {
	if s.test {
		return nil
	}
	if s.dir == "internal/token" {
		return checkGrantsInside(s)
	}
	local := importedAs(s, module+"/internal/token")
	ast.Inspect(s.file, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		files, special := grantCallers[sel.Sel.Name]
		if x, ok := sel.X.(*ast.Ident); !ok || !special || x.Name != local {
			return true
		}
		seen[sel.Sel.Name+" "+s.path] = true
		if !slices.Contains(files, s.path) {
			found = append(found, s.found(n.Pos(),
				"token.%s is for %v alone; hand the names of the policies to Mount.Issue, which knows who makes "+
					"the token",
				sel.Sel.Name,
				files))
		}
		return true
	})
	return found
}

func checkGrantsInside(s *source) (found []finding) {
	say := func(n ast.Node) {
		found = append(found,
			s.found(n.Pos(), "policies of a token come from a Grant, and a Grant from Assign; add the case there"))
	}
	ast.Inspect(s.file, func(n ast.Node) bool {
		switch x := n.(type) {
		case *ast.CompositeLit:
			name, _ := x.Type.(*ast.Ident)
			if name != nil && name.Name == "Grant" && len(x.Elts) > 0 && path.Base(s.path) != "grant.go" {
				say(n)
			}
			if name != nil && name.Name == "Entry" && slices.ContainsFunc(x.Elts, func(e ast.Expr) bool {
				kv, ok := e.(*ast.KeyValueExpr)
				key, _ := kv.Key.(*ast.Ident)
				return ok && key != nil && key.Name == "policies"
			}) {
				say(n)
			}
		case *ast.AssignStmt:
			for i, to := range x.Lhs {
				sel, ok := to.(*ast.SelectorExpr)
				if !ok || sel.Sel.Name != "policies" {
					continue
				}
				from, _ := x.Rhs[min(i, len(x.Rhs)-1)].(*ast.SelectorExpr)
				// decoding a record
				if from == nil ||
					from.Sel.Name != "policies" && (from.Sel.Name != "Policies" || path.Base(s.path) != "token.go") {
					say(n)
				}
			}
		}
		return true
	})
	return found
}

// importedAs is the name by which a file calls the package of an import; "" if it does not import
// it.
func importedAs(s *source, want string) string {
	for _, spec := range s.file.Imports {
		if p, err := strconv.Unquote(spec.Path.Value); err != nil || p != want {
			continue
		}
		if spec.Name != nil {
			return spec.Name.Name
		}
		return path.Base(want)
	}
	return ""
}

func TestCheckGrantsFinds(t *testing.T) {
	const head = "import \"" + module + "/internal/token\"\n"
	for name, tt := range map[string]struct {
		at, text string
		want     int
	}{
		"a login method": {"internal/auth/userpass/login.go",
			head + "var g, _ = token.Assign(token.Creator{}, token.Request{})", 2},
		"by another name": {"internal/auth/userpass/login.go",
			"import tok \"" + module + "/internal/token\"\nvar g = tok.FirstRoot()", 1},
		"names alone": {"internal/auth/userpass/login.go",
			head + "var a = token.Request{Names: []string{\"root\"}}", 0},
		"core":              {"internal/core/tokens.go", head + "var g, _ = token.Assign(token.Creator{}, token.Request{})", 0},
		"a grant inside":    {"internal/token/store.go", `var g = Grant{[]string{"root"}}`, 1},
		"an entry inside":   {"internal/token/store.go", `var e = Entry{policies: []string{"root"}}`, 1},
		"an assignment":     {"internal/token/store.go", `func f(e *Entry) { e.policies = []string{"root"} }`, 1},
		"of a grant":        {"internal/token/store.go", `func f(e *Entry, g Grant) { e.policies = g.policies }`, 0},
		"of something else": {"internal/token/store.go", `func f(e *Entry, r record) { e.policies = r.Policies }`, 1},
		"of a decoded record": {"internal/token/token.go", `func f(e *Entry, r record) { e.policies = r.Policies }`,
			0},
	} {
		if got := checkGrants(sample(t, tt.at, "package x\n"+tt.text), map[string]bool{}); len(got) != tt.want {
			t.Errorf("%s: %v, want %d findings", name, got, tt.want)
		}
	}
}
