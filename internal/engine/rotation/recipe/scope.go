package recipe

import (
	"github.com/zclconf/go-cty/cty"
)

// A scope holds the variables that an expression may refer to. While a recipe is checked, they are
// unknown values of known types.
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

// responseScope holds the variable "response" for checks of a recipe, when there is no reply yet.
var responseScope = scope{"response": cty.ObjectVal(map[string]cty.Value{
	"status":  cty.UnknownVal(cty.Number),
	"json":    cty.DynamicVal,
	"body":    cty.UnknownVal(cty.String),
	"headers": cty.UnknownVal(cty.Map(cty.String)),
})}
