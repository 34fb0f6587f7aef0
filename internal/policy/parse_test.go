package policy_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/policy"
)

func TestParseRefuses(t *testing.T) {
	for text, want := range map[string]string{
		`path "x" { capabilities = ["fly"] }`:                                                     `line 1: path "x": unknown capability "fly"`,
		"path \"x\" {\n capabilities = [\"read\"]\n colour = 1 }":                                 `line 3: path "x": unknown key "colour"`,
		`path "x" { capabilities = "read" }`:                                                      "capabilities must be a list",
		`path "x" { capabilities = [["read"]] }`:                                                  "capabilities must be a list",
		"path \"x\" {\n":                                                                          "line 2: ",
		`paths "x" {}`:                                                                            `unknown key "paths"`,
		`path = "x"`:                                                                              "path needs a name",
		`path "x" "y" {}`:                                                                         "path takes one name",
		`{"path": {"x": 1}}`:                                                                      "want a block",
		`name { a = 1 }`:                                                                          "name must be a text",
		`path "" { capabilities = ["read"] }`:                                                     "the path is empty",
		`path "/" { capabilities = ["read"] }`:                                                    "the path is empty",
		`path "a*b" { capabilities = ["read"] }`:                                                  "at the end only",
		`path "*b" { capabilities = ["read"] }`:                                                   "at the end only",
		`path "a/../b*" { capabilities = ["deny"] }`:                                              "dot segment",
		`path "a/b+" { capabilities = ["read"] }`:                                                 "one whole segment",
		`path "a//b" { capabilities = ["deny"] }`:                                                 "empty segment",
		`path "a/../b" { capabilities = ["deny"] }`:                                               "dot segment",
		`path "a/.." { capabilities = ["deny"] }`:                                                 "dot segment",
		`path "a\u0001" { capabilities = ["deny"] }`:                                              "control characters",
		`path "a/{{identity.entity.id}}/*" { capabilities = ["read"] }`:                           "templates such as {{identity.entity.id}} are not implemented yet",
		`path "x" { capabilities = ["read"] capabilities = ["deny"] }`:                            "",
		"path \"x\" { capabilities = [\"read\"]\n capabilities = [\"deny\"] }":                    "at 2:2 was already set",
		"path \"x\" {\n allowed_parameters { a = [] }\n allowed_parameters { b = [] } }":          `line 3: path "x": "allowed_parameters" is given twice`,
		`path "x" { allowed_parameters "a" { b = [] } }`:                                          "takes no name",
		`path "x" { policy = "everything" }`:                                                      `policy must be "read", "write", "sudo" or "deny"`,
		`path "x" { min_wrapping_ttl = "2h"` + "\n" + `max_wrapping_ttl = "1h" }`:                 "must not be above",
		`path "x" { max_wrapping_ttl = "1h"` + "\n" + `min_wrapping_ttl = "2h" }`:                 "must not be above",
		`path "x" { min_wrapping_ttl = "soon" }`:                                                  "min_wrapping_ttl must be a duration",
		`path "x" { min_wrapping_ttl = -5 }`:                                                      "min_wrapping_ttl must be a duration",
		`path "x" { allowed_parameters = { "a" = "b" } }`:                                         "must be a list",
		`path "x" { allowed_parameters = ["a"] }`:                                                 "must be a block of lists",
		`path "x" { allowed_parameters = { "a" = [{ b = 1 }] } }`:                                 "values are texts",
		`path "x" { allowed_parameters = { "*" = ["b"] } }`:                                       `"*" can only be []`,
		"path \"x\" { denied_parameters = { \"a\" = []\n \"A\" = [1] } }":                         "is given twice",
		`path "x" { required_parameters = "a" }`:                                                  "required_parameters must be a list",
		`path "secret/+*" { capabilities = ["read"] }`:                                            `path "secret/+*": +* at the end is refused`,
		`path "+*" { capabilities = ["read"] }`:                                                   `path "+*": +* at the end is refused`,
		`path "x" { expiration = "1h" }`:                                                          "expiration is not built",
		`"just a string"`:                                                                         "",
		"{\"path\":\n {\"a\": {\n\"capabilities\": [\"rea\"]}}}":                                  `line 3: path "a": unknown capability "rea"`,
		"{\"path\": {\"a\": {\"capabilities\": [\"read\"],\n\"capabilities\": [\"deny\"]}}}":      `line 2: the key "capabilities" is given twice`,
		`{"path": {"a": {"capabilities": ["read"]}, "\u0061": {"capabilities": ["deny"]}}}`:       `the key "a" is given twice`,
		`{"path": {}} {"path": {}}`:                                                               "something follows",
		"{\"path\":\n{\"a\": }}":                                                                  "line 2: it is not valid",
		`[]`:                                                                                      "",
		strings.Repeat("a {", 17):                                                                 "deeper than 16",
		"\n a = " + strings.Repeat("[", 1<<19):                                                    "line 2: it nests deeper than 16",
		`{"a":` + strings.Repeat(`[`, 1<<19):                                                      "deeper than 16",
		strings.Repeat(`{"a":`, 1<<17):                                                            "deeper than 16",
		strings.Repeat("a {", 1<<18):                                                              "deeper than 16",
		strings.Repeat("# long\n", 1<<18):                                                         "longer than 1048576 bytes",
		strings.Repeat("path \"x\" { capabilities = [\"fly\"] }\n", 1000):                         "and 980 more",
		`path "x" { ` + strings.Repeat("k", 1<<19) + ` = 1 }`:                                     "unknown key",
		strings.Repeat("k", 1<<19):                                                                "…",
		`path "` + strings.Repeat("k", 1<<19) + `+" { capabilities = ["` + strings.Repeat("k", 9): "",
	} {
		_, err := policy.Parse("p", text)
		if !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Message(err), want) {
			t.Errorf("Parse(%.200s) = %.300v, want it to say %q", text, err, want)
		}
		if n := len(fault.Message(err)); n > 64<<10 {
			t.Errorf("Parse(%.200s): the message has %d bytes", text, n)
		}
		if m := fault.Message(err); !strings.HasPrefix(m, `field "policy": `) {
			t.Errorf("Parse(%.200s): the message %.100q does not name the field", text, m)
		}
	}
}

// TestForms: the HCL and JSON forms of a text are equivalent.
func TestForms(t *testing.T) {
	hcl := `
name = "both"
path "a/*" {
  capabilities = ["read", "list"]
}
path "/a/b" {
  capabilities        = ["update"]
  allowed_parameters  = { "x" = ["y", 1, 1.5, true, ["p", "q"]], "z" = [] }
  required_parameters = ["x"]
  min_wrapping_ttl    = 60
  max_wrapping_ttl    = "1h"
}
path "a/+/c*" { policy = "write" }`
	for _, json := range []string{
		`{"name": "both", "path": {"a/*": {"capabilities": ["read", "list"]}, "/a/b": {"capabilities": ["update"],
			"allowed_parameters": {"x": ["y", 1, 1.5, true, ["p", "q"]], "z": []}, "required_parameters": ["x"], "min_wrapping_ttl": 60,
			"max_wrapping_ttl": "1h"}, "a/+/c*": {"policy": "write"}}}`,
		`{"path": [{"a/*": {"capabilities": ["read", "list"]}}, {"/a/b": [{"capabilities": ["update"],
			"allowed_parameters": [{"x": ["y", 1, 1.5, true, ["p", "q"]], "z": []}], "required_parameters": ["x"], "min_wrapping_ttl": "1m",
			"max_wrapping_ttl": 3600}]}, {"a/+/c*": {"policy": "write"}}]}`,
	} {
		a, b := set(t, hcl), set(t, json)
		if diff := cmp.Diff(a.Resultant(), b.Resultant()); diff != "" {
			t.Errorf("HCL and JSON differ:\n%s", diff)
		}
		for _, body := range []string{
			`{"x":"y"}`, `{"x":1}`, `{"x":1.5}`, `{"x":true}`, `{"x":["p","q"]}`, `{"x":"y","z":9}`, `{"z":9}`,
			`{"x":"n"}`, `{"x":"y","o":1}`,
		} {
			q := policy.Query{Path: "a/b", Op: policy.Update, Body: []byte(body), WrapTTL: time.Minute}
			if x, y := a.Decide(q), b.Decide(q); x.Allowed != y.Allowed {
				t.Errorf("%s: HCL says %+v, JSON %+v", body, x, y)
			}
		}
	}
	one := set(t, `{"path": {"a": {"capabilities": ["update"], "denied_parameters": {"x": ["y"]}}}}`)
	if one.Decide(policy.Query{Path: "a", Op: policy.Update, Body: []byte(`{"x":"y"}`)}).Allowed {
		t.Error("JSON: a block of one parameter was not read")
	}
}

// TestShorthands checks the deprecated form of one word.
func TestShorthands(t *testing.T) {
	s := set(t, `path "r" { policy = "read" }
path "w" { policy = "write" }
path "s" { policy = "sudo" }
path "d" { policy = "deny" }`)
	for path, want := range map[string][]string{
		"r": {"list", "read"}, "w": {"create", "delete", "list", "patch", "read", "update"},
		"s": {"create", "delete", "list", "patch", "read", "sudo", "update"}, "d": {"deny"},
	} {
		if diff := cmp.Diff(want, s.Capabilities(path)); diff != "" {
			t.Errorf("%s:\n%s", path, diff)
		}
	}
}

// TestForeignCapabilities: Vault's capabilities that do not exist here are shown, but allow
// nothing.
func TestForeignCapabilities(t *testing.T) {
	s := set(t, path("a", "subscribe", "recover"))
	if got, want := s.Capabilities("a"), []string{"recover", "subscribe"}; !cmp.Equal(got, want) {
		t.Errorf("capabilities = %v, want %v", got, want)
	}
	for _, op := range []policy.Operation{
		policy.Create, policy.Read, policy.Update, policy.Patch, policy.Delete, policy.List,
	} {
		if s.Decide(policy.Query{Path: "a", Op: op}).Allowed {
			t.Errorf("operation %d is allowed", op)
		}
	}
}

// TestHugeTexts: parsing and compiling a text of the maximum length takes limited time. 40 s would
// be a denial of service.
func TestHugeTexts(t *testing.T) {
	for name, block := range map[string]string{
		"one path": "path \"a\" {}\n",
		"one path, caps": "path \"a\" { capabilities = [\"read\"]\n required_parameters = [\"x\"]\n " +
			"allowed_parameters = { x = [\"y\"] } }\n",
		"one glob": "path \"a/+/*\" { capabilities = [\"deny\"] }\n",
	} {
		text := strings.Repeat(block, (1<<20)/len(block))
		start := time.Now()
		set(t, text)
		if took := time.Since(start); took > 20*time.Second {
			t.Errorf("%s: it took %v", name, took)
		}
	}
	var many strings.Builder
	for i := 0; many.Len() < 1<<20-100; i++ {
		fmt.Fprintf(&many, "path \"a%d/*\" { capabilities = [\"read\"] }\n", i)
	}
	set(t, many.String())
}

func FuzzParse(f *testing.F) {
	f.Add(policy.DefaultText)
	f.Add(`{"path":{"a":{"capabilities":["read"]}}}`)
	f.Add(`{"path":[{"a/+/b*":{"policy":"write","allowed_parameters":{"x":[[1]]}}}]}`)
	f.Add(`path "x" { allowed_parameters = { "a" = [1, "b"] } min_wrapping_ttl = 5 }`)
	f.Add(`path "x/+/*" { capabilities = ["deny", "list"] } path "X" { capabilities = ["deny"] }`)
	f.Add("path <<E\na\nE\n {}")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := policy.Parse("p", text)
		if err != nil {
			if !fault.Is(err, fault.Invalid) || fault.Message(err) == "" {
				t.Fatalf("an error without words: %v", err)
			}
			return
		}
		s := policy.Compile([]*policy.Policy{p, p})
		for _, path := range []string{"", "a", "a/b", "a/", "A/b/c/"} {
			s.Decide(policy.Query{Path: path, Op: policy.Update, Body: []byte(`{"a":1,"b":["x",null],"c":{}}`)})
			s.Decide(policy.Query{Path: path, Op: policy.List})
			s.Capabilities(path)
			s.Touches(path)
		}
		s.Resultant()
	})
}
