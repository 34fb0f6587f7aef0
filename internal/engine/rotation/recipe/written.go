package recipe

import (
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/keyturn/keyturn/internal/engine/rotation"
)

// writtenFields returns the fields that a verify block of style "external" uses as key.NAME. They
// become the outputs of the recipe.
func writtenFields(p *parser, block *hcl.Block) map[string]cty.Value {
	key := map[string]cty.Value{}
	_ = hclsyntax.VisitAll(blockBody(block), func(node hclsyntax.Node) hcl.Diagnostics {
		e, ok := node.(*hclsyntax.ScopeTraversalExpr)
		if !ok || e.Traversal.RootName() != "key" || len(e.Traversal) < 2 {
			return nil
		}
		name := stepName(e.Traversal[1])
		if name == "" || name == "id" || key[name] != cty.NilVal {
			return nil
		}
		key[name] = cty.UnknownVal(cty.String)
		p.out.def.Outputs = append(p.out.def.Outputs, rotation.Output{Name: name, Secret: true})
		return nil
	})
	if len(key) == 0 {
		p.problems.add(block.DefRange, "verify does not use the written key; use key.NAME, the field's name")
	}
	return key
}
