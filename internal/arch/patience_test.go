package arch

import (
	"go/ast"
	"go/token"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Tests run on machines with ten times more work than processors. Outside synctest bubbles a limit
// of a few seconds fails there, although nothing is wrong: limits are await.Patience, and a wait
// ends at its condition.
const (
	shortestLimit = 5 * time.Second // shorter ones are pauses, or what is tested
	longEnough    = 2 * time.Minute
)

func TestPatience(t *testing.T) {
	for _, s := range tree(t) {
		report(t, checkPatience(s))
	}
}

var behindIntegration = regexp.MustCompile(`(?m)^//go:build .*\bintegration\b`)

// checkPatience finds short time limits in tests of processes and sockets: those of test/ and
// cmd/, and those with the build tag integration. It ignores statements in bubbles.
func checkPatience(s *source) []finding {
	if !s.test && !within(s.dir, "cmd") ||
		!within(s.dir, "test") && !within(s.dir, "cmd") && !behindIntegration.MatchString(s.text) {
		return nil
	}
	if within(s.dir, "test/inprocess") { // bubbles
		return nil
	}
	var found []finding
	ast.Inspect(s.file, func(n ast.Node) bool {
		switch x := n.(type) {
		case *ast.CallExpr:
			if selects(x.Fun, "synctest", "Test") {
				return false
			}
			if !selects(x.Fun, "time", "After", "NewTimer", "AfterFunc") &&
				!selects(x.Fun, "context", "WithTimeout") && !fromNow(x) {
				return true
			}
			for _, arg := range x.Args {
				if d := duration(arg); d >= shortestLimit && d < longEnough {
					found = append(found, s.found(arg.Pos(),
						"a limit of %s fails on a busy machine: write await.Patience, and end at the condition", d))
				}
			}
		case *ast.BinaryExpr:
			if d := duration(x.Y); (x.Op == token.GTR || x.Op == token.GEQ) && d > 0 && d < longEnough {
				found = append(found, s.found(x.Pos(),
					"a test that fails above %s fails on a busy machine: compare with await.Patience, and "+
						"measure in bench/",
					d))
			}
		}
		return true
	})
	return found
}

// fromNow says whether a call is time.Now().Add(…).
func fromNow(x *ast.CallExpr) bool {
	sel, ok := x.Fun.(*ast.SelectorExpr)
	if !ok || sel.Sel.Name != "Add" {
		return false
	}
	now, ok := sel.X.(*ast.CallExpr)
	return ok && selects(now.Fun, "time", "Now")
}

var units = map[string]time.Duration{
	"Millisecond": time.Millisecond, "Second": time.Second, "Minute": time.Minute, "Hour": time.Hour,
}

// duration is the value of 20 * time.Second, or of time.Minute; 0 for everything else.
func duration(e ast.Expr) time.Duration {
	if product, ok := e.(*ast.BinaryExpr); ok && product.Op == token.MUL {
		number, ok := product.X.(*ast.BasicLit)
		if !ok {
			return 0
		}
		n, err := strconv.Atoi(strings.ReplaceAll(number.Value, "_", ""))
		if err != nil {
			return 0
		}
		return time.Duration(n) * duration(product.Y)
	}
	if sel, ok := e.(*ast.SelectorExpr); ok && selects(e, "time", sel.Sel.Name) {
		return units[sel.Sel.Name]
	}
	return 0
}

func TestPatienceFinds(t *testing.T) {
	for _, tt := range []struct {
		name, file, text string
		want             int
	}{
		{"twenty seconds", "test/system/x_test.go",
			"package x\nfunc f() { select { case <-time.After(20 * time.Second): } }", 1},
		{"a deadline", "cmd/keyturn/x_test.go", "package x\nfunc f() { context.WithTimeout(ctx, time.Minute) }", 1},
		{"until", "test/x/x.go", "package x\nvar d = time.Now().Add(30 * time.Second)", 1},
		{"a timed test", "test/x/x_test.go", "package x\nfunc f() { if took > 3*time.Second {} }", 1},
		{"behind the tag", "internal/x/x_test.go",
			"//go:build integration\n\npackage x\nfunc f() { time.NewTimer(10 * time.Second) }", 1},
		{"hermetic", "internal/x/x_test.go", "package x\nfunc f() { time.NewTimer(10 * time.Second) }", 0},
		{"in a bubble", "test/x/x_test.go",
			"package x\nfunc f() { synctest.Test(t, func() { time.After(20 * time.Second) }) }", 0},
		{"a pause", "test/x/x_test.go", "package x\nfunc f() { <-time.After(3 * time.Second) }", 0},
		{"at least", "test/x/x_test.go", "package x\nfunc f() { if took < 3*time.Second {} }", 0},
		{"patient", "test/x/x_test.go",
			"package x\nfunc f() { time.After(await.Patience); time.After(5 * time.Minute) }", 0},
		{"the server itself", "internal/x/x.go", "package x\nfunc f() { time.After(20 * time.Second) }", 0},
	} {
		if got := checkPatience(sample(t, tt.file, tt.text)); len(got) != tt.want {
			t.Errorf("%s: got %v, want %d findings", tt.name, got, tt.want)
		}
	}
}
