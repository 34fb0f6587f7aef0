package recipe

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
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
	recipeName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$`)
	fieldName  = regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}$`)
)

// A parser reads one text. It goes on after a problem as far as it can.
type parser struct {
	file     string
	problems problems
	out      *recipe

	meter  scope // that of all expressions together
	config scope // what hosts may use
	calls  scope // what every request may use
	auth   *auth // for requests that have none of their own
}

// parse reads, checks and hashes a recipe.
func parse(file string, source []byte) (*recipe, error) {
	p := &parser{file: file, out: &recipe{params: map[string]cty.Type{}}, meter: newMeter(nil, parseSteps)}
	if len(source) > maxSource {
		p.problems.add(hcl.Range{}, "the recipe is larger than %d KiB; shorten it", maxSource>>10)
		return nil, p.problems.err(file)
	}
	if diags := costs(source, file); diags.HasErrors() {
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
	p.out.describe()
	return p.out, nil
}

// hashOf is what a key is bound by.
func hashOf(source []byte) string {
	sum := sha256.Sum256(source)
	return "sha256:" + hex.EncodeToString(sum[:])
}

var recipeSchema = &hcl.BodySchema{
	Attributes: []hcl.AttributeSchema{
		{Name: "name", Required: true}, {Name: "description", Required: true}, {Name: "doc"}, {Name: "style", Required: true},
		{Name: "evidence", Required: true}, {Name: "hosts", Required: true}, {Name: "late"},
	},
	Blocks: []hcl.BlockHeaderSchema{
		{Type: "param", LabelNames: []string{"name"}}, {Type: "admin", LabelNames: []string{"name"}}, {Type: "auth", LabelNames: []string{"kind"}},
		{Type: "limits"}, {Type: "settle"}, {Type: "create"}, {Type: "verify"}, {Type: "list"}, {Type: "last_used"}, {Type: "disable"}, {Type: "retire"},
	},
}

// laterBlocks are parts of the format that are planned.
var laterBlocks = []string{"read", "after", "promote", "abort", "generate", "rotate", "instructions"}

func (p *parser) recipe(b *hclsyntax.Body) {
	if !p.style(b) {
		return
	}
	content, blocks := p.content(b, recipeSchema)
	d := &p.out.def
	d.Provider = family
	d.Name = p.static(content, "name")
	if at := content.Attributes["name"]; at != nil && d.Name != "" && !recipeName.MatchString(d.Name) {
		p.problems.add(at.Expr.Range(), "the name must be 1 to 64 of a-z, 0-9 and -, and begin and end with a letter or digit")
	}
	d.Description = p.static(content, "description")
	d.Doc = p.static(content, "doc")
	d.Evidence = p.static(content, "evidence")
	d.Can.Late = p.duration(content, "late", 15*time.Minute, 24*time.Hour)
	p.fields(blocks)
	p.hosts(content)
	p.limits(blocks["limits"])
	p.settle(blocks["settle"])
	p.auth = p.authOf(blocks["auth"], p.calls)
	p.steps(b, blocks)
	p.out.checkHosts(&p.problems)
}

// style reads the style first: a recipe of another one has other blocks, about which
// nothing sensible could be said.
func (p *parser) style(b *hclsyntax.Body) bool {
	at, ok := b.Attributes["style"]
	if !ok {
		return true // told later
	}
	v, ok := p.constant(at.Expr)
	if !ok {
		return false
	}
	var style rotate.Style
	if v.Type() == cty.String && !v.IsNull() {
		style = rotate.Style(v.AsString())
	}
	p.out.def.Style = style
	switch style {
	case rotate.TwoKey:
		return true
	case rotate.Slots, rotate.Promote, rotate.GraceRoll, rotate.InPlace, rotate.Manual:
		p.problems.later(at.Expr.Range(), "style %q is known but not supported yet; only %q is", style, rotate.TwoKey)
	default:
		p.problems.add(at.Expr.Range(), "style must be %q (later also %q, %q, %q, %q and %q)", rotate.TwoKey,
			rotate.Slots, rotate.Promote, rotate.GraceRoll, rotate.InPlace, rotate.Manual)
	}
	return false
}

// content applies a schema, and groups the blocks. Every block but those with a label and "fail" may
// appear once.
func (p *parser) content(b *hclsyntax.Body, schema *hcl.BodySchema) (*hcl.BodyContent, map[string][]*hcl.Block) {
	known := *b
	known.Blocks = nil
	for _, block := range b.Blocks {
		if slices.Contains(laterBlocks, block.Type) {
			p.problems.later(block.TypeRange, "block %q is known but not supported yet; leave it out", block.Type)
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
			p.problems.add(block.DefRange, "there is already a block %q at line %d; take one out", block.Type, before[0].DefRange.Start.Line)
			continue
		}
		blocks[block.Type] = append(before, block)
	}
	return content, blocks
}

// body is a block's, which hclsyntax made.
func blockBody(b *hcl.Block) *hclsyntax.Body { return b.Body.(*hclsyntax.Body) }

// constant reads what is written out: a text, a number, true, false, null, or a list of these. Anything else would be evaluated while the
// recipe is read, outside of all limits.
func (p *parser) constant(e hcl.Expression) (cty.Value, bool) {
	if !writtenOut(e, 0) {
		p.problems.add(e.Range(), "the value must be written out, without operators, functions, loops and references")
		return cty.NilVal, false
	}
	v, diags := e.Value(nil)
	p.problems.diagnostics(diags)
	return v, !diags.HasErrors()
}

// writtenOut reports whether nothing of an expression is to be worked out. Lists hold no lists.
func writtenOut(e hcl.Expression, depth int) bool {
	switch n := e.(type) {
	case *hclsyntax.LiteralValueExpr:
		return printable(n.Val)
	case *hclsyntax.TemplateExpr:
		return !slices.ContainsFunc(n.Parts, func(part hclsyntax.Expression) bool {
			literal, ok := part.(*hclsyntax.LiteralValueExpr)
			return !ok || literal.Val.Type() != cty.String
		})
	case *hclsyntax.TupleConsExpr:
		return depth == 0 && !slices.ContainsFunc(n.Exprs, func(each hclsyntax.Expression) bool { return !writtenOut(each, depth+1) })
	}
	return false
}

// static evaluates an attribute that must be a string without variables.
func (p *parser) static(c *hcl.BodyContent, name string) string {
	at := c.Attributes[name]
	if at == nil {
		return ""
	}
	v, ok := p.constant(at.Expr)
	if !ok {
		return ""
	}
	if v.Type() != cty.String || v.IsNull() || strings.TrimSpace(v.AsString()) == "" {
		p.problems.add(at.Expr.Range(), "%s must be a text that is not empty", name)
		return ""
	}
	return v.AsString()
}

// number evaluates an attribute that must be a whole number from 1 to limit; 0 where it is not there.
func (p *parser) number(c *hcl.BodyContent, name string, limit int64) int {
	at := c.Attributes[name]
	if at == nil {
		return 0
	}
	v, ok := p.constant(at.Expr)
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

// duration evaluates an attribute such as "90s".
func (p *parser) duration(c *hcl.BodyContent, name string, unset, limit time.Duration) time.Duration {
	at := c.Attributes[name]
	if at == nil {
		return unset
	}
	text := p.static(c, name)
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

var (
	paramSchema = &hcl.BodySchema{Attributes: []hcl.AttributeSchema{{Name: "description", Required: true}, {Name: "type"}, {Name: "default"}}}
	adminSchema = &hcl.BodySchema{Attributes: []hcl.AttributeSchema{{Name: "description", Required: true}, {Name: "secret"}}}
)

// fields reads what is to be configured, and makes the scopes.
func (p *parser) fields(blocks map[string][]*hcl.Block) {
	params, admin := map[string]cty.Value{}, map[string]cty.Value{}
	for _, block := range blocks["param"] {
		f, t, ok := p.field(block, params)
		content, diags := block.Body.Content(paramSchema)
		p.problems.diagnostics(diags)
		f.Description = p.static(content, "description")
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
		f.Description = p.static(content, "description")
		f.Type, f.Secret, f.Required = "string", true, true
		if at := content.Attributes["secret"]; at != nil {
			v, ok := p.constant(at.Expr)
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

// field reads a block's label.
func (p *parser) field(block *hcl.Block, taken map[string]cty.Value) (rotation.Field, cty.Type, bool) {
	name := block.Labels[0]
	if !fieldName.MatchString(name) {
		p.problems.add(block.LabelRanges[0], "the name of a %s must be a-z, then a-z, 0-9 and _", block.Type)
		return rotation.Field{Name: name}, cty.String, false
	}
	if _, ok := taken[name]; ok {
		p.problems.add(block.LabelRanges[0], "there is already a %s %q; take one out, or rename it", block.Type, name)
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

// hosts reads the allow-list and notes which parameters have a part in it.
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
		p.out.def.Hosts = sources(at.Expr, p.meter)
	}
}

// stepName is the name that one step of a traversal selects.
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

// sources writes each host as it is, with its parameters as ${param.…}.
func sources(e hcl.Expression, m scope) (out []string) {
	list, diags := hcl.ExprList(e)
	if diags.HasErrors() {
		return []string{"computed"}
	}
	for _, item := range list {
		out = append(out, sourceOf(item, m))
	}
	return out
}

func sourceOf(e hcl.Expression, m scope) string {
	if v, diags := evaluated(e, m); !diags.HasErrors() && v.Type() == cty.String && !v.IsNull() {
		return v.AsString()
	}
	switch n := bare(e).(type) {
	case *hclsyntax.TemplateExpr:
		var b strings.Builder
		for _, part := range n.Parts {
			b.WriteString(sourceOf(part, m))
		}
		return b.String()
	case *hclsyntax.TemplateWrapExpr:
		return sourceOf(n.Wrapped, m)
	case *hclsyntax.ScopeTraversalExpr:
		if len(n.Traversal) > 1 {
			return fmt.Sprintf("${param.%s}", stepName(n.Traversal[1]))
		}
	}
	return "${…}"
}

var (
	limitsSchema = &hcl.BodySchema{Attributes: []hcl.AttributeSchema{{Name: "keys"}, {Name: "label"}}}
	settleSchema = &hcl.BodySchema{Attributes: []hcl.AttributeSchema{{Name: "successes"}, {Name: "interval"}, {Name: "timeout"}}}
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

// settle has a default that suits a provider whose keys work at once: two proofs two
// seconds apart. Not one, because a provider may answer from several places.
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
			p.problems.add(block.DefRange, "settle's timeout %v is less than %d successes %v apart; make it longer", s.Timeout, s.Successes, s.Interval)
		}
	}
}

// describe fills in what follows from the steps.
func (r *recipe) describe() {
	r.acting()
	can := &r.def.Can
	can.List = r.list != nil
	can.Disable = r.disable != nil
	can.LastUsed = r.lastUsed != nil || r.list != nil && r.list.lastUsed != nil
	can.Label = r.list != nil && r.list.label != nil
	can.Timeout = r.create.timeout
	if r.verify == nil {
		can.Proof = rotate.ProofNone
	}
	for _, o := range r.create.secret {
		r.def.Outputs = append(r.def.Outputs, rotation.Output{Name: o.name, Secret: true})
	}
	for _, o := range r.create.public {
		r.def.Outputs = append(r.def.Outputs, rotation.Output{Name: o.name})
	}
}
