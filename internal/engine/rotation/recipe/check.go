package recipe

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// Limits on the text of a recipe.
const (
	maxSource  = 64 << 10
	maxNesting = 64  // open brackets and templates
	maxNodes   = 500 // of one expression
	maxNames   = 64  // references to variables in one expression
	maxLoops   = 2   // nested "for"
	maxPieces  = 500 // of one text in quotes, or lines of one heredoc
	maxUnary   = 16  // "!" and "-" in a row
	maxChoices = 500 // "?" in all expressions together
	maxOpen    = 32  // "/*" that no "*/" follows: HCL looks for it to the end of the text, each time
	maxTokens  = 20_000
)

// checkSize finds text that would make the parser recurse too deeply, or take time quadratic in
// the size of the text.
func checkSize(source []byte, file string) hcl.Diagnostics {
	if bytes.Count(source[bytes.LastIndex(source, []byte("*/"))+1:], []byte("/*")) > maxOpen {
		return hcl.Diagnostics{{Severity: hcl.DiagError, Summary: "Comment without an end",
			Detail:  "A comment begins with /* but has no */; close it.",
			Subject: &hcl.Range{Filename: file, Start: hcl.InitialPos}}}
	}
	tokens, diags := hclsyntax.LexConfig(source, file, hcl.InitialPos)
	var c tokenCounts
	for _, t := range tokens {
		c.add(t.Type)
		if why := c.exceeded(); why != "" {
			return append(diags,
				&hcl.Diagnostic{Severity: hcl.DiagError, Summary: "Too large an expression", Detail: why,
					Subject: t.Range.Ptr()})
		}
	}
	return diags
}

// tokenCounts counts the tokens of a text.
type tokenCounts struct {
	all, choices, unary, depth int
	pieces                     []int // of each text that is open
}

func (c *tokenCounts) add(t hclsyntax.TokenType) {
	c.all++
	switch t {
	case hclsyntax.TokenMinus, hclsyntax.TokenBang:
		c.unary++
	default:
		c.unary = 0
	}
	switch t {
	case hclsyntax.TokenOBrace, hclsyntax.TokenOBrack, hclsyntax.TokenOParen:
		c.depth++
	case hclsyntax.TokenOQuote, hclsyntax.TokenOHeredoc:
		c.depth++
		c.pieces = append(c.pieces, 0)
	case hclsyntax.TokenTemplateInterp, hclsyntax.TokenTemplateControl, hclsyntax.TokenQuotedLit,
		hclsyntax.TokenStringLit:
		if n := len(c.pieces); n > 0 {
			c.pieces[n-1]++
		}
		if t == hclsyntax.TokenTemplateInterp || t == hclsyntax.TokenTemplateControl {
			c.depth++
		}
	case hclsyntax.TokenCQuote, hclsyntax.TokenCHeredoc:
		c.depth--
		c.pieces = c.pieces[:max(0, len(c.pieces)-1)]
	case hclsyntax.TokenCBrace, hclsyntax.TokenCBrack, hclsyntax.TokenCParen, hclsyntax.TokenTemplateSeqEnd:
		c.depth--
	case hclsyntax.TokenQuestion:
		c.choices++
	}
}

func (c *tokenCounts) exceeded() string {
	switch {
	case c.depth > maxNesting:
		return fmt.Sprintf("Nested too deeply: brackets and templates may be %d deep.", maxNesting)
	case len(c.pieces) > 0 && c.pieces[len(c.pieces)-1] > maxPieces:
		return fmt.Sprintf("A text may have %d lines, escapes and templates; write a shorter one.", maxPieces)
	case c.unary > maxUnary:
		return fmt.Sprintf("At most %d of ! and - may be in a row.", maxUnary)
	case c.choices > maxChoices:
		return fmt.Sprintf("A recipe may have %d conditions with ?; write simpler expressions.", maxChoices)
	case c.all > maxTokens:
		return fmt.Sprintf("A recipe may have %d tokens; write a shorter one.", maxTokens)
	}
	return ""
}

// fromReplies are the variables that may hold a whole reply.
var fromReplies = []string{"response", "item", "read", "created"}

// limitChecker finds whatever would make the evaluation of an expression unbounded. limitChecker
// implements [hclsyntax.Walker], which calls Exit once for each Enter.
type limitChecker struct {
	problems     *problems
	nodes, names int
	loops        []*hclsyntax.ForExpr
	reported     bool
}

func (l *limitChecker) report(at hcl.Range, format string, args ...any) {
	if !l.reported {
		l.problems.add(at, format, args...)
	}
	l.reported = true
}

// Enter checks one node before its children.
func (l *limitChecker) Enter(node hclsyntax.Node) hcl.Diagnostics {
	if l.nodes++; l.nodes > maxNodes {
		l.report(node.Range(), "the expression has more than %d parts; write a shorter one", maxNodes)
	}
	switch n := node.(type) {
	case *hclsyntax.ScopeTraversalExpr:
		if l.names++; l.names > maxNames {
			l.report(n.SrcRange, "the expression refers to variables more than %d times; write a shorter one",
				maxNames)
		}
		if root := n.Traversal.RootName(); l.inLoopBody(n) && slices.Contains(fromReplies, root) {
			l.report(n.SrcRange, "%q cannot be used for each element of a loop; use the loop's own variables", root)
		}
	case *hclsyntax.ForExpr:
		if l.loops = append(l.loops, n); len(l.loops) > maxLoops {
			l.report(n.SrcRange, "loops may be at most %d deep", maxLoops)
		}
	case *hclsyntax.LiteralValueExpr:
		if !printable(n.Val) {
			l.report(n.SrcRange, "the number is out of range; make it smaller")
		}
	case *hclsyntax.BinaryOpExpr:
		if n.Op.Type == cty.Number {
			l.checkOperand(n.LHS)
			l.checkOperand(n.RHS)
		}
	case *hclsyntax.UnaryOpExpr:
		if n.Op.Type == cty.Number {
			l.checkOperand(n.Val)
		}
	}
	return nil
}

// Exit removes the innermost loop when the walk leaves it.
func (l *limitChecker) Exit(node hclsyntax.Node) hcl.Diagnostics {
	if _, ok := node.(*hclsyntax.ForExpr); ok {
		l.loops = l.loops[:len(l.loops)-1]
	}
	return nil
}

// inLoopBody reports whether n is evaluated once for each element of an open loop. That is true
// everywhere in a loop except in the collection of the outermost loop.
func (l *limitChecker) inLoopBody(n *hclsyntax.ScopeTraversalExpr) bool {
	if len(l.loops) == 0 {
		return false
	}
	over := l.loops[0].CollExpr.Range()
	return n.SrcRange.Start.Byte < over.Start.Byte || n.SrcRange.End.Byte > over.End.Byte
}

// checkOperand refuses an operand that may be a string, because HCL would convert it to a number.
// "1e999999999" is a short string and a very long number.
func (l *limitChecker) checkOperand(e hclsyntax.Expression) {
	switch n := e.(type) {
	case *hclsyntax.LiteralValueExpr, *hclsyntax.BinaryOpExpr, *hclsyntax.UnaryOpExpr:
		return
	case *hclsyntax.ParenthesesExpr:
		l.checkOperand(n.Expression)
		return
	case *hclsyntax.FunctionCallExpr:
		if slices.Contains([]string{"length", "tonumber", "unixtime"}, n.Name) {
			return
		}
	}
	l.report(e.Range(), "arithmetic needs numbers; put the operand in tonumber(…)")
}
