package rotate

import (
	"testing"

	"github.com/keyturn/keyturn/internal/costtest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
)

// FuzzShowReplyCost: the cost of storing a reply depends only on its size.
func FuzzShowReplyCost(f *testing.F) {
	red := new(secret.Redactor)
	red.Know(secret.Text("the-key-that-is-known"))
	costtest.Fuzz(f, costtest.Parser{Limit: maxShown, Steps: 2000, Parse: func(text string) error {
		if len(text) > maxShown {
			return fault.New("rotate.ShowReply", fault.TooLarge,
				"the reply is larger than what is shown; ask for less")
		}
		ShowReply(red, 500, []byte(text), false)
		return nil
	}}, costtest.Shape{Head: "[", Unit: `"a word", `, Tail: "1]"}, costtest.Shape{Unit: "[", Tail: "]"},
		costtest.Shape{Unit: "a1b2c3d4e5f6g7h8 "}, costtest.Shape{Head: `{"a":"`, Unit: "xy1", Tail: `"}`})
}
