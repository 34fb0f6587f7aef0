package recipe

import (
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// unknownFunctions finds calls of functions that do not exist. HCL does not report such a call
// behind && or || while the left operand is unknown, and a condition with such a call is never
// met.
func (ps *problems) unknownFunctions(node hclsyntax.Node) (found bool) {
	_ = hclsyntax.VisitAll(node, func(n hclsyntax.Node) hcl.Diagnostics {
		if call, ok := n.(*hclsyntax.FunctionCallExpr); ok {
			if _, known := functions[call.Name]; !known {
				ps.add(call.NameRange, "there is no function %q; recipes/README.md lists the functions", call.Name)
				found = true
			}
		}
		return nil
	})
	return found
}

// check reports every problem of an expression that it can find without values: in names,
// functions, numbers of arguments, types and limits.
//
// If the expression is within the limits, check makes the expression metered.
func (ps *problems) check(e hcl.Expression, s scope, want cty.Type) {
	before := len(*ps)
	node, ok := e.(hclsyntax.Node)
	if ok {
		hclsyntax.Walk(node, &limitChecker{problems: ps})
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
