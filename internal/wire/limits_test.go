package wire_test

import (
	"strings"
	"testing"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/wire"
)

// TestListInAText gives a list between commas, where [wire.Check] counts one
// string: it may have no more elements than an array.
func TestListInAText(t *testing.T) {
	var into request
	most := wire.DefaultLimits.Elements
	if _, err := wire.Decode([]byte(`{"list":"`+strings.Repeat("a,", most)+`"}`), &into); err != nil || len(into.List) != most {
		t.Errorf("%d elements: %v", len(into.List), err)
	}
	if _, err := wire.Decode([]byte(`{"list":"`+strings.Repeat("a,", most+1)+`a"}`), &into); !fault.Is(err, fault.Invalid) {
		t.Errorf("more than an array may have: %v", err)
	}
	if _, err := wire.SetText(&into, "list", strings.Repeat("a,", most+1)); !fault.Is(err, fault.Invalid) {
		t.Errorf("in a query: %v", err)
	}
}

// TestCVE_2025_6203 covers CVE-2025-59043, too: JSON that is small on the wire
// and large to a parser.
func TestCVE_2025_6203(t *testing.T) {
	keys := func(n int, key string) string { return `{` + strings.Repeat(`"`+key+`":1,`, n) + `"z":1}` }
	for name, body := range map[string]string{
		"deep objects":                          strings.Repeat(`{"a":`, 65) + "1" + strings.Repeat("}", 65),
		"deep arrays":                           `{"a":` + strings.Repeat("[", 64) + strings.Repeat("]", 64) + "}",
		"a million brackets":                    `{"a":` + strings.Repeat("[", 1<<20),
		"a key twice":                           keys(2, "a"),
		"a key twice, once escaped":             `{"a":1,"\u0061":2}`,
		"a key twice among many":                `{"1":1,"2":1,"3":1,"4":1,"5":1,"6":1,"7":1,"8":1,"9":1,"10":1,"9":1}`,
		"a key twice, deep down":                `{"a":[{"b":{"c":1,"c":1}}]}`,
		"two halves of characters that are one": `{"\ud800":1,"\ud801":1}`,
		"many elements":                         `{"a":[` + strings.Repeat("1,", wire.DefaultLimits.Elements) + `1]}`,
		"many elements in many arrays":          `{"a":[` + strings.Repeat("[],", wire.DefaultLimits.Elements) + `1]}`,
		"a long number":                         `{"a":1` + strings.Repeat("0", 500) + `}`,
		"a long string":                         `{"a":"` + strings.Repeat("a", wire.DefaultLimits.StringLen+1) + `"}`,
		"a long key":                            `{"` + strings.Repeat("a", wire.DefaultLimits.StringLen+1) + `":1}`,
	} {
		if err := wire.Check([]byte(body), wire.DefaultLimits); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var many strings.Builder
	many.WriteString(`{"a":[`)
	for range wire.DefaultLimits.Keys + 1 {
		many.WriteString(`{"k":1},`)
	}
	many.WriteString(`0]}`)
	if err := wire.Check([]byte(many.String()), wire.DefaultLimits); !fault.Is(err, fault.Invalid) {
		t.Errorf("many keys in many objects: %v", err)
	}
}
