package recipe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/keyturn/keyturn/internal/costtest"
	"github.com/keyturn/keyturn/internal/engine/rotation"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/secret"
)

// nest is an expression in which each level holds the next one.
func nest(head, inner, tail string, levels int) string {
	return strings.Repeat(head, levels) + inner + strings.Repeat(tail, levels)
}

// What stands in a recipe for good is written out: it was evaluated while the recipe was read,
// outside of all limits and with nothing to stop it.
func TestReadingEvaluatesNothing(t *testing.T) {
	list := "[" + strings.Repeat(`"a",`, 200) + "]"
	loops := nest("[for x in "+list+": ", `"a"`, "]", 5)
	for name, change := range map[string][2]string{
		"loops in style":      {`style = "two-key"`, "style = " + loops},
		"loops in a text":     {`description = "d"`, "description = " + loops},
		"loops in a template": {`evidence = "e"`, `evidence = "${` + loops + `[0]}"`},
		"a long number":       {`description = "d"`, "description = 1e10000000"},
		"a number in a text":  {`description = "d"`, `description = "${1e10000000}"`},
		"a number that grows": {`description = "d"`, `description = "${9e999*9e999*9e999}"`},
		"loops in a duration": {`description = "d"`, "description = \"d\"\nlate = " + loops},
		"loops in a flag": {`admin "token" { description = "d" }`,
			"admin \"token\" {\ndescription = \"d\"\nsecret = " + loops + "\n}"},
		"loops in a status": {`retry = "never"`, "retry = \"never\"\nexpect { status = " + loops + " }"},
		"loops in a name": {`secret = { api_key = response.json.key }`,
			"secret = { (" + loops + "[0]) = response.json.key }"},
		"a sum as the status": {`retry = "never"`, "retry = \"never\"\nexpect { status = [100 + 100] }"},
		"loops in a proof": {`retire {`,
			"verify {\nproof = " + loops + "\nurl = \"https://api.example.com\"\n}\nretire {"},
		"loops in a limit": {`description = "d"`, "description = \"d\"\nlimits { keys = " + loops + " }"},
		"three loops in a host": {`hosts = ["api.example.com"]`,
			"hosts = " + nest("[for x in "+list+": ", `"a"`, "]", 3)},
	} {
		text := strings.Replace(minimal("{}"), change[0], change[1], 1)
		if text == minimal("{}") {
			t.Fatalf("%s: nothing was changed", name)
		}
		if _, err := parse("x.hcl", []byte(text)); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v, want it refused", name, err)
		}
	}
}

// Expressions take a bounded number of steps while a recipe is read: two loops in each of many,
// and try, which evaluates what it is given twice, in try.
func TestReadingIsMetered(t *testing.T) {
	list := "[" + strings.Repeat(`1,`, 150) + "]"
	loops := "[for x in " + list + ": [for y in " + list + ": [x,y,x,y,x,y,x,y]]]"
	var params strings.Builder
	for i := range 10 {
		fmt.Fprintf(&params, "param \"p%d\" {\n description = \"d\"\n default = %s\n}\n", i, loops)
	}
	for name, text := range map[string]string{
		"tries": minimal(nest("try(", "now", ")", 60)),
		"loops": params.String() + minimal("{}"),
	} {
		_, err := parse("x.hcl", []byte(text))
		if m := fault.Message(err); !fault.Is(err, fault.Invalid) || !strings.Contains(m, errSteps.Error()) {
			t.Errorf("%s: %.300s, want %v", name, m, errSteps)
		}
	}
}

// metering evaluates a text with a list of so many elements as param.list.
func metering(t testing.TB, ctx context.Context, text string, elements, steps int) error {
	e, diags := hclsyntax.ParseExpression([]byte(text), "x", hcl.InitialPos)
	if diags.HasErrors() {
		return diags
	}
	var ps problems
	ps.check(e, newMeter(nil, parseSteps).with(
		scope{"param": cty.ObjectVal(map[string]cty.Value{"list": cty.UnknownVal(cty.List(cty.String))})}),
		cty.DynamicPseudoType)
	if err := ps.err("x"); err != nil {
		return err
	}
	list := make([]cty.Value, elements)
	for i := range list {
		list[i] = cty.StringVal(fmt.Sprint(i))
	}
	ev := &evaluator{redactor: new(secret.Redactor)}
	_, err := ev.value(e,
		newMeter(ctx, steps).with(scope{"param": cty.ObjectVal(map[string]cty.Value{"list": cty.ListVal(list)})}))
	return err
}

// A call's expressions take a bounded number of steps, however long the lists are that its
// parameters hold.
func TestRunningIsMetered(t *testing.T) {
	for _, text := range []string{
		"[for a in param.list : [for b in param.list : [a, b, a, b, a, b]]]",
		"[for a in param.list : contains(param.list, a)]",
		"[for a in param.list : join(a, param.list)]",
		"[for a in param.list : a == param.list]",
		"[for a in param.list : can([for b in param.list : b.nothing])]",
		"[for a in param.list : try(param.list[*].nothing, 1)]",
		"[for a in param.list : try(try(try(param.list[*].nothing, 1), 2), 3) ]",
		"{for a in param.list : a => [for b in param.list : b]}",
		"[for a in param.list : a if contains(param.list, a)]",
		"[for a in param.list : true ? param.list : []]",
		nest("try(", "param.list[1999]", ")", 60),
	} {
		err := metering(t, t.Context(), text, 2000, 100_000)
		if !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Message(err), errSteps.Error()) {
			t.Errorf("%.80s: %v, want %v", text, err, errSteps)
		}
	}
	for _, text := range []string{"[for a in param.list : upper(a) if a != \"7\"]", "length(param.list)",
		"param.list[*]", `join(",", param.list)`, "contains(param.list, \"77\")"} {
		if err := metering(t, t.Context(), text, 2000, 100_000); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// A text that a secret went into costs more: errors are searched for each. What is over the limit
// is an error, not a secret that nobody knows.
func TestSecretsAreMetered(t *testing.T) {
	e, diags := hclsyntax.ParseExpression([]byte(`[for a in list : "${a}${token}"]`), "x", hcl.InitialPos)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	vars := func(n int) scope {
		return newMeter(nil, callSteps).with(
			scope{"list": cty.ListVal(slices.Repeat([]cty.Value{cty.StringVal("x")}, n)),
				"token": cty.StringVal("a token").Mark(sensitive)})
	}
	ev := &evaluator{redactor: new(secret.Redactor)}
	if _, err := ev.value(e, vars(10)); err != nil {
		t.Error(err)
	}
	if _, err := ev.value(e, vars(10_000)); !strings.Contains(fault.Message(err), errSteps.Error()) {
		t.Errorf("10,000 secrets: %v", err)
	}
}

// Who waits for a call no more ends what it evaluates.
func TestRunningIsStopped(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	const text = "[for a in param.list : [for b in param.list : a]]"
	if err := metering(t, ctx, text, 5000, callSteps); !fault.Is(err, fault.Unavailable) {
		t.Errorf("canceled: %v", err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	if err := metering(t, ctx, text, 5000, callSteps); !fault.Is(err, fault.Timeout) {
		t.Errorf("out of time: %v", err)
	}
}

// Each page of a list has items whose expressions are metered together, and end with the call.
func TestCallIsMetered(t *testing.T) {
	text := strings.Replace(minimal("[for a in param.list : [for b in param.list : [for x in [a, b] : x]]]"),
		"create {",
		"param \"list\" {\n description = \"d\"\n type = list(string)\n}\ncreate {", 1)
	if _, err := parse("minimal.hcl", []byte(text)); err == nil ||
		!strings.Contains(fault.Message(err), "at most 2 deep") {
		t.Errorf("three loops: %v", err)
	}
	text = strings.Replace(text, "[for x in [a, b] : x]", "[a, b, a, b]", 1)
	d, err := Provider.Parse("minimal.hcl", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	list, err := json.Marshal(strings.Split(strings.Repeat("x", 4000), ""))
	if err != nil {
		t.Fatal(err)
	}
	s, err := open(rotation.OpenConfig{Definition: d, Params: map[string]json.RawMessage{"list": list},
		Admin: map[string]secret.Value{"token": secret.Text("token")}}, &replay{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Create(t.Context(),
		rotate.Order{Marker: rotate.Marker{Installation: "aaaaaaaa", Key: "bbbbbbbb", Turn: 1, Attempt: 1}})
	if !strings.Contains(fault.Message(err), errSteps.Error()) {
		t.Errorf("16 million rounds: %v", err)
	}
}

// FuzzParseCost: reading a recipe costs a bounded number of steps for each byte. Most of these
// took seconds.
func FuzzParseCost(f *testing.F) {
	costtest.Fuzz(f, costtest.Parser{Limit: maxSource, Steps: 5000, Parse: func(text string) error {
		_, err := parse("x.hcl", []byte(text))
		return err
	}},
		costtest.Shape{Head: "name = <<A\n", Unit: "a\n", Tail: "A\n"},
		costtest.Shape{Head: "name = <<-A\n", Unit: "  a\n", Tail: "  A\n"},
		costtest.Shape{Head: `name = "`, Unit: "$${", Tail: `"`}, costtest.Shape{Head: "name = a", Unit: "?a"},
		costtest.Shape{Head: "name = ", Unit: "-", Tail: "1"},
		costtest.Shape{Head: "name = ", Unit: "9"}, costtest.Shape{Unit: "a = 1\n"}, costtest.Shape{Unit: "a {}\n"},
		costtest.Shape{Head: "name = [", Unit: "1,", Tail: "]"},
		costtest.Shape{Head: "name = a", Unit: "[*]"},
		costtest.Shape{Head: "name = <<A\n", Unit: "%{ if a }", Tail: "A\n"}, costtest.Shape{Unit: "<<A\n"},
		costtest.Shape{Unit: "/*a"}, costtest.Shape{Head: "/* */", Unit: "\"/*"},
		costtest.Shape{Head: minimal("{}"), Unit: "param \"a\" { description = \"d\" }\n"},
		costtest.Shape{Head: minimal("{}"), Unit: "verify {}\n"},
		costtest.Shape{Head: strings.TrimSuffix(minimal("{}"), "}\n"),
			Unit: "fail \"transient\" { when = response.status == 500 }\n", Tail: "}\n"})
}

// FuzzEvaluateCost: a step of a meter costs a bounded number of a machine's, whatever is
// evaluated.
func FuzzEvaluateCost(f *testing.F) {
	const limit = 1 << 10
	costtest.Fuzz(f, costtest.Parser{Limit: limit, Steps: 60_000, Parse: func(text string) error {
		if len(text) > limit {
			return errors.New("the expression is too long for this test")
		}
		if diags := checkSize([]byte(text), "x"); !diags.HasErrors() {
			_ = metering(f, nil, text, 2000, 50_000)
		}
		return nil
	}},
		costtest.Shape{Head: "[", Unit: "[for a in param.list : contains(param.list, a)],", Tail: "1]"},
		costtest.Shape{Head: "[", Unit: "param.list == param.list,", Tail: "1]"},
		costtest.Shape{Head: "[", Unit: "jsonencode(param.list),", Tail: "1]"},
		costtest.Shape{Head: "[for a in param.list : [", Unit: "a,", Tail: "]]"},
		costtest.Shape{Head: "[", Unit: "can(param.list[*].x),", Tail: "1]"},
		costtest.Shape{Head: `"${1`, Unit: "*9e999", Tail: `}"`},
		costtest.Shape{Head: "{for a in param.list : a => [", Unit: `"${a}",`, Tail: "]}"})
}

// FuzzReplyCost: reading what a provider answers costs a bounded number of steps for each byte.
func FuzzReplyCost(f *testing.F) {
	costtest.Fuzz(f, costtest.Parser{Limit: maxReply, Steps: 2000, Parse: func(text string) error {
		if len(text) > maxReply {
			return errors.New("not read as a whole")
		}
		v, err := parseJSON([]byte(text))
		if err == nil {
			size(v)
		}
		return nil
	}}, costtest.Shape{Head: "[", Unit: "1,", Tail: "1]"}, costtest.Shape{Head: "{", Unit: `"k§":[],`, Tail: `"z":1}`},
		costtest.Shape{Unit: "["}, costtest.Shape{Unit: "9"}, costtest.Shape{Head: "1e", Unit: "9"},
		costtest.Shape{Head: `"`, Unit: `é`, Tail: `"`},
		costtest.Shape{Head: "[", Unit: "1e999,", Tail: "1]"})
}

// FuzzLinkCost: so does finding a URL in a Link header.
func FuzzLinkCost(f *testing.F) {
	costtest.Fuzz(f, costtest.Parser{Limit: 64 << 10, Steps: 2000, Parse: func(text string) error {
		if len(text) > 64<<10 {
			return errors.New("the transport's limit")
		}
		_, _ = link(text, "next")
		return nil
	}}, costtest.Shape{Unit: "<"}, costtest.Shape{Unit: "<a>;"}, costtest.Shape{Unit: `<a>; rel="x", `},
		costtest.Shape{Head: "<a>; rel=\"", Unit: "a ", Tail: "\""})
}
