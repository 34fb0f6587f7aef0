package arch

import (
	"go/ast"
	"go/token"
	"path"
	"slices"
	"strings"
	"testing"
)

// background lists where a context may begin besides cmd/ and tests: file, and
// why it cannot be handed one.
var background = map[string]string{}

// errorWriters may write HTTP error statuses. The first is the only place in the server; the
// others are servers of other APIs, for the demo or tests.
var errorWriters = []string{"internal/server/httpapi", "internal/demo/keyserver", "internal/demo/awsserver"}

// vague are package names that say nothing about the purpose of a package.
var vague = []string{
	"util", "utils", "common", "helper", "helpers", "types", "models", "misc", "shared", "lib", "base",
}

func TestCode(t *testing.T) {
	all := tree(t)
	for _, s := range all {
		report(t, checkName(s))
		report(t, checkInit(s))
		report(t, checkContextField(s))
		report(t, checkBackground(s))
		report(t, checkSleep(s))
		report(t, checkStatus(s))
	}
	report(t, checkOneErrorWriter(all))
	for file, why := range background {
		if why == "" || !slices.ContainsFunc(all, func(s *source) bool { return s.path == file }) {
			t.Errorf("%s: in the list of background contexts without a reason, or not there", file)
		}
	}
}

func checkName(s *source) []finding {
	for _, name := range []string{path.Base(s.dir), s.file.Name.Name} {
		if slices.Contains(vague, name) {
			return []finding{
				s.found(s.file.Package, "package name %s says nothing: name the thing of the domain that it is", name),
			}
		}
	}
	return nil
}

func checkInit(s *source) []finding {
	for _, f := range s.funcs() {
		if f.Recv == nil && f.Name.Name == "init" {
			return []finding{s.found(f.Pos(), "init(): use a value, or a function that main calls")}
		}
	}
	return nil
}

func checkContextField(s *source) []finding {
	var found []finding
	if s.suffix {
		return nil
	}
	ast.Inspect(s.file, func(n ast.Node) bool {
		st, ok := n.(*ast.StructType)
		if !ok {
			return true
		}
		for _, f := range st.Fields.List {
			if selects(f.Type, "context", "Context") {
				found = append(found, s.found(f.Pos(), "context in a struct: pass it to the function that needs it"))
			}
		}
		return true
	})
	return found
}

// selects says whether e is pkg.name, for one of the names.
func selects(e ast.Expr, pkg string, names ...string) bool {
	sel, ok := e.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	id, ok := sel.X.(*ast.Ident)
	return ok && id.Name == pkg && slices.Contains(names, sel.Sel.Name)
}

func checkBackground(s *source) []finding {
	if s.test || background[s.path] != "" || family(s.dir) == "cmd" || family(s.dir) == "tools" {
		return nil
	}
	var found []finding
	ast.Inspect(s.file, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok && selects(call.Fun, "context", "Background", "TODO") {
			found = append(found, s.found(n.Pos(),
				"a context begins in main and in tests alone: take ctx as the first parameter; "+
					"context.WithoutCancel outlives a request"))
		}
		return true
	})
	return found
}

// checkSleep finds time.Sleep in tests outside a synctest bubble: a function
// literal given to synctest.Test, or a function whose comment says that it
// runs "in a bubble".
func checkSleep(s *source) []finding {
	if !s.test {
		return nil
	}
	var found []finding
	ast.Inspect(s.file, func(n ast.Node) bool {
		switch x := n.(type) {
		case *ast.FuncDecl:
			return x.Doc == nil || !strings.Contains(unwrapped(x.Doc), "in a bubble")
		case *ast.CallExpr:
			if selects(x.Fun, "synctest", "Test") {
				return false
			}
			if selects(x.Fun, "time", "Sleep") {
				found = append(found, s.found(x.Pos(),
					"time.Sleep in a test: run in a synctest bubble, or wait for the thing itself; a helper "+
						"says in its comment that it runs in a bubble"))
			}
		}
		return true
	})
	return found
}

func unwrapped(c *ast.CommentGroup) string { return strings.Join(strings.Fields(c.Text()), " ") }

func checkStatus(s *source) []finding {
	if s.test || slices.Contains(errorWriters, s.dir) {
		return nil
	}
	var found []finding
	for _, p := range errorStatuses(s) {
		found = append(found,
			s.found(p, "an HTTP error status is written in %s alone: return a fault", errorWriters[0]))
	}
	return found
}

// checkOneErrorWriter allows only one function, in the first place, to write error statuses.
func checkOneErrorWriter(all []*source) []finding {
	var found []finding
	one := ""
	for _, s := range all {
		if s.test || s.dir != errorWriters[0] {
			continue
		}
		for _, f := range s.funcs() {
			part := *s
			part.file = &ast.File{Decls: []ast.Decl{f}, Name: s.file.Name}
			at := errorStatuses(&part)
			name := s.path + " " + f.Name.Name
			switch {
			case len(at) == 0:
			case one == "":
				one = name
			default:
				found = append(found, s.found(at[0],
					"%s writes error statuses, and so does %s: let one function do it", f.Name.Name, one))
			}
		}
	}
	return found
}

// errorStatuses returns where a file writes a status that is, or may be, an error: http.Error,
// http.NotFound, and WriteHeader of anything but a constant below 400.
func errorStatuses(s *source) []token.Pos {
	var at []token.Pos
	for _, d := range s.file.Decls {
		// A WriteHeader that hands on to the writer that it wraps decides nothing.
		if f, ok := d.(*ast.FuncDecl); ok && f.Recv != nil && f.Name.Name == "WriteHeader" {
			continue
		}
		ast.Inspect(d, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			sel, ok := call.Fun.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if selects(sel, "http", "Error", "NotFound") ||
				sel.Sel.Name == "WriteHeader" && len(call.Args) == 1 && !fine(call.Args[0]) {
				at = append(at, call.Pos())
			}
			return true
		})
	}
	return at
}

var fineStatuses = []string{
	"StatusOK", "StatusCreated", "StatusAccepted", "StatusNoContent", "StatusPartialContent", "StatusMovedPermanently",
	"StatusFound", "StatusSeeOther", "StatusNotModified", "StatusTemporaryRedirect", "StatusPermanentRedirect",
	"StatusSwitchingProtocols",
}

// fine says whether e is a constant status below 400.
func fine(e ast.Expr) bool {
	if lit, ok := e.(*ast.BasicLit); ok {
		return lit.Kind == token.INT && len(lit.Value) == 3 && lit.Value < "400"
	}
	return selects(e, "http", fineStatuses...)
}

func TestCodeFinds(t *testing.T) {
	for _, tt := range []struct {
		name  string
		check func(*source) []finding
		file  string
		text  string
		want  int
	}{
		{"vague folder", checkName, "internal/util/x.go", "package u", 1},
		{"vague package", checkName, "internal/x/x.go", "package helpers", 1},
		{"plain name", checkName, "internal/lease/x.go", "package lease", 0},
		{"init", checkInit, "internal/x/x.go", "package x\nfunc init() {}", 1},
		{"init in a test", checkInit, "internal/x/x_test.go", "package x\nfunc init() {}", 1},
		{"a method named init", checkInit, "internal/x/x.go", "package x\nfunc (t) init() {}", 0},
		{"context field", checkContextField, "internal/x/x.go", "package x\ntype t struct { ctx context.Context }", 1},
		{"embedded context", checkContextField, "internal/x/x.go", "package x\ntype t struct { context.Context }", 1},
		{"context in a local struct", checkContextField, "internal/x/x.go",
			"package x\nfunc f() { type t struct { c context.Context } }", 1},
		{"a function that takes one", checkContextField, "internal/x/x.go",
			"package x\ntype t struct { f func(context.Context) }", 0},
		{"background", checkBackground, "internal/x/x.go", "package x\nfunc f() { g(context.Background()) }", 1},
		{"todo", checkBackground, "internal/x/x.go", "package x\nfunc f() { g(context.TODO()) }", 1},
		{"background in main", checkBackground, "cmd/keyturn/main.go",
			"package main\nfunc f() { g(context.Background()) }", 0},
		{"background in a test", checkBackground, "internal/x/x_test.go",
			"package x\nfunc f() { g(context.Background()) }", 0},
		{"background in a suite", checkBackground, "internal/x/xtest/x.go",
			"package xtest\nfunc f() { g(context.Background()) }", 0},
		{"sleep", checkSleep, "internal/x/x_test.go", "package x\nfunc f() { time.Sleep(1) }", 1},
		{"sleep in a suite", checkSleep, "internal/x/xtest/x.go", "package x\nfunc f() { time.Sleep(1) }", 1},
		{"sleep in a subtest", checkSleep, "internal/x/x_test.go",
			"package x\nfunc f() { t.Run(s, func() { time.Sleep(1) }) }", 1},
		{"sleep in a bubble", checkSleep, "internal/x/x_test.go",
			"package x\nfunc f() { synctest.Test(t, func() { go func() { time.Sleep(1) }() }) }", 0},
		{"sleep beside a bubble", checkSleep, "internal/x/x_test.go",
			"package x\nfunc f() { synctest.Test(t, func() {}); time.Sleep(1) }", 1},
		{"sleep in a helper", checkSleep, "internal/x/x_test.go",
			"package x\n// f runs in a\n// bubble.\nfunc f() { time.Sleep(1) }", 0},
		{"sleep outside tests", checkSleep, "internal/x/x.go", "package x\nfunc f() { time.Sleep(1) }", 0},
		{"http.Error", checkStatus, "internal/x/x.go", "package x\nfunc f() { http.Error(w, s, 500) }", 1},
		{"status constant", checkStatus, "internal/x/x.go", "package x\nfunc f() { w.WriteHeader(http.StatusTeapot) }",
			1},
		{"status number", checkStatus, "internal/x/x.go", "package x\nfunc f() { w.WriteHeader(503) }", 1},
		{"status variable", checkStatus, "internal/x/x.go", "package x\nfunc f() { w.WriteHeader(code) }", 1},
		{"status in a handler literal", checkStatus, "internal/x/x.go",
			"package x\nvar h = func() { w.WriteHeader(code) }", 1},
		{"fine statuses", checkStatus, "internal/x/x.go",
			"package x\nfunc f() { w.WriteHeader(http.StatusNoContent); w.WriteHeader(200) }", 0},
		{"wrapping writer", checkStatus, "internal/x/x.go",
			"package x\nfunc (w *t) WriteHeader(code int) { w.inner.WriteHeader(code) }", 0},
		{"the one place", checkStatus, "internal/server/httpapi/x.go", "package x\nfunc f() { w.WriteHeader(503) }",
			0},
	} {
		if got := tt.check(sample(t, tt.file, tt.text)); len(got) != tt.want {
			t.Errorf("%s: got %v, want %d findings", tt.name, got, tt.want)
		}
	}
}

func TestCheckOneErrorWriterFinds(t *testing.T) {
	one := sample(t, "internal/server/httpapi/a.go",
		"package httpapi\nfunc f() { w.WriteHeader(s); w.WriteHeader(400) }\nfunc g() { w.WriteHeader(204) }")
	two := sample(t, "internal/server/httpapi/b.go", "package httpapi\nfunc h() { http.Error(w, s, 400) }")
	if got := checkOneErrorWriter([]*source{one}); len(got) != 0 {
		t.Errorf("one writer: got %v", got)
	}
	if got := checkOneErrorWriter([]*source{one, two}); len(got) != 1 {
		t.Errorf("two writers: got %v, want one finding", got)
	}
}
