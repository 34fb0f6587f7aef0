package arch

import (
	"go/ast"
	"maps"
	"slices"
	"strings"
	"testing"
)

// TestInterfaces finds interfaces that only one type satisfies. An unexported
// interface of one method, at who needs it, is free.
func TestInterfaces(t *testing.T) { report(t, checkInterfaces(tree(t))) }

func checkInterfaces(all []*source) []finding {
	type need struct {
		at      finding
		methods []string
	}
	needs := map[string]need{}
	has := map[string]map[string]bool{}
	for _, s := range all {
		if !s.counted() {
			continue
		}
		for name, methods := range interfaces(s) {
			if len(methods) > 1 || ast.IsExported(name.Name) {
				needs[s.dir+"."+name.Name] = need{s.found(name.Pos(), "interface %s has one implementation: use the concrete type, a function, or an unexported one-method need", name.Name), methods}
			}
		}
		for _, f := range s.funcs() {
			if recv := receiver(f); recv != "" {
				of := s.dir + "." + recv
				if has[of] == nil {
					has[of] = map[string]bool{}
				}
				has[of][f.Name.Name] = true
			}
		}
	}
	var found []finding
	for _, name := range slices.Sorted(maps.Keys(needs)) {
		n := needs[name]
		impl := 0
		for _, methods := range has {
			if !slices.ContainsFunc(n.methods, func(m string) bool { return !methods[m] }) {
				impl++
			}
		}
		if impl == 1 {
			found = append(found, n.at)
		}
	}
	return found
}

// interfaces returns the method names of each interface with methods.
func interfaces(s *source) map[*ast.Ident][]string {
	all := map[*ast.Ident][]string{}
	for _, d := range s.file.Decls {
		gen, ok := d.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, spec := range gen.Specs {
			ts, ok := spec.(*ast.TypeSpec)
			if !ok {
				continue
			}
			it, ok := ts.Type.(*ast.InterfaceType)
			if !ok {
				continue
			}
			for _, m := range it.Methods.List {
				for _, n := range m.Names {
					all[ts.Name] = append(all[ts.Name], n.Name)
				}
			}
		}
	}
	return all
}

func TestCheckInterfacesFinds(t *testing.T) {
	for name, tt := range map[string]struct {
		text string
		want int
	}{
		"exported, one":          {"type I interface{ M() }\ntype a struct{}\nfunc (a) M() {}", 1},
		"exported, two":          {"type I interface{ M() }\ntype a struct{}\nfunc (a) M() {}\ntype b struct{}\nfunc (*b) M() {}", 0},
		"exported, none yet":     {"type I interface{ M() }", 0},
		"unexported, one method": {"type i interface{ M() }\ntype a struct{}\nfunc (a) M() {}", 0},
		"unexported, two":        {"type i interface{ M(); N() }\ntype a struct{}\nfunc (a) M() {}\nfunc (a) N() {}", 1},
		"in part":                {"type I interface{ M(); N() }\ntype a struct{}\nfunc (a) M() {}", 0},
	} {
		s := sample(t, "internal/x/x.go", "package x\n"+strings.ReplaceAll(tt.text, "; ", "\n"))
		if got := checkInterfaces([]*source{s}); len(got) != tt.want {
			t.Errorf("%s: got %v, want %d findings", name, got, tt.want)
		}
	}
}
