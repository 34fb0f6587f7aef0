package recipe

import (
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

var (
	recipeName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$`)
	fieldName  = regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}$`)
)

// A parser parses one text. After a problem, it continues as far as it can.
type parser struct {
	file     string
	problems problems
	out      *recipe

	meter  scope // that of all expressions together
	config scope // what hosts may use
	calls  scope // what every request may use
	auth   *auth // for requests that have none of their own
}

// stepName returns the name that one step of a traversal selects, or "" if the step selects no
// name.
func stepName(t hcl.Traverser) string {
	switch t := t.(type) {
	case hcl.TraverseAttr:
		return t.Name
	case hcl.TraverseIndex:
		if t.Key.Type() == cty.String {
			return t.Key.AsString()
		}
	}
	return ""
}

// blockBody returns the body of a block that hclsyntax parsed.
func blockBody(b *hcl.Block) *hclsyntax.Body { return b.Body.(*hclsyntax.Body) }

// content applies a schema and groups the blocks by type. Every block except param, admin and fail
// may appear only once.
func (p *parser) content(b *hclsyntax.Body, schema *hcl.BodySchema) (*hcl.BodyContent, map[string][]*hcl.Block) {
	known := *b
	known.Blocks = nil
	for _, block := range b.Blocks {
		if slices.Contains(plannedBlocks, block.Type) {
			p.problems.unsupported(block.TypeRange, "block %q is planned but not supported yet; leave it out",
				block.Type)
			continue
		}
		known.Blocks = append(known.Blocks, block)
	}
	content, diags := known.Content(schema)
	p.problems.diagnostics(diags)
	blocks := map[string][]*hcl.Block{}
	for _, block := range content.Blocks {
		before := blocks[block.Type]
		if len(before) > 0 && block.Type != "param" && block.Type != "admin" && block.Type != "fail" {
			p.problems.add(block.DefRange, "there is already a block %q at line %d; remove one", block.Type,
				before[0].DefRange.Start.Line)
			continue
		}
		blocks[block.Type] = append(before, block)
	}
	return content, blocks
}

// literal reads a literal: a string, a number, true, false, null, or a list of these. literal
// refuses other expressions, because it evaluates without a meter.
func (p *parser) literal(e hcl.Expression) (cty.Value, bool) {
	if !isLiteral(e, 0) {
		p.problems.add(e.Range(), "the value must be a literal, without operators, functions, loops and references")
		return cty.NilVal, false
	}
	v, diags := e.Value(nil)
	p.problems.diagnostics(diags)
	return v, !diags.HasErrors()
}

// isLiteral reports whether an expression is a literal. A list in a list is not one.
func isLiteral(e hcl.Expression, depth int) bool {
	switch n := e.(type) {
	case *hclsyntax.LiteralValueExpr:
		return printable(n.Val)
	case *hclsyntax.TemplateExpr:
		return !slices.ContainsFunc(n.Parts, func(part hclsyntax.Expression) bool {
			literal, ok := part.(*hclsyntax.LiteralValueExpr)
			return !ok || literal.Val.Type() != cty.String
		})
	case *hclsyntax.TupleConsExpr:
		return depth == 0 &&
			!slices.ContainsFunc(n.Exprs, func(each hclsyntax.Expression) bool { return !isLiteral(each, depth+1) })
	}
	return false
}

// literalString reads an attribute that must be a literal string and must not be empty.
func (p *parser) literalString(c *hcl.BodyContent, name string) string {
	at := c.Attributes[name]
	if at == nil {
		return ""
	}
	v, ok := p.literal(at.Expr)
	if !ok {
		return ""
	}
	if v.Type() != cty.String || v.IsNull() || strings.TrimSpace(v.AsString()) == "" {
		p.problems.add(at.Expr.Range(), "%s must be a string that is not empty", name)
		return ""
	}
	return v.AsString()
}

// oneLine joins the lines of a text for people, which may be a heredoc.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// number reads an attribute that must be a whole number from 1 to limit. number returns 0 if the
// attribute is missing or wrong.
func (p *parser) number(c *hcl.BodyContent, name string, limit int64) int {
	at := c.Attributes[name]
	if at == nil {
		return 0
	}
	v, ok := p.literal(at.Expr)
	if !ok {
		return 0
	}
	if v.Type() == cty.Number && !v.IsNull() {
		if n, acc := v.AsBigFloat().Int64(); acc == 0 && n >= 1 && n <= limit {
			return int(n)
		}
	}
	p.problems.add(at.Expr.Range(), "%s must be a whole number from 1 to %d", name, limit)
	return 0
}

// duration reads an attribute such as "90s". duration returns unset if the attribute is missing or
// wrong.
func (p *parser) duration(c *hcl.BodyContent, name string, unset, limit time.Duration) time.Duration {
	at := c.Attributes[name]
	if at == nil {
		return unset
	}
	text := p.literalString(c, name)
	if text == "" {
		return unset
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < time.Second || d > limit {
		p.problems.add(at.Expr.Range(), "%s must be a duration from 1s to %v, such as \"90s\" or \"15m\"", name, limit)
		return unset
	}
	return d
}

// required is optional, but reports a problem if the attribute is missing.
func (p *parser) required(c *hcl.BodyContent, block *hcl.Block, name string, in scope, want cty.Type) hcl.Expression {
	e := p.optional(c, name, in, want)
	if e == nil {
		p.problems.add(block.DefRange, "%s must have the attribute %s", block.Type, name)
	}
	return e
}

func (p *parser) optional(c *hcl.BodyContent, name string, in scope, want cty.Type) hcl.Expression {
	at := c.Attributes[name]
	if at == nil {
		return nil
	}
	p.problems.check(at.Expr, in, want)
	return at.Expr
}

// attributes returns the attributes of a schema, all of them optional.
func attributes(names ...string) (out []hcl.AttributeSchema) {
	for _, name := range names {
		out = append(out, hcl.AttributeSchema{Name: name})
	}
	return out
}

// plannedBlocks lists the blocks of the format that are planned but not supported yet.
var plannedBlocks = []string{"after", "promote", "abort", "generate", "rotate", "instructions"}
