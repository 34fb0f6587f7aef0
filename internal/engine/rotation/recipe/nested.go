package recipe

import (
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
)

// withBlocks adds blocks to a schema.
func withBlocks(s *hcl.BodySchema, types ...string) *hcl.BodySchema {
	for _, t := range types {
		s.Blocks = append(s.Blocks, hcl.BlockHeaderSchema{Type: t})
	}
	return s
}

// readFirst reads the block "read" of a call: a request that is made before the call, whose value
// the call may use. readFirst returns the scope of the call.
func readFirst(p *parser, s *step, block *hcl.Block, in scope) scope {
	for _, inner := range blockBody(block).Blocks {
		if inner.Type != "read" {
			continue
		}
		s.read = &readStep{}
		content, _ := p.step(&s.read.step, inner.AsHCLBlock(), stepSchema("value"), in,
			defaults{method: "GET", status: []int{200}})
		s.read.value = p.required(content, inner.AsHCLBlock(), "value", in.with(responseScope), cty.DynamicPseudoType)
		return in.with(scope{"read": cty.DynamicVal})
	}
	return in
}

// checkRead reports a block "read" whose value the request does not use.
func checkRead(p *parser, s *step) {
	if s.read != nil && !uses(s.request(), "read", "") {
		p.problems.add(s.read.at, "%s does not use the value of read; use read, or remove the block", s.name)
	}
}

// parsePoll reads the block "poll" of create: a request that is repeated until an operation has
// ended, which create began. parsePoll returns the scope of the values of create.
func parsePoll(p *parser, c *createStep, block *hcl.Block, in scope) scope {
	s := &pollStep{step: step{changes: true}}
	in = in.with(scope{"created": responseScope["response"]})
	content, _ := p.step(&s.step, block, stepSchema("until", "interval", "within"), in,
		defaults{method: "GET", status: []int{200}})
	s.until = p.required(content, block, "until", in.with(responseScope), cty.Bool)
	s.interval = p.duration(content, "interval", 5*time.Second, time.Minute)
	s.within = p.duration(content, "within", 2*time.Minute, 5*time.Minute)
	if s.interval > s.within {
		p.problems.add(block.DefRange, "poll's interval %v is longer than within, %v; make it shorter", s.interval,
			s.within)
	}
	if !uses(s.request(), "created", "") && !uses(s.request(), "marker", "") {
		p.problems.add(block.DefRange, "poll does not use the reply to create, so it cannot select the operation; "+
			"use created.json")
	}
	c.poll = s
	return in.with(responseScope)
}
