package arch

import (
	"go/ast"
	"go/token"
	"testing"
)

// quoting are folders whose messages may quote errors, because these come from libraries that know
// no secret.
var quoting = map[string]string{
	"internal/username":  "the template library names the place in the client's own template",
	"internal/core/node": "the profiler says that it is running",
}

// TestRedaction separates our texts from those of others: a message is ours and is not redacted,
// so it quotes no error; only texts of others are redacted, because a secret may be a word that we
// use.
func TestRedaction(t *testing.T) {
	for _, s := range tree(t) {
		report(t, checkRedaction(s))
	}
}

func checkRedaction(s *source) []finding {
	if s.test || quoting[s.dir] != "" {
		return nil
	}
	var found []finding
	quotes := func(e ast.Expr) {
		if n := quotesError(e); n != nil {
			found = append(found, s.found(n.Pos(),
				"a client's message quotes an error's text, which others may have written: say it in our own "+
					"words, and keep the error as Err; or redact it by Scrub"))
		}
	}
	ast.Inspect(s.file, func(n ast.Node) bool {
		switch x := n.(type) {
		case *ast.CallExpr:
			switch {
			case called(x) == "Scrub":
				for _, arg := range x.Args {
					if own := ownWords(arg); own != nil {
						found = append(found, s.found(own.Pos(),
							"words of our own are redacted: give Scrub what others wrote alone, and put our "+
								"words around the result"))
					}
				}
			case selects(x.Fun, "fault", "New"):
				for _, arg := range x.Args {
					quotes(arg)
				}
			}
		case *ast.KeyValueExpr:
			if key, ok := x.Key.(*ast.Ident); ok && key.Name == "Msg" {
				quotes(x.Value)
			}
		case *ast.AssignStmt:
			for i, to := range x.Lhs {
				if sel, ok := to.(*ast.SelectorExpr); ok && sel.Sel.Name == "Msg" && len(x.Lhs) == len(x.Rhs) {
					quotes(x.Rhs[i])
				}
			}
		}
		return true
	})
	return found
}

// called is the name of the function or method that is called.
func called(c *ast.CallExpr) string {
	switch f := c.Fun.(type) {
	case *ast.SelectorExpr:
		return f.Sel.Name
	case *ast.Ident:
		return f.Name
	}
	return ""
}

// ownWords finds a literal text, or the message of one of our errors.
func ownWords(e ast.Expr) (found ast.Node) {
	ast.Inspect(e, func(n ast.Node) bool {
		switch x := n.(type) {
		case *ast.BasicLit:
			if x.Kind == token.STRING && len(x.Value) > len(`"\\n"`) {
				found = x
			}
		case *ast.CallExpr:
			if selects(x.Fun, "fault", "Message") {
				found = x
			}
		}
		return found == nil
	})
	return found
}

// quotesError finds a call of Error() that is not passed to Scrub.
func quotesError(e ast.Expr) (found ast.Node) {
	ast.Inspect(e, func(n ast.Node) bool {
		if c, ok := n.(*ast.CallExpr); ok {
			if called(c) == "Scrub" {
				return false
			}
			if _, method := c.Fun.(*ast.SelectorExpr); method && called(c) == "Error" && len(c.Args) == 0 {
				found = c
			}
		}
		return found == nil
	})
	return found
}

func TestCheckRedactionFinds(t *testing.T) {
	for text, want := range map[string]int{
		`func f() { r.Scrub(text) }`:                                                 0,
		`func f() { r.Scrub(strings.ReplaceAll(text, "\n", " ")) }`:                  0,
		`func f() { r.Scrub("doing: " + err.Error()) }`:                              1,
		`func f() { r.Scrub(fault.Message(err)) }`:                                   1,
		`func f() { fault.New(op, fault.Upstream, "no: %s", err.Error()) }`:          1,
		`func f() { fault.New(op, fault.Upstream, "no: %s", r.Scrub(err.Error())) }`: 0,
		`func f() { fault.New(op, fault.Upstream, "no: %s", why) }`:                  0,
		`var e = fault.Error{Msg: "no: " + err.Error()}`:                             1,
		`var e = fault.Error{Msg: "no: " + fault.Message(err), Err: err}`:            0,
		`func f() { e.Msg = "no: " + err.Error() }`:                                  1,
		`func f() { e.Kind, e.Msg = k, "no: " + err.Error() }`:                       1,
		`func f() { e.Kind, e.Msg = k, "no" }`:                                       0,
	} {
		if got := checkRedaction(sample(t, "internal/x/x.go", "package x\n"+text)); len(got) != want {
			t.Errorf("%s: got %v, want %d findings", text, got, want)
		}
	}
}
