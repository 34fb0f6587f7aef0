package recipe

import (
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// unknownFunctions finds functions that there are not. HCL does not tell of one behind && or ||
// while what stands before is not known, and a condition with one is never met.
func (ps *problems) unknownFunctions(node hclsyntax.Node) (found bool) {
	_ = hclsyntax.VisitAll(node, func(n hclsyntax.Node) hcl.Diagnostics {
		if call, ok := n.(*hclsyntax.FunctionCallExpr); ok {
			if _, known := functions[call.Name]; !known {
				ps.add(call.NameRange, "there is no function %q; recipes/README.md lists those that there are", call.Name)
				found = true
			}
		}
		return nil
	})
	return found
}

// check finds everything about an expression that can be known without values: names,
// functions, the number of arguments, types, and the limits.
//
// From then on the expression is metered.
func (ps *problems) check(e hcl.Expression, s scope, want cty.Type) {
	before := len(*ps)
	node, ok := e.(hclsyntax.Node)
	if ok {
		hclsyntax.Walk(node, &limits{problems: ps})
	}
	if len(*ps) > before {
		return // it may not be bounded
	}
	if ok {
		hclsyntax.Walk(node, meterer{})
	}
	v, diags := evaluated(e, s)
	ps.diagnostics(diags)
	if ok && !diags.HasErrors() && ps.unknownFunctions(node) {
		return
	}
	if diags.HasErrors() || want == cty.DynamicPseudoType {
		return
	}
	v, _ = v.Unmark()
	if t := v.Type(); t != cty.DynamicPseudoType && !v.IsNull() && !convertible(t, want) {
		ps.add(e.Range(), "want a %s, got %s", want.FriendlyName(), t.FriendlyName())
	}
}

func convertible(from, to cty.Type) bool {
	return from.Equals(to) || convert.GetConversionUnsafe(from, to) != nil
}
