package recipe

import (
	"github.com/zclconf/go-cty/cty"
)

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
