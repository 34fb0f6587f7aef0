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

// steps reads the blocks of the calls. It reads create first, because the other blocks may refer
// to the outputs of create.
func (p *parser) steps(b *hclsyntax.Body, blocks map[string][]*hcl.Block) {
	for _, name := range []string{"create", "retire"} {
		if len(blocks[name]) == 0 {
			p.problems.add(b.EndRange, "style %q needs a block %q", rotate.TwoKey, name)
		}
	}
	id := scope{"key": cty.ObjectVal(map[string]cty.Value{"id": cty.UnknownVal(cty.String)})}
	for _, block := range blocks["create"] {
		p.createStep(block)
	}
	for _, block := range blocks["verify"] {
		p.verifyStep(block)
	}
	for _, block := range blocks["list"] {
		p.listStep(block)
	}
	for _, block := range blocks["last_used"] {
		s := &lastUsedStep{}
		content, _ := p.step(&s.step, block, stepSchema("value"), p.calls.with(id),
			defaults{method: "GET", status: []int{200}})
		s.value = p.required(content, block, "value", p.calls.with(id).with(responseScope), cty.String)
		p.out.lastUsed = s
	}
	for _, block := range blocks["disable"] {
		p.out.disable = p.removalStep(block, p.calls.with(id))
	}
	for _, block := range blocks["retire"] {
		p.out.retire = p.removalStep(block, p.calls.with(id))
	}
	p.checkRetry(blocks)
}

// markParams marks the parameters that decide what is created, disabled or retired, and those that
// decide where.
func (r *recipe) markParams() {
	var es []hcl.Expression
	if c := r.create; c != nil {
		es = append(c.expressions(), c.id)
		for _, o := range slices.Concat(c.secret, c.public) {
			es = append(es, o.expr)
		}
	}
	var where []hcl.Expression
	for _, s := range []*removalStep{r.disable, r.retire} {
		if s != nil {
			where = append(where, s.expressions()...)
		}
	}
	es = slices.DeleteFunc(append(es, where...), func(e hcl.Expression) bool { return e == nil })
	if r.list != nil {
		where = append(where, r.list.expressions()...)
	}
	if r.lastUsed != nil {
		where = append(where, r.lastUsed.expressions()...)
	}
	for i := range r.def.Params {
		f := &r.def.Params[i]
		f.Acts, f.Locates = uses(es, "param", f.Name), uses(where, "param", f.Name)
	}
}

// checkRetry checks whether the recipe can recover from a lost reply to the creating call, as its
// retry promises.
func (p *parser) checkRetry(blocks map[string][]*hcl.Block) {
	if p.out.create == nil {
		return
	}
	at := blocks["create"][0]
	labelled := uses(p.out.create.expressions(), "marker", "")
	switch retry := p.out.def.Can.Retry; {
	case retry == rotate.RetryAdopt && p.out.list == nil && len(blocks["list"]) == 0:
		p.problems.add(at.DefRange,
			"retry \"adopt\" needs a block \"list\", to find a key whose create reply was lost")
	case retry == rotate.RetrySafe && !labelled:
		p.problems.add(at.DefRange,
			"retry \"safe\" needs the marker in the request: the provider must recognise a second call by it")
	}
	if p.out.list != nil && p.out.list.label != nil && !labelled {
		p.problems.add(at.DefRange,
			"the list has a label but the request does not use the marker; put it where the label comes from")
	}
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

// expressions returns all expressions of a step's request.
func (s *step) expressions() (out []hcl.Expression) {
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

func (p *parser) createStep(block *hcl.Block) {
	s := &createStep{step: step{changes: true}}
	in := p.calls.with(scope{"marker": cty.UnknownVal(cty.String),
		"current": cty.ObjectVal(map[string]cty.Value{"id": cty.UnknownVal(cty.String)})})
	schema := stepSchema("id", "secret", "public", "expires", "retry")
	content, _ := p.step(&s.step, block, schema, in, defaults{method: "POST", status: []int{200, 201}})
	reply := in.with(responseScope)
	s.id = p.required(content, block, "id", reply, cty.String)
	s.expires = p.optional(content, "expires", reply, cty.String)
	s.secret = p.outputs(content, "secret", reply)
	s.public = p.outputs(content, "public", reply)
	if len(s.secret) == 0 {
		p.problems.add(block.DefRange,
			"create must name the secret outputs, such as secret = { api_key = response.json.key }")
	}
	for i, o := range s.public {
		if slices.ContainsFunc(s.secret, func(x output) bool { return x.name == o.name }) {
			p.problems.add(content.Attributes["public"].Expr.Range(),
				"%q is both secret and public; name it in one of the two", o.name)
			s.public = slices.Delete(s.public, i, i+1)
			break
		}
	}
	switch retry := rotate.Retry(p.literalString(content, "retry")); retry {
	case rotate.RetrySafe, rotate.RetryAdopt, rotate.RetryNever:
		p.out.def.Can.Retry = retry
	default:
		p.problems.add(block.DefRange,
			"create must give what may follow a lost reply: retry = \"safe\", \"adopt\" or \"never\"")
	}
	p.out.create = s
}

// outputs reads an object that maps the names of outputs to expressions.
func (p *parser) outputs(c *hcl.BodyContent, name string, in scope) (out []output) {
	at := c.Attributes[name]
	if at == nil {
		return nil
	}
	pairs, diags := hcl.ExprMap(at.Expr)
	if diags.HasErrors() {
		p.problems.add(at.Expr.Range(),
			"%s must be an object with literal names, such as { api_key = response.json.key }", name)
		return nil
	}
	for _, pair := range pairs {
		key, ok := p.outputName(pair.Key)
		if !ok || key.Type() != cty.String || key.IsNull() || !fieldName.MatchString(key.AsString()) ||
			key.AsString() == "id" {
			p.problems.add(pair.Key.Range(), "the name of an output must be a-z, then a-z, 0-9 and _, and not \"id\"")
			continue
		}
		if slices.ContainsFunc(out, func(o output) bool { return o.name == key.AsString() }) {
			p.problems.add(pair.Key.Range(), "there is already an output %q; remove one, or rename it", key.AsString())
			continue
		}
		p.problems.check(pair.Value, in, cty.String)
		out = append(out, output{key.AsString(), pair.Value})
	}
	return out
}

// outputName reads the key of an object: a bare word or a literal string.
func (p *parser) outputName(e hcl.Expression) (cty.Value, bool) {
	if word := hcl.ExprAsKeyword(e); word != "" {
		return cty.StringVal(word), true
	}
	if key, ok := e.(*hclsyntax.ObjectConsKeyExpr); ok && isLiteral(key.Wrapped, 1) {
		v, diags := key.Wrapped.Value(nil)
		return v, !diags.HasErrors()
	}
	return cty.NilVal, false
}

func (p *parser) verifyStep(block *hcl.Block) {
	s := &verifyStep{}
	p.out.verify = s
	key := map[string]cty.Value{"id": cty.UnknownVal(cty.String)}
	if c := p.out.create; c != nil {
		for _, o := range slices.Concat(c.secret, c.public) {
			key[o.name] = cty.UnknownVal(cty.String)
		}
	}
	in := p.calls.with(scope{"key": cty.ObjectVal(key)})
	proof := rotate.ProofUse
	if at, ok := blockBody(block).Attributes["proof"]; ok {
		v, ok := p.literal(at.Expr)
		if !ok || v.Type() != cty.String || v.IsNull() ||
			!slices.Contains([]string{string(rotate.ProofUse), string(rotate.ProofManagement)}, v.AsString()) {
			p.problems.add(at.Expr.Range(),
				"proof must be \"use\" (the new key is used) or \"management\" (the provider is asked about it)")
		} else {
			proof = rotate.Proof(v.AsString())
		}
	}
	p.out.def.Can.Proof = proof
	d := defaults{method: "GET", status: []int{200}, ownAuth: proof == rotate.ProofUse}
	content, _ := p.step(&s.step, block, stepSchema("proof", "rejected", "example_refused"), in, d)
	s.rejected = p.optional(content, "rejected", in.with(responseScope), cty.Bool)
	s.exampleRefused = p.optional(content, "example_refused", exampleScope.with(in), cty.DynamicPseudoType)
	used := p.out.create == nil
	if !used {
		for _, o := range p.out.create.secret {
			used = used || uses(s.expressions(), "key", o.name)
		}
	}
	if proof == rotate.ProofUse && !used {
		p.problems.add(block.DefRange,
			"verify does not use the new credential; use key.…, or set proof = \"management\"")
	}
}

func (p *parser) listStep(block *hcl.Block) {
	s := &listStep{}
	in := p.calls.with(scope{"page": cty.DynamicVal})
	schema := stepSchema("next", "items", "where", "id", "label", "created", "last_used", "disabled")
	content, _ := p.step(&s.step, block, schema, in, defaults{method: "GET", status: []int{200}})
	reply := in.with(responseScope)
	s.next = p.optional(content, "next", reply, cty.DynamicPseudoType)
	s.items = p.required(content, block, "items", reply, cty.DynamicPseudoType)
	item := p.config.with(scope{"now": cty.UnknownVal(cty.String), "item": cty.DynamicVal})
	s.where = p.optional(content, "where", item, cty.Bool)
	s.id = p.required(content, block, "id", item, cty.String)
	s.label = p.optional(content, "label", item, cty.String)
	s.created = p.optional(content, "created", item, cty.String)
	s.lastUsed = p.optional(content, "last_used", item, cty.String)
	s.disabled = p.optional(content, "disabled", item, cty.Bool)
	if s.next != nil && !uses(s.expressions(), "page", "") {
		p.problems.add(content.Attributes["next"].Expr.Range(),
			"the request does not use page, so next would request the same page again; put it into url or query")
	}
	p.out.list = s
}

func (p *parser) removalStep(block *hcl.Block, in scope) *removalStep {
	s := &removalStep{step: step{changes: true}}
	content, _ := p.step(&s.step, block, stepSchema("absent"), in, defaults{status: []int{200, 202, 204}})
	s.absent = p.optional(content, "absent", in.with(responseScope), cty.Bool)
	if !uses(s.expressions(), "key", "id") {
		p.problems.add(block.DefRange, "%s does not use key.id, so it cannot select one key; put it into the request",
			block.Type)
	}
	return s
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
			s.name != "create" || f.outcome == rotate.Unknown && !s.changes {
			p.problems.add(block.LabelRanges[0], "%s cannot fail as %q; the outcomes are transient and permanent, "+
				"for create also exhausted, for verify also rejected, and for steps that change "+
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
	"none": {}, "bearer": {"token"}, "basic": {"username", "password"}, "header": {"headers"},
}

// plannedAuth lists the ways to authenticate that are planned but not supported yet.
var plannedAuth = []string{"digest", "sigv4", "oauth", "jwt"}

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
				"auth %q is planned but not supported yet; use bearer, basic, header or none", kind)
		} else {
			p.problems.add(block.LabelRanges[0],
				"auth must be bearer, basic, header or none (later also digest, sigv4, oauth and jwt), not %q", kind)
		}
		return &auth{kind: kind}
	}
	content, diags := block.Body.Content(&hcl.BodySchema{Attributes: attributes(names...)})
	p.problems.diagnostics(diags)
	a := &auth{kind: kind}
	switch kind {
	case "bearer":
		a.token = p.required(content, block, "token", in, cty.String)
	case "basic":
		a.username = p.required(content, block, "username", in, cty.String)
		a.password = p.required(content, block, "password", in, cty.String)
	case "header":
		a.headers = p.required(content, block, "headers", in, cty.DynamicPseudoType)
	}
	return a
}
