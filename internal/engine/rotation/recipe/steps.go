package recipe

import (
	"cmp"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/keyturn/keyturn/internal/engine/rotation"
	"github.com/keyturn/keyturn/internal/rotate"
)

// steps reads the blocks of the calls. It reads create first, because the other blocks may refer
// to the outputs of create.
func (p *parser) steps(b *hclsyntax.Body, blocks map[string][]*hcl.Block) {
	style := cmp.Or(p.out.def.Style, rotate.TwoKey)
	forms[style].check(style, b.EndRange, blocks, &p.problems)
	id := scope{"key": cty.ObjectVal(keyNames(style))}
	for _, block := range blocks["supply"] {
		readSupply(p, block)
	}
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
	checkSupplied(p, blocks)
}

// markParams marks the parameters that decide what is created, disabled or retired, and those that
// decide where.
func (r *recipe) markParams() {
	var es []hcl.Expression
	if c := r.create; c != nil {
		es = append(c.expressions(), c.id)
		if c.poll != nil {
			es = append(es, c.poll.expressions()...)
		}
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
	labelled := uses(p.out.create.request(), "marker", "")
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

func (p *parser) createStep(block *hcl.Block) {
	s := &createStep{step: step{changes: true}}
	in := p.calls.with(scope{"marker": cty.UnknownVal(cty.String),
		"current": cty.ObjectVal(map[string]cty.Value{"id": cty.UnknownVal(cty.String)})})
	slots := p.out.def.Style == rotate.Slots
	more := []string{"secret", "public", "expires"}
	if slots {
		in = in.with(scope{"slot": cty.UnknownVal(cty.String)})
	} else {
		more = append(more, "id", "retry")
	}
	schema := withBlocks(stepSchema(more...), "read", "poll")
	in = readFirst(p, &s.step, block, in)
	content, blocks := p.step(&s.step, block, schema, in, defaults{method: "POST", status: []int{200, 201}})
	checkRead(p, &s.step)
	reply := in.with(responseScope)
	for _, poll := range blocks["poll"] {
		reply = parsePoll(p, s, poll, in)
	}
	if !slots {
		s.id = p.required(content, block, "id", reply, cty.String)
	} else if !uses(s.request(), "slot", "") {
		p.problems.add(block.DefRange, "create does not use slot, so it cannot regenerate the slot that readers do "+
			"not use; put it into the request")
	}
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
	for _, o := range s.secret {
		p.out.def.Outputs = append(p.out.def.Outputs, rotation.Output{Name: o.name, Secret: true})
	}
	for _, o := range s.public {
		p.out.def.Outputs = append(p.out.def.Outputs, rotation.Output{Name: o.name})
	}
	switch retry := rotate.Retry(p.literalString(content, "retry")); {
	case slots:
		p.out.def.Can.Retry, p.out.def.Can.Slots = rotate.RetryReplace, true
	case slices.Contains([]rotate.Retry{rotate.RetrySafe, rotate.RetryAdopt, rotate.RetryNever}, retry):
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
	key := keyNames(p.out.def.Style)
	for _, o := range p.out.def.Outputs {
		key[o.Name] = cty.UnknownVal(cty.String)
	}
	if p.out.def.Style == rotate.External {
		key = writtenFields(p, block)
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
	used := p.out.create == nil && !p.out.def.Can.CreatedByHand
	for _, o := range p.out.def.Outputs {
		used = used || o.Secret && uses(s.expressions(), "key", o.Name)
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
	in = readFirst(p, &s.step, block, in)
	content, _ := p.step(&s.step, block, withBlocks(stepSchema("absent"), "read"), in,
		defaults{status: []int{200, 202, 204}})
	checkRead(p, &s.step)
	s.absent = p.optional(content, "absent", in.with(responseScope), cty.Bool)
	by := "id"
	if p.out.def.Style == rotate.Slots {
		by, s.ends = "slot", true
	}
	if !uses(s.request(), "key", by) {
		p.problems.add(block.DefRange, "%s does not use key.%s, so it cannot select one key; put it into the request",
			block.Type, by)
	}
	return s
}
