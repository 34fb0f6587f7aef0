package recipe

import (
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// The limits on a recipe's text.
const (
	maxSource  = 64 << 10
	maxNesting = 64  // open brackets and templates
	maxNodes   = 500 // of one expression
	maxNames   = 64  // references to variables in one expression
	maxLoops   = 2   // nested "for"
)

// nesting finds text that would make the parser recurse deeply.
func nesting(source []byte, file string) hcl.Diagnostics {
	tokens, diags := hclsyntax.LexConfig(source, file, hcl.InitialPos)
	depth := 0
	for _, t := range tokens {
		switch t.Type {
		case hclsyntax.TokenOBrace, hclsyntax.TokenOBrack, hclsyntax.TokenOParen, hclsyntax.TokenOQuote, hclsyntax.TokenOHeredoc,
			hclsyntax.TokenTemplateInterp, hclsyntax.TokenTemplateControl:
			depth++
		case hclsyntax.TokenCBrace, hclsyntax.TokenCBrack, hclsyntax.TokenCParen, hclsyntax.TokenCQuote, hclsyntax.TokenCHeredoc, hclsyntax.TokenTemplateSeqEnd:
			depth--
		}
		if depth > maxNesting {
			return append(diags, &hcl.Diagnostic{Severity: hcl.DiagError, Summary: "Nested too deeply", Detail: "Brackets and templates may be 64 deep.", Subject: t.Range.Ptr()})
		}
	}
	return diags
}

// limits finds what would make an expression's evaluation unbounded. A walker of
// HCL's own; each Enter has its Exit.
type limits struct {
	problems     *problems
	nodes, names int
	loops        []*hclsyntax.ForExpr
	told         bool
}

func (l *limits) tell(at hcl.Range, format string, args ...any) {
	if !l.told {
		l.problems.add(at, format, args...)
	}
	l.told = true
}

// Enter judges one node on the way down.
func (l *limits) Enter(node hclsyntax.Node) hcl.Diagnostics {
	if l.nodes++; l.nodes > maxNodes {
		l.tell(node.Range(), "the expression has more than %d parts; write a shorter one", maxNodes)
	}
	switch n := node.(type) {
	case *hclsyntax.ScopeTraversalExpr:
		if l.names++; l.names > maxNames {
			l.tell(n.SrcRange, "the expression refers to variables more than %d times; write a shorter one", maxNames)
		}
		if root := n.Traversal.RootName(); l.inLoopBody(n) && slices.Contains([]string{"response", "item"}, root) {
			l.tell(n.SrcRange, "%q cannot be used for each element of a loop; use the loop's own variables", root)
		}
	case *hclsyntax.ForExpr:
		if l.loops = append(l.loops, n); len(l.loops) > maxLoops {
			l.tell(n.SrcRange, "loops may be at most %d deep", maxLoops)
		}
	case *hclsyntax.LiteralValueExpr:
		if !printable(n.Val) {
			l.tell(n.SrcRange, "the number is out of range; make it smaller")
		}
	case *hclsyntax.BinaryOpExpr:
		if n.Op.Type == cty.Number {
			l.number(n.LHS)
			l.number(n.RHS)
		}
	case *hclsyntax.UnaryOpExpr:
		if n.Op.Type == cty.Number {
			l.number(n.Val)
		}
	}
	return nil
}

// Exit leaves a loop.
func (l *limits) Exit(node hclsyntax.Node) hcl.Diagnostics {
	if n, ok := node.(*hclsyntax.ForExpr); ok && len(l.loops) > 0 && l.loops[len(l.loops)-1] == n {
		l.loops = l.loops[:len(l.loops)-1]
	}
	return nil
}

// inLoopBody reports whether n is evaluated once per element of any open loop: anywhere
// in it but in the outermost loop's collection.
func (l *limits) inLoopBody(n *hclsyntax.ScopeTraversalExpr) bool {
	if len(l.loops) == 0 {
		return false
	}
	over := l.loops[0].CollExpr.Range()
	return n.SrcRange.Start.Byte < over.Start.Byte || n.SrcRange.End.Byte > over.End.Byte
}

// number refuses an operand that may be text: HCL would convert it, and "1e999999999" is
// a short text and a very long number.
func (l *limits) number(e hclsyntax.Expression) {
	switch n := e.(type) {
	case *hclsyntax.LiteralValueExpr, *hclsyntax.BinaryOpExpr, *hclsyntax.UnaryOpExpr:
		return
	case *hclsyntax.ParenthesesExpr:
		l.number(n.Expression)
		return
	case *hclsyntax.FunctionCallExpr:
		if slices.Contains([]string{"length", "tonumber", "unixtime"}, n.Name) {
			return
		}
	}
	l.tell(e.Range(), "arithmetic wants numbers; put the operand in tonumber(…)")
}

// A scope is what an expression may refer to, with unknown values of known types.
type scope map[string]cty.Value

func (s scope) with(more scope) scope {
	out := scope{}
	for _, m := range []scope{s, more} {
		for name, v := range m {
			out[name] = v
		}
	}
	return out
}

// responseScope is a reply that is not there yet.
var responseScope = scope{"response": cty.ObjectVal(map[string]cty.Value{
	"status":  cty.UnknownVal(cty.Number),
	"json":    cty.DynamicVal,
	"body":    cty.UnknownVal(cty.String),
	"headers": cty.UnknownVal(cty.Map(cty.String)),
})}

// check finds everything about an expression that can be known without values: names,
// functions, the number of arguments, types, and the limits.
func (ps *problems) check(e hcl.Expression, s scope, want cty.Type) {
	before := len(*ps)
	if node, ok := e.(hclsyntax.Node); ok {
		hclsyntax.Walk(node, &limits{problems: ps})
	}
	if len(*ps) > before {
		return // it may not be bounded
	}
	v, diags := evaluated(e, s)
	ps.diagnostics(diags)
	if diags.HasErrors() || want == cty.DynamicPseudoType {
		return
	}
	v, _ = v.Unmark()
	if t := v.Type(); t != cty.DynamicPseudoType && !v.IsNull() && !convertible(t, want) {
		ps.add(e.Range(), "want a %s, got %s", want.FriendlyName(), t.FriendlyName())
	}
}
