package policy

import (
	"cmp"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/wire"
)

// A Set is some policies, compiled for deciding. It is immutable and safe for
// concurrent use.
type Set struct {
	root   bool
	plain  index // paths as they are
	folded index // paths in lower case, for deny; empty if nothing denies
	denies bool
}

// index finds the most specific rule of a path.
type index struct {
	exact map[string]*rule
	// patterns by their first segment, the most specific first; "" holds
	// those whose first segment is no plain text.
	patterns map[string][]pattern
}

type pattern struct {
	rule     *rule
	prefix   string   // of one without "+": what is before the *
	segments []string // of one with "+"
	glob     bool
	wild     int // where the first + or * is
	pluses   int
}

// Compile builds the set.
func Compile(ps []*Policy) *Set {
	s := &Set{}
	var plain, folded []rule
	for _, p := range ps {
		s.root = s.root || p.root
		plain = append(plain, p.rules...)
		for _, r := range p.rules {
			s.denies = s.denies || r.caps&deny != 0
			r.path = strings.ToLower(r.path)
			folded = append(folded, r)
		}
	}
	s.plain = newIndex(plain)
	if s.denies {
		s.folded = newIndex(folded)
	}
	return s
}

func newIndex(rules []rule) index {
	merged := map[string]*rule{}
	for _, r := range rules {
		if old := merged[r.path]; old != nil {
			m := old.merge(r)
			merged[r.path] = &m
		} else {
			merged[r.path] = &r
		}
	}
	x := index{exact: map[string]*rule{}, patterns: map[string][]pattern{}}
	for path, r := range merged {
		p := newPattern(r)
		if p.wild < 0 {
			x.exact[path] = r
			continue
		}
		first, _, more := strings.Cut(path, "/")
		if !more || strings.ContainsAny(first, "+*") {
			first = ""
		}
		x.patterns[first] = append(x.patterns[first], p)
	}
	for _, list := range x.patterns {
		slices.SortFunc(list, func(a, b pattern) int { return specific(b, a) })
	}
	return x
}

func newPattern(r *rule) pattern {
	p := pattern{rule: r, glob: strings.HasSuffix(r.path, "*"), wild: -1}
	body := strings.TrimSuffix(r.path, "*")
	segs := strings.Split(body, "/")
	at := 0
	for _, s := range segs {
		if s == "+" {
			p.pluses++
			if p.wild < 0 {
				p.wild = at
			}
		}
		at += len(s) + 1
	}
	if p.pluses > 0 {
		p.segments = segs
	} else if p.glob {
		p.prefix, p.wild = body, len(body)
	}
	return p
}

// specific is positive where a is more specific than b.
func specific(a, b pattern) int {
	if c := cmp.Compare(a.wild, b.wild); c != 0 {
		return c
	}
	if a.glob != b.glob {
		if b.glob {
			return 1
		}
		return -1
	}
	if c := cmp.Compare(b.pluses, a.pluses); c != 0 {
		return c
	}
	if c := cmp.Compare(len(a.rule.path), len(b.rule.path)); c != 0 {
		return c
	}
	return strings.Compare(a.rule.path, b.rule.path)
}

func (p *pattern) match(path string) bool {
	if p.pluses == 0 {
		return strings.HasPrefix(path, p.prefix)
	}
	last := len(p.segments) - 1
	for i, want := range p.segments {
		seg, rest, more := strings.Cut(path, "/")
		switch {
		case i == last && p.glob:
			// What the * stands for may hold further segments.
			return want == "+" && seg != "" || strings.HasPrefix(path, want)
		case want == "+" && seg == "", want != "+" && want != seg:
			return false
		case i == last:
			return !more
		case !more:
			return false
		}
		path = rest
	}
	return false
}

// find returns the rule that decides for path, or nil; exact says that it has no pattern.
func (x *index) find(path string) (r *rule, exact bool) {
	if r := x.exact[path]; r != nil {
		return r, true
	}
	var best *pattern
	first, _, _ := strings.Cut(path, "/")
	lists := [2][]pattern{x.patterns[first], x.patterns[""]}
	if first == "" {
		lists[0] = nil
	}
	for _, list := range lists {
		for i := range list {
			if list[i].match(path) {
				if best == nil || specific(list[i], *best) > 0 {
					best = &list[i]
				}
				break
			}
		}
	}
	if best == nil {
		return nil, false
	}
	return best.rule, false
}

// listed finds the rule for a listing, whose path may end in a slash: both
// forms are looked at, and a deny of either denies.
func (x *index) listed(path string) *rule {
	bare := strings.TrimSuffix(path, "/")
	with, withExact := x.find(bare + "/")
	without, withoutExact := x.find(bare)
	switch {
	case with == nil:
		return without
	case without == nil:
		return with
	case without.caps&deny != 0 || withoutExact && !withExact && with.caps&deny == 0:
		return without
	}
	return with
}

func (x *index) of(path string, list bool) *rule {
	if list {
		return x.listed(path)
	}
	r, _ := x.find(path)
	return r
}

// rule returns the rule for a path, nil for none or one that denies.
func (s *Set) rule(path string, list bool) *rule {
	r := s.plain.of(path, list)
	if r == nil || r.caps&deny != 0 {
		return nil
	}
	if s.denies {
		if f := s.folded.of(strings.ToLower(path), list); f != nil && f.caps&deny != 0 {
			return nil
		}
	}
	return r
}

// A Query is one request.
type Query struct {
	Path    string // canonical; a listing's ends in a slash
	Op      Operation
	Body    []byte // a checked JSON object, or empty; read only where a rule restricts parameters
	WrapTTL time.Duration
	Sudo    bool // the route demands sudo, too
}

// A Decision says whether a request is allowed.
type Decision struct {
	Allowed  bool
	Why      string   // for the log, where it is refused
	Granting []string // the policies whose rule allows it
}

var granted = Decision{Allowed: true, Granting: []string{Root}}

// Decide judges a request.
func (s *Set) Decide(q Query) Decision {
	if s.root {
		return granted
	}
	r := s.rule(q.Path, q.Op == List)
	if r == nil {
		return Decision{Why: "no rule allows the path"}
	}
	if r.caps&q.Op == 0 {
		return Decision{Why: "the rule for " + strconv.Quote(r.path) + " does not have the capability"}
	}
	if q.Sudo && r.caps&sudo == 0 {
		return Decision{Why: "the path demands sudo"}
	}
	if why := r.wrapped(q.WrapTTL); why != "" {
		return Decision{Why: why}
	}
	if q.Op&(Create|Update|Patch) != 0 && (r.allowed != nil || r.denied != nil || r.required != nil) {
		if why := r.parameters(q.Body); why != "" {
			return Decision{Why: why}
		}
	}
	return Decision{Allowed: true, Granting: r.from}
}

func (r *rule) wrapped(ttl time.Duration) string {
	switch {
	case r.minWrap > 0 && ttl < r.minWrap:
		return "the answer must be wrapped for at least " + r.minWrap.String()
	case r.maxWrap > 0 && (ttl == 0 || ttl > r.maxWrap):
		return "the answer must be wrapped for at most " + r.maxWrap.String()
	}
	return ""
}

// parameters says which of the body's members is not allowed, or "".
func (r *rule) parameters(body []byte) string {
	params := map[string]any{}
	if len(body) > 0 {
		err := wire.EachField(body, func(name string, value []byte) error {
			var v any
			if err := json.Unmarshal(value, &v); err != nil {
				return err
			}
			params[strings.ToLower(name)] = v
			return nil
		})
		if err != nil {
			return "the body is no object"
		}
	}
	for _, name := range r.required {
		if _, ok := params[name]; !ok {
			return "the parameter " + strconv.Quote(name) + " is required"
		}
	}
	if len(params) == 0 {
		return ""
	}
	if _, all := r.denied["*"]; all {
		return "all parameters are denied"
	}
	rest, any := r.allowed["*"]
	for name, value := range params {
		if values, ok := r.denied[name]; ok && (len(values) == 0 || contains(values, value)) {
			return "the parameter " + strconv.Quote(name) + " is denied"
		}
		if r.allowed == nil {
			continue
		}
		values, ok := r.allowed[name]
		if !ok {
			if values, ok = rest, any; !ok {
				return "the parameter " + strconv.Quote(name) + " is not allowed"
			}
		}
		if len(values) > 0 && !contains(values, value) {
			return "this value of the parameter " + strconv.Quote(name) + " is not allowed"
		}
	}
	return ""
}

// contains compares a value of JSON with those of a policy, in which strings
// may begin or end in *.
func contains(values []any, v any) bool {
	return slices.ContainsFunc(values, func(want any) bool {
		w, ok := want.(string)
		s, ok2 := v.(string)
		if ok && ok2 {
			return globbed(w, s)
		}
		return reflect.DeepEqual(plain(want), plain(v))
	})
}

func globbed(pattern, s string) bool {
	head, tail := strings.HasPrefix(pattern, "*"), strings.HasSuffix(pattern, "*")
	switch {
	case head && tail && len(pattern) > 1:
		return strings.Contains(s, pattern[1:len(pattern)-1])
	case head:
		return strings.HasSuffix(s, pattern[1:])
	case tail:
		return strings.HasPrefix(s, pattern[:len(pattern)-1])
	}
	return s == pattern
}

// plain makes numbers of one kind of all kinds, and text of scalars, since
// clients send "1h" and 3600, true and "true" alike.
func plain(v any) any {
	switch t := v.(type) {
	case []any:
		out := make([]any, len(t))
		for i := range t {
			out[i] = plain(t[i])
		}
		return out
	case map[string]any, nil:
		return t
	}
	return fmt.Sprint(v)
}

func duration(v any) (time.Duration, error) { return wire.ParseDuration(fmt.Sprint(v)) }

var order = []struct {
	name string
	op   Operation
}{{"create", Create}, {"delete", Delete}, {"list", List}, {"patch", Patch}, {"read", Read}, {"sudo", sudo}, {"update", Update}}

func names(caps Operation) []string {
	var out []string
	for _, o := range order {
		if caps&o.op != 0 {
			out = append(out, o.name)
		}
	}
	return out
}

// Capabilities lists what may be done at a path, as sys/capabilities shows it.
func (s *Set) Capabilities(path string) []string {
	if s.root {
		return []string{Root}
	}
	caps := Operation(0)
	if r := s.rule(path, false); r != nil {
		caps = r.caps &^ List
	}
	if r := s.rule(path, true); r != nil { // a listing may be judged by another rule
		caps |= r.caps & List
	}
	if caps == 0 {
		return []string{"deny"}
	}
	return names(caps)
}

// Touches reports whether anything below prefix, which ends in a slash, is
// allowed at all: whether its mount may be shown.
func (s *Set) Touches(prefix string) bool {
	if s.root {
		return true
	}
	may := func(r *rule) bool {
		if r.caps == 0 || r.caps&deny != 0 {
			return false
		}
		fixed := r.path
		if i := strings.IndexAny(fixed, "+*"); i >= 0 {
			fixed = fixed[:i]
			return strings.HasPrefix(fixed, prefix) || strings.HasPrefix(prefix, fixed)
		}
		return strings.HasPrefix(fixed, prefix) || fixed+"/" == prefix
	}
	for _, r := range s.plain.exact {
		if may(r) {
			return true
		}
	}
	for _, list := range s.plain.patterns {
		if slices.ContainsFunc(list, func(p pattern) bool { return may(p.rule) }) {
			return true
		}
	}
	return false
}

// Resultant is what a set allows, as sys/internal/ui/resultant-acl shows it.
type Resultant struct {
	Root  bool            `json:"root"`
	Exact map[string]Caps `json:"exact_paths"`
	Glob  map[string]Caps `json:"glob_paths"`
}

// Caps are the capabilities at one path.
type Caps struct {
	Capabilities []string `json:"capabilities"`
}

// Resultant lists the rules.
func (s *Set) Resultant() Resultant {
	out := Resultant{Root: s.root, Exact: map[string]Caps{}, Glob: map[string]Caps{}}
	caps := func(r *rule) Caps {
		if r.caps&deny != 0 {
			return Caps{[]string{"deny"}}
		}
		return Caps{names(r.caps)}
	}
	for path, r := range s.plain.exact {
		out.Exact[path] = caps(r)
	}
	for _, list := range s.plain.patterns {
		for _, p := range list {
			out.Glob[strings.TrimSuffix(p.rule.path, "*")] = caps(p.rule)
		}
	}
	return out
}
