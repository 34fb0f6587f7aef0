package recipe

import (
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"

	"github.com/keyturn/keyturn/internal/rotate"
)

// stepSchema returns the schema of a step: the attributes and blocks that every step may have, and
// the attributes in more.
func stepSchema(more ...string) *hcl.BodySchema {
	return &hcl.BodySchema{
		Attributes: append(
			attributes("method", "url", "query", "headers", "json", "form", "raw", "content_type", "timeout",
				"example"), attributes(more...)...),
		Blocks: []hcl.BlockHeaderSchema{
			{Type: "auth", LabelNames: []string{"kind"}}, {Type: "graphql"}, {Type: "expect"},
			{Type: "fail", LabelNames: []string{"outcome"}},
		},
	}
}

// longest returns the longest that creating a key takes.
func (s *createStep) longest() time.Duration {
	d := s.timeout
	if s.read != nil {
		d += s.read.timeout
	}
	if s.poll != nil {
		d += s.poll.within
	}
	return d
}

// uses reports whether any expression refers to root, or to root.name.
func uses(es []hcl.Expression, root, name string) bool {
	for _, e := range es {
		for _, t := range e.Variables() {
			if t.RootName() == root && (name == "" || len(t) < 2 || stepName(t[1]) == name) {
				return true
			}
		}
	}
	return false
}

// expressions returns all expressions of a step's request, and of the call that it reads first.
func (s *step) expressions() []hcl.Expression {
	out := s.request()
	if s.read != nil {
		out = append(append(out, s.read.request()...), s.read.value)
	}
	return out
}

// request returns all expressions of a step's request.
func (s *step) request() (out []hcl.Expression) {
	all := []hcl.Expression{s.url, s.query, s.headers, s.body.json, s.body.form, s.body.raw, s.body.query,
		s.body.variables, s.body.contentType}
	if s.auth != nil {
		all = append(all, s.auth.token, s.auth.username, s.auth.password, s.auth.headers)
	}
	for _, e := range all {
		if e != nil {
			out = append(out, e)
		}
	}
	return out
}

// defaults are the settings of a step whose block does not give its own.
type defaults struct {
	method  string // "": the block must give it
	status  []int
	ownAuth bool // the recipe's auth does not apply
}

// step reads the parts that every step has.
func (p *parser) step(s *step, block *hcl.Block, schema *hcl.BodySchema, in scope, d defaults) (*hcl.BodyContent,
	map[string][]*hcl.Block) {
	content, blocks := p.content(blockBody(block), schema)
	s.name, s.at, s.status, s.method = block.Type, block.DefRange, d.status, d.method
	if m := p.literalString(content, "method"); m != "" {
		s.method = m
		if !slices.Contains([]string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}, m) {
			p.problems.add(content.Attributes["method"].Expr.Range(),
				"method must be GET, HEAD, POST, PUT, PATCH or DELETE")
		}
	}
	if s.method == "" && content.Attributes["method"] == nil {
		p.problems.add(block.DefRange, "%s must have a method", block.Type)
	}
	s.url = p.required(content, block, "url", in, cty.String)
	p.checkEscaped(s.url, true)
	s.query = p.optional(content, "query", in, cty.DynamicPseudoType)
	s.headers = p.optional(content, "headers", in, cty.DynamicPseudoType)
	s.timeout = p.duration(content, "timeout", 30*time.Second, 5*time.Minute)
	p.body(s, content, blocks, in)
	s.auth = p.authOf(blocks["auth"], in)
	switch {
	case s.auth == nil && d.ownAuth:
		p.problems.add(block.DefRange,
			"%s must have its own auth block, with the new credential (or auth \"none\" where it is in the request)",
			block.Type)
	case s.auth == nil:
		s.auth = p.auth
	}
	p.expect(s, blocks, in.with(responseScope))
	s.example = p.optional(content, "example", exampleScope.with(in), cty.DynamicPseudoType)
	return content, blocks
}

// exampleScope holds the variables that example replies may use in addition to those of the
// request.
var exampleScope = scope{"marker": cty.UnknownVal(cty.String),
	"key": cty.ObjectVal(map[string]cty.Value{"id": cty.UnknownVal(cty.String)})}

// checkEscaped reports values that enter a URL without urlencode(…). An ID with a slash would name
// something else, and an ID with a question mark would add parameters. Only the operator's own
// parameters may enter unescaped, and page if it is the whole URL. page is then a URL from the
// provider, and each call checks it against the declared hosts.
func (p *parser) checkEscaped(e hcl.Expression, whole bool) {
	switch x := unmetered(e).(type) {
	case *hclsyntax.ParenthesesExpr:
		p.checkEscaped(x.Expression, whole)
	case *hclsyntax.TemplateWrapExpr:
		p.checkEscaped(x.Wrapped, whole)
	case *hclsyntax.TemplateExpr:
		for _, part := range x.Parts {
			p.checkEscaped(part, whole && len(x.Parts) == 1)
		}
	case *hclsyntax.ConditionalExpr: // the condition is not part of the URL
		p.checkEscaped(x.TrueResult, whole)
		p.checkEscaped(x.FalseResult, whole)
	case *hclsyntax.FunctionCallExpr:
		if x.Name == "urlencode" {
			return
		}
		for _, arg := range x.Args {
			p.checkEscaped(arg, whole && (x.Name == "coalesce" || x.Name == "try"))
		}
	default:
		for _, t := range e.Variables() {
			if root := t.RootName(); root != "param" && !(root == "page" && whole) {
				p.problems.add(t.SourceRange(), "put the value in urlencode(…): it may hold a slash")
			}
		}
	}
}

// body reads the body of the request.
func (p *parser) body(s *step, c *hcl.BodyContent, blocks map[string][]*hcl.Block, in scope) {
	s.body.json = p.optional(c, "json", in, cty.DynamicPseudoType)
	s.body.form = p.optional(c, "form", in, cty.DynamicPseudoType)
	s.body.raw = p.optional(c, "raw", in, cty.String)
	s.body.contentType = p.optional(c, "content_type", in, cty.String)
	var kinds []string
	for _, name := range []string{"json", "form", "raw"} {
		if c.Attributes[name] != nil {
			kinds = append(kinds, name)
		}
	}
	for _, block := range blocks["graphql"] {
		kinds = append(kinds, "graphql")
		content, diags := block.Body.Content(&hcl.BodySchema{Attributes: attributes("query", "variables")})
		p.problems.diagnostics(diags)
		s.body.query = p.required(content, block, "query", in, cty.String)
		s.body.variables = p.optional(content, "variables", in, cty.DynamicPseudoType)
	}
	switch {
	case len(kinds) > 1:
		p.problems.add(s.at, "a request has one body, not %s; keep one", strings.Join(kinds, " and "))
	case len(kinds) == 1 && (s.method == "GET" || s.method == "HEAD"):
		p.problems.add(s.at, "%s has no body; remove the body, or use another method", s.method)
	case s.body.raw != nil && s.body.contentType == nil:
		p.problems.add(s.at, "raw must come with a content_type")
	case len(kinds) == 0 && s.body.contentType != nil:
		p.problems.add(s.at, "there is a content_type but no body; remove it")
	}
}

// expect reads the conditions on a good reply, and the outcomes of bad ones.
func (p *parser) expect(s *step, blocks map[string][]*hcl.Block, reply scope) {
	for _, block := range blocks["expect"] {
		content, diags := block.Body.Content(&hcl.BodySchema{Attributes: attributes("status", "when")})
		p.problems.diagnostics(diags)
		s.when = p.optional(content, "when", reply, cty.Bool)
		if at := content.Attributes["status"]; at != nil {
			s.status = p.statuses(at.Expr)
		}
	}
	for _, block := range blocks["fail"] {
		content, diags := block.Body.Content(&hcl.BodySchema{Attributes: attributes("when")})
		p.problems.diagnostics(diags)
		f := fail{when: p.required(content, block, "when", reply, cty.Bool)}
		var ok bool
		if f.outcome, ok = rotate.ParseOutcome(block.Labels[0]); !ok || f.outcome == rotate.Alive ||
			f.outcome == rotate.Rejected && s.name != "verify" || f.outcome == rotate.Exhausted &&
			s.name != "create" && s.name != "poll" || f.outcome == rotate.Unknown && !s.changes {
			p.problems.add(block.LabelRanges[0], "%s cannot fail as %q; the outcomes are transient and permanent, "+
				"for create and poll also exhausted, for verify also rejected, and for steps that change "+
				"something also unknown",
				s.name, block.Labels[0])
		}
		s.fails = append(s.fails, f)
	}
}

func (p *parser) statuses(e hcl.Expression) (out []int) {
	v, ok := p.literal(e)
	if !ok {
		return nil
	}
	list, err := convert.Convert(v, cty.List(cty.Number))
	if err == nil && !list.IsNull() {
		for it := list.ElementIterator(); it.Next(); {
			_, n := it.Element()
			if n.IsNull() {
				continue
			}
			if status, acc := n.AsBigFloat().Int64(); acc == 0 && status >= 200 && status <= 599 {
				out = append(out, int(status))
			}
		}
		if len(out) == list.LengthInt() && len(out) > 0 {
			return out
		}
	}
	p.problems.add(e.Range(), "status must be a list of HTTP statuses, such as [200, 201]")
	return nil
}

// authKinds maps each way to authenticate to the attributes of its block.
var authKinds = map[string][]string{
	"none": {}, "bearer": {"token"}, "basic": {"username", "password"}, "digest": {"username", "password"},
	"header": {"headers"},
}

// plannedAuth lists the ways to authenticate that are planned but not supported yet.
var plannedAuth = []string{"sigv4", "oauth", "jwt"}

func (p *parser) authOf(blocks []*hcl.Block, in scope) *auth {
	if len(blocks) == 0 {
		return nil
	}
	block := blocks[0]
	kind := block.Labels[0]
	names, ok := authKinds[kind]
	if !ok {
		if slices.Contains(plannedAuth, kind) {
			p.problems.unsupported(block.LabelRanges[0],
				"auth %q is planned but not supported yet; use bearer, basic, digest, header or none", kind)
		} else {
			p.problems.add(block.LabelRanges[0],
				"auth must be bearer, basic, digest, header or none (later also sigv4, oauth and jwt), not %q", kind)
		}
		return &auth{kind: kind}
	}
	content, diags := block.Body.Content(&hcl.BodySchema{Attributes: attributes(names...)})
	p.problems.diagnostics(diags)
	a := &auth{kind: kind}
	switch kind {
	case "bearer":
		a.token = p.required(content, block, "token", in, cty.String)
	case "basic", "digest":
		a.username = p.required(content, block, "username", in, cty.String)
		a.password = p.required(content, block, "password", in, cty.String)
	case "header":
		a.headers = p.required(content, block, "headers", in, cty.DynamicPseudoType)
	}
	return a
}
