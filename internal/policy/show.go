package policy

import "strings"

// Capabilities lists the capabilities at a path, as sys/capabilities shows them: sorted, or only
// "deny", or only "root". "list" is decided like a request to list the path.
func (s *Set) Capabilities(path string) []string {
	if s.root {
		return []string{Root}
	}
	caps := Operation(0)
	if r := s.rule(path, false); r != nil && r.caps&deny == 0 {
		caps = r.caps &^ List
	}
	if r := s.rule(path, true); r != nil {
		caps |= r.caps & List
	}
	return names(caps)
}

// Touches reports whether anything below prefix, which ends in a slash, is allowed, so that its
// mount may be shown.
func (s *Set) Touches(prefix string) bool {
	if s.root {
		return true
	}
	for path, p := range s.rules.exact {
		if p.grants() && (strings.HasPrefix(path, prefix) || path+"/" == prefix) {
			return true
		}
	}
	for _, list := range s.rules.globs {
		for _, p := range list {
			fixed := p.rule.path[:p.wild]
			if p.grants() && (strings.HasPrefix(fixed, prefix) || strings.HasPrefix(prefix, fixed)) {
				return true
			}
		}
	}
	return false
}

func (p *pattern) grants() bool { return p.rule.caps != 0 && p.rule.caps&deny == 0 }

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

// Resultant lists the rules. A path that ends in * is in Glob without it, unless it also has a +.
func (s *Set) Resultant() Resultant {
	out := Resultant{Root: s.root, Exact: map[string]Caps{}, Glob: map[string]Caps{}}
	for path, p := range s.rules.exact {
		out.Exact[path] = Caps{names(p.rule.caps)}
	}
	for _, list := range s.rules.globs {
		for _, p := range list {
			path := p.rule.path
			if p.pluses == 0 {
				path = p.prefix
			}
			out.Glob[path] = Caps{names(p.rule.caps)}
		}
	}
	return out
}
