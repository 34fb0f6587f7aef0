package recipe

import (
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/keyturn/keyturn/internal/rotate"
)

// externalSteps reads the blocks of a recipe of style "external", which only verifies what
// somebody else has written.
func externalSteps(p *parser, b *hclsyntax.Body, blocks map[string][]*hcl.Block) {
	forms[rotate.External].check(rotate.External, b.EndRange, blocks, &p.problems)
	for _, block := range blocks["verify"] {
		p.verifyStep(block)
		if p.out.def.Can.Proof != rotate.ProofUse {
			p.problems.add(block.DefRange, "style %q needs proof \"use\": the written key is used", rotate.External)
		}
	}
}
