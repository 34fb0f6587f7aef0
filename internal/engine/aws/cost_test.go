package aws

import (
	"encoding/json"
	"testing"

	"github.com/keyturn/keyturn/internal/costtest"
)

// FuzzDocumentCost: reading a policy costs a bounded number of steps for each byte.
func FuzzDocumentCost(f *testing.F) {
	costtest.Fuzz(f, costtest.Parser{Limit: maxDocument, Steps: 1000, Parse: func(text string) error {
		var d document
		if err := d.UnmarshalJSON([]byte(text)); err != nil {
			return err
		}
		validPolicy(d.text)
		return nil
	}}, costtest.Shape{Head: `{"Statement":[`, Unit: `{"Effect":"Allow"},`, Tail: `{}]}`},
		costtest.Shape{Unit: `{"a":`}, costtest.Shape{Head: `"`, Unit: `\"`, Tail: `"`},
		costtest.Shape{Head: "{", Unit: " "}, costtest.Shape{Head: `{"a":1e`, Unit: "9", Tail: "}"})
}

// FuzzTagsCost: so do tags, in each of their forms.
func FuzzTagsCost(f *testing.F) {
	costtest.Fuzz(f, costtest.Parser{Limit: maxDocument, Steps: 1000, Parse: func(text string) error {
		return json.Unmarshal([]byte(text), new(tags))
	}}, costtest.Shape{Head: `"`, Unit: "a=b,", Tail: `a=b"`},
		costtest.Shape{Head: "[", Unit: `"a§=b",`, Tail: `"a=b"]`},
		costtest.Shape{Head: "{", Unit: `"a§":"b",`, Tail: `"a":"b"}`})
}

// FuzzAddressCost: an address is short.
func FuzzAddressCost(f *testing.F) {
	costtest.Fuzz(f,
		costtest.Parser{Limit: maxAddress, Steps: 500, Parse: func(text string) error { return checkURL("f", text) }},
		costtest.Shape{Head: "https://", Unit: "a."}, costtest.Shape{Head: "https://h/", Unit: "%41"},
		costtest.Shape{Head: "https://", Unit: "["})
}
