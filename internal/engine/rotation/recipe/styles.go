package recipe

import (
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"

	"github.com/keyturn/keyturn/internal/engine/rotation"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
)

// A form says which blocks a recipe of one style has, besides those that every recipe may have.
type form struct{ needs, refuses []string }

var forms = map[rotate.Style]form{
	rotate.TwoKey: {[]string{"create", "retire"}, []string{"supply"}},
	rotate.Slots:  {[]string{"create", "retire"}, []string{"supply", "list", "last_used", "disable"}},
	rotate.Manual: {[]string{"supply", "verify"}, []string{"create"}},
	rotate.External: {[]string{"verify"}, []string{"admin", "create", "disable", "last_used", "limits", "list",
		"retire", "settle", "supply"}},
}

// check reports missing blocks, and blocks that the recipe's style does not have.
func (f form) check(style rotate.Style, end hcl.Range, blocks map[string][]*hcl.Block, problems *problems) {
	for _, name := range f.needs {
		if len(blocks[name]) == 0 {
			problems.add(end, "style %q needs a block %q", style, name)
		}
	}
	for _, name := range f.refuses {
		for _, block := range blocks[name] {
			problems.add(block.DefRange, "style %q has no block %q; remove it", style, name)
		}
	}
}

// keyNames returns the names that select a key in a request.
func keyNames(style rotate.Style) map[string]cty.Value {
	names := map[string]cty.Value{"id": cty.UnknownVal(cty.String)}
	if style == rotate.Slots {
		names["slot"] = cty.UnknownVal(cty.String)
	}
	return names
}

const (
	maxSlots        = 8
	maxInstructions = 1000 // bytes
)

// readSlots reads the names of the slots, of the style slots.
func readSlots(p *parser, c *hcl.BodyContent) {
	at, style := c.Attributes["slots"], p.out.def.Style
	switch {
	case at == nil && style == rotate.Slots:
		p.problems.add(c.MissingItemRange, "style %q needs the attribute slots, such as slots = [\"key1\", \"key2\"]",
			style)
		return
	case at != nil && style != rotate.Slots:
		p.problems.add(at.Range, "style %q has no slots; remove the attribute", style)
		return
	case at == nil:
		return
	}
	names := literalStrings(p, at)
	for i, name := range names {
		if !rotation.ValidID(name) || strings.Contains(name, rotation.SlotMark) || slices.Contains(names[:i], name) {
			p.problems.add(at.Expr.Range(), "a slot must be printable, without %q, and different from the others, "+
				"not %q", rotation.SlotMark, name)
			return
		}
	}
	if len(names) < 2 || len(names) > maxSlots {
		p.problems.add(at.Expr.Range(), "slots must be a list of 2 to %d names, such as [\"key1\", \"key2\"]",
			maxSlots)
		return
	}
	p.out.def.Slots = names
}

// literalStrings reads an attribute that must be a list of literal strings.
func literalStrings(p *parser, at *hcl.Attribute) (out []string) {
	v, ok := p.literal(at.Expr)
	if !ok {
		return nil
	}
	if !v.Type().IsTupleType() {
		p.problems.add(at.Expr.Range(), "%s must be a list of strings", at.Name)
		return nil
	}
	for it := v.ElementIterator(); it.Next(); {
		_, s := it.Element()
		if s.Type() != cty.String || s.IsNull() {
			p.problems.add(at.Expr.Range(), "%s must be a list of strings", at.Name)
			return nil
		}
		out = append(out, s.AsString())
	}
	return out
}

// readSupply reads what a person supplies, of the style manual.
func readSupply(p *parser, block *hcl.Block) {
	content, diags := block.Body.Content(&hcl.BodySchema{Attributes: attributes("instructions", "secret", "public")})
	p.problems.diagnostics(diags)
	def := &p.out.def
	def.Instructions = strings.TrimRight(p.literalString(content, "instructions"), ". \n")
	if len(def.Instructions) == 0 || len(def.Instructions) > maxInstructions {
		p.problems.add(block.DefRange, "supply must say in instructions where a person creates and deletes keys, in "+
			"at most %d bytes", maxInstructions)
	}
	for _, name := range []string{"secret", "public"} {
		at := content.Attributes[name]
		if at == nil {
			continue
		}
		for _, output := range literalStrings(p, at) {
			taken := slices.ContainsFunc(def.Outputs, func(o rotation.Output) bool { return o.Name == output })
			if !fieldName.MatchString(output) || output == "id" || taken {
				p.problems.add(at.Expr.Range(), "the name of an output must be a-z, then a-z, 0-9 and _, not \"id\", "+
					"and different from the others, not %q", output)
				continue
			}
			def.Outputs = append(def.Outputs, rotation.Output{Name: output, Secret: name == "secret"})
		}
	}
	if !slices.ContainsFunc(def.Outputs, func(o rotation.Output) bool { return o.Secret }) {
		p.problems.add(block.DefRange, "supply must name the secret outputs, such as secret = [\"api_key\"]")
	}
	def.Can.CreatedByHand = true
}

// idleSlot returns the slot to regenerate: the one after the slot of the current key.
func (r *recipe) idleSlot(current string) (string, error) {
	slots := r.def.Slots
	i := slices.Index(slots, rotation.SlotOf(current))
	if i < 0 {
		return "", fault.New("recipe.create", fault.Invalid, "the current key %q is in none of the slots %q, so it "+
			"is not known which slot readers use; write current_key_id with the slot's name", current, slots)
	}
	return slots[(i+1)%len(slots)], nil
}

// checkSupplied refuses a recipe that would delete whatever ID a person has given with a key.
func checkSupplied(p *parser, blocks map[string][]*hcl.Block) {
	verify, retire := p.out.verify, p.out.retire
	if p.out.def.Style != rotate.Manual || retire == nil || verify == nil {
		return
	}
	es := append(verify.expressions(), verify.when, verify.rejected)
	es = slices.DeleteFunc(es, func(e hcl.Expression) bool { return e == nil })
	if !uses(es, "key", "id") {
		p.problems.add(blocks["retire"][0].DefRange, "retire deletes the key whose ID a person has given, so verify "+
			"must show that the ID belongs to the key: use key.id in its request or conditions, or leave retire out")
	}
}
