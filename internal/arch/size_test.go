package arch

import (
	"fmt"
	"go/ast"
	"maps"
	"slices"
	"strings"
	"testing"
)

// The hard caps.
const (
	capFile, capFunc, capFields, capMethods, capParams = 800, 100, 25, 30, 6
	// No more than one in twenty, or in a hundred, is longer than these.
	fileP95, funcP95, funcP99 = 450, 45, 80
	// main only joins.
	capMain = 40
)

func TestSizes(t *testing.T) {
	all := tree(t)
	for _, s := range all {
		report(t, checkSizes(s))
	}
	report(t, checkMethods(all))
	report(t, checkTail(all))
}

func checkSizes(s *source) []finding {
	if !s.counted() {
		return nil
	}
	var found []finding
	if n := strings.Count(s.text, "\n"); n > capFile {
		found = append(found, s.found(s.file.Package, "file of %d lines, at most %d: split it by type", n, capFile))
	}
	if n := strings.Count(s.text, "\n"); n > capMain && s.path == "cmd/keyturn/main.go" {
		found = append(found,
			s.found(s.file.Package, "main of %d lines, at most %d: it only joins what others made", n, capMain))
	}
	ast.Inspect(s.file, func(n ast.Node) bool {
		switch x := n.(type) {
		case *ast.FuncDecl:
			if l := s.length(x); l > capFunc {
				found = append(found,
					s.found(x.Pos(), "function %s of %d lines, at most %d: name its steps", x.Name.Name, l, capFunc))
			}
			if p := x.Type.Params.NumFields(); p > capParams {
				found = append(found, s.found(x.Pos(), "function %s has %d parameters, at most %d: take a struct",
					x.Name.Name, p, capParams))
			}
		case *ast.StructType:
			if f := x.Fields.NumFields(); f > capFields {
				found = append(found,
					s.found(x.Pos(), "struct of %d fields, at most %d: it holds more than one thing", f, capFields))
			}
		}
		return true
	})
	return found
}

func (s *source) length(f *ast.FuncDecl) int { return s.line(f.End()) - s.line(f.Pos()) + 1 }

func checkMethods(all []*source) []finding {
	type place struct{ dir, recv string }
	methods := map[place]map[string]bool{}
	first := map[place]finding{}
	for _, s := range all {
		if !s.counted() {
			continue
		}
		for _, f := range s.funcs() {
			recv := receiver(f)
			if recv == "" {
				continue
			}
			at := place{s.dir, recv}
			if methods[at] == nil {
				methods[at] = map[string]bool{}
				first[at] = s.found(f.Pos(), "")
			}
			methods[at][f.Name.Name] = true
		}
	}
	var found []finding
	for at, names := range methods {
		if len(names) > capMethods {
			f := first[at]
			f.say = fmt.Sprintf("type %s has %d methods, at most %d: it is more than one thing", at.recv, len(names),
				capMethods)
			found = append(found, f)
		}
	}
	return found
}

// checkTail checks how many lines the longest files and functions have.
func checkTail(all []*source) []finding {
	files, funcs := map[string]int{}, map[string]int{}
	for _, s := range all {
		if !s.counted() {
			continue
		}
		files[s.path] = strings.Count(s.text, "\n")
		for _, f := range s.funcs() {
			funcs[fmt.Sprintf("%s:%d %s", s.path, s.line(f.Pos()), f.Name.Name)] = s.length(f)
		}
	}
	var found []finding
	for _, c := range []struct {
		what  string
		sizes map[string]int
		part  float64
		limit int
	}{
		{"files", files, .95, fileP95}, {"functions", funcs, .95, funcP95}, {"functions", funcs, .99, funcP99},
	} {
		if n := percentile(slices.Collect(maps.Values(c.sizes)), c.part); n > c.limit {
			found = append(found, finding{"the tree", fmt.Sprintf(
				"%.0f of 100 %s are to have at most %d lines, have %d; the longest: %s",
				c.part*100, c.what, c.limit, n, strings.Join(longest(c.sizes, 12), ", "))})
		}
	}
	return found
}

func percentile(sizes []int, part float64) int {
	if len(sizes) == 0 {
		return 0
	}
	slices.Sort(sizes)
	return sizes[int(part*float64(len(sizes)-1))]
}

func longest(sizes map[string]int, n int) []string {
	names := slices.SortedFunc(maps.Keys(sizes), func(a, b string) int { return sizes[b] - sizes[a] })
	for i, name := range names {
		names[i] = fmt.Sprintf("%s (%d)", name, sizes[name])
	}
	return names[:min(n, len(names))]
}

func (s *source) funcs() []*ast.FuncDecl {
	var all []*ast.FuncDecl
	for _, d := range s.file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok {
			all = append(all, f)
		}
	}
	return all
}

// receiver is the name of the type that f is a method of, or "".
func receiver(f *ast.FuncDecl) string {
	if f.Recv == nil || len(f.Recv.List) == 0 {
		return ""
	}
	e := f.Recv.List[0].Type
	for {
		switch x := e.(type) {
		case *ast.StarExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.IndexListExpr:
			e = x.X
		case *ast.Ident:
			return x.Name
		default:
			return ""
		}
	}
}

func TestSizesFind(t *testing.T) {
	lines := func(n int) string { return strings.Repeat("\n", n) }
	fields := func(n int) string {
		var names []string
		for i := range n {
			names = append(names, fmt.Sprintf("f%d", i))
		}
		return strings.Join(names, ", ")
	}
	for name, tt := range map[string]struct {
		text string
		want int
	}{
		"file at the cap":       {"package x" + lines(800), 0},
		"file over the cap":     {"package x" + lines(801), 1},
		"function at the cap":   {"package x\nfunc f() {" + lines(99) + "}", 0},
		"function over the cap": {"package x\nfunc f() {" + lines(100) + "}", 1},
		"struct at the cap":     {"package x\ntype t struct{" + fields(25) + " int}", 0},
		"struct over the cap":   {"package x\ntype t struct{" + fields(26) + " int}", 1},
		"inner struct":          {"package x\nfunc f() { var _ struct{" + fields(26) + " int} }", 1},
		"parameters":            {"package x\nfunc f(" + fields(6) + " int) {}", 0},
		"too many parameters":   {"package x\nfunc f(" + fields(7) + " int) {}", 1},
	} {
		if got := checkSizes(sample(t, "internal/x/x.go", tt.text)); len(got) != tt.want {
			t.Errorf("%s: got %v, want %d findings", name, got, tt.want)
		}
	}
	if got := checkSizes(sample(t, "cmd/keyturn/main.go", "package main"+lines(41))); len(got) != 1 {
		t.Errorf("a long main: got %v, want one finding", got)
	}
	if got := checkSizes(sample(t, "internal/x/x_test.go", "package x"+lines(900))); len(got) != 0 {
		t.Errorf("a test file: got %v", got)
	}
}

func TestCheckMethodsFinds(t *testing.T) {
	var b strings.Builder
	b.WriteString("package x\ntype t[T any] struct{}\n")
	for i := range capMethods + 1 {
		fmt.Fprintf(&b, "func (*t[T]) m%d() {}\n", i)
	}
	if got := checkMethods([]*source{sample(t, "internal/x/x.go", b.String())}); len(got) != 1 {
		t.Errorf("got %v, want one finding", got)
	}
}

func TestCheckTailFinds(t *testing.T) {
	var all []*source
	for i := range 20 {
		all = append(all,
			sample(t, fmt.Sprintf("internal/x/x%d.go", i), "package x\nfunc f() {"+strings.Repeat("\n", 30+i)+"}"))
	}
	got := checkTail(all)
	if len(got) != 1 || !strings.Contains(got[0].say, "95 of 100 functions") {
		t.Errorf("got %v, want one finding about 95 of 100 functions", got)
	}
}
