package arch

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"maps"
	"slices"
	"strings"
	"testing"
)

// methodDebts are types with too many methods, including promoted ones. The numbers only decrease.
var methodDebts = map[string]int{}

// TestStoreys: the files of a package are in storeys, too. If file A uses a declaration of file B,
// there is an arrow from A to B. The arrows of a package form no cycle, so that its files can be
// read from top to bottom.
func TestStoreys(t *testing.T) {
	for dir, files := range packages(tree(t)) {
		p := check(t, dir, files)
		report(t, checkStoreys(p))
		report(t, checkPromoted(p, methodDebts))
	}
}

// A checked package has its own names resolved, but not those of other packages.
type checked struct {
	dir  string
	fset *token.FileSet
	pkg  *types.Package
	info *types.Info
}

// packages returns the counted files by folder.
func packages(all []*source) map[string][]*source {
	out := map[string][]*source{}
	for _, s := range all {
		if s.counted() && !s.generated {
			out[s.dir] = append(out[s.dir], s)
		}
	}
	return out
}

// check resolves the names of a package. Only those of the package itself are needed, so nothing
// is imported.
func check(t *testing.T, dir string, files []*source) *checked {
	t.Helper()
	p := &checked{dir: dir, fset: token.NewFileSet(), info: &types.Info{Uses: map[*ast.Ident]types.Object{}}}
	var parsed []*ast.File
	for _, s := range files {
		f, err := parser.ParseFile(p.fset, s.path, s.text, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		parsed = append(parsed, f)
	}
	c := types.Config{Importer: noImports{}, Error: func(error) {}}
	p.pkg, _ = c.Check(dir, p.fset, parsed, p.info)
	return p
}

type noImports struct{}

func (noImports) Import(string) (*types.Package, error) { return nil, errors.New("not needed") }

func (p *checked) file(at token.Pos) string { return p.fset.Position(at).Filename }

// An arrow leads from a file to one whose declarations it uses.
type arrow struct{ from, to string }

// arrows returns the arrows of a package, each with the names that are used.
func (p *checked) arrows() map[arrow][]string {
	out := map[arrow][]string{}
	for id, o := range p.info.Uses {
		if o.Pkg() != p.pkg || !o.Pos().IsValid() {
			continue
		}
		v, isVar := o.(*types.Var)
		_, isFunc := o.(*types.Func) // a method has no parent
		if o.Parent() != p.pkg.Scope() && !isFunc && !(isVar && v.IsField()) {
			continue
		}
		if a := (arrow{p.file(id.Pos()), p.file(o.Pos())}); a.from != a.to && !slices.Contains(out[a], o.Name()) {
			out[a] = append(out[a], o.Name())
		}
	}
	return out
}

// cyclic returns the arrows that are part of a cycle.
func cyclic(arrows map[arrow][]string) []arrow {
	next := map[string][]string{}
	for a := range arrows {
		next[a.from] = append(next[a.from], a.to)
	}
	reach := func(from string) map[string]bool {
		seen := map[string]bool{}
		for todo := []string{from}; len(todo) > 0; {
			at := todo[len(todo)-1]
			todo = todo[:len(todo)-1]
			for _, to := range next[at] {
				if !seen[to] {
					seen[to] = true
					todo = append(todo, to)
				}
			}
		}
		return seen
	}
	var out []arrow
	for from := range next {
		for _, to := range next[from] {
			if reach(to)[from] {
				out = append(out, arrow{from, to})
			}
		}
	}
	slices.SortFunc(out, func(a, b arrow) int { return strings.Compare(a.from+a.to, b.from+b.to) })
	return out
}

func checkStoreys(p *checked) []finding {
	arrows := p.arrows()
	var lines []string
	for _, a := range cyclic(arrows) {
		slices.Sort(arrows[a])
		lines = append(lines, fmt.Sprintf("\t%s uses %s of %s", a.from, strings.Join(arrows[a], ", "), a.to))
	}
	if lines == nil {
		return nil
	}
	return []finding{{p.dir, fmt.Sprintf(
		"%d arrows between files are part of a cycle; move what both need into a file below them:\n%s",
		len(lines), strings.Join(lines, "\n"))}}
}

// checkPromoted counts the methods of each type, including those of embedded types of its package,
// because splitting a type by embedding does not make it smaller.
func checkPromoted(p *checked, debts map[string]int) []finding {
	var found []finding
	for _, name := range p.pkg.Scope().Names() {
		o, ok := p.pkg.Scope().Lookup(name).(*types.TypeName)
		if !ok || o.IsAlias() {
			continue
		}
		if _, ok := o.Type().Underlying().(*types.Interface); ok {
			continue
		}
		n, key := types.NewMethodSet(types.NewPointer(o.Type())).Len(), p.dir+"."+name
		limit := max(capMethods, debts[key])
		switch {
		case n > limit:
			found = append(found, finding{
				p.file(o.Pos()),
				fmt.Sprintf(
					"type %s has %d methods, those of embedded types included, at most %d: it is more than one "+
						"thing",
					name,
					n,
					limit),
			})
		case debts[key] > 0 && n < debts[key]:
			found = append(found, finding{p.file(o.Pos()), fmt.Sprintf(
				"type %s has only %d methods: lower the number in methodDebts from %d", name, n, debts[key])})
		}
	}
	return found
}

func TestStoreysFind(t *testing.T) {
	files := []*source{
		sample(t, "internal/x/a.go", "package x\n\ntype A struct{ n int }\n\nfunc (a A) m() { b() }\n"),
		sample(t, "internal/x/b.go", "package x\n\nfunc b() { _ = A{}.n; c() }\n"),
		sample(t, "internal/x/c.go", "package x\n\nfunc c() {}\n"),
	}
	p := check(t, "internal/x", files)
	if found := checkStoreys(p); len(found) != 1 || !strings.Contains(found[0].say, "2 arrows") ||
		!strings.Contains(found[0].say, "a.go uses b of") {
		t.Errorf("a cycle of two files: %v", found)
	}
	text := "package x\n\ntype T struct{ E }\ntype E struct{}\n"
	for i := range capMethods + 1 {
		text += fmt.Sprintf("func (E) m%d() {}\n", i)
	}
	p = check(t, "internal/x", []*source{sample(t, "internal/x/t.go", text)})
	if found := checkPromoted(p, nil); len(found) != 2 {
		t.Errorf("too many methods, promoted ones, too: %v", found)
	}
	if found := checkPromoted(p,
		maps.Clone(map[string]int{"internal/x.T": capMethods + 1, "internal/x.E": capMethods + 2})); len(found) != 1 {
		t.Errorf("debts: %v", found)
	}
}
