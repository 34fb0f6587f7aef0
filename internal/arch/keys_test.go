package arch

import (
	"go/ast"
	"go/token"
	"slices"
	"strconv"
	"testing"
)

// keyedCalls take a key as one of their arguments.
var keyedCalls = []string{"Load", "Store", "LoadOrStore", "LoadAndDelete", "Delete", "Take", "Do"}

// setsToShow are maps that are not used for look-ups, but only shown.
var setsToShow = []string{"internal/engine/database/mysql/definer.go"}

// TestCompositeKeys: the key of a map or a lock that consists of several texts is made by
// wire.Key. If they were joined with a separator that one of them contains, two different lists
// could have one key; that once gave one policy the rights of two others. Keys of the store are
// paths whose parts contain no slash, except the last; each package comment shows them.
func TestCompositeKeys(t *testing.T) {
	for _, s := range tree(t) {
		if !s.test && !slices.Contains(setsToShow, s.path) {
			report(t, checkKeys(s))
		}
	}
}

func checkKeys(s *source) (found []finding) {
	say := func(at ast.Node) {
		found = append(found, s.found(at.Pos(),
			"a key of several texts is made by wire.Key(a, b); joined by a sign it may be the key of something else"))
	}
	ast.Inspect(s.file, func(n ast.Node) bool {
		switch x := n.(type) {
		case *ast.IndexExpr:
			if joins(x.Index) {
				say(x)
			}
		case *ast.CallExpr:
			sel, ok := x.Fun.(*ast.SelectorExpr)
			if ok && slices.Contains(keyedCalls, sel.Sel.Name) && slices.ContainsFunc(x.Args, joins) {
				say(x)
			}
		}
		return true
	})
	return found
}

// joins reports whether an expression puts a separator between two texts that are not constant.
func joins(e ast.Expr) bool {
	switch x := e.(type) {
	case *ast.BinaryExpr:
		if x.Op != token.ADD {
			return false
		}
		parts := flatten(x)
		for i := 1; i+1 < len(parts); i++ {
			if isSign(parts[i]) && !isText(parts[i-1]) && !isText(parts[i+1]) {
				return true
			}
		}
		return false
	case *ast.CallExpr:
		sel, ok := x.Fun.(*ast.SelectorExpr)
		if !ok {
			return false
		}
		pkg, _ := sel.X.(*ast.Ident)
		return pkg != nil && (pkg.Name == "strings" && sel.Sel.Name == "Join" ||
			pkg.Name == "fmt" && sel.Sel.Name == "Sprintf" && len(x.Args) > 2)
	}
	return false
}

func flatten(e ast.Expr) []ast.Expr {
	if b, ok := e.(*ast.BinaryExpr); ok && b.Op == token.ADD {
		return append(flatten(b.X), flatten(b.Y)...)
	}
	return []ast.Expr{e}
}

func isText(e ast.Expr) bool {
	lit, ok := e.(*ast.BasicLit)
	return ok && lit.Kind == token.STRING
}

func isSign(e ast.Expr) bool {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return false
	}
	text, err := strconv.Unquote(lit.Value)
	return err == nil && len(text) <= 3
}

func TestCheckKeysFinds(t *testing.T) {
	for text, want := range map[string]int{
		`var v = m[a+","+b]`:                    1,
		`var v = m[strings.Join(names, ",")]`:   1,
		`var v = m[fmt.Sprintf("%s/%s", a, b)]`: 1,
		`var v = m[prefix+a]`:                   0,
		`var v = m["a/"+b]`:                     0,
		`var v = m[wire.Key(a, b)]`:             0,
		`var v, _ = l.Take(ctx, kind+"/"+name)`: 1,
		`var v, _ = l.Take(ctx, kind+name)`:     0,
		`var v, _ = c.Load(a + "\x00" + b)`:     1,
		`var v = list[n+1]`:                     0,
		`var v = text(a + "@" + b)`:             0,
	} {
		if got := checkKeys(sample(t, "internal/x/x.go", "package x\n"+text)); len(got) != want {
			t.Errorf("%s: %v, want %d", text, got, want)
		}
	}
}
