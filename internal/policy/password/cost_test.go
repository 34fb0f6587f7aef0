package password

import (
	"testing"

	"github.com/keyturn/keyturn/internal/costtest"
)

// FuzzPasswordPolicyCost: parsing a policy, and generating a password, take a limited number of
// steps per byte.
func FuzzPasswordPolicyCost(f *testing.F) {
	costtest.Fuzz(f, costtest.Parser{Limit: maxText, Steps: 2000, Parse: func(text string) error {
		p, err := Parse(text)
		if err == nil {
			_, err = p.Generate()
		}
		return err
	}}, costtest.Shape{Head: "length = 20\n", Unit: "rule \"charset\" { charset = \"abc\" }\n"},
		costtest.Shape{Head: "length = 20\nrule \"charset\" { charset = \"", Unit: "é", Tail: "\" }"},
		costtest.Shape{
			Head: `{"length": 20, "rule": [`, Unit: `{"charset": {"charset": "a"}},`,
			Tail: `{"charset": {"charset": "b"}}]}`,
		}, costtest.Shape{Unit: "length = 20\n"}, costtest.Shape{Unit: "rule {"})
}
