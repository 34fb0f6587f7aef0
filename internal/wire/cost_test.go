package wire_test

import (
	"errors"
	"testing"

	"github.com/keyturn/keyturn/internal/costtest"
	"github.com/keyturn/keyturn/internal/wire"
)

// costly has fields of all kinds.
type costly struct {
	Text   string            `json:"text" alias:"words"`
	List   []string          `json:"list"`
	Ints   []int             `json:"ints"`
	Map    map[string]string `json:"map"`
	Time   wire.TTL          `json:"ttl"`
	Nested struct {
		List []string `json:"list"`
	} `json:"nested"`
	Any map[string]wire.Raw `json:",rest"`
}

// FuzzBodyCost: checking a body and filling a struct from it cost a bounded number of steps for
// each byte. How long a body may be, the listener says.
func FuzzBodyCost(f *testing.F) {
	const limit = 1 << 20
	costtest.Fuzz(f, costtest.Parser{Limit: limit, Steps: 1000, Parse: func(text string) error {
		if len(text) > limit {
			return errors.New("the listener's limit")
		}
		if err := wire.Check([]byte(text), wire.DefaultLimits); err != nil {
			return nil
		}
		_, _ = wire.Decode([]byte(text), new(costly))
		_ = wire.EachField([]byte(text), func(string, []byte) error { return nil })
		return nil
	}},
		costtest.Shape{Unit: "["}, costtest.Shape{Unit: `{"a":`}, costtest.Shape{
			Head: `{"text":"`, Unit: `\u00e9`, Tail: `"}`,
		}, costtest.Shape{Head: `{"list":"`, Unit: "a,", Tail: `"}`},
		costtest.Shape{Head: `{"list":[`, Unit: `"a§",`, Tail: `"b"]}`}, costtest.Shape{
			Head: `{"map":{`, Unit: `"a§":"b",`, Tail: `"b":""}}`,
		}, costtest.Shape{Head: `{`, Unit: `"k§":{},`, Tail: `"z":1}`},
		costtest.Shape{Head: `{"nested":{"list":[`, Unit: `[[]],`, Tail: `1]}}`}, costtest.Shape{
			Head: `{"ttl":`, Unit: "9", Tail: `}`,
		}, costtest.Shape{Head: `{"ints":[1e`, Unit: "9", Tail: `]}`},
		costtest.Shape{Unit: " "}, costtest.Shape{Head: `{`, Unit: `"\u0061§":1,`, Tail: `"z":1}`})
}

// FuzzDurationCost: a duration is short.
func FuzzDurationCost(f *testing.F) {
	costtest.Fuzz(f, costtest.Parser{Limit: wire.MaxDuration, Parse: func(text string) error {
		_, err := wire.ParseDuration(text)
		return err
	}}, costtest.Shape{Unit: "9"}, costtest.Shape{Unit: "1h"}, costtest.Shape{Head: "1e", Unit: "9"},
		costtest.Shape{Head: "0.", Unit: "0", Tail: "s"}, costtest.Shape{Head: "1d", Unit: "1ns"})
}
