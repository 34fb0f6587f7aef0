package wire_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/wire"
)

// change is an update: a pointer for each field.
type change struct {
	Text     *string             `json:"text"`
	N        *int                `json:"n"`
	Float    *float64            `json:"float"`
	Flag     *bool               `json:"flag"`
	TTL      *time.Duration      `json:"ttl"`
	When     *time.Time          `json:"when"`
	List     *[]string           `json:"list"`
	Map      *map[string]*string `json:"map"`
	Pass     *secret.Value       `json:"pass"`
	System   *wire.TTL           `json:"system"`
	Lifetime *wire.Lifetime      `json:"lifetime"`
	Default  **int               `json:"default"`
	Nested   *nested             `json:"nested"`
	Inner    nested              `json:"inner"`
}

type nested struct {
	CAS  *int           `json:"cas"`
	TTL  time.Duration  `json:"ttl"`
	Keep *time.Duration `json:"keep"`
}

var names = []string{
	"text", "n", "float", "flag", "ttl", "when", "list", "map", "pass", "system", "lifetime", "default", "nested",
}

func decodeChange(t *testing.T, body string) (c change) {
	t.Helper()
	unknown, err := wire.Decode([]byte(body), &c)
	if err != nil || len(unknown) > 0 {
		t.Fatalf("Decode(%s): unknown %v, %v", body, unknown, err)
	}
	return c
}

// pointer is the field of that name; told: it is not nil.
func (c *change) pointer(name string) (told, zero bool) {
	switch name {
	case "text":
		return c.Text != nil, c.Text != nil && *c.Text == ""
	case "n":
		return c.N != nil, c.N != nil && *c.N == 0
	case "float":
		return c.Float != nil, c.Float != nil && *c.Float == 0
	case "flag":
		return c.Flag != nil, c.Flag != nil && !*c.Flag
	case "ttl":
		return c.TTL != nil, c.TTL != nil && *c.TTL == 0
	case "when":
		return c.When != nil, c.When != nil && c.When.IsZero()
	case "list":
		return c.List != nil, c.List != nil && len(*c.List) == 0
	case "map":
		return c.Map != nil, c.Map != nil && *c.Map == nil
	case "pass":
		return c.Pass != nil, c.Pass != nil && c.Pass.Empty()
	case "system":
		return c.System != nil, c.System != nil && *c.System == 0
	case "lifetime":
		return c.Lifetime != nil, c.Lifetime != nil && *c.Lifetime == 0
	case "default":
		return c.Default != nil, c.Default != nil && *c.Default == nil
	case "nested":
		return c.Nested != nil, c.Nested != nil && c.Nested.CAS == nil
	}
	panic(name)
}

// TestDecodeNull: null clears each kind of field, and is told from nothing.
func TestDecodeNull(t *testing.T) {
	absent := decodeChange(t, `{}`)
	for _, name := range names {
		if told, _ := absent.pointer(name); told {
			t.Errorf("%s is told although it is absent", name)
		}
		c := decodeChange(t, fmt.Sprintf(`{%q: null}`, name))
		if told, zero := c.pointer(name); !told || !zero {
			t.Errorf("%s: null: told %v, zero %v; want both", name, told, zero)
		}
	}
}

// TestDecodeEmpty: "" is as good as absent where it is no value.
func TestDecodeEmpty(t *testing.T) {
	for _, name := range names {
		switch name {
		case "nested": // refused, see below
			continue
		}
		c := decodeChange(t, fmt.Sprintf(`{%q: ""}`, name))
		told, _ := c.pointer(name)
		value := name == "text" || name == "list" || name == "map" || name == "pass"
		if told != value {
			t.Errorf(`%s: "" is told: %v, want %v`, name, told, value)
		}
	}
	var c change
	_, err := wire.Decode([]byte(`{"nested": ""}`), &c)
	if err == nil || !strings.Contains(err.Error(), `"nested": want an object`) {
		t.Errorf(`an empty text in place of an object: %v`, err)
	}
}

func TestDecodeDefault(t *testing.T) {
	for body, want := range map[string]int{
		`{}`: 5, `{"default":""}`: 5, `{"default":null}`: -1, `{"default":0}`: 0, `{"default":"7"}`: 7,
	} {
		got := 5
		c := decodeChange(t, body)
		wire.Default(&got, c.Default, -1)
		if got != want {
			t.Errorf("5 after %s is %d, want %d", body, got, want)
		}
	}
}

func TestDecodeTTLs(t *testing.T) {
	for text, want := range map[string]time.Duration{
		`"1h"`: time.Hour, `3600`: time.Hour, `"system"`: 0, `0`: 0, `"0"`: 0, `"0s"`: 0,
	} {
		if c := decodeChange(t, `{"system":`+text+`}`); c.System == nil || time.Duration(*c.System) != want {
			t.Errorf("the TTL %s is %v, want %s", text, c.System, want)
		}
	}
	for text, want := range map[string]time.Duration{
		`"1h"`: time.Hour, `"-1s"`: -1, `-1`: -1, `"-2h"`: -1, `"0s"`: 0,
	} {
		if c := decodeChange(t, `{"lifetime":`+text+`}`); c.Lifetime == nil || time.Duration(*c.Lifetime) != want {
			t.Errorf("the lifetime %s is %v, want %d", text, c.Lifetime, want)
		}
	}
	for _, body := range []string{
		`{"system":"never"}`, `{"system":-1}`, `{"system":{}}`, `{"lifetime":"-"}`, `{"lifetime":"x"}`,
		`{"lifetime":[]}`,
	} {
		var c change
		if _, err := wire.Decode([]byte(body), &c); err == nil {
			t.Errorf("Decode(%s) succeeded", body)
		}
	}
}

// TestDecodeNested: the fields of a field take all forms, too, and are named whole.
func TestDecodeNested(t *testing.T) {
	for _, cas := range []string{`0`, `"0"`, `0.0`} {
		c := decodeChange(t, `{"nested":{"cas":`+cas+`,"ttl":"1h"}}`)
		if c.Nested == nil || c.Nested.CAS == nil || *c.Nested.CAS != 0 || c.Nested.TTL != time.Hour {
			t.Errorf("cas %s: %+v", cas, c.Nested)
		}
	}
	if c := decodeChange(t, `{"inner":{"ttl":60,"keep":""}}`); c.Inner.TTL != time.Minute || c.Inner.Keep != nil {
		t.Errorf("inner: %+v", c.Inner)
	}
	var c change
	unknown, err := wire.Decode([]byte(`{"nested":{"foo":1},"inner":{"bar":{}},"baz":1}`), &c)
	if want := []string{"nested.foo", "inner.bar", "baz"}; err != nil || !cmp.Equal(unknown, want) {
		t.Errorf("unknown are %q, %v, want %q", unknown, err, want)
	}
	if _, err := wire.Decode([]byte(`{"inner":{"ttl":"soon"}}`), &c); err == nil ||
		!strings.Contains(err.Error(), `"inner.ttl"`) {
		t.Errorf("a wrong field of a field: %v", err)
	}
}

// TestDecodeNullWithin: null is no element of a list, and no value of a map unless the map tells
// it.
func TestDecodeNullWithin(t *testing.T) {
	c := decodeChange(t, `{"list":["a",null,"b"],"map":{"a":"x","b":null}}`)
	if !cmp.Equal(*c.List, []string{"a", "b"}) {
		t.Errorf("the list is %q", *c.List)
	}
	if m := *c.Map; len(m) != 2 || *m["a"] != "x" || m["b"] != nil {
		t.Errorf("the map is %v", m)
	}
	var r request
	_, err := wire.Decode([]byte(`{"map":{"a":"x","b":null}}`), &r)
	if err != nil || !cmp.Equal(r.Map, map[string]string{"a": "x"}) {
		t.Errorf("a map without pointers is %v, %v", r.Map, err)
	}
}
