package policy

import (
	"strconv"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/wire"
)

// A Set is a compiled set of policies. It is immutable and safe for concurrent use.
type Set struct {
	root   bool
	rules  index
	denies index // the denying rules once more, their paths in lower case
	folds  bool  // there are denying rules
}

// Compile builds the set.
func Compile(ps []*Policy) *Set {
	s := &Set{}
	var rules, denies []rule
	for _, p := range ps {
		s.root = s.root || p.root
		rules = append(rules, p.rules...)
		for _, r := range p.rules {
			if r.caps&deny != 0 {
				r.path = strings.ToLower(r.path)
				denies = append(denies, r)
			}
		}
	}
	s.rules, s.denies, s.folds = newIndex(rules), newIndex(denies), len(denies) > 0
	return s
}

// A Query is one request.
type Query struct {
	Path string // canonical; a listing's ends in a slash
	Op   Operation
	Body []byte // a checked JSON object, or empty; read only where a rule restricts parameters
	// Form says how the body's members are decoded, so that policies judge the values that the
	// handler gets; nil: unknown.
	Form    *wire.Form
	WrapTTL time.Duration
	Sudo    bool // the route demands sudo, too
}

// A Decision says whether a request is allowed.
type Decision struct {
	Allowed  bool
	Sudo     bool     // the rule also grants sudo
	Wrapped  bool     // the rule requires a wrapped answer
	Why      string   // why it is refused, for the log
	Granting []string // the policies whose rule allows it
}

var granted = Decision{Allowed: true, Sudo: true, Granting: []string{Root}}

// Decide decides about a request.
func (s *Set) Decide(q Query) Decision {
	if s.root {
		return granted
	}
	r := s.rule(q.Path, q.Op == List)
	switch {
	case r == nil:
		return Decision{Why: "no rule allows the path"}
	case r.caps&deny != 0:
		return Decision{Why: "the rule for " + strconv.Quote(r.path) + " denies it"}
	case r.caps&q.Op == 0:
		return Decision{Why: "the rule for " + strconv.Quote(r.path) + " does not have the capability"}
	case q.Sudo && r.caps&sudo == 0:
		return Decision{Why: "the path demands sudo"}
	}
	if why := r.wrapped(q.WrapTTL); why != "" {
		return Decision{Why: why}
	}
	if q.Op&(Create|Update|Patch) != 0 && r.restricts() {
		if why := r.parameters(q.Body, q.Form); why != "" {
			return Decision{Why: why}
		}
	}
	return Decision{Allowed: true, Sudo: r.caps&sudo != 0, Wrapped: r.wraps(), Granting: r.from}
}

// Wraps reports whether the rule for reading a path requires a wrapped answer.
func (s *Set) Wraps(path string) bool {
	if s.root {
		return false
	}
	r := s.rule(path, false)
	return r != nil && r.wraps()
}

// rule returns the rule that decides about a path, or nil. A deny that differs from the path only
// in case decides, unless an allowing rule is more specific.
func (s *Set) rule(path string, list bool) *rule {
	p := s.rules.lookup(path, list)
	if p == nil {
		return nil
	}
	if s.folds && p.rule.caps&deny == 0 {
		if d := s.denies.lookup(strings.ToLower(path), list); d != nil && compare(d, p) >= 0 {
			return d.rule
		}
	}
	return p.rule
}
