package config

import (
	"maps"
	"slices"

	"github.com/hashicorp/hcl/hcl/ast"

	"github.com/keyturn/keyturn/internal/fault"
)

// A key is one member of a block.
type key struct {
	name      string
	kind      string // of its value
	byDefault string // for the reference; "": the reference names no default
	doc       string // a sentence
	reload    bool   // SIGHUP re-reads it
	set       setter
}

// A setter reads one member of a block.
type setter func(item *ast.ObjectItem)

// given has the members of a block as they were written, for comparing and showing.
type given map[string]any

// members reads the members of a block by its keys, and notes them in into. It reports unknown
// members, and those that are given twice.
func (r *report) members(list *ast.ObjectList, block string, keys []key, into given) {
	seen := map[string]bool{}
	for _, item := range list.Items {
		if r.full() {
			return
		}
		name := label(item, 0)
		i := slices.IndexFunc(keys, func(k key) bool { return k.name == name })
		switch {
		case i < 0:
			r.unknown(item, block, keys)
		case seen[name]:
			r.problem(r.at(item), "%s: it is given twice in %s; remove one", name, inBlock(block))
		default:
			keys[i].set(item)
			into[name] = plain(item.Val)
		}
		seen[name] = true
	}
}

// unknown reports a member that has no key. It says what to do instead of a key of Vault's, which
// similar key was probably meant, or where the key belongs.
func (r *report) unknown(item *ast.ObjectItem, block string, keys []key) {
	name, at := label(item, 0), r.at(item)
	if a, ok := absentIn(block)[name]; ok {
		if a.harmless {
			r.warn(at, "%s: it has no effect: %s", name, a.instead)
		} else {
			r.problem(at, "%s: it is not supported: %s", name, a.instead)
		}
		return
	}
	names := namesOf(block, keys)
	if best := fault.Nearest(name, names); best != "" {
		r.problem(at, "unknown key %q in %s; did you mean %q?", name, inBlock(block), best)
		return
	}
	for _, p := range r.places {
		if p.block != block && slices.Contains(p.names, name) {
			r.problem(at, "unknown key %q in %s; it belongs in %s", name, inBlock(block), inBlock(p.block))
			return
		}
	}
	r.problem(at, "unknown key %q in %s; remove it (docs/reference/config.md has all keys)", name, inBlock(block))
}

// namesOf returns the names of the keys of a block, including those that Vault alone has, sorted.
func namesOf(block string, keys []key) []string {
	names := slices.Collect(maps.Keys(absentIn(block)))
	for _, k := range keys {
		names = append(names, k.name)
	}
	slices.Sort(names)
	return names
}
