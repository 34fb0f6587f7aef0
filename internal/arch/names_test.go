package arch

import (
	"go/ast"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// reshapers are functions that change a name into another one.
var reshapers = map[string][]string{
	"strings": {"ToLower", "ToUpper", "ToTitle", "Title", "TrimSpace", "Trim", "TrimLeft", "TrimRight", "TrimFunc",
		"Fields", "EqualFold", "Split", "SplitN", "SplitSeq", "ReplaceAll", "Replace"},
	"path": {"Clean", "Base", "Join"},
}

// TestNamesOfPaths: no handler folds, trims or splits a name in the request's path, because
// policies have judged it unchanged. A name with several spellings gets a canonical form by
// route.Route.WithName, which refuses the others before the policies are evaluated.
// TestEveryNameIsActedUponAsItWasJudged (test/inprocess) checks the running server.
func TestNamesOfPaths(t *testing.T) {
	byDir := map[string][]*source{}
	for _, s := range tree(t) {
		if !s.test && serves(s.dir) {
			byDir[s.dir] = append(byDir[s.dir], s)
		}
	}
	for _, files := range byDir {
		report(t, checkNames(files))
	}
}

// serves reports whether a folder serves routes.
func serves(dir string) bool {
	return dir == "internal/core/sys" || strings.HasPrefix(dir, "internal/engine/") ||
		strings.HasPrefix(dir, "internal/auth/")
}

// checkNames reads one package.
func checkNames(files []*source) (found []finding) {
	var fields []string // that are filled from the path
	for _, s := range files {
		ast.Inspect(s.file, func(n ast.Node) bool {
			f, ok := n.(*ast.Field)
			if !ok || f.Tag == nil || len(f.Names) == 0 {
				return true
			}
			if tag, err := strconv.Unquote(f.Tag.Value); err == nil && reflect.StructTag(tag).Get("path") != "" {
				fields = append(fields, f.Names[0].Name)
			}
			return true
		})
	}
	ofPath := func(e ast.Expr) bool {
		switch x := e.(type) {
		case *ast.SelectorExpr:
			in, ok := x.X.(*ast.Ident)
			return ok && in.Name == "in" && slices.Contains(fields, x.Sel.Name)
		case *ast.CallExpr:
			sel, ok := x.Fun.(*ast.SelectorExpr)
			return ok && sel.Sel.Name == "Param"
		}
		return false
	}
	for _, s := range files {
		ast.Inspect(s.file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			sel, ok := call.Fun.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			pkg, ok := sel.X.(*ast.Ident)
			if ok && slices.Contains(reshapers[pkg.Name], sel.Sel.Name) && slices.ContainsFunc(call.Args, ofPath) {
				found = append(found, s.found(n.Pos(),
					"%s.%s makes another name of one that the policy has judged; use it as it is, or give its "+
						"one form with WithName",
					pkg.Name,
					sel.Sel.Name))
			}
			return true
		})
	}
	return found
}

var secondName = regexp.MustCompile(`(?i)\bunder (its|the|a|an)\b.*\bname\b|\bold clients send\b|\bsecond name\b`)

// TestSecondNames: a parameter that is a second name of another one has a tag that the decoder and
// the policies read (wire.Form), not only a description, so that a rule for one applies to the
// other.
func TestSecondNames(t *testing.T) {
	for _, s := range tree(t) {
		if !s.test && strings.HasPrefix(s.dir, "internal/") {
			report(t, checkSecondNames(s))
		}
	}
}

func checkSecondNames(s *source) (found []finding) {
	ast.Inspect(s.file, func(n ast.Node) bool {
		f, ok := n.(*ast.Field)
		if !ok || f.Tag == nil {
			return true
		}
		text, err := strconv.Unquote(f.Tag.Value)
		if err != nil {
			return true
		}
		tag := reflect.StructTag(text)
		doc := tag.Get("doc")
		if secondName.MatchString(doc) && !strings.Contains(doc, "without effect") && tag.Get("also") == "" {
			found = append(found, s.found(f.Pos(),
				"%q is a parameter under a second name: give the first one the tag alias:%q, and take this "+
					"field away",
				tag.Get("json"),
				tag.Get("json")))
		}
		return true
	})
	return found
}

func TestCheckSecondNamesFinds(t *testing.T) {
	for text, want := range map[string]int{
		"type in struct { A string `json:\"lease\" doc:\"The TTL, under the name that old clients send.\"` }": 1,
		"type in struct { A string `json:\"period\" doc:\"token_period, under its old name.\"` }":             1,
		"type in struct { A string `json:\"ttl\" alias:\"lease\" doc:\"The TTL.\"` }":                         0,
		"type in struct { A string `json:\"v\" doc:\"Taken and without effect: old clients send it.\"` }":     0,
		"type in struct { A string `json:\"arn\" also:\"arns\" doc:\"arns, under its old name.\"` }":          0,
	} {
		if got := checkSecondNames(sample(t, "internal/x/x.go", "package x\n"+text)); len(got) != want {
			t.Errorf("%s: %v, want %d", text, got, want)
		}
	}
}

func TestCheckNamesFinds(t *testing.T) {
	for text, want := range map[string]int{
		"type nameIn struct { Name string `path:\"name\"` }\nfunc f(in nameIn) string { return " +
			"strings.ToLower(in.Name) }": 1,
		"type nameIn struct { Name string `path:\"name\"` }\nfunc f(in nameIn) string { return in.Name }": 0,
		"type nameIn struct { Name string `json:\"name\"` }\nfunc f(in nameIn) string { return " +
			"strings.ToLower(in.Name) }": 0,
		"func f(r *route.Request) string { return strings.Trim(r.Param(\"name\"), \"/\") }": 1,
		"type nameIn struct { Name string `path:\"name\"` }\nfunc f(in nameIn) string { return path.Clean(in.Name) " +
			"+ in.Name }": 1,
	} {
		if got := checkNames([]*source{sample(t, "internal/engine/x/x.go", "package x\n"+text)}); len(got) != want {
			t.Errorf("%s: %v, want %d", text, got, want)
		}
	}
}
