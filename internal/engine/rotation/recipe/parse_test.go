package recipe

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/internal/engine/rotation"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/recipes"
)

var update = flag.Bool("update", false, "write golden files")

// TestParseErrors compares all that is said about wrong recipes with golden files.
func TestParseErrors(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.hcl")
	if err != nil || len(files) == 0 {
		t.Fatal("no files", err)
	}
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, err = Provider.Parse(filepath.Base(file), source)
		if err == nil {
			t.Errorf("%s: parsed", file)
			continue
		}
		got := fault.KindOf(err).String() + "\n" + fault.Message(err) + "\n"
		golden := strings.TrimSuffix(file, ".hcl") + ".golden"
		if *update {
			if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", file, diff)
		}
	}
}

func TestParseLimits(t *testing.T) {
	for _, c := range []struct{ source, want string }{
		{`name = "` + strings.Repeat("x", maxSource) + `"`, "larger than 64 KiB"},
		{"name = " + strings.Repeat("(", 1000), "Nested too deeply"},
		{"name = " + strings.Repeat("[", 1000), "Nested too deeply"},
		{`name = "` + strings.Repeat(`${"`, 1000), "Nested too deeply"},
		{minimal(`[` + strings.Repeat(`"a",`, 600) + `]`), "more than 500 parts"},
		{minimal(`[` + strings.Repeat(`now,`, 65) + `]`), "more than 64 times"},
		{minimal("<<E\n" + strings.Repeat("a\n", maxPieces+1) + "E"), "lines, escapes and templates"},
		{minimal(`"` + strings.Repeat(`${1}`, maxPieces+1) + `"`), "lines, escapes and templates"},
	} {
		if _, err := parse("x.hcl", []byte(c.source)); !fault.Is(err, fault.Invalid) ||
			!strings.Contains(fault.Message(err), c.want) {
			t.Errorf("%.40s…: got %v, want %q", c.source, err, c.want)
		}
	}
}

// minimal is a right recipe with an expression in the creating call's body.
func minimal(json string) string {
	return `name = "minimal"
description = "d"
style = "two-key"
evidence = "e"
hosts = ["api.example.com"]
admin "token" { description = "d" }
auth "bearer" { token = admin.token }
create {
  url = "https://api.example.com/keys"
  json = ` + json + `
  retry = "never"
  id = response.json.id
  secret = { api_key = response.json.key }
}
retire {
  method = "DELETE"
  url = "https://api.example.com/keys/${urlencode(key.id)}"
}
`
}

func TestDefinition(t *testing.T) {
	d := demo(t)
	source, err := recipes.Files.ReadFile("http-demo.hcl")
	if err != nil {
		t.Fatal(err)
	}
	want := rotation.Definition{
		Provider: "recipe", Name: "http-demo", Description: d.Description, Doc: d.Doc, Evidence: d.Evidence,
		Style: rotate.TwoKey, Hosts: []string{"${param.url}"},
		Admin: []rotation.Field{{Name: "token", Type: "string", Description: "The provider's admin token",
			Secret: true, Required: true}},
		Params: []rotation.Field{{Name: "url", Type: "string", Description: d.Params[0].Description, Required: true,
			Routes: true, Acts: true, Locates: true}},
		Outputs: []rotation.Output{{Name: "api_key", Secret: true}, {Name: "label"}},
		Limits:  rotation.Limits{Label: 255},
		Settle:  rotate.Settle{Successes: 2, Interval: 1e9, Timeout: 120e9},
		Can: rotate.Capabilities{
			List: true, Label: true, LastUsed: true, Disable: true,
			Proof: rotate.ProofUse, Retry: rotate.RetryAdopt, Timeout: 30e9, Late: 120e9,
		},
		Hash:   hashOf(source),
		Source: source,
	}
	if diff := cmp.Diff(want, d); diff != "" {
		t.Errorf("http-demo (-want +got):\n%s", diff)
	}
	changed, err := Provider.Parse("x", append(source, '\n'))
	if err != nil || changed.Hash == d.Hash {
		t.Errorf("a changed text has hash %s, %v; want another than %s", changed.Hash, err, d.Hash)
	}
}

func TestHostSources(t *testing.T) {
	text := strings.Replace(minimal("{}"), `["api.example.com"]`, `["api.${param.site}.example.com:8443", param.url]
param "site" {
  description = "d"
  default = "eu"
}
param "url" { description = "d" }
param "other" {
  description = "d"
  type = list(string)
  default = []
}`, 1)
	r, err := parse("x", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"api.${param.site}.example.com:8443", "${param.url}"}, r.def.Hosts); diff != "" {
		t.Error(diff)
	}
	for _, f := range r.def.Params {
		if want := f.Name != "other"; f.Routes != want || f.Acts {
			t.Errorf("param %s routes: %v, want %v; acts: %v", f.Name, f.Routes, want, f.Acts)
		}
	}
	if got := string(r.def.Params[0].Default) + string(r.def.Params[2].Default); got != `"eu"[]` {
		t.Errorf("defaults are %s", got)
	}
}

// TestSteps: what a step may say of how long it takes, how it fails, what it proves and what it
// gives.
func TestSteps(t *testing.T) {
	in := func(step, text string) string {
		r := minimal("{}")
		switch step {
		case "create":
			return strings.Replace(r, "create {\n", "create {\n"+text+"\n", 1)
		case "retire":
			return strings.Replace(r, "retire {\n", "retire {\n"+text+"\n", 1)
		}
		return r + step + " {\n" + text + "\n}\n"
	}
	fails := func(outcome string) string { return "fail \"" + outcome + "\" {\n when = response.status == 400\n}" }
	const verify = "url = \"https://api.example.com/me\"\nauth \"bearer\" { token = key.api_key }\n"
	const asked = "url = \"https://api.example.com/keys/${urlencode(key.id)}\"\nproof = \"management\"\n"
	const listed = "url = \"https://api.example.com/keys\"\nitems = response.json.keys\nid = item.id\n"
	for name, tt := range map[string]struct{ text, want string }{ // "": it is right
		"timeout":              {in("create", `timeout = "5m"`), ""},
		"short timeout":        {in("create", `timeout = "1s"`), ""},
		"longer timeout":       {in("create", `timeout = "5m1s"`), "from 1s to 5m"},
		"shorter timeout":      {in("create", `timeout = "999ms"`), "from 1s to 5m"},
		"no timeout":           {in("create", `timeout = "soon"`), "from 1s to 5m"},
		"create, transient":    {in("create", fails("transient")), ""},
		"create, permanent":    {in("create", fails("permanent")), ""},
		"create, exhausted":    {in("create", fails("exhausted")), ""},
		"create, unknown":      {in("create", fails("unknown")), ""},
		"create, rejected":     {in("create", fails("rejected")), "cannot fail as"},
		"create, alive":        {in("create", fails("alive")), "cannot fail as"},
		"create, odd":          {in("create", fails("odd")), "cannot fail as"},
		"retire, unknown":      {in("retire", fails("unknown")), ""},
		"retire, exhausted":    {in("retire", fails("exhausted")), "cannot fail as"},
		"verify, rejected":     {in("verify", verify+fails("rejected")), ""},
		"verify, unknown":      {in("verify", verify+fails("unknown")), "cannot fail as"},
		"verify, exhausted":    {in("verify", verify+fails("exhausted")), "cannot fail as"},
		"verify by use":        {in("verify", verify+`proof = "use"`), ""},
		"verify by management": {in("verify", asked), ""},
		"verify by nothing":    {in("verify", verify+`proof = "none"`), "proof must be"},
		"verify by no text":    {in("verify", verify+`proof = 1`), "proof must be"},
		"a computed output":    {strings.Replace(minimal("{}"), "{ api_key =", "{ (now) =", 1), "the name of an output"},
		"an output with a template": {strings.Replace(minimal("{}"), "{ api_key =", `{ "a${now}" =`, 1),
			"the name of an output"},
		"an output in quotes": {strings.Replace(minimal("{}"), "{ api_key =", "{ \"api_key\" =", 1), ""},
		"an output named id":  {strings.Replace(minimal("{}"), "{ api_key =", "{ id =", 1), "the name of an output"},
		"an output in capitals": {strings.Replace(minimal("{}"), "{ api_key =", "{ Key =", 1),
			"the name of an output"},
		"a step in brackets":     {strings.Replace(minimal("{}"), "response.json.key", `response["json"]["key"]`, 1), ""},
		"list":                   {in("list", listed), ""},
		"list, when it was used": {in("list", listed+"last_used = item.used\n"), ""},
		"statuses":               {in("retire", "expect {\n status = [200, 299]\n}"), ""},
		"no statuses":            {in("retire", "expect {\n status = []\n}"), "status"},
		"signs, as many as may":  {minimal(strings.Repeat("!", maxUnary) + "true"), ""},
		"more signs":             {minimal(strings.Repeat("!", maxUnary+1) + "true"), "in a row"},
	} {
		r, err := parse("x.hcl", []byte(tt.text))
		if tt.want != "" {
			if !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Message(err), tt.want) {
				t.Errorf("%s: %v, want %q", name, err, tt.want)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		wantProof := rotate.ProofNone
		if strings.HasPrefix(name, "verify") {
			wantProof = rotate.ProofUse
		}
		if name == "verify by management" {
			wantProof = rotate.ProofManagement
		}
		can := r.def.Can
		if can.Proof != wantProof || can.List != strings.HasPrefix(name, "list") ||
			can.LastUsed != (name == "list, when it was used") || can.Label || can.Disable {
			t.Errorf("%s: it can %+v", name, can)
		}
		if want := map[string]time.Duration{"timeout": 5 * time.Minute,
			"short timeout": time.Second}[name]; want != 0 && can.Timeout != want || want == 0 &&
			can.Timeout != 30*time.Second {
			t.Errorf("%s: creating takes %s at most", name, can.Timeout)
		}
	}
}

// TestActs: a parameter acts if what makes or ends a key refers to it, and to none other of its
// name.
func TestActs(t *testing.T) {
	text := strings.Replace(minimal(`{ a = param.made, b = admin.site, c = param["listed"] }`), "create {", `admin "site" { description = "d" }
param "site" { description = "d" }
param "made" { description = "d" }
param "listed" { description = "d" }
param "ended" { description = "d" }
create {`, 1)
	text = strings.Replace(text, "${urlencode(key.id)}", "${urlencode(key.id)}/${param.ended}", 1)
	r, err := parse("x", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range r.def.Params {
		if want := f.Name != "site"; f.Acts != want {
			t.Errorf("param %s acts: %v, want %v", f.Name, f.Acts, want)
		}
	}
}

// FuzzParse looks for texts that crash the parser, and for right ones that cannot be parsed again.
func FuzzParse(f *testing.F) {
	f.Add([]byte(minimal("{}")))
	for _, pattern := range []string{"testdata/bad/*.hcl", "../../../../recipes/*.hcl"} {
		files, _ := filepath.Glob(pattern)
		for _, file := range files {
			source, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(source)
		}
	}
	f.Fuzz(func(t *testing.T, source []byte) {
		r, err := parse("x.hcl", source)
		if err != nil {
			if k := fault.KindOf(err); k != fault.Invalid && k != fault.Unsupported || fault.Message(err) == "" {
				t.Fatalf("kind %v: %v", k, err)
			}
			return
		}
		if r.create == nil || r.retire == nil || len(r.def.Outputs) == 0 || r.def.Can.Retry == "" {
			t.Fatalf("parsed, but incomplete: %+v", r.def)
		}
	})
}

// TestLimitsAreExact: a recipe may have as much as the limits say, and no more.
func TestLimitsAreExact(t *testing.T) {
	times := strings.Repeat
	for _, c := range []struct{ text, want string }{
		{times("(", maxNesting), ""},
		{times("[", maxNesting+1), "Nested too deeply"},
		{times(`"${`, maxNesting/2), ""},
		{times(`"${`, maxNesting/2) + "(", "Nested too deeply"},
		{times("()", 100) + times("[]", 100) + times("{}", 100) + times(`"a" `, 100) + times(`"${1}" `, 100), ""},
		{times("!", maxUnary), ""},
		{times("!", maxUnary+1), "in a row"},
		{times("-1 ", 2*maxUnary), ""},
		{times("?", maxChoices), ""},
		{times("?", maxChoices+1), "conditions with ?"},
		{`"` + times("${1}", maxPieces) + `"`, ""},
		{`"` + times("${1}", maxPieces+1) + `"`, "lines, escapes and templates"},
		{`"${"` + times("${1}", 300) + `"}` + times("${1}", 300) + `"`, ""}, // each text for itself
		{times("a ", maxTokens-1), ""},
		{times("a ", maxTokens), "tokens"},
		{times("/* ", maxOpen) + "*/ " + times("/* ", maxOpen), ""},
		{"a */ " + times("/* ", maxOpen+1), "close it"},
	} {
		why := ""
		for _, d := range checkSize([]byte(c.text), "x") {
			if d.Summary == "Too large an expression" || d.Summary == "Comment without an end" {
				why = d.Detail
			}
		}
		if (why == "") != (c.want == "") || !strings.Contains(why, c.want) {
			t.Errorf("%.20s… of %d bytes: %q, want %q", c.text, len(c.text), why, c.want)
		}
	}
	for _, c := range []struct {
		json string
		fine bool
	}{
		{"[" + times("1,", maxNodes-1) + "]", true}, {"[" + times("1,", maxNodes) + "]", false},
		{"[" + times("now,", maxNames) + "]", true}, {"[" + times("now,", maxNames+1) + "]", false},
		{"[" + times("[for a in [1] : a],", maxLoops+1) + "]", true}, // one after the other
		{`[1 + tonumber("2")]`, true}, {`[1 + "2"]`, false}, {`["2" + 1]`, false}, {`[-"2"]`, false},
	} {
		_, err := parse("x.hcl", []byte(minimal(c.json)))
		if (err == nil) != c.fine {
			t.Errorf("%.30s… of %d bytes: %v", c.json, len(c.json), err)
		}
	}
	_, err := parse("x.hcl", []byte(minimal("["+times("now,", maxNames+10)+"]")))
	if n := strings.Count(fault.Message(err), "more than 64 times"); n != 1 {
		t.Errorf("one expression is complained of %d times: %v", n, err)
	}
}
