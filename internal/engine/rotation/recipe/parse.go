package recipe

import (
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/typeexpr"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	ctyjson "github.com/zclconf/go-cty/cty/json"

	"github.com/keyturn/keyturn/internal/engine/rotation"
	"github.com/keyturn/keyturn/internal/rotate"
)

var (
	paramSchema = &hcl.BodySchema{Attributes: []hcl.AttributeSchema{{Name: "description", Required: true},
		{Name: "type"}, {Name: "default"}}}
	adminSchema = &hcl.BodySchema{Attributes: []hcl.AttributeSchema{{Name: "description", Required: true},
		{Name: "secret"}}}
)

// fields reads the blocks param and admin, and builds the scopes of the other expressions.
func (p *parser) fields(blocks map[string][]*hcl.Block) {
	params, admin := map[string]cty.Value{}, map[string]cty.Value{}
	for _, block := range blocks["param"] {
		f, t, ok := p.field(block, params)
		content, diags := block.Body.Content(paramSchema)
		p.problems.diagnostics(diags)
		f.Description = p.literalString(content, "description")
		if at := content.Attributes["type"]; at != nil {
			t = p.paramType(at.Expr)
		}
		f.Type = strings.ReplaceAll(typeexpr.TypeString(t), " ", "")
		f.Required = content.Attributes["default"] == nil
		if at := content.Attributes["default"]; at != nil {
			f.Default = p.defaultOf(at.Expr, t)
		}
		if ok {
			params[f.Name] = cty.UnknownVal(t)
			p.out.params[f.Name] = t
			p.out.def.Params = append(p.out.def.Params, f)
		}
	}
	for _, block := range blocks["admin"] {
		f, _, ok := p.field(block, admin)
		content, diags := block.Body.Content(adminSchema)
		p.problems.diagnostics(diags)
		f.Description = p.literalString(content, "description")
		f.Type, f.Secret, f.Required = "string", true, true
		if at := content.Attributes["secret"]; at != nil {
			v, ok := p.literal(at.Expr)
			if ok && (v.Type() != cty.Bool || v.IsNull()) {
				p.problems.add(at.Expr.Range(), "secret must be true or false")
			} else if ok {
				f.Secret = v.True()
			}
		}
		if ok {
			admin[f.Name] = cty.UnknownVal(cty.String)
			p.out.def.Admin = append(p.out.def.Admin, f)
		}
	}
	p.config = p.meter.with(scope{"param": cty.ObjectVal(params)})
	p.calls = p.config.with(scope{"admin": cty.ObjectVal(admin), "now": cty.UnknownVal(cty.String)})
}

// field reads the label of a block. field reports a name that is invalid or already taken.
func (p *parser) field(block *hcl.Block, taken map[string]cty.Value) (rotation.Field, cty.Type, bool) {
	name := block.Labels[0]
	if !fieldName.MatchString(name) {
		p.problems.add(block.LabelRanges[0], "the name of a %s must be a-z, then a-z, 0-9 and _", block.Type)
		return rotation.Field{Name: name}, cty.String, false
	}
	if _, ok := taken[name]; ok {
		p.problems.add(block.LabelRanges[0], "there is already a %s %q; remove one, or rename it", block.Type, name)
		return rotation.Field{Name: name}, cty.String, false
	}
	return rotation.Field{Name: name}, cty.String, true
}

func (p *parser) paramType(e hcl.Expression) cty.Type {
	t, diags := typeexpr.Type(e)
	p.problems.diagnostics(diags)
	if diags.HasErrors() {
		return cty.String
	}
	for _, known := range []cty.Type{cty.String, cty.Number, cty.Bool, cty.List(cty.String), cty.Map(cty.String)} {
		if t.Equals(known) {
			return t
		}
	}
	p.problems.add(e.Range(), "the type of a param must be string, number, bool, list(string) or map(string)")
	return cty.String
}

func (p *parser) defaultOf(e hcl.Expression, t cty.Type) []byte {
	before := len(p.problems)
	p.problems.check(e, p.meter, t)
	if len(p.problems) > before {
		return nil
	}
	v, diags := evaluated(e, p.meter)
	p.problems.diagnostics(diags)
	if diags.HasErrors() {
		return nil
	}
	v, err := convert.Convert(v, t)
	if err != nil || !v.IsWhollyKnown() || !printable(v) {
		p.problems.add(e.Range(), "the default must be a %s", typeexpr.TypeString(t))
		return nil
	}
	out, err := ctyjson.Marshal(v, t)
	if err != nil {
		p.problems.add(e.Range(), "the default has no JSON form; use numbers, strings, lists and objects")
	}
	return out
}

// hosts reads the allow-list of hosts and marks the parameters that the list uses.
func (p *parser) hosts(c *hcl.BodyContent) {
	at := c.Attributes["hosts"]
	if at == nil {
		return
	}
	p.out.hosts = at.Expr
	before := len(p.problems)
	p.problems.check(at.Expr, p.config, cty.List(cty.String))
	for _, variable := range at.Expr.Variables() {
		if variable.RootName() != "param" || len(variable) < 2 {
			p.problems.add(variable.SourceRange(), "hosts may use single params only, such as param.region")
			continue
		}
		name := stepName(variable[1])
		for i := range p.out.def.Params {
			if p.out.def.Params[i].Name == name {
				p.out.def.Params[i].Routes = true
			}
		}
	}
	if len(p.problems) == before {
		p.out.def.Hosts = hostTexts(at.Expr, p.meter)
	}
}

// hostTexts returns each host as the recipe has it, with its parameters as ${param.…}.
func hostTexts(e hcl.Expression, m scope) (out []string) {
	list, diags := hcl.ExprList(e)
	if diags.HasErrors() {
		return []string{"computed"}
	}
	for _, item := range list {
		out = append(out, hostText(item, m))
	}
	return out
}

func hostText(e hcl.Expression, m scope) string {
	if v, diags := evaluated(e, m); !diags.HasErrors() && v.Type() == cty.String && !v.IsNull() {
		return v.AsString()
	}
	switch n := unmetered(e).(type) {
	case *hclsyntax.TemplateExpr:
		var b strings.Builder
		for _, part := range n.Parts {
			b.WriteString(hostText(part, m))
		}
		return b.String()
	case *hclsyntax.TemplateWrapExpr:
		return hostText(n.Wrapped, m)
	case *hclsyntax.ScopeTraversalExpr:
		if len(n.Traversal) > 1 {
			return fmt.Sprintf("${param.%s}", stepName(n.Traversal[1]))
		}
	}
	return "${…}"
}

var (
	limitsSchema = &hcl.BodySchema{Attributes: []hcl.AttributeSchema{{Name: "keys"}, {Name: "label"}}}
	settleSchema = &hcl.BodySchema{Attributes: []hcl.AttributeSchema{{Name: "successes"}, {Name: "interval"},
		{Name: "timeout"}}}
)

func (p *parser) limits(blocks []*hcl.Block) {
	for _, block := range blocks {
		content, diags := block.Body.Content(limitsSchema)
		p.problems.diagnostics(diags)
		p.out.def.Limits.Keys = p.number(content, "keys", 1_000_000)
		p.out.def.Limits.Label = p.number(content, "label", 1_000_000)
		if at := content.Attributes["keys"]; at != nil && p.out.def.Limits.Keys == 1 {
			p.problems.add(at.Expr.Range(), "style %q needs room for two keys", rotate.TwoKey)
		}
	}
}

// settle reads the block settle. The default suits a provider whose keys work at once: two
// successes two seconds apart. One success is not enough, because a provider may answer from
// several places.
func (p *parser) settle(blocks []*hcl.Block) {
	s := &p.out.def.Settle
	*s = rotate.Settle{Successes: 2, Interval: 2 * time.Second, Timeout: 10 * time.Minute}
	for _, block := range blocks {
		content, diags := block.Body.Content(settleSchema)
		p.problems.diagnostics(diags)
		if n := p.number(content, "successes", 100); n > 0 {
			s.Successes = n
		}
		s.Interval = p.duration(content, "interval", s.Interval, time.Hour)
		s.Timeout = p.duration(content, "timeout", s.Timeout, 24*time.Hour)
		if least := time.Duration(s.Successes) * s.Interval; s.Timeout < least {
			p.problems.add(block.DefRange,
				"settle's timeout %v is too short for %d successes %v apart; make it longer", s.Timeout, s.Successes,
				s.Interval)
		}
	}
}

// complete completes the definition with what follows from the steps.
func (r *recipe) complete() {
	r.markParams()
	can := &r.def.Can
	can.List = r.list != nil
	can.Disable = r.disable != nil
	can.LastUsed = r.lastUsed != nil || r.list != nil && r.list.lastUsed != nil
	can.Label = r.list != nil && r.list.label != nil
	can.RetiredByHand = r.retire == nil && r.def.Style != rotate.External
	if r.verify == nil {
		can.Proof = rotate.ProofNone
	}
	switch {
	case r.create != nil:
		can.Timeout = r.create.longest()
	case r.def.Style == rotate.External:
		can.Timeout = r.verify.timeout
	}
}
