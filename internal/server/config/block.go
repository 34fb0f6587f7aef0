package config

import "github.com/hashicorp/hcl/hcl/ast"

// The names of blocks in the reference and in errors.
const (
	topBlock          = ""
	tcpBlock          = `listener "tcp"`
	unixBlock         = `listener "unix"`
	listenerTelemetry = "telemetry of a listener"
	telemetryBlock    = "telemetry"
)

// inBlock names a block in an error.
func inBlock(block string) string {
	if block == topBlock {
		return "the configuration"
	}
	return block
}

// A labelled is a block with a label, such as listener "tcp" { … }.
type labelled struct {
	at    Position
	name  string // listener
	label string // tcp
	list  *ast.ObjectList
}

// blocks returns the labelled blocks of an item: one in HCL, perhaps several in JSON.
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

// block returns the members of a block without a label.
func (r *report) block(item *ast.ObjectItem) *ast.ObjectList {
	body, ok := item.Val.(*ast.ObjectType)
	if !ok || len(item.Keys) != 1 {
		r.problem(r.at(item), "%s: want a block such as %s { … }", label(item, 0), label(item, 0))
		return &ast.ObjectList{}
	}
	return body.List
}

// label returns the nth key of an item: its name, then its labels.
func label(item *ast.ObjectItem, n int) string {
	if n >= len(item.Keys) {
		return ""
	}
	if s, ok := item.Keys[n].Token.Value().(string); ok {
		return s
	}
	return item.Keys[n].Token.Text
}

// plain returns a value without the syntax: text, number, boolean, list or map.
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
