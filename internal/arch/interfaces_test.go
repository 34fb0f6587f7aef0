package arch

import (
	"go/ast"
	"maps"
	"slices"
	"strings"
	"testing"
)

// TestInterfaces finds interfaces that only one type implements. Allowed are unexported interfaces
// with one method, and the contracts in the table of ARCHITECTURE.md, while they have only one
// implementation.
func TestInterfaces(t *testing.T) { report(t, checkInterfaces(readHouse(t), tree(t))) }

func checkInterfaces(h *architecture, all []*source) []finding {
	type need struct {
		dir     string
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
				needs[s.dir+"."+name.Name] = need{
					s.dir,
					s.found(name.Pos(),
						"interface %s has one implementation: use the concrete type, a function, or an unexported "+
							"one-method need",
						name.Name),
					methods,
				}
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
		var impl []string
		for of, methods := range has {
			if !slices.ContainsFunc(n.methods, func(m string) bool { return !methods[m] }) {
				impl = append(impl, of)
			}
		}
		if len(impl) == 1 && !h.asks(n.dir, impl[0]) {
			found = append(found, n.at)
		}
	}
	return found
}

// asks says whether dir is a contract and the type stands in a folder below it.
func (h *architecture) asks(dir, typ string) bool {
	contract := h.contracts[strings.TrimPrefix(dir, "internal/")]
	return contract != "" && strings.HasPrefix(typ, dir+"/")
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

func TestCheckInterfacesSparesContracts(t *testing.T) {
	h := sampleHouse(t)
	contract := sample(t, "internal/storage/s.go", "package storage\ntype Store interface {\nM()\n}")
	driver := sample(t, "internal/storage/pebble/p.go", "package pebble\ntype store struct{}\nfunc (store) M() {}")
	elsewhere := sample(t, "internal/lease/l.go", "package lease\ntype l struct{}\nfunc (l) M() {}")
	beside := sample(t, "internal/storage/t.go", "package storage\ntype l struct{}\nfunc (l) M() {}")
	if got := checkInterfaces(h, []*source{contract, driver}); len(got) != 0 {
		t.Errorf("a contract and its first driver: got %v", got)
	}
	for _, s := range []*source{elsewhere, beside} {
		if got := checkInterfaces(h, []*source{contract, s}); len(got) != 1 {
			t.Errorf("a contract that only %s satisfies: got %v, want one finding", s.path, got)
		}
	}
}

func TestCheckInterfacesFinds(t *testing.T) {
	h := sampleHouse(t)
	for name, tt := range map[string]struct {
		text string
		want int
	}{
		"exported, one": {"type I interface{ M() }\ntype a struct{}\nfunc (a) M() {}", 1},
		"exported, two": {"type I interface{ M() }\ntype a struct{}\nfunc (a) M() {}\ntype b struct{}\nfunc (*b) " +
			"M() {}", 0},
		"exported, none yet":     {"type I interface{ M() }", 0},
		"unexported, one method": {"type i interface{ M() }\ntype a struct{}\nfunc (a) M() {}", 0},
		"unexported, two":        {"type i interface{ M(); N() }\ntype a struct{}\nfunc (a) M() {}\nfunc (a) N() {}", 1},
		"in part":                {"type I interface{ M(); N() }\ntype a struct{}\nfunc (a) M() {}", 0},
	} {
		s := sample(t, "internal/x/x.go", "package x\n"+strings.ReplaceAll(tt.text, "; ", "\n"))
		if got := checkInterfaces(h, []*source{s}); len(got) != tt.want {
			t.Errorf("%s: got %v, want %d findings", name, got, tt.want)
		}
	}
}
