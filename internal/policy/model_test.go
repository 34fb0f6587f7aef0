package policy_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/internal/policy"
)

// modelRule is a rule as the model sees it.
type modelRule struct {
	path string
	caps []string
}

func (r modelRule) denies() bool { return slices.Contains(r.caps, "deny") }

// model decides slowly, by the words of the package comment, what Decide decides by its indexes.
func model(rules []modelRule, query, op string) bool {
	forms := []string{query}
	if op == "list" {
		bare := strings.TrimSuffix(query, "/")
		forms = []string{bare + "/", bare}
	}
	var best []modelRule // the most specific that match, equals among them
	for _, r := range rules {
		if !slices.ContainsFunc(forms, func(q string) bool {
			return modelMatch(r.path, q) || r.denies() && modelMatch(strings.ToLower(r.path), strings.ToLower(q))
		}) {
			continue
		}
		c := 1
		if len(best) > 0 {
			c = modelCompare(r.path, best[0].path)
		}
		if c > 0 {
			best = nil
		}
		if c >= 0 {
			best = append(best, r)
		}
	}
	if len(best) == 0 || slices.ContainsFunc(best, modelRule.denies) {
		return false
	}
	// Equals that allow differ in the last slash only: the form with it decides.
	path := slices.MaxFunc(best, func(a, b modelRule) int { return len(a.path) - len(b.path) }).path
	return slices.ContainsFunc(best, func(r modelRule) bool { return r.path == path && slices.Contains(r.caps, op) })
}

// modelCompare is positive if a is more specific; case and a last slash are ignored.
func modelCompare(a, b string) int {
	wild := func(s string) int {
		if i := strings.IndexAny(s, "+*"); i >= 0 {
			return i
		}
		return 1 << 20
	}
	glob := func(s string) int { return strings.Count(s, "*") }
	plus := func(s string) int { return strings.Count(s, "+") }
	bare := func(s string) string { return strings.ToLower(strings.TrimSuffix(s, "/")) }
	for _, d := range []int{wild(a) - wild(b), glob(b) - glob(a), plus(b) - plus(a), len(bare(a)) - len(bare(b))} {
		if d != 0 {
			return d
		}
	}
	return strings.Compare(bare(a), bare(b))
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

// generator makes up rules and queries from few words, so that they meet often.
type generator struct{ *rand.Rand }

func (w generator) segments(choice []string) string {
	var segs []string
	for range 1 + w.IntN(4) {
		segs = append(segs, choice[w.IntN(len(choice))])
	}
	return strings.Join(segs, "/")
}

func (w generator) rule() modelRule {
	p := w.segments([]string{"a", "b", "A", "ab", "+", "+"})
	p = strings.ReplaceAll(p+[]string{"", "", "/", "*", "/*"}[w.IntN(5)], "+*", "+/*") // the parser refuses the one
	caps := [][]string{{"read"}, {"read", "list"}, {"list"}, {"update"}, {"deny"}}
	return modelRule{p, caps[w.IntN(len(caps))]}
}

func (w generator) query() (path, op string) {
	path = w.segments([]string{"a", "b", "A", "ab", "aB"})
	if w.IntN(2) == 0 {
		return path + "/", "list"
	}
	return path, []string{"read", "update"}[w.IntN(2)]
}

var modelOps = map[string]policy.Operation{"read": policy.Read, "update": policy.Update, "list": policy.List}

func TestDecideAgreesWithModel(t *testing.T) {
	w := generator{rand.New(rand.NewPCG(1, 2))}
	allowed := 0
	for range 5_000 {
		var rules []modelRule
		texts := make([]string, 1+w.IntN(3))
		for range 1 + w.IntN(8) {
			r := w.rule()
			if slices.ContainsFunc(rules, func(o modelRule) bool { return o.path == r.path && o.denies() }) {
				continue // deny wins over it; the model has no merging
			}
			rules = append(rules, r)
			texts[w.IntN(len(texts))] += path(r.path, r.caps...)
		}
		s := set(t, texts...)
		for range 10 {
			q, op := w.query()
			got, want := s.Decide(policy.Query{Path: q, Op: modelOps[op]}), model(rules, q, op)
			if got.Allowed != want {
				t.Fatalf("Decide(%s %q) = %+v, want %v, under\n%s", op, q, got, want, strings.Join(texts, "--\n"))
			}
			if shown := slices.Contains(s.Capabilities(q), op); shown != want {
				t.Fatalf("Capabilities(%q) = %v, and %s is allowed: %v, under\n%s", q, s.Capabilities(q), op, want,
					strings.Join(texts, "--\n"))
			}
			if got.Allowed {
				allowed++
			}
		}
	}
	if allowed < 2_000 {
		t.Errorf("only %d of 50,000 queries were allowed: the test tests nothing", allowed)
	}
}

// TestOrderDoesNotMatter: the order of policies, and of rules in them, does not matter.
func TestOrderDoesNotMatter(t *testing.T) {
	w := generator{rand.New(rand.NewPCG(3, 4))}
	for range 1000 {
		var lines []string
		for range 2 + w.IntN(8) {
			r := w.rule()
			lines = append(lines, path(r.path, r.caps...))
		}
		a := set(t, strings.Join(lines, ""))
		w.Shuffle(len(lines), func(i, j int) { lines[i], lines[j] = lines[j], lines[i] })
		b := set(t, lines...)
		for range 10 {
			q, op := w.query()
			x, y := a.Decide(policy.Query{Path: q, Op: modelOps[op]}), b.Decide(policy.Query{
				Path: q, Op: modelOps[op],
			})
			if x.Allowed != y.Allowed {
				t.Fatalf("%s %q: %+v in one policy, %+v in several, of\n%s", op, q, x, y, strings.Join(lines, "--\n"))
			}
		}
	}
}

// fifty are rules as a team has them: exact ones, globs and ones with "+".
func fifty(t testing.TB) *policy.Set {
	var text strings.Builder
	for i := range 25 {
		text.WriteString(path(fmt.Sprintf("secret/data/team%d/*", i), "read", "update"))
		text.WriteString(path(fmt.Sprintf("secret/metadata/team%d/*", i), "list"))
		text.WriteString(path(fmt.Sprintf("database/creds/app%d", i), "read"))
	}
	text.WriteString(path("secret/data/+/shared", "read"))
	text.WriteString(path("secret/data/team7/private*", "deny"))
	return set(t, text.String(), policy.DefaultText)
}

var hot = map[string]policy.Query{
	"exact":      {Path: "database/creds/app7", Op: policy.Read},
	"glob":       {Path: "secret/data/team7/app/db", Op: policy.Read},
	"plus":       {Path: "secret/data/other/shared", Op: policy.Read},
	"list":       {Path: "secret/metadata/team7/app/", Op: policy.List},
	"write":      {Path: "secret/data/team7/app/db", Op: policy.Update, Body: []byte(`{"data":{"a":"b"}}`)},
	"capability": {Path: "auth/token/lookup-self", Op: policy.Read},
}

func TestDecideAllocatesNothing(t *testing.T) {
	s := fifty(t)
	for name, q := range hot {
		if !s.Decide(q).Allowed {
			t.Errorf("%s: denied", name)
		}
		if n := testing.AllocsPerRun(100, func() { s.Decide(q) }); n != 0 {
			t.Errorf("%s: %v allocations, want none", name, n)
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	s := fifty(b)
	for name, q := range hot {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s.Decide(q)
			}
		})
	}
}
