package wire_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/wire"
)

// TestListInAText gives a list between commas, where [wire.Check] counts one
// string: it may have no more elements than an array.
func TestListInAText(t *testing.T) {
	var into request
	most := wire.MaxElements
	if _, err := wire.Decode([]byte(`{"list":"`+strings.Repeat("a,", most)+`"}`), &into); err != nil ||
		len(into.List) != most {
		t.Errorf("%d elements: %v", len(into.List), err)
	}
	if _, err := wire.Decode([]byte(`{"list":"`+strings.Repeat("a,", most+1)+`a"}`), &into); !fault.Is(err,
		fault.Invalid) {
		t.Errorf("more than an array may have: %v", err)
	}
	if _, err := wire.SetText(&into, "list", strings.Repeat("a,", most+1)); !fault.Is(err, fault.Invalid) {
		t.Errorf("in a query: %v", err)
	}
}

// A field holds no more than its handler was made for: whatever that does with each element, it
// does a bounded number of times.
func TestFieldLimits(t *testing.T) {
	type fields struct {
		Text   string            `json:"text"`
		Ptr    *string           `json:"ptr"`
		Hidden secret.Value      `json:"hidden"`
		List   []string          `json:"list"`
		Few    *[]string         `json:"few" max:"3"`
		Map    map[string]string `json:"map"`
		Short  string            `json:"short" max:"10"`
		Large  string            `json:"large" max:"1000000"`
		Raw    wire.Raw          `json:"raw"`
	}
	long := strings.Repeat("x", wire.MaxFieldBytes+1)
	var pairs, many []string
	for i := range wire.MaxElements + 1 {
		pairs = append(pairs, fmt.Sprintf("\"k%d\":\"v\"", i))
		many = append(many, `"a"`)
	}
	for name, tt := range map[string]struct{ body, want string }{
		"text":            {`{"text":"` + long + `"}`, `field "text": it has 262145 bytes, and may have 262144`},
		"text by pointer": {`{"ptr":"` + long + `"}`, `field "ptr": it has 262145 bytes`},
		"secret":          {`{"hidden":"` + long + `"}`, `field "hidden": it has 262145 bytes`},
		"list": {`{"list":[` + strings.Join(many, ",") + `]}`,
			`field "list": it has 1001 elements, and may have 1000`},
		"list in a text":   {`{"few":"a,b,c,d"}`, `field "few": it has 4 elements, and may have 3`},
		"a text in a list": {`{"list":["` + long + `"]}`, `field "list": it has 262145 bytes`},
		"map":              {`{"map":{` + strings.Join(pairs, ",") + `}}`, `field "map": it has 1001 elements`},
		"a name in a map":  {`{"map":{"` + long + `":"v"}}`, `field "map": it has 262145 bytes`},
		"by the tag":       {`{"short":"01234567890"}`, `field "short": it has 11 bytes, and may have 10`},
		"at the limit": {`{"short":"0123456789","few":["a","b","c"],"text":"` + long[1:] + `","list":[` +
			strings.Join(many[1:], ",") + `]}`, ""},
		"more by the tag":     {`{"large":"` + long + `"}`, ""},
		"documents are their": {`{"raw":"` + long + `"}`, ""},
	} {
		_, err := wire.Decode([]byte(tt.body), new(fields))
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(fault.Message(err), tt.want) {
			t.Errorf("%s: %.200v, want %q", name, err, tt.want)
		}
	}
	if _, err := wire.SetText(new(fields), "text", long); !fault.Is(err, fault.Invalid) {
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
		"many elements in many arrays": `{"a":[` +
			strings.Repeat("[[],[],[],[],[],[],[],[],[],[]],", wire.DefaultLimits.Elements-1) + `1],"b":[` +
			strings.Repeat("[[],[],[],[],[],[],[],[],[],[]],", wire.DefaultLimits.Elements-1) + `1],"c":[` +
			strings.Repeat("[[],[],[],[],[],[],[],[],[],[]],", wire.DefaultLimits.Elements-1) + `1]}`,
		"a long number": `{"a":1` + strings.Repeat("0", 500) + `}`,
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
		"max_json_depth":           {l.Depth, nest(`{"a":`, "1", "}")},
		"max_json_depth of arrays": {l.Depth, nest(`[`, "1", "]")},
		"max_json_string_value_length": {l.StringLen,
			func(n int) string { return `{"a":"` + strings.Repeat("x", n) + `"}` }},
		"max_json_string_value_length of keys": {l.StringLen,
			func(n int) string { return `{"` + strings.Repeat("x", n) + `":1}` }},
		"max_json_object_entry_count": {l.Entries, object},
		"max_json_array_element_count": {l.Elements,
			func(n int) string { return `[1` + strings.Repeat(",1", n-1) + `]` }},
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

// TestRefusalsSayTheRange: a number or duration that is too large is refused with what is the
// largest, and a byte-order mark by its name.
func TestRefusalsSayTheRange(t *testing.T) {
	for body, want := range map[string]string{
		`{"ttl":1e12}`: "at most 2562047h", `{"ttl":"9999999999h"}`: "at most 2562047h",
		`{"ttl":"1e400"}`: "at most 2562047h", `{"ttl":"200000d"}`: "at most 2562047h",
		`{"ttl":"99999999999999999999d"}`: "at most 2562047h",
		`{"ttl":"100000d900000h"}`:        "at most 2562047h", `{"ttl":"-1h"}`: "not negative",
		`{"ttl":-1}`:     "not negative",
		`{"ttl":"soon"}`: "such as", `{"ttl":"-9999999999h"}`: "not negative",
		`{"n":99999999999999999999}`: "from -9223372036854775808 to 9223372036854775807",
		`{"n":1e300}`:                "to 9223372036854775807", `{"n":1e400}`: "to 9223372036854775807",
		`{"n":1e17}`: "all its digits", `{"n":1.5}`: "whole number", `{"n":"x"}`: "whole number",
	} {
		var into request
		_, err := wire.Decode([]byte(body), &into)
		if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", body, err, want)
		}
	}
	for _, mark := range []string{"\xef\xbb\xbf", "\xff\xfe", "\xfe\xff"} {
		err := wire.Check([]byte(mark+"{}"), wire.DefaultLimits)
		if err == nil || !strings.Contains(err.Error(), "byte-order mark") {
			t.Errorf("%q: %v", mark, err)
		}
	}
}
