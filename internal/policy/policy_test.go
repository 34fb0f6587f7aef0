package policy_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/policy"
)

func set(t testing.TB, texts ...string) *policy.Set {
	t.Helper()
	var ps []*policy.Policy
	for i, text := range texts {
		p, err := policy.Parse(fmt.Sprintf("p%d", i), text)
		if err != nil {
			t.Fatal(err)
		}
		ps = append(ps, p)
	}
	return policy.Compile(ps)
}

func path(p string, caps ...string) string {
	return fmt.Sprintf("path %q { capabilities = [%s] }\n", p, `"`+strings.Join(caps, `", "`)+`"`)
}

// The order in which rules decide, each line one step of the documented order.
func TestPrecedence(t *testing.T) {
	for _, tt := range []struct {
		name, winner, loser, query string
	}{
		{"exact over glob", "secret/foo", "secret/*", "secret/foo"},
		{"exact over plus", "secret/foo", "secret/+", "secret/foo"},
		{"later first wildcard", "secret/foo/+", "secret/+/bar", "secret/foo/bar"},
		{"later glob", "secret/foo*", "secret/*", "secret/foobar"},
		{"without a glob at the end", "secret/+/bar", "secret/+/*", "secret/foo/bar"},
		{"fewer plus", "secret/+/b/c*", "secret/+/+/c*", "secret/a/b/c"},
		{"longer", "secret/+/foo*", "secret/+/fo*", "secret/a/foo"},
		{"fewer plus over longer", "kv/*", "kv/+/team*", "kv/a/team1/x"},
	} {
		s := set(t, path(tt.winner, "read")+path(tt.loser, "deny"))
		if !s.Decide(policy.Query{Path: tt.query, Op: policy.Read}).Allowed {
			t.Errorf("%s: %q allows and %q denies %q: denied", tt.name, tt.winner, tt.loser, tt.query)
		}
		s = set(t, path(tt.winner, "deny")+path(tt.loser, "read"))
		if s.Decide(policy.Query{Path: tt.query, Op: policy.Read}).Allowed {
			t.Errorf("%s: %q denies and %q allows %q: allowed", tt.name, tt.winner, tt.loser, tt.query)
		}
	}
}

func TestMatching(t *testing.T) {
	for _, tt := range []struct {
		pattern, query string
		want           bool
	}{
		{"a/b", "a/b", true}, {"a/b", "a/b/c", false}, {"a/b", "a", false}, {"a/*", "a/", true}, {"a/*", "a", false}, {"a/*", "a/b/c", true},
		{"a*", "abc/d", true}, {"*", "anything/at/all", true}, {"+", "a", true}, {"+", "a/b", false}, {"+/b", "a/b", true}, {"a/+/c", "a/b/c", true},
		{"a/+/c", "a/b/d", false}, {"a/+/c", "a/c", false}, {"a/+/c", "a/b/c/d", false}, {"a/+/c*", "a/b/cd/e", true}, {"a/+/*", "a/b/c", true},
		{"a/+/*", "a/b", false}, {"+/+", "a/b", true}, {"a/+", "a/", false},
	} {
		s := set(t, path(tt.pattern, "read"))
		if got := s.Decide(policy.Query{Path: tt.query, Op: policy.Read}).Allowed; got != tt.want {
			t.Errorf("%q matches %q: %v, want %v", tt.pattern, tt.query, got, tt.want)
		}
	}
}

func TestDenyWinsAcrossPolicies(t *testing.T) {
	s := set(t, path("a", "read", "update"), path("a", "deny"))
	if s.Decide(policy.Query{Path: "a", Op: policy.Read}).Allowed {
		t.Error("deny of one policy did not win over read of another")
	}
	if got := s.Capabilities("a"); !slices.Equal(got, []string{"deny"}) {
		t.Errorf("capabilities = %v, want deny", got)
	}
}

// CVE-2026-63131: a trailing slash on a listing must not step around a deny.
func TestCVE202663131TrailingSlash(t *testing.T) {
	for _, denied := range []string{"secret/metadata/app", "secret/metadata/app/"} {
		s := set(t, path("secret/*", "list")+path(denied, "deny"))
		for _, query := range []string{"secret/metadata/app", "secret/metadata/app/"} {
			if s.Decide(policy.Query{Path: query, Op: policy.List}).Allowed {
				t.Errorf("deny of %q: listing %q is allowed", denied, query)
			}
		}
	}
	s := set(t, path("secret/metadata/app", "list"))
	if !s.Decide(policy.Query{Path: "secret/metadata/app/", Op: policy.List}).Allowed {
		t.Error("a rule without a slash does not allow the listing")
	}
}

// CVE-2026-89322: a path in another case must not step around a deny.
func TestCVE202689322Case(t *testing.T) {
	s := set(t, path("secret/*", "read")+path("secret/Prod/*", "deny"))
	for _, query := range []string{"secret/Prod/x", "secret/prod/x", "secret/PROD/x"} {
		if s.Decide(policy.Query{Path: query, Op: policy.Read}).Allowed {
			t.Errorf("%q is allowed", query)
		}
	}
	if !s.Decide(policy.Query{Path: "secret/other", Op: policy.Read}).Allowed {
		t.Error("secret/other is denied")
	}
	// Allowing is by exact case.
	s = set(t, path("secret/App", "read"))
	if s.Decide(policy.Query{Path: "secret/app", Op: policy.Read}).Allowed {
		t.Error("an allowing rule matched another case")
	}
}

// CVE-2025-5999, CVE-2025-54996, CVE-2025-64761: no name becomes root by
// folding case, by spaces or by look-alikes.
func TestCVE20255999Names(t *testing.T) {
	for _, bad := range []string{"", " root", "root ", "ro\u212Ft", "\u017Fys", "a/b", "../x", ".", "..", "a\x00b", "ROO\u0422", strings.Repeat("a", 129), "root\n"} {
		if got, err := policy.Name(bad); err == nil {
			t.Errorf("Name(%q) = %q", bad, got)
		}
	}
	for in, want := range map[string]string{"Root": "root", "ROOT": "root", "team-A_1.x:y@z": "team-a_1.x:y@z"} {
		if got, err := policy.Name(in); err != nil || got != want {
			t.Errorf("Name(%q) = %q, %v", in, got, err)
		}
	}
}

func TestParameters(t *testing.T) {
	s := set(t, `path "a" {
  capabilities = ["create", "update"]
  required_parameters = ["name"]
  allowed_parameters = { "name" = [], "ttl" = ["1h", "2h*"], "n" = [5], "flag" = [true], "list" = [["x", "y"]] }
  denied_parameters = { "bad" = [], "name" = ["evil*"] }
}`)
	for body, want := range map[string]bool{
		`{"name":"x"}`: true, `{}`: false, ``: false, `{"ttl":"1h"}`: false, `{"name":"x","ttl":"1h"}`: true, `{"name":"x","ttl":"2h30m"}`: true,
		`{"name":"x","ttl":"3h"}`: false, `{"name":"x","other":1}`: false, `{"name":"evil one"}`: false, `{"name":"x","bad":1}`: false,
		`{"NAME":"x"}`: true, `{"Name":"evil"}`: false, `{"name":"x","n":5}`: true, `{"name":"x","n":6}`: false, `{"name":"x","flag":true}`: true,
		`{"name":"x","list":["x","y"]}`: true, `{"name":"x","list":["x"]}`: false,
	} {
		if got := s.Decide(policy.Query{Path: "a", Op: policy.Update, Body: []byte(body)}); got.Allowed != want {
			t.Errorf("%s: allowed %v (%s), want %v", body, got.Allowed, got.Why, want)
		}
	}
	s = set(t, `path "a" { capabilities = ["update"]
 allowed_parameters = { "*" = [] }
 denied_parameters = { "x" = [] } }`)
	if !s.Decide(policy.Query{Path: "a", Op: policy.Update, Body: []byte(`{"y":1}`)}).Allowed || s.Decide(policy.Query{Path: "a", Op: policy.Update, Body: []byte(`{"x":1}`)}).Allowed {
		t.Error("* with a denied name is judged wrongly")
	}
}

func TestWrapping(t *testing.T) {
	s := set(t, `path "a" { capabilities = ["read"]
 min_wrapping_ttl = "1m"
 max_wrapping_ttl = "1h" }`)
	for ttl, want := range map[time.Duration]bool{0: false, time.Second: false, time.Minute: true, time.Hour: true, 2 * time.Hour: false} {
		if got := s.Decide(policy.Query{Path: "a", Op: policy.Read, WrapTTL: ttl}); got.Allowed != want {
			t.Errorf("wrapped for %v: %+v, want %v", ttl, got, want)
		}
	}
}

func TestSudo(t *testing.T) {
	q := policy.Query{Path: "sys/seal", Op: policy.Update, Sudo: true}
	if set(t, path("sys/*", "update")).Decide(q).Allowed {
		t.Error("sudo was not demanded")
	}
	if !set(t, path("sys/*", "update", "sudo")).Decide(q).Allowed {
		t.Error("sudo did not suffice")
	}
	if !policy.Compile([]*policy.Policy{policy.RootPolicy()}).Decide(q).Allowed {
		t.Error("root may not")
	}
}

func TestParseRefuses(t *testing.T) {
	for text, want := range map[string]string{
		`path "x" { capabilities = ["fly"] }`:                     "line 1: path \"x\": unknown capability \"fly\"",
		"path \"x\" {\n capabilities = [\"read\"]\n colour = 1 }": "line 3: path \"x\": unknown key \"colour\"",
		`path "x" {`:                              "",
		`paths "x" {}`:                            "unknown key \"paths\"",
		`path "a*b" { capabilities = ["read"] }`:  "at the end only",
		`path "a/b+" { capabilities = ["read"] }`: "one whole segment",
		`path "a/{{identity.entity.id}}/*" { capabilities = ["read"] }`:           "templates are not built yet",
		`path "x" { capabilities = ["read"] capabilities = ["deny"] }`:            "",
		"path \"x\" { capabilities = [\"read\"]\n capabilities = [\"deny\"] }":    "",
		`path "x" { policy = "everything" }`:                                      "read, write, sudo or deny",
		`path "x" { min_wrapping_ttl = "2h"` + "\n" + `max_wrapping_ttl = "1h" }`: "must not be above",
		`path "x" { allowed_parameters = { "a" = "b" } }`:                         "must be a list",
		`"just a string"`: "",
	} {
		_, err := policy.Parse("p", text)
		if !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Message(err), want) {
			t.Errorf("Parse(%s) = %v, want it to say %q", text, err, want)
		}
	}
}

func TestJSONForm(t *testing.T) {
	s := set(t, `{"path": {"a/*": {"capabilities": ["read"]}, "a/b": {"capabilities": ["deny"]}}}`)
	if !s.Decide(policy.Query{Path: "a/c", Op: policy.Read}).Allowed || s.Decide(policy.Query{Path: "a/b", Op: policy.Read}).Allowed {
		t.Error("the JSON form is judged wrongly")
	}
}

func TestDefaultPolicyParses(t *testing.T) {
	s := set(t, policy.DefaultText)
	for p, op := range map[string]policy.Operation{"auth/token/lookup-self": policy.Read, "cubbyhole/a/b": policy.Create, "sys/tools/hash/sha2-256": policy.Update} {
		if !s.Decide(policy.Query{Path: p, Op: op}).Allowed {
			t.Errorf("the default policy does not allow %s", p)
		}
	}
	if s.Decide(policy.Query{Path: "secret/x", Op: policy.Read}).Allowed || s.Touches("secret/") {
		t.Error("the default policy allows secret/")
	}
}

// model judges slowly what Decide judges by its index.
func model(rules map[string][]string, query string) bool {
	var best string
	found := false
	better := func(a, b string) bool {
		wild := func(s string) int {
			if i := strings.IndexAny(s, "+*"); i >= 0 {
				return i
			}
			return 1 << 20
		}
		switch {
		case wild(a) != wild(b):
			return wild(a) > wild(b)
		case strings.HasSuffix(a, "*") != strings.HasSuffix(b, "*"):
			return !strings.HasSuffix(a, "*")
		case strings.Count(a, "+") != strings.Count(b, "+"):
			return strings.Count(a, "+") < strings.Count(b, "+")
		case len(a) != len(b):
			return len(a) > len(b)
		}
		return a > b
	}
	for p := range rules {
		if !modelMatch(p, query) {
			continue
		}
		if !found || better(p, best) {
			best, found = p, true
		}
	}
	return found && slices.Contains(rules[best], "read")
}

func modelMatch(p, q string) bool {
	glob := strings.HasSuffix(p, "*")
	ps, qs := strings.Split(strings.TrimSuffix(p, "*"), "/"), strings.Split(q, "/")
	for i, s := range ps {
		last := i == len(ps)-1
		if i >= len(qs) {
			return false
		}
		switch {
		case last && glob && s == "+":
			return qs[i] != ""
		case last && glob:
			return strings.HasPrefix(qs[i], s)
		case s == "+" && qs[i] == "", s != "+" && s != qs[i]:
			return false
		}
	}
	return len(ps) == len(qs)
}

func TestDecideAgreesWithModel(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	word := func() string { return string("abc"[rnd.IntN(3)]) }
	for range 20_000 {
		rules := map[string][]string{}
		var text strings.Builder
		for range 1 + rnd.IntN(5) {
			var segs []string
			for range 1 + rnd.IntN(4) {
				if rnd.IntN(3) == 0 {
					segs = append(segs, "+")
				} else {
					segs = append(segs, word())
				}
			}
			p := strings.Join(segs, "/")
			if rnd.IntN(2) == 0 {
				p += []string{"*", "/*"}[rnd.IntN(2)]
			}
			if rules[p] != nil {
				continue
			}
			rules[p] = []string{[]string{"read", "update"}[rnd.IntN(2)]}
			text.WriteString(path(p, rules[p]...))
		}
		s := set(t, text.String())
		var segs []string
		for range 1 + rnd.IntN(4) {
			segs = append(segs, word())
		}
		q := strings.Join(segs, "/")
		if got, want := s.Decide(policy.Query{Path: q, Op: policy.Read}).Allowed, model(rules, q); got != want {
			t.Fatalf("Decide(%q) = %v, want %v, under\n%s", q, got, want, text.String())
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(policy.DefaultText)
	f.Add(`{"path":{"a":{"capabilities":["read"]}}}`)
	f.Add(`path "x" { allowed_parameters = { "a" = [1, "b"] } min_wrapping_ttl = 5 }`)
	f.Fuzz(func(t *testing.T, text string) {
		p, err := policy.Parse("p", text)
		if err != nil {
			if fault.Message(err) == "" {
				t.Fatalf("an error without words: %v", err)
			}
			return
		}
		s := policy.Compile([]*policy.Policy{p})
		s.Decide(policy.Query{Path: "a/b", Op: policy.Update, Body: []byte(`{"a":1}`)})
		s.Capabilities("a/b")
		s.Touches("a/")
		s.Resultant()
	})
}

func BenchmarkDecide(b *testing.B) {
	var text strings.Builder
	for i := range 50 {
		text.WriteString(path(fmt.Sprintf("secret/data/team%d/*", i), "read"))
	}
	text.WriteString(path("secret/data/+/shared", "read"))
	s := set(b, text.String())
	b.ReportAllocs()
	for b.Loop() {
		s.Decide(policy.Query{Path: "secret/data/team25/app/db", Op: policy.Read})
	}
}
