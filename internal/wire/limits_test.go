package wire_test

import (
	"fmt"
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
		"a million brackets":                    `{"a":` + strings.Repeat("[", 1<<20),
		"a key twice":                           keys(2, "a"),
		"a key twice, once escaped":             `{"a":1,"\u0061":2}`,
		"a key twice among many":                `{"1":1,"2":1,"3":1,"4":1,"5":1,"6":1,"7":1,"8":1,"9":1,"10":1,"9":1}`,
		"a key twice, deep down":                `{"a":[{"b":{"c":1,"c":1}}]}`,
		"two halves of characters that are one": `{"\ud800":1,"\ud801":1}`,
		"many elements in many arrays":          `{"a":[` + strings.Repeat("[[],[],[],[],[],[],[],[],[],[]],", wire.DefaultLimits.Elements-1) + `1],"b":[` + strings.Repeat("[[],[],[],[],[],[],[],[],[],[]],", wire.DefaultLimits.Elements-1) + `1],"c":[` + strings.Repeat("[[],[],[],[],[],[],[],[],[],[]],", wire.DefaultLimits.Elements-1) + `1]}`,
		"a long number":                         `{"a":1` + strings.Repeat("0", 500) + `}`,
	} {
		if err := wire.Check([]byte(body), wire.DefaultLimits); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestLimits meets each limit exactly, and goes one beyond it. The error names the
// setting that raises it.
func TestLimits(t *testing.T) {
	l := wire.Limits{Depth: 5, StringLen: 8, Entries: 4, Elements: 6, Tokens: 40}
	nest := func(open, inner, end string) func(int) string {
		return func(n int) string { return strings.Repeat(open, n) + inner + strings.Repeat(end, n) }
	}
	object := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `"k%d":1,`, i)
		}
		return `{` + strings.TrimSuffix(b.String(), ",") + `}`
	}
	for setting, tt := range map[string]struct {
		most int
		body func(n int) string
	}{
		"max_json_depth":                       {l.Depth, nest(`{"a":`, "1", "}")},
		"max_json_depth of arrays":             {l.Depth, nest(`[`, "1", "]")},
		"max_json_string_value_length":         {l.StringLen, func(n int) string { return `{"a":"` + strings.Repeat("x", n) + `"}` }},
		"max_json_string_value_length of keys": {l.StringLen, func(n int) string { return `{"` + strings.Repeat("x", n) + `":1}` }},
		"max_json_object_entry_count":          {l.Entries, object},
		"max_json_array_element_count":         {l.Elements, func(n int) string { return `[1` + strings.Repeat(",1", n-1) + `]` }},
		// Two brackets outside, then four arrays of six with theirs: 34. Each "" is one more.
		"max_json_token": {l.Tokens, func(n int) string {
			return `[` + strings.Repeat(`[1,1,1,1,1,1],`, 4) + `[1` + strings.Repeat(",1", n-37) + `]]`
		}},
	} {
		name, _, _ := strings.Cut(setting, " ")
		if err := wire.Check([]byte(tt.body(tt.most)), l); err != nil {
			t.Errorf("%s: %d are refused: %v", setting, tt.most, err)
		}
		err := wire.Check([]byte(tt.body(tt.most+1)), l)
		if !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Message(err), name) {
			t.Errorf("%s: %d: %v", setting, tt.most+1, err)
		}
	}
	if err := wire.Check([]byte(nest("[", "1", "]")(200)), wire.Limits{}); err != nil {
		t.Errorf("without limits: %v", err)
	}
}
