package recipe

import (
	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
)

// required is optional, but reports a problem if the attribute is missing.
func (p *parser) required(c *hcl.BodyContent, block *hcl.Block, name string, in scope, want cty.Type) hcl.Expression {
	e := p.optional(c, name, in, want)
	if e == nil {
		p.problems.add(block.DefRange, "%s must have %s", block.Type, name)
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
