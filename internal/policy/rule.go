package policy

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/wire"
)

// rule is what is allowed at one path.
type rule struct {
	path     string             // as written, without a leading slash
	caps     Operation          // deny alone where it denies
	allowed  map[string][]value // by name in lower case; nil: no restriction. No values: any value
	denied   map[string][]value // by name in lower case, values folded. No values: every value
	required []string
	minWrap  time.Duration
	maxWrap  time.Duration
	from     []string // names of the policies
}

// clone is a rule that absorb may change.
func (r rule) clone() *rule {
	allowed, denied := r.allowed, r.denied
	r.allowed, r.denied = nil, nil
	absorbParams(&r.allowed, allowed)
	absorbParams(&r.denied, denied)
	r.required, r.from = slices.Clone(r.required), slices.Clone(r.from)
	return &r
}

// absorb merges another rule for the same path: capabilities are united, and deny wins;
// restrictions of parameters are united, too, so that no policy removes what another requires; the
// lowest wrapping limits are used.
func (r *rule) absorb(o rule) {
	if r.from[len(r.from)-1] != o.from[0] {
		r.from = append(r.from, o.from...)
	}
	if (r.caps|o.caps)&deny != 0 {
		*r = rule{path: r.path, caps: deny, from: r.from}
		return
	}
	r.caps |= o.caps
	absorbParams(&r.allowed, o.allowed)
	absorbParams(&r.denied, o.denied)
	r.required = append(r.required, o.required...)
	r.minWrap, r.maxWrap = lowest(r.minWrap, o.minWrap), lowest(r.maxWrap, o.maxWrap)
}

// absorbParams merges lists of values; an empty list means any value, and wins.
func absorbParams(into *map[string][]value, from map[string][]value) {
	if *into == nil && from != nil {
		*into = map[string][]value{}
	}
	for name, values := range from {
		old, both := (*into)[name]
		switch {
		case !both:
			(*into)[name] = slices.Clone(values)
		case len(old) == 0 || len(values) == 0:
			(*into)[name] = nil
		default:
			(*into)[name] = append(old, values...)
		}
	}
}

// lowest is the lower of two bounds, of which zero is none.
func lowest(a, b time.Duration) time.Duration {
	if a == 0 || b > 0 && b < a {
		return b
	}
	return a
}

// restricts reports whether a body must be looked at.
func (r *rule) restricts() bool { return r.allowed != nil || r.denied != nil || len(r.required) > 0 }

// wraps reports whether an answer must be wrapped.
func (r *rule) wraps() bool { return r.minWrap > 0 || r.maxWrap > 0 }

// wrapped returns why an answer must not be wrapped for ttl, or "".
func (r *rule) wrapped(ttl time.Duration) string {
	switch {
	case ttl < r.minWrap:
		return "the answer must be wrapped for at least " + r.minWrap.String()
	case r.maxWrap > 0 && (ttl == 0 || ttl > r.maxWrap):
		return "the answer must be wrapped for at most " + r.maxWrap.String()
	}
	return ""
}

// parameters returns why a member of the body is not allowed, or "". Every member is checked, even
// if its name is repeated. A required parameter must not be null, because engines treat null like
// an absent member.
func (r *rule) parameters(body []byte, form *wire.Form) string {
	given, left := map[string]bool{}, newWork()
	why := ""
	if len(body) > 0 {
		err := wire.EachField(body, func(name string, raw []byte) error {
			given[name] = given[name] || string(raw) != "null"
			if why == "" {
				why = r.parameter(name, raw, form, left)
			}
			return nil
		})
		if err != nil {
			return "the body is not an object"
		}
	}
	for _, name := range r.required {
		if !given[form.First(name)] {
			return "the parameter " + strconv.Quote(name) + " is required"
		}
	}
	return why
}

// parameter returns why a parameter is not allowed, or "". It is denied under any of its names,
// and under those of the parameters whose effect it has; it is allowed only under its own names.
func (r *rule) parameter(name string, raw []byte, form *wire.Form, left *work) string {
	if _, all := r.denied["*"]; all {
		return "all parameters are denied"
	}
	v, nameable := valueIn(raw, name, form)
	names := form.Names(name)
	for _, n := range append(names, form.Also(name)...) {
		values, ok := r.denied[strings.ToLower(n)]
		if ok && (len(values) == 0 || (nameable || v.isList) && v.deniedUnder(values, name, form, left) ||
			string(raw) == "null" && clearing(values)) {
			return "the parameter " + strconv.Quote(name) + " is denied"
		}
	}
	if r.allowed == nil {
		return ""
	}
	_, known := r.allowed["*"]
	limited := false
	for _, n := range names {
		values, ok := r.allowed[strings.ToLower(n)]
		if ok && (len(values) == 0 || nameable && v.allowedBy(values, left)) {
			return ""
		}
		limited = limited || ok
	}
	switch {
	case limited:
		return "this value of the parameter " + strconv.Quote(name) + " is not allowed"
	case !known:
		return "the parameter " + strconv.Quote(name) + " is not allowed"
	}
	return ""
}
