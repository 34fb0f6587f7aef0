package policy_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/internal/policy"
)

// bodies checks each body against the rule for the path "a".
func bodies(t *testing.T, s *policy.Set, want map[string]bool) {
	t.Helper()
	for body, ok := range want {
		for _, op := range []policy.Operation{policy.Create, policy.Update, policy.Patch} {
			if got := s.Decide(policy.Query{Path: "a", Op: op, Body: []byte(body)}); got.Allowed != ok {
				t.Errorf("%s: allowed %v (%s), want %v", body, got.Allowed, got.Why, ok)
			}
		}
	}
}

// with returns a rule for "a" with further attributes.
func with(attributes string) string {
	return "path \"a\" {\n capabilities = [\"create\", \"update\", \"patch\", \"read\"]\n" + attributes + "\n}\n"
}

func TestParameters(t *testing.T) {
	s := set(t, with(`required_parameters = ["name"]
  allowed_parameters = { "name" = [], "ttl" = ["1h", "2h*"], "n" = [5, 2.5, 1000000], "flag" = [true], "list" = [["x", "y"]] }
  denied_parameters = { "bad" = [], "name" = ["evil*"] }`))
	bodies(t, s, map[string]bool{
		`{"name":"x"}`: true, `{}`: false, ``: false, `{"ttl":"1h"}`: false, `{"name":"x","ttl":"1h"}`: true,
		`{"name":"x","ttl":"2h30m"}`: true,
		`{"name":"x","ttl":"3h"}`:    false, `{"name":"x","other":1}`: false, `{"name":"evil one"}`: false,
		`{"name":"x","bad":1}`: false,
		`{"name":"x","n":5}`:   true, `{"name":"x","n":6}`: false, `{"name":"x","n":"5"}`: true,
		`{"name":"x","n":5.0}`: true, `{"name":"x","n":2.5}`: true,
		`{"name":"x","n":1e6}`: true, `{"name":"x","n":1000000}`: true, `{"name":"x","n":1e400}`: false,
		`{"name":"x","flag":true}`:   true,
		`{"name":"x","flag":"true"}`: true, `{"name":"x","flag":false}`: false, `{"name":"x","list":["x","y"]}`: true,
		`{"name":"x","list":["x"]}`: false,
		`{"name":"x","ttl":null}`:   false, `{"name":"x","ttl":{}}`: false, `{"name":"x","ttl":[]}`: false,
		`{"name":{"a":1}}`:     true,
		`{"name":null}`:        false, // engines leave alone what is null
		`{"NAME":"x"}`:         false, // the engine would not take it for name
		`{"name":"x","Bad":1}`: false, `{"name":"x","NAME":"evil"}`: false,
		`{"name":"evil","name":"x"}`: false, `{"name":"x","name":"evil"}`: false,
		`{"name":"x","ttl":"9h","ttl":"1h"}`: false,
		`[]`:                                 false, `"name"`: false,
	})
	if !s.Decide(policy.Query{Path: "a", Op: policy.Read}).Allowed {
		t.Error("a read was asked for parameters")
	}
	// What no rule can name is no value that a pattern allows.
	bodies(t, set(t, with(`allowed_parameters = { "x" = ["*"] }`)), map[string]bool{
		`{"x":"y"}`: true, `{"x":-5}`: true, `{"x":["y",1]}`: true, `{"x":{"y":1}}`: false, `{"x":[{}]}`: false,
		`{"x":null}`: false,
	})
}

// The examples of Vault's documentation, and what their words imply.
func TestDocumentedParameters(t *testing.T) {
	bodies(t, set(t, with(`allowed_parameters = { "bar" = ["zip", "zap"] }`)), map[string]bool{
		`{"bar":"zip"}`: true, `{"bar":"no"}`: false, `{"foo":1}`: false, `{}`: true, ``: true,
	})
	bodies(t, set(t, with(`allowed_parameters = { "bar" = ["zip", "zap"], "*" = [] }`)), map[string]bool{
		`{"bar":"zip","foo":{"x":1}}`: true, `{"bar":"no"}`: false,
	})
	bodies(t, set(t, with(`denied_parameters = { "*" = [] }`)),
		map[string]bool{`{"x":1}`: false, `{}`: true, ``: true})
	bodies(t, set(t, with(`denied_parameters = { "token_policies" = [], "policies" = [] }`)),
		map[string]bool{`{"policies":["a"]}`: false, `{"password":"x"}`: true})
	bodies(t, set(t, with(`denied_parameters = { "no_store" = [false, "false"] }`)),
		map[string]bool{`{"no_store":false}`: false, `{"no_store":true}`: true, `{}`: true})
	bodies(t, set(t, with(`required_parameters = ["no_store"]
 denied_parameters = { "no_store" = [false, "false"] }`)), map[string]bool{`{"value":"bar"}`: false, `{"no_store":true}`: true, `{"no_store":null}`: false, `{"no_store": null }`: false,
		// What engines take for false.
		`{"no_store":0}`: false, `{"no_store":"0"}`: false, `{"no_store":"F"}`: false, `{"no_store":"False"}`: false,
		`{"no_store":""}`: false, `{"no_store":" "}`: false, `{"no_store":1}`: true, `{"no_store":"t"}`: true,
	})
	bodies(t, set(t, with(`allowed_parameters = { "bar" = ["baz/*"] }`)), map[string]bool{
		`{"bar":"baz/quux"}`: true, `{"bar":"baz/quux,wibble,wobble"}`: true, `{"bar":"x"}`: false,
	})
	// Lists, as since 1.21: as a whole or each element, and with commas.
	bodies(t, set(t, with(`allowed_parameters = { "x" = ["A", "B"] }`)), map[string]bool{
		`{"x":"A"}`: true, `{"x":"B"}`: true, `{"x":["A","B"]}`: true, `{"x":["B","A"]}`: true, `{"x":["A"]}`: true,
		`{"x":"A,B"}`: true, `{"x":"B, A"}`: true,
		`{"x":["A","C"]}`: false, `{"x":"A,C"}`: false, `{"x":[]}`: false, `{"x":""}`: false,
		`{"x":["A",null]}`: false, `{"x":["A",["B"]]}`: false,
	})
	bodies(t, set(t, with(`denied_parameters = { "x" = ["C", ["D", "E"]] }`)), map[string]bool{
		`{"x":"A"}`: true, `{"x":["A","B"]}`: true, `{"x":"C"}`: false, `{"x":["A","C"]}`: false, `{"x":"A,C"}`: false,
		`{"x":["D","E"]}`: false,
		`{"x":["D"]}`:     true, `{"x":["C",null]}`: false, `{"x":["C",{}]}`: false, `{"x":null}`: true,
		`{"x":{}}`: true,
	})
	bodies(t, set(t, with(`denied_parameters = { "x" = ["*"] }`)),
		map[string]bool{`{"x":{}}`: false, `{"x":null}`: false, `{"x":""}`: false, `{"y":1}`: true})
	bodies(t, set(t, with(`allowed_parameters = { "x" = ["*mid*", "*end"] }`)), map[string]bool{
		`{"x":"a mid b"}`: true, `{"x":"the end"}`: true, `{"x":"end of"}`: false,
	})
	bodies(t, set(t, with(`allowed_parameters = {}`)), map[string]bool{`{"x":1}`: true})
}

// TestDeniedValueInAnotherCase: a name that an engine folds must not bypass a denied value, as it
// did in Vault before 2.1.2.
func TestDeniedValueInAnotherCase(t *testing.T) {
	bodies(t, set(t, with(`denied_parameters = { "policies" = ["Admin", "root*"] }`)), map[string]bool{
		`{"policies":["ADMIN"]}`: false, `{"policies":"admin"}`: false, `{"policies":[" admin "]}`: false,
		`{"policies":"x, ADMIN"}`:   false,
		`{"policies":["Rootlike"]}`: false, `{"Policies":["admin"]}`: false, `{"policies":["adm"]}`: true,
	})
}

// TestMerge: rules of several policies for one path are merged.
func TestMerge(t *testing.T) {
	s := set(t, `path "a" { capabilities = ["update"]
 allowed_parameters = { "x" = ["1"], "y" = [] }
 denied_parameters = { "d" = ["1"] }
 required_parameters = ["x"] }`, `path "a" { capabilities = ["create", "patch"]
 allowed_parameters = { "x" = ["2"], "y" = ["1"], "z" = ["1"], "d" = [] }
 denied_parameters = { "d" = ["2"], "e" = [] }
 required_parameters = ["z"] }`, path("a", "read"))
	bodies(t, s, map[string]bool{
		`{"x":"1","z":"1"}`: true, `{"x":"2","z":"1"}`: true, `{"x":"3","z":"1"}`: false, `{"x":"1","z":"2"}`: false,
		`{"x":"1"}`: false, `{"z":"1"}`: false,
		`{"x":"1","z":"1","y":"any"}`: true, `{"x":"1","z":"1","d":"1"}`: false, `{"x":"1","z":"1","d":"2"}`: false,
		`{"x":"1","z":"1","d":"3"}`: true,
		`{"x":"1","z":"1","e":"3"}`: false, `{"x":"1","z":"1","o":"3"}`: false,
	})
	if got, want := s.Decide(policy.Query{Path: "a", Op: policy.Read}).Granting, []string{
		"p0", "p1", "p2",
	}; !cmp.Equal(got, want) {
		t.Errorf("granting policies = %v, want %v", got, want)
	}
	if got, want := s.Capabilities("a"), []string{"create", "patch", "read", "update"}; !cmp.Equal(got, want) {
		t.Errorf("capabilities = %v, want %v", got, want)
	}
	s = set(t, with(`denied_parameters = { "d" = ["1"] }`), with(`denied_parameters = { "d" = [] }`))
	bodies(t, s, map[string]bool{`{"d":"7"}`: false})
}

func TestWrapping(t *testing.T) {
	try := func(s *policy.Set, want map[time.Duration]bool) {
		t.Helper()
		for ttl, ok := range want {
			if got := s.Decide(policy.Query{Path: "a", Op: policy.Read, WrapTTL: ttl}); got.Allowed != ok {
				t.Errorf("wrapped for %v: %+v, want %v", ttl, got, ok)
			} else if ok && !got.Wrapped {
				t.Errorf("wrapped for %v: %+v, want it to demand that", ttl, got)
			}
		}
		if !s.Wraps("a") || s.Wraps("b") {
			t.Errorf("a demands a wrapped answer: %v; b, for which there is no rule: %v", s.Wraps("a"), s.Wraps("b"))
		}
	}
	both := with("min_wrapping_ttl = \"1m\"\n max_wrapping_ttl = \"1h\"")
	try(set(t, both),
		map[time.Duration]bool{0: false, time.Second: false, time.Minute: true, time.Hour: true, 2 * time.Hour: false})
	try(set(t, with(`min_wrapping_ttl = 1`)),
		map[time.Duration]bool{0: false, time.Second: true, 1000 * time.Hour: true})
	try(set(t, with(`max_wrapping_ttl = "90s"`)),
		map[time.Duration]bool{0: false, time.Second: true, 91 * time.Second: false})
	// Of several the lowest holds, as is documented.
	try(set(t, both, with("min_wrapping_ttl = \"10s\"\n max_wrapping_ttl = \"2h\"")), map[time.Duration]bool{
		0: false, 9 * time.Second: false, 10 * time.Second: true, time.Hour: true, time.Hour + 1: false,
	})
	try(set(t, both, with("")), map[time.Duration]bool{0: false, time.Minute: true})
	try(set(t, with("min_wrapping_ttl = \"1h\"\n max_wrapping_ttl = \"1h\"")),
		map[time.Duration]bool{time.Hour - 1: false, time.Hour: true, time.Hour + 1: false})
	root := policy.Compile([]*policy.Policy{policy.RootPolicy()})
	for name, s := range map[string]*policy.Set{"a rule without bounds": set(t, with("")), "root": root} {
		if got := s.Decide(policy.Query{Path: "a", Op: policy.Read}); !got.Allowed || got.Wrapped || s.Wraps("a") {
			t.Errorf("%s: %+v, %v", name, got, s.Wraps("a"))
		}
	}
}

// TestSharedPolicies: policies are immutable, so sets that share them may be compiled and used
// concurrently.
func TestSharedPolicies(t *testing.T) {
	var ps []*policy.Policy
	for _, text := range []string{with(`allowed_parameters = { "x" = ["1", "2", "3"] }`), with(
		`allowed_parameters = { "x" = ["4"] }`), with(`allowed_parameters = { "x" = ["5"] }`)} {
		p, err := policy.Parse("p", text)
		if err != nil {
			t.Fatal(err)
		}
		ps = append(ps, p)
	}
	var wg sync.WaitGroup
	for range 8 {
		for _, own := range []string{"4", "5"} {
			wg.Go(func() {
				with, without := ps[1], `{"x":"5"}`
				if own == "5" {
					with, without = ps[2], `{"x":"4"}`
				}
				s := policy.Compile([]*policy.Policy{ps[0], with})
				if !s.Decide(policy.Query{Path: "a", Op: policy.Update, Body: []byte(`{"x":"` + own + `"}`)}).Allowed {
					t.Errorf("%s is denied", own)
				}
				if s.Decide(policy.Query{Path: "a", Op: policy.Update, Body: []byte(without)}).Allowed {
					t.Errorf("%s is allowed: sets share values", without)
				}
			})
		}
	}
	wg.Wait()
}

func TestResultant(t *testing.T) {
	s := set(t,
		path("a", "read", "list")+path("b/*", "update")+path("c/+/d", "read")+path("c/+/d*", "deny")+`path "none" {}`)
	caps := func(c ...string) policy.Caps { return policy.Caps{Capabilities: c} }
	want := policy.Resultant{
		Exact: map[string]policy.Caps{"a": caps("list", "read"), "none": caps("deny")},
		Glob:  map[string]policy.Caps{"b/": caps("update"), "c/+/d": caps("read"), "c/+/d*": caps("deny")},
	}
	if diff := cmp.Diff(want, s.Resultant()); diff != "" {
		t.Errorf("resultant:\n%s", diff)
	}
	if !policy.Compile([]*policy.Policy{policy.RootPolicy()}).Resultant().Root {
		t.Error("root is not shown as root")
	}
}

func TestTouches(t *testing.T) {
	for text, want := range map[string]string{
		path("secret/data/x", "read"): "secret/", path("secret", "list"): "secret/",
		path("secret/*", "read"): "secret/", path("sec*", "read"): "secret/",
		path("+/x", "read"): "secret/ other/", path("secret/*", "deny"): "", `path "secret/x" {}`: "", "": "",
		path("*", "read"):         "secret/ other/",
		path("other/+/x", "read"): "other/", path("secretary/*", "read"): "",
	} {
		s := set(t, text)
		for _, prefix := range []string{"secret/", "other/"} {
			if got := s.Touches(prefix); got != strings.Contains(want, prefix) {
				t.Errorf("%s touches %s: %v", text, prefix, got)
			}
		}
	}
}

func TestRoot(t *testing.T) {
	s := policy.Compile([]*policy.Policy{policy.RootPolicy()})
	d := s.Decide(policy.Query{Path: "sys/raw/x", Op: policy.Delete, Sudo: true})
	if !d.Allowed || !cmp.Equal(d.Granting, []string{"root"}) {
		t.Errorf("root: %+v", d)
	}
	if got := s.Capabilities("x"); !cmp.Equal(got, []string{"root"}) {
		t.Errorf("capabilities of root = %v", got)
	}
	none := policy.Compile(nil)
	if none.Decide(policy.Query{Path: "x", Op: policy.Read}).Allowed ||
		!cmp.Equal(none.Capabilities("x"), []string{"deny"}) {
		t.Error("no policies allow something")
	}
}
