package hcltext

import (
	"testing"

	"github.com/keyturn/keyturn/internal/costtest"
)

// FuzzTextCost: reading a text costs a bounded number of steps for each byte, in both forms.
func FuzzTextCost(f *testing.F) {
	const limit = 256 << 10
	costtest.Fuzz(f, costtest.Parser{Limit: limit, Steps: 1000, Parse: func(text string) error {
		for _, repeated := range []bool{false, true} {
			if _, err := Parse(text, Options{MaxBytes: limit, Repeated: repeated}); err != nil {
				return err
			}
		}
		return nil
	}}, costtest.Shape{Unit: "a§ = 1\n"}, costtest.Shape{Unit: "a = 1\n"}, costtest.Shape{Unit: "a \"b\" {}\n"},
		costtest.Shape{Head: "a = [", Unit: "1,", Tail: "1]"},
		costtest.Shape{Head: "a = <<A\n", Unit: "b\n", Tail: "A\n"},
		costtest.Shape{Head: "{", Unit: `"a§":{},`, Tail: `"z":1}`},
		costtest.Shape{Head: `{"a":[`, Unit: "{},", Tail: "{}]}"}, costtest.Shape{Unit: "/*"}, costtest.Shape{
			Unit: "{",
		}, costtest.Shape{Head: "a = ", Unit: "9"}, costtest.Shape{Head: "a = 1e", Unit: "9"})
}
