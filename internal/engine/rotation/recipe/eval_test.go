package recipe

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/keyturn/keyturn/internal/secret"
)

// testScope is what the expressions of these tests see.
func testScope(reply cty.Value) scope {
	return newMeter(nil, callSteps).with(scope{
		"now":   cty.StringVal("2026-03-09T12:00:00Z"),
		"page":  cty.NullVal(cty.DynamicPseudoType),
		"admin": cty.ObjectVal(map[string]cty.Value{"token": cty.StringVal(adminCanary).Mark(sensitive)}),
		"response": cty.ObjectVal(map[string]cty.Value{
			"status": cty.NumberIntVal(200), "json": reply, "body": cty.StringVal("body"),
			"headers": cty.MapVal(map[string]cty.Value{"link": cty.StringVal(`<https://a/2>; rel="next"`)}),
		}),
	})
}

// evaluate checks an expression as parsing does and evaluates it.
func evaluate(t *testing.T, text, reply string) (ev *evaluator, out string, problem error, err error) {
	t.Helper()
	if diags := checkSize([]byte(text), "x"); diags.HasErrors() {
		return nil, "", diags, nil
	}
	e, diags := hclsyntax.ParseExpression([]byte(text), "x", hcl.InitialPos)
	if diags.HasErrors() {
		return nil, "", diags, nil
	}
	unknown := scope{"now": cty.UnknownVal(cty.String), "page": cty.DynamicVal,
		"admin": cty.ObjectVal(map[string]cty.Value{"token": cty.UnknownVal(cty.String)})}
	var ps problems
	ps.check(e, newMeter(nil, parseSteps).with(unknown).with(responseScope), cty.String)
	if problem := ps.err("x"); problem != nil {
		return nil, "", problem, nil
	}
	v, err := parseJSON([]byte(reply))
	if err != nil {
		v = cty.NullVal(cty.DynamicPseudoType)
	}
	ev = &evaluator{redactor: new(secret.Redactor)}
	out, _, err = ev.text(e, testScope(v))
	return ev, out, nil, err
}

func TestFunctions(t *testing.T) {
	const reply = `{"list": ["a", "b", 3], "map": {"x": 1, "y": null}, "text": "A/b c", "big": 12345678901234567890, "f": 1.50, "at": "2026-03-09T12:00:00+02:00", "huge": "1e999999999"}`
	for text, want := range map[string]string{
		`base64encode("id:key")`:                           "aWQ6a2V5",
		`base64decode("aWQ6a2V5")`:                         "id:key",
		`base64decode("_-8=")`:                             "\xff\xef",
		`can(response.json.nothing)`:                       "false",
		`can(response.json.text)`:                          "true",
		`coalesce(page, "first")`:                          "first",
		`join(",", concat(response.json.list, ["c"]))`:     "a,b,3,c",
		`contains(["a", "b"], response.json.list[1])`:      "true",
		`format("%s-%d-%03d-%%", "x", 42, tonumber(7))`:    "x-42-007-%",
		`format("%d %05d", -3.9, -42)`:                     "-3 -0042",
		`formatdate("YYYY-MM-DD", timeadd(now, "720h"))`:   "2026-04-08",
		`fromunix(response.json.f * 2)`:                    "", // arithmetic on what may be text
		`fromunix(0)`:                                      "1970-01-01T00:00:00Z",
		`fromunix(253402300799)`:                           "9999-12-31T23:59:59Z",
		`fromunix(253402300800)`:                           "",
		`fromunix(-1)`:                                     "",
		`fromunix(1741521600)`:                             "2025-03-09T12:00:00Z",
		`jsondecode("{\"a\": [1, 2]}").a[1]`:               "2",
		`jsonencode(response.json.map)`:                    `{"x":1,"y":null}`,
		`join(" ", keys(response.json.map))`:               "x y",
		`length(response.json.list) + 1`:                   "4",
		`link(response.headers["link"], "next")`:           "https://a/2",
		`lookup(response.json.map, "x", 0)`:                "1",
		`lookup(response.json.map, "z", "none")`:           "none",
		`lower(upper(response.json.text))`:                 "a/b c",
		`merge(response.json.map, { x = 2 }).x`:            "2",
		`replace(response.json.text, "/", "::")`:           "A::b c",
		`split("/", response.json.text)[1]`:                "b c",
		`tonumber("12.5")`:                                 "12.5",
		`trim("--a--", "-")`:                               "a",
		`trimprefix("sk_x", "sk_")`:                        "x",
		`trimspace(" x\n")`:                                "x",
		`trimsuffix("x.", ".")`:                            "x",
		`try(response.json.nothing, response.json.text)`:   "A/b c",
		`unixtime(response.json.at)`:                       "1773050400",
		`unixtime(now) * 1000`:                             "1773057600000",
		`urlencode("a b/c+%")`:                             "a%20b%2Fc%2B%25",
		`response.json.big`:                                "12345678901234567890",
		`"${response.json.f}"`:                             "1.5",
		`[for x in response.json.list : x if x != "a"][0]`: "b",
		`response.json.list[*][0]`:                         "",
		`response.status == 200 ? "yes" : "no"`:            "yes",
	} {
		_, got, problem, err := evaluate(t, text, reply)
		if want == "" {
			if problem == nil && err == nil {
				t.Errorf("%s = %q, want an error", text, got)
			}
			continue
		}
		if problem != nil || err != nil || got != want {
			t.Errorf("%s = %q, %v, %v; want %q", text, got, problem, err, want)
		}
	}
}

// TestBounds has what would cost a lot, in the recipe or in the reply.
func TestBounds(t *testing.T) {
	big := `{"x": "` + strings.Repeat("a", maxReply-100) + `", "n": "1e999999999", "l": [` +
		strings.Repeat(`"bbbbbbbb",`, 15000) + `0]}`
	start := time.Now()
	for _, text := range []string{
		`response.json.n + 1`, `"${response.json.n * 1}"`, `format("%d", response.json.n)`,
		`"${tonumber(response.json.n)}"`, `format("%099999999d", 1)`, `format("%1000d", 1)`,
		`fromunix(response.json.n)`, `1e999999999`, `"${1e99999}"`, `jsondecode("1e999999999")`,
		`join(response.json.x, response.json.l)`, `replace(response.json.x, "a", response.json.x)`,
		`replace(response.json.x, "", "b")`, `length(split("a", response.json.x))`,
		strings.Repeat("jsonencode(", 40) + `"\"\\"` + strings.Repeat(")", 40),
		`jsonencode([for a in response.json.l : response.json.x])`,
		`[for a in response.json.l : [for b in response.json.l : "x"]]`,
		`env.HOME`, `file("/etc/passwd")`, `timestamp()`, `provider::x()`, `path.module`, `self`, `admin.other`,
		`response.jsn`, `admin["token"].x`,
	} {
		if _, out, problem, err := evaluate(t, text, big); problem == nil && err == nil {
			t.Errorf("%.60s came to %d bytes", text, len(out))
		}
	}
	// Without bounds these take minutes and gigabytes; a busy machine under the
	// race detector takes a few seconds.
	if took := time.Since(start); took > time.Minute {
		t.Errorf("it took %v", took)
	}
	for _, reply := range []string{
		strings.Repeat("[", 100), strings.Repeat("[", 65) + strings.Repeat("]", 65),
		"[" + strings.Repeat("1,", maxValues) + "1]", "1e9999", strings.Repeat("9", 100), `{"a":1}x`, "{\"a\":1",
		"\xff", `[1,]`, ``,
	} {
		if v, err := parseJSON([]byte(reply)); err == nil {
			t.Errorf("%.20s… parsed as %#v", reply, v)
		}
	}
}

func TestDerivedSecretsAreKnown(t *testing.T) {
	for _, text := range []string{
		`admin.token`, `"x-${admin.token}-y"`, `upper(admin.token)`, `jsonencode({ a = admin.token })`,
		`base64encode("a:${admin.token}")`,
		`replace(admin.token, "+", "-")`, `format("%s!", admin.token)`, `join("", [admin.token, "z"])`,
		`true ? admin.token : ""`, `try(admin.nothing, admin.token)`,
		`lookup({ a = admin.token }, "a", "")`, `split("/", admin.token)[0]`, `[for x in [admin.token] : "${x}."][0]`,
		`coalesce(page, admin.token)`, `urlencode(admin.token)`, `trimprefix(admin.token, "adm")`,
	} {
		ev, out, problem, err := evaluate(t, text, "{}")
		if problem != nil || err != nil {
			t.Errorf("%s: %v, %v", text, problem, err)
			continue
		}
		if got := ev.redactor.Scrub("it says " + out); strings.Contains(got, out) {
			t.Errorf("%s is not known to the redactor", text)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 3, 9, 12, 0, 0, 0, time.UTC)
	for header, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "0": 0, "-7": 0, "soon": 0, "999999999": 24 * time.Hour,
		"99999999999999999999":                       0,
		now.Add(time.Minute).Format(http.TimeFormat): time.Minute, now.Add(-time.Minute).Format(http.TimeFormat): 0,
	} {
		if got := retryAfter(header, now); got != want {
			t.Errorf("%q: got %v, want %v", header, got, want)
		}
	}
}

// FuzzEvaluate looks for expressions and replies that crash, show the admin credential in an
// error, or make more than they may.
func FuzzEvaluate(f *testing.F) {
	for _, text := range []string{
		`jsonencode([for x in response.json.list : upper(x) if x != null])`,
		`"${admin.token}/${urlencode(response.json.id)}"`, `format("%s%05d", response.body, response.status)`,
		`try(link(response.headers["link"], "next"), response.json[0].a, null)`,
		`formatdate("YYYY", timeadd(now, "${response.json.n}h"))`, `replace(lower(admin.token), "a", response.json.x)`,
		`split(",", response.json)[response.status]`, `jsondecode(response.json).x[*].y`,
		`{ for k, v in response.json : k => v... }`, `merge(response.json, { a = admin.token })["a"]`,
		`-tonumber(response.json.n) % 7`,
	} {
		f.Add(text, `{"list": ["a", null], "id": "x/y", "n": 3, "x": "yy"}`)
		f.Add(text, `["a", 1e300, {"a": true}]`)
		f.Add(text, `"{\"x\": [{\"y\": 1}]}"`)
	}
	f.Fuzz(func(t *testing.T, text, reply string) {
		if len(text) > 1000 || len(reply) > 10_000 || strings.Contains(text, adminCanary) ||
			strings.Contains(reply, adminCanary) {
			return
		}
		watchdog := time.AfterFunc(10*time.Second,
			func() { panic("slow: " + strconv.Quote(text) + " of " + strconv.Quote(reply)) })
		_, out, problem, err := evaluate(t, text, reply)
		watchdog.Stop()
		if problem == nil && err != nil && strings.Contains(err.Error(), adminCanary) {
			t.Errorf("the error shows a secret: %v", err)
		}
		if len(out) > 64*maxText {
			t.Errorf("came to %d bytes", len(out))
		}
		if v, err := parseJSON([]byte(reply)); err == nil {
			if !json.Valid([]byte(reply)) || !v.IsWhollyKnown() {
				t.Errorf("parsed what is no JSON: %q", reply)
			}
		}
	})
}

// TestBoundsOfFunctionsAreExact: what is as long as a text may be passes, and one byte more, of
// what goes in or comes out, does not.
func TestBoundsOfFunctionsAreExact(t *testing.T) {
	text := func(n int) cty.Value { return cty.StringVal(strings.Repeat("a", n)) }
	list := func(n, each int) cty.Value {
		var out []cty.Value
		for range n {
			out = append(out, text(each))
		}
		return cty.ListVal(out)
	}
	one := cty.StringVal("a")
	for _, c := range []struct {
		name string
		args []cty.Value
		fine bool
	}{
		{"trimspace", []cty.Value{text(maxText - 16)}, true}, // each value counts as 16 bytes more
		{"trimspace", []cty.Value{text(maxText - 15)}, false},
		{"trimprefix", []cty.Value{text(maxText / 2), text(maxText/2 - 32)}, true},
		{"trimprefix", []cty.Value{text(maxText / 2), text(maxText/2 - 31)}, false},
		{"jsonencode", []cty.Value{text(maxText - 18)}, true},
		{"jsonencode", []cty.Value{text(maxText - 17)}, false},
		{"base64encode", []cty.Value{text(maxText / 4 * 3)}, true},
		{"base64encode", []cty.Value{text(maxText/4*3 + 1)}, false},
		{"replace", []cty.Value{text(maxText / 2), one, cty.StringVal("a")}, true},
		{"replace", []cty.Value{text(maxText/2 + 1), one, cty.StringVal("b")}, false},
		{"join", []cty.Value{one, list(2, (maxText-50)/2)}, true},
		{"join", []cty.Value{cty.StringVal("aaa"), list(2, (maxText-50)/2)}, false},
		{"split", []cty.Value{one, text(maxValues - 1)}, true},
		{"split", []cty.Value{one, text(maxValues)}, false},
	} {
		got, err := functions[c.name].Call(c.args)
		if (err == nil) != c.fine || err != nil && !strings.Contains(err.Error(), errTooBig.Error()) {
			t.Errorf("%s of %d and more: %v", c.name, len(c.args[0].GoString()), err)
		}
		if c.fine && got.IsNull() {
			t.Errorf("%s came to nothing", c.name)
		}
	}
}

// TestWhatErrorsQuote: where an expression fails is quoted from the recipe, and no value is.
func TestWhatErrorsQuote(t *testing.T) {
	const reply = `{"map": {"x": 1}, "list": ["a"], "text": "canary-text"}`
	for text, want := range map[string]string{
		`response.json.map.nothing`:                         `does not have an attribute named "nothing"`,
		`response.json.list`:                                "want a string, got",
		`link(response.headers["link"], "prev")`:            "cannot be evaluated",
		`join(",", response.json.map)`:                      "Invalid function argument",
		`join(",", response.json.text)`:                     "Invalid function argument",
		`"${tonumber(response.json.text)}"`:                 "Invalid function argument",
		`"${1 + response.json.text}"`:                       "",
		`"${response.json.list[response.json.text].x}"`:     "",
		`"${response.json.map["${response.json.text}"].x}"`: "",
	} {
		_, out, problem, err := evaluate(t, text, reply)
		if problem != nil {
			err = problem
		}
		if err == nil || strings.Contains(err.Error(), "canary-text") {
			t.Errorf("%s = %q, %v; want an error without a value", text, out, err)
		} else if !strings.Contains(err.Error(), want) && want != "cannot be evaluated" &&
			want != "Invalid function argument" {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// TestKnownForms: a secret is found in each form in which a URL or a reply may have it.
func TestKnownForms(t *testing.T) {
	for _, form := range []string{"a/B+c d", "a%2FB%2Bc+d", "a%2FB%2Bc%20d", "a%2fB%2bc+d", "a%2fB%2bc%20d",
		"a%2fB+c%20d", "a%2FB+c%20d", `a\/B+c d`} {
		ev := &evaluator{redactor: new(secret.Redactor)}
		ev.know("a/B+c d")
		if got := ev.redactor.Scrub("it says " + form + "."); strings.Contains(got, form) {
			t.Errorf("%s is shown", form)
		}
	}
}

// TestNoTime: null, "" and what is not there are no time, and anything else is one or an error.
func TestNoTime(t *testing.T) {
	for text, fine := range map[string]bool{`""`: true, `null`: true, `page`: true, `"soon"`: false} {
		e, diags := hclsyntax.ParseExpression([]byte(text), "x", hcl.InitialPos)
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		ev := &evaluator{redactor: new(secret.Redactor)}
		if got, err := ev.timestamp(e, testScope(cty.EmptyObjectVal)); (err == nil) != fine || !got.IsZero() {
			t.Errorf("%s is %v, %v", text, got, err)
		}
	}
}
