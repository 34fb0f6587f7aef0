package policy

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/internal/costtest"
	"github.com/keyturn/keyturn/internal/wire"
)

// FuzzPolicyCost: parsing a policy, compiling it and deciding by it take a limited number of steps
// per byte.
func FuzzPolicyCost(f *testing.F) {
	costtest.Fuzz(f, costtest.Parser{Limit: maxText, Steps: 1000, Parse: func(text string) error {
		p, err := Parse("x", text)
		if err == nil {
			Compile([]*Policy{p}).Decide(Query{Path: "secret/data/app/x", Op: Update, Body: []byte(`{"a":"b"}`)})
		}
		return err
	}},
		costtest.Shape{Unit: "path \"secret/§\" { capabilities = [\"read\"] }\n"},
		costtest.Shape{Unit: "path \"+/§/+/*\" { capabilities = [\"read\", \"update\"] }\n"},
		costtest.Shape{
			Head: "path \"secret/data/app/x\" {\ncapabilities = [\"update\"]\nallowed_parameters = {\n",
			Unit: "\"p§\" = [\"a\"]\n", Tail: "}\n}\n",
		},
		costtest.Shape{
			Head: "path \"secret/data/app/x\" {\ncapabilities = [\"update\"]\nallowed_parameters = {\n\"a\" = [",
			Unit: "\"v§\",", Tail: "]\n}\n}\n",
		},
		costtest.Shape{
			Head: "path \"secret/data/app/x\" {\ncapabilities = [\"update\"]\nrequired_parameters = [",
			Unit: "\"v§\",", Tail: "]\n}\n",
		},
		costtest.Shape{Head: `{"path": {`, Unit: `"a§": {"capabilities": ["read"]},`, Tail: `"z": {}}}`},
		costtest.Shape{Unit: "x§ = 1\n"}, costtest.Shape{Head: "a = \"", Unit: "${", Tail: "\""},
		costtest.Shape{Head: "a = <<A\n", Unit: "a\n", Tail: "A\n"},
		costtest.Shape{Unit: "/*"}, costtest.Shape{Head: "path \"", Unit: "a/", Tail: "b\" {}"})
}

// FuzzDecideCost: judging the parameters of a request takes a limited number of steps per byte,
// however many values a policy has.
func FuzzDecideCost(f *testing.F) {
	var values strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&values, "\"*v%d*\",", i)
	}
	var sets []*Set
	for _, kind := range []string{"allowed_parameters", "denied_parameters"} {
		p, err := Parse("x",
			"path \"a\" {\n capabilities = [\"update\"]\n "+kind+" = { \"p\" = ["+values.String()+"\"z\"] }\n}")
		if err != nil {
			f.Fatal(err)
		}
		sets = append(sets, Compile([]*Policy{p}))
	}
	const limit = 256 << 10
	costtest.Fuzz(f, costtest.Parser{Limit: limit, Steps: 5000, Parse: func(text string) error {
		if len(text) > limit || wire.Check([]byte(text), wire.DefaultLimits) != nil {
			return errors.New("refused before it comes here")
		}
		for _, s := range sets {
			s.Decide(Query{Path: "a", Op: Update, Body: []byte(text)})
		}
		return nil
	}}, costtest.Shape{Head: `{"p":"`, Unit: "a,", Tail: `"}`}, costtest.Shape{
		Head: `{"p":[`, Unit: `"a",`, Tail: `"b"]}`,
	}, costtest.Shape{Head: `{"p":"`, Unit: "a", Tail: `"}`},
		costtest.Shape{Head: `{"p":"`, Unit: "1,", Tail: `"}`}, costtest.Shape{Head: `{"p":"`, Unit: "1", Tail: `"}`},
		costtest.Shape{Head: `{"p":`, Unit: "1", Tail: `}`},
		costtest.Shape{Head: `{`, Unit: `"p§":"a,b",`, Tail: `"p":"a"}`})
}

// TestCostlyValues: a value that is too expensive to compare is not allowed, and is denied.
func TestCostlyValues(t *testing.T) {
	many := value{text: strings.Repeat("a,", maxCompared)}
	values := []value{{text: "a"}, {text: "b"}}
	if many.allowedBy(values, newWork()) || !many.deniedBy(values, newWork()) {
		t.Error("a value with a million parts was compared")
	}
	if few := (value{text: "a,b"}); !few.allowedBy(values, newWork()) {
		t.Error("two parts are not compared")
	}
}

// TestBoundsOfWork checks the documented limits of comparing and searching for one request.
func TestBoundsOfWork(t *testing.T) {
	values := func(n int) []value {
		all := make([]value, n)
		for i := range all {
			all[i] = value{text: "*"}
		}
		return all
	}
	const kilo, mega = 1 << 10, 1 << 20
	commas, long := strings.Repeat(",", kilo-1), strings.Repeat("a", mega)
	list := make([]string, kilo-1)
	for name, tt := range map[string]struct {
		v    value
		n    int // of the values that it is compared with
		want bool
	}{
		"parts of a text":      {value{text: commas}, maxCompared / kilo, true},
		"more parts of a text": {value{text: commas}, maxCompared/kilo + 1, false},
		"parts of a list":      {value{isList: true, list: list}, maxCompared / kilo, true},
		"more parts of a list": {value{isList: true, list: list}, maxCompared/kilo + 1, false},
		"bytes of a text":      {value{text: long}, maxSearched / mega, true},
		"more bytes of a text": {value{text: long}, maxSearched/mega + 1, false},
		"bytes of a list": {value{isList: true, list: []string{long[mega/2:], long[mega/2:]}}, maxSearched / mega,
			true},
		"more bytes of a list": {value{isList: true, list: []string{long[mega/2:], long[mega/2:]}},
			maxSearched/mega + 1, false},
	} {
		left := newWork()
		if got := left.affords(tt.v, values(tt.n)); got != tt.want {
			t.Errorf("%s, %d values: affordable is %v, want %v", name, tt.n, got, tt.want)
		}
		if left.affords(tt.v, values(tt.n)) && left.affords(tt.v, values(tt.n)) {
			t.Errorf("%s: what was used up is there again", name)
		}
	}
}

// TestDecideCostAddsUp: comparisons are limited per request, not per parameter. A body of 5 MB
// with 250 parameters once took ten seconds.
func TestDecideCostAddsUp(t *testing.T) {
	const fields = 60
	var rules, body strings.Builder
	for i := range fields {
		fmt.Fprintf(&rules, "\"p%d\" = [%s\"z\"]\n", i, strings.Repeat("\"*y*\",", 99))
		fmt.Fprintf(&body, "\"p%d\":\"%sx\",", i, strings.Repeat("x,", 2000))
	}
	p, err := Parse("x", "path \"a\" {\n capabilities = [\"update\"]\n denied_parameters = {\n"+rules.String()+"}\n}")
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Split(strings.TrimSuffix(body.String(), ",\""), ",\"")
	for n, want := range map[int]bool{1: true, 5: true, fields: false} {
		got := Compile([]*Policy{p}).Decide(Query{
			Path: "a", Op: Update, Body: []byte("{" + strings.TrimSuffix(strings.Join(all[:n], ",\""), ",") + "}"),
		})
		if got.Allowed != want {
			t.Errorf("%d parameters of 2000 parts, each compared with 100 values: allowed %v (%s), want %v", n,
				got.Allowed, got.Why, want)
		}
	}
}
