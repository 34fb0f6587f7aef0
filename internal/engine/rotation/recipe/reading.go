package recipe

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/keyturn/keyturn/internal/rotate"
)

// parse parses, checks and hashes a recipe.
func parse(file string, source []byte) (*recipe, error) {
	p := &parser{file: file, out: &recipe{params: map[string]cty.Type{}}, meter: newMeter(nil, parseSteps)}
	if len(source) > maxSource {
		p.problems.add(hcl.Range{}, "the recipe is larger than %d KiB; shorten it", maxSource>>10)
		return nil, p.problems.err(file)
	}
	if diags := checkSize(source, file); diags.HasErrors() {
		p.problems.diagnostics(diags)
		return nil, p.problems.err(file)
	}
	f, diags := hclsyntax.ParseConfig(source, file, hcl.InitialPos)
	p.problems.diagnostics(diags)
	if diags.HasErrors() {
		return nil, p.problems.err(file)
	}
	p.recipe(f.Body.(*hclsyntax.Body))
	if err := p.problems.err(file); err != nil {
		return nil, err
	}
	p.out.def.Hash = hashOf(source)
	p.out.def.Source = slices.Clone(source)
	p.out.complete()
	return p.out, nil
}

func (p *parser) recipe(b *hclsyntax.Body) {
	if !p.style(b) {
		return
	}
	content, blocks := p.content(b, recipeSchema)
	d := &p.out.def
	d.Provider = family
	d.Name = p.literalString(content, "name")
	if at := content.Attributes["name"]; at != nil && d.Name != "" && !recipeName.MatchString(d.Name) {
		p.problems.add(at.Expr.Range(),
			"the name must be 1 to 64 of a-z, 0-9 and -, and begin and end with a letter or digit")
	}
	d.Description = oneLine(p.literalString(content, "description"))
	d.Doc = p.literalString(content, "doc")
	d.Evidence = oneLine(p.literalString(content, "evidence"))
	d.Can.Late = p.duration(content, "late", 15*time.Minute, 24*time.Hour)
	p.fields(blocks)
	p.hosts(content)
	readSlots(p, content)
	p.limits(blocks["limits"])
	p.settle(blocks["settle"])
	p.auth = p.authOf(blocks["auth"], p.calls)
	if d.Style == rotate.External {
		externalSteps(p, b, blocks)
	} else {
		p.steps(b, blocks)
	}
	p.out.checkHosts(&p.problems)
}

// style reads the style before the rest. A recipe of another style has other blocks, and reports
// about these would mislead.
func (p *parser) style(b *hclsyntax.Body) bool {
	at, ok := b.Attributes["style"]
	if !ok {
		return true // reported later
	}
	v, ok := p.literal(at.Expr)
	if !ok {
		return false
	}
	var style rotate.Style
	if v.Type() == cty.String && !v.IsNull() {
		style = rotate.Style(v.AsString())
	}
	p.out.def.Style = style
	switch style {
	case rotate.TwoKey, rotate.Slots, rotate.Manual, rotate.External:
		return true
	case rotate.Promote, rotate.GraceRoll, rotate.InPlace:
		p.problems.unsupported(at.Expr.Range(), "style %q is planned but not supported yet; only %q, %q and %q are",
			style,
			rotate.TwoKey, rotate.Slots, rotate.Manual)
	default:
		p.problems.add(at.Expr.Range(), "style must be %q, %q, %q or %q (later also %q, %q and %q)", rotate.TwoKey,
			rotate.Slots, rotate.Manual, rotate.External, rotate.Promote, rotate.GraceRoll, rotate.InPlace)
	}
	return false
}

// hashOf returns the hash that identifies the text that a key is bound to.
func hashOf(source []byte) string {
	sum := sha256.Sum256(source)
	return "sha256:" + hex.EncodeToString(sum[:])
}

var recipeSchema = &hcl.BodySchema{
	Attributes: []hcl.AttributeSchema{
		{Name: "name", Required: true}, {Name: "description", Required: true}, {Name: "doc"},
		{Name: "style", Required: true},
		{Name: "evidence", Required: true}, {Name: "hosts", Required: true}, {Name: "late"},
		{Name: "slots"},
	},
	Blocks: []hcl.BlockHeaderSchema{
		{Type: "param", LabelNames: []string{"name"}}, {Type: "admin", LabelNames: []string{"name"}},
		{Type: "auth", LabelNames: []string{"kind"}},
		{Type: "limits"}, {Type: "settle"}, {Type: "create"}, {Type: "verify"}, {Type: "list"}, {Type: "last_used"},
		{Type: "disable"}, {Type: "retire"}, {Type: "supply"},
	},
}
