package config

import (
	"slices"

	"github.com/hashicorp/hcl/hcl/ast"

	"github.com/keyturn/keyturn/internal/fault"
)

// members gives each member of a block to its key, remembers it, and complains of those
// that have none and of those that come twice.
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
			r.unknown(item, block)
		case seen[name]:
			r.problem(r.at(item), "%s: it is given twice in %s; take one out", name, inBlock(block))
		default:
			keys[i].set(item)
			into[name] = plain(item.Val)
		}
		seen[name] = true
	}
}

// unknown complains of a member that its block does not have: it is Vault's and
// there is something to do instead, it belongs elsewhere, or another one was meant.
func (r *report) unknown(item *ast.ObjectItem, block string) {
	name, at := label(item, 0), r.at(item)
	if a, ok := absent[block][name]; ok {
		if a.harmless {
			r.warn(at, "%s: it has no effect: %s", name, a.instead)
		} else {
			r.problem(at, "%s: it is not supported: %s", name, a.instead)
		}
		return
	}
	var names []string
	for _, k := range keysOf(block) {
		names = append(names, k.name)
	}
	for vaults := range absent[block] {
		names = append(names, vaults)
	}
	slices.Sort(names)
	if best := fault.Nearest(name, names); best != "" {
		r.problem(at, "unknown key %q in %s; did you mean %q?", name, inBlock(block), best)
		return
	}
	for _, other := range []string{topBlock, tcpBlock, unixBlock, listenerTelemetry} {
		_, vaults := absent[other][name]
		if other != block &&
			(vaults || slices.ContainsFunc(keysOf(other), func(k key) bool { return k.name == name })) {
			r.problem(at, "unknown key %q in %s; it belongs in %s", name, inBlock(block), inBlock(other))
			return
		}
	}
	r.problem(at, "unknown key %q in %s; take it out (docs/reference/config.md has all keys)", name, inBlock(block))
}

// keysOf are the keys of a block, for looking at.
func keysOf(block string) []key {
	r, d := newReport(), &draft{}
	switch block {
	case topBlock:
		return append(topKeys(r, &Server{}), labelledKeys...)
	case tcpBlock:
		return tcpKeys(r, d)
	case unixBlock:
		return unixKeys(r, d)
	case listenerTelemetry:
		return telemetryKeys(r, d)
	case telemetryBlock:
		return pushKeys(r)
	}
	return nil
}

// label is the nth key of an item: its name, then its labels.
func label(item *ast.ObjectItem, n int) string {
	if n >= len(item.Keys) {
		return ""
	}
	if s, ok := item.Keys[n].Token.Value().(string); ok {
		return s
	}
	return item.Keys[n].Token.Text
}

// plain is a value without the syntax: text, number, boolean, list or map.
func plain(n ast.Node) any {
	switch v := n.(type) {
	case *ast.LiteralType:
		return v.Token.Value()
	case *ast.ListType:
		list := make([]any, len(v.List))
		for i, e := range v.List {
			list[i] = plain(e)
		}
		return list
	case *ast.ObjectType:
		object := map[string]any{}
		for _, item := range v.List.Items {
			object[label(item, 0)] = plain(item.Val)
		}
		return object
	}
	return nil
}

// A labelled block: listener "tcp" { … }.
type labelled struct {
	at    Position
	name  string // listener
	label string // tcp
	list  *ast.ObjectList
}

// blocks returns the labelled blocks that an item holds: one in HCL, in JSON
// perhaps several.
func (r *report) blocks(item *ast.ObjectItem) []labelled {
	object, ok := item.Val.(*ast.ObjectType)
	name := label(item, 0)
	wrong := func(n ast.Node) {
		r.problem(r.at(n), "%s: want a block with one label, such as %s", name, examples[name])
	}
	switch {
	case !ok || len(item.Keys) > 2 || len(item.Keys) == 1 && len(object.List.Items) == 0:
		wrong(item)
		return nil
	case len(item.Keys) == 2:
		return []labelled{{r.at(item), name, label(item, 1), object.List}}
	}
	var all []labelled
	for _, inner := range object.List.Items {
		body, ok := inner.Val.(*ast.ObjectType)
		if !ok || len(inner.Keys) != 1 {
			wrong(inner)
			continue
		}
		all = append(all, labelled{r.at(inner), name, label(inner, 0), body.List})
	}
	return all
}

var examples = map[string]string{
	"listener": `listener "tcp" { address = "127.0.0.1:8200" }`,
	"storage":  `storage "pebble" { path = "/var/lib/keyturn" }`,
	"backend":  `storage "pebble" { path = "/var/lib/keyturn" }`,
	"seal":     `seal "shamir" {}`,
}

// block is the members of a block without a label.
func (r *report) block(item *ast.ObjectItem) *ast.ObjectList {
	body, ok := item.Val.(*ast.ObjectType)
	if !ok || len(item.Keys) != 1 {
		r.problem(r.at(item), "%s: want a block such as %s { … }", label(item, 0), label(item, 0))
		return &ast.ObjectList{}
	}
	return body.List
}
