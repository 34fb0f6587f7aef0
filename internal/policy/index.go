package policy

import (
	"cmp"
	"math"
	"slices"
	"strings"
)

// index finds the most specific rule of a path.
type index struct {
	exact map[string]*pattern
	// globs by their first segment, the most specific first; "" holds those
	// whose first segment is no plain text.
	globs map[string][]*pattern
}

// pattern is a rule's path, taken apart.
type pattern struct {
	rule     *rule
	prefix   string   // of one without "+": what is before the *
	segments []string // of one with "+"
	glob     bool     // it ends in *
	wild     int      // where the first + or * is; beyond all for an exact path
	pluses   int
	bare     string // folded, without the last slash: by which equals are told
}

// newIndex merges the rules of each path, and sorts the results.
func newIndex(rules []rule) index {
	merged := map[string]*rule{}
	for _, r := range rules {
		if have := merged[r.path]; have != nil {
			have.absorb(r)
		} else {
			merged[r.path] = r.clone()
		}
	}
	x := index{exact: map[string]*pattern{}, globs: map[string][]*pattern{}}
	for path, r := range merged {
		p := newPattern(r)
		if p.wild == math.MaxInt {
			x.exact[path] = p
			continue
		}
		first, _, more := strings.Cut(path, "/")
		if !more || first == "+" {
			first = ""
		}
		x.globs[first] = append(x.globs[first], p)
	}
	for _, list := range x.globs {
		slices.SortFunc(list, func(a, b *pattern) int {
			return cmp.Or(compare(b, a), strings.Compare(b.rule.path, a.rule.path))
		})
	}
	return x
}

func newPattern(r *rule) *pattern {
	p := &pattern{
		rule: r, glob: strings.HasSuffix(r.path, "*"), wild: math.MaxInt,
		bare: strings.ToLower(strings.TrimSuffix(r.path, "/")),
	}
	body := strings.TrimSuffix(r.path, "*")
	if p.glob {
		p.prefix, p.wild = body, len(body)
	}
	at := 0
	for seg := range strings.SplitSeq(body, "/") {
		if seg == "+" {
			p.pluses++
			p.wild = min(p.wild, at)
		}
		at += len(seg) + 1
	}
	if p.pluses > 0 {
		p.segments = strings.Split(body, "/")
	}
	return p
}

// compare is positive if a is more specific than b, and 0 for paths that differ only in case or in
// the last slash.
func compare(a, b *pattern) int {
	if c := cmp.Compare(a.wild, b.wild); c != 0 {
		return c
	}
	if a.glob != b.glob {
		if b.glob {
			return 1
		}
		return -1
	}
	return cmp.Or(cmp.Compare(b.pluses, a.pluses), cmp.Compare(len(a.bare), len(b.bare)),
		strings.Compare(a.bare, b.bare))
}

func (p *pattern) match(path string) bool {
	if p.pluses == 0 {
		return strings.HasPrefix(path, p.prefix)
	}
	last := len(p.segments) - 1
	for i, want := range p.segments {
		seg, rest, more := strings.Cut(path, "/")
		switch {
		case i == last && p.glob: // it is no +: the parser refuses that
			return strings.HasPrefix(path, want) // what the * stands for may hold further segments
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

// find returns the most specific pattern that matches path, or nil.
func (x *index) find(path string) *pattern {
	if p := x.exact[path]; p != nil {
		return p
	}
	first, _, _ := strings.Cut(path, "/")
	var best *pattern
	if first != "" {
		best = firstMatch(x.globs[first], path)
	}
	if p := firstMatch(x.globs[""], path); p != nil && (best == nil || compare(p, best) > 0) {
		best = p
	}
	return best
}

func firstMatch(list []*pattern, path string) *pattern {
	for _, p := range list {
		if p.match(path) {
			return p
		}
	}
	return nil
}

// listing returns the pattern that decides about a list of path, or nil: the more specific one of
// those with and without the last slash.
func (x *index) listing(path string) *pattern {
	bare := strings.TrimSuffix(path, "/")
	if bare == "" {
		return x.find(path)
	}
	if bare == path {
		path += "/"
	}
	with, without := x.find(path), x.find(bare)
	if with == nil || without == nil {
		return cmp.Or(with, without)
	}
	if c := compare(without, with); c > 0 || c == 0 && without.rule.caps&deny != 0 {
		return without
	}
	return with
}

func (x *index) lookup(path string, list bool) *pattern {
	if list {
		return x.listing(path)
	}
	return x.find(path)
}
