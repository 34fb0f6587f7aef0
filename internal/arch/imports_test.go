package arch

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// How many of our packages one package may import.
const fanOut, fanOutCore = 12, 17

// fanOutFree may import any number of packages, because they only connect others.
var fanOutFree = []string{"internal/plugins", "internal/cli", "test", "bench"}

func TestImports(t *testing.T) {
	h := readHouse(t)
	for _, s := range tree(t) {
		report(t, checkImports(h, s))
	}
}

func checkImports(h *architecture, s *source) []finding {
	var found []finding
	for imp, at := range s.imports() {
		to, _ := strings.CutPrefix(imp, module+"/")
		why := h.refuseModule(s.dir, imp)
		if below, inside := strings.CutPrefix(to, "internal/"); inside {
			if from, ok := strings.CutPrefix(s.dir, "internal/"); ok {
				why = h.refuse(from, below, s.test)
			} else {
				why = h.refuseOutside(s.dir, below)
			}
		}
		if why != "" {
			found = append(found, s.found(at, "imports %s: %s", imp, why))
		}
	}
	return found
}

// TestFamilies compares the table with the folders.
func TestFamilies(t *testing.T) {
	h := readHouse(t)
	seen := map[string]bool{}
	for _, s := range tree(t) {
		pkg, ok := strings.CutPrefix(s.dir, "internal/")
		if !ok || seen[pkg] {
			continue
		}
		seen[pkg] = true
		report(t, checkPlace(h, s, pkg))
	}
	for p := range h.parts {
		if within(p, "arch") {
			t.Errorf("ARCHITECTURE.md: arch has no parts")
		}
	}
}

// checkPlace reports whether the table has a place for a package.
func checkPlace(h *architecture, s *source, pkg string) []finding {
	_, known := h.storey[family(pkg)]
	switch {
	case pkg == "arch" && !s.suffix:
		return []finding{s.found(s.file.Package, "arch holds tests only")}
	case pkg == "arch":
		return nil
	case !known:
		return []finding{
			s.found(s.file.Package, "family %s has no row in ARCHITECTURE.md's table of storeys", family(pkg)),
		}
	case pkg == family(pkg), h.part(pkg) != "", h.implementation(pkg), forTests(pkg):
		return nil
	case h.contracts[pkg] != "":
		return nil
	}
	return []finding{
		s.found(s.file.Package,
			"package %s is neither an implementation nor a part; list it as a part of %s in ARCHITECTURE.md, or "+
				"move it",
			pkg,
			family(pkg)),
	}
}

func TestFanOut(t *testing.T) {
	report(t, checkFanOut(tree(t)))
}

func checkFanOut(all []*source) []finding {
	uses := map[string]map[string]bool{}
	first := map[string]*source{}
	for _, s := range all {
		if s.suffix || s.generated {
			continue
		}
		for imp := range s.imports() {
			if strings.HasPrefix(imp, module+"/") {
				if uses[s.dir] == nil {
					uses[s.dir], first[s.dir] = map[string]bool{}, s
				}
				uses[s.dir][imp] = true
			}
		}
	}
	var found []finding
	for _, dir := range slices.Sorted(maps.Keys(uses)) {
		limit := fanOut
		if dir == "internal/core" {
			limit = fanOutCore
		}
		free := slices.ContainsFunc(fanOutFree, func(f string) bool { return within(dir, f) })
		if n := len(uses[dir]); n > limit && !free {
			found = append(found, first[dir].found(first[dir].file.Package,
				"package imports %d of our packages, at most %d: split it, or take functions", n, limit))
		}
	}
	return found
}

func TestCheckImportsFinds(t *testing.T) {
	h := sampleHouse(t)
	s := sample(t, "internal/lease/x.go", `package lease
import (
	_ "example.org/hcl"
	_ "github.com/keyturn/keyturn/internal/storage"
	_ "github.com/keyturn/keyturn/internal/token"
)`)
	if got := checkImports(h, s); len(got) != 2 {
		t.Errorf("got %v, want one finding for hcl and one for token", got)
	}
}

func TestCheckPlaceFinds(t *testing.T) {
	h := sampleHouse(t)
	for pkg, ok := range map[string]bool{
		"core": true, "core/sys": true, "core/other": false, "engine/kv": true, "engine/kv/inner": false,
		"engine/database": true, "engine/database/postgres": true, "engine/database/databasetest": true,
		"novel": false, "arch": false, "policy/password": true, "policy/other": false,
	} {
		s := sample(t, "internal/"+pkg+"/x.go", "package x")
		if got := checkPlace(h, s, pkg); (len(got) == 0) != ok {
			t.Errorf("checkPlace(%s) = %v, want ok=%v", pkg, got, ok)
		}
	}
}

func TestCheckFanOutFinds(t *testing.T) {
	for _, tt := range []struct {
		dir  string
		n    int
		want int
	}{
		{"internal/lease", 12, 0}, {"internal/lease", 13, 1}, {"internal/core", 17, 0}, {"internal/core", 18, 1},
		{"internal/core/sys", 13, 1}, {"internal/plugins", 40, 0}, {"internal/cli", 40, 0},
	} {
		var b strings.Builder
		b.WriteString("package x\n")
		for i := range tt.n {
			fmt.Fprintf(&b, "import _ %q\n", fmt.Sprintf("%s/internal/p%d", module, i))
		}
		s := sample(t, tt.dir+"/x.go", b.String())
		if got := checkFanOut([]*source{s}); len(got) != tt.want {
			t.Errorf("%s with %d imports: got %v, want %d findings", tt.dir, tt.n, got, tt.want)
		}
	}
}
