package recipe

import (
	"maps"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/keyturn/keyturn/internal/rotate"
)

// externalSteps reads the blocks of a recipe of style "external", which only verifies what
// somebody else has written.
func externalSteps(p *parser, b *hclsyntax.Body, blocks map[string][]*hcl.Block) {
	if len(blocks["verify"]) == 0 {
		p.problems.add(b.EndRange, "style %q needs a block %q", rotate.External, "verify")
	}
	for _, name := range slices.Sorted(maps.Keys(blocks)) {
		if slices.Contains([]string{"verify", "param", "auth"}, name) {
			continue
		}
		for _, block := range blocks[name] {
			p.problems.add(block.DefRange, "style %q has no block %q; remove it", rotate.External, name)
		}
	}
	for _, block := range blocks["verify"] {
		p.verifyStep(block)
		if p.out.def.Can.Proof != rotate.ProofUse {
			p.problems.add(block.DefRange, "style %q needs proof \"use\": the written key is used", rotate.External)
		}
	}
}
