package arch

import (
	"go/ast"
	"go/token"
	"maps"
	"slices"
	"testing"
)

func TestDocs(t *testing.T) {
	all := tree(t)
	for _, s := range all {
		report(t, checkDocs(s))
	}
	report(t, checkPackageDocs(all))
}

// checkDocs finds exported names without a comment, outside commands.
func checkDocs(s *source) []finding {
	if !s.counted() || s.file.Name.Name == "main" {
		return nil
	}
	var found []finding
	missing := func(n *ast.Ident) {
		found = append(found, s.found(n.Pos(), "exported %s has no comment: say what a caller must know", n.Name))
	}
	for _, d := range s.file.Decls {
		switch x := d.(type) {
		case *ast.FuncDecl:
			recv := receiver(x)
			if x.Name.IsExported() && x.Doc == nil && (recv == "" || ast.IsExported(recv)) {
				missing(x.Name)
			}
		case *ast.GenDecl:
			for _, n := range undocumented(x) {
				missing(n)
			}
		}
	}
	return found
}

func undocumented(d *ast.GenDecl) []*ast.Ident {
	var names []*ast.Ident
	if d.Doc != nil || d.Tok == token.IMPORT {
		return nil
	}
	for _, spec := range d.Specs {
		switch x := spec.(type) {
		case *ast.TypeSpec:
			if x.Name.IsExported() && x.Doc == nil && x.Comment == nil {
				names = append(names, x.Name)
			}
		case *ast.ValueSpec:
			for _, n := range x.Names {
				if n.IsExported() && x.Doc == nil && x.Comment == nil {
					names = append(names, n)
				}
			}
		}
	}
	return names
}

// checkPackageDocs finds packages without a package comment.
func checkPackageDocs(all []*source) []finding {
	first := map[string]*source{}
	has := map[string]bool{}
	for _, s := range all {
		// A folder of nothing but tests says what it is in one of them.
		if s.generated || s.suffix && s.file.Doc == nil {
			continue
		}
		if first[s.dir] == nil {
			first[s.dir] = s
		}
		has[s.dir] = has[s.dir] || s.file.Doc != nil
	}
	var found []finding
	for _, dir := range slices.Sorted(maps.Keys(first)) {
		if !has[dir] {
			found = append(found, first[dir].found(first[dir].file.Package,
				"package %s has no comment: state its purpose, invariants and locking", dir))
		}
	}
	return found
}

func TestCheckDocsFinds(t *testing.T) {
	s := sample(t, "internal/x/x.go", `package x

func Bare() {}

// Said is documented.
func Said() {}

type t struct{}

func (t) Inner() {} // a method of an unexported type

type Open struct{}

func (*Open) Method() {}

type Beside struct{} // documented beside

const One = 1

// A group.
const (
	Two = 2
	Three = 3
)
`)
	got := checkDocs(s)
	if len(got) != 4 { // Bare, Open, Method, One
		t.Errorf("got %v, want 4 findings", got)
	}
	if got := checkDocs(sample(t, "cmd/x/main.go", "package main\nfunc Bare() {}")); len(got) != 0 {
		t.Errorf("a command: got %v", got)
	}
}

func TestCheckPackageDocsFinds(t *testing.T) {
	bare := sample(t, "internal/x/a.go", "package x")
	said := sample(t, "internal/x/b.go", "// Package x is.\npackage x")
	test := sample(t, "internal/y/y_test.go", "package y")
	if got := checkPackageDocs([]*source{bare, test}); len(got) != 1 {
		t.Errorf("got %v, want one finding", got)
	}
	if got := checkPackageDocs([]*source{bare, said}); len(got) != 0 {
		t.Errorf("got %v, want none", got)
	}
}
