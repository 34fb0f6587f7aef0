package kv

import (
	"errors"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/costtest"
	"github.com/keyturn/keyturn/internal/wire"
)

// FuzzPatchCost: merging a patch, and other functions that parse a secret's data, take a limited
// number of steps per byte. The listener and the store limit the size of a secret.
func FuzzPatchCost(f *testing.F) {
	const limit = 1 << 20
	costtest.Fuzz(f, costtest.Parser{Limit: limit, Steps: 2000, Parse: func(text string) error {
		if len(text) > limit {
			return errors.New("the listener's limit")
		}
		if wire.Check([]byte(text), wire.DefaultLimits) != nil {
			return nil
		}
		if _, err := mergePatch([]byte(text), []byte(text)); err != nil {
			return err
		}
		ageOf([]byte(text), nil, time.Now())
		x, err := decodeNumbers([]byte(text))
		blank(x, 0, 1)
		return err
	}}, costtest.Shape{Head: "{", Unit: `"k§":"v",`, Tail: `"rotated_at":"x"}`}, costtest.Shape{
		Head: `{"a":"`, Unit: `\u00e9`, Tail: `"}`,
	}, costtest.Shape{Head: "{", Unit: `"k§":{"a":{}},`, Tail: `"z":1}`},
		costtest.Shape{Head: `{"a":[`, Unit: "1,", Tail: "1]}"})
}
