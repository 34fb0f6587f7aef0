package route

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/wire"
)

// whole is the name of the parameter that is the whole body.
const whole = "(the body)"

// Params returns the parameters of the route: the names in the pattern, then the fields of the
// request type, each in order.
func (r *Route) Params() []Param {
	var all []Param
	docs, hidden := map[string]reflect.StructTag{}, map[string]bool{}
	if r.In.Kind() == reflect.Struct {
		for _, p := range pathFields(r.In) {
			hidden[p.name] = p.secret
		}
		for _, f := range reflect.VisibleFields(r.In) {
			docs["path "+f.Tag.Get("path")] = f.Tag
		}
	}
	for seg := range strings.SplitSeq(r.Pattern, "/") {
		if name, ok := strings.CutPrefix(seg, "{"); ok {
			name = strings.TrimSuffix(strings.TrimSuffix(name, "}"), "...")
			all = append(all,
				r.documented(Param{Name: name, In: "path", Type: "string", Secret: hidden[name]}, docs["path "+name]))
		}
	}
	if r.In.Kind() != reflect.Struct {
		return all
	}
	in := "query"
	if r.Op == Write || r.Op == Patch {
		in = "body"
	}
	for _, f := range reflect.VisibleFields(r.In) {
		name, opts, _ := strings.Cut(f.Tag.Get("json"), ",")
		if opts == "whole" {
			name = whole
		}
		if name == "" || name == "-" || !f.IsExported() {
			continue
		}
		p := Param{Name: name, In: in}
		p.Type, p.Secret = typeName(f.Type)
		if name == whole {
			p.Type = "object"
		}
		all = append(all, r.documented(p, f.Tag))
	}
	return append(all, r.rest...)
}

func (r *Route) documented(p Param, tag reflect.StructTag) Param {
	p.Doc, p.Default = tag.Get("doc"), tag.Get("default")
	if doc, ok := r.docs[p.Name]; ok {
		p.Doc = doc
	}
	if others := tag.Get("alias"); others != "" {
		p.Doc += " Also taken as " + strings.ReplaceAll(others, ",", ", ") + "."
	}
	return p
}

// typeName is what a client writes for a Go type, and whether it is a secret.
func typeName(t reflect.Type) (name string, hidden bool) {
	switch t {
	case reflect.TypeFor[secret.Value]():
		return "string", true
	case reflect.TypeFor[wire.Raw]():
		return "any", false
	case reflect.TypeFor[time.Duration](), reflect.TypeFor[wire.TTL](), reflect.TypeFor[wire.Lifetime]():
		return "duration", false
	case reflect.TypeFor[time.Time]():
		return "time", false
	}
	switch t.Kind() {
	case reflect.Pointer:
		return typeName(t.Elem())
	case reflect.Bool:
		return "boolean", false
	case reflect.Int, reflect.Int32, reflect.Int64:
		return "integer", false
	case reflect.Float64:
		return "number", false
	case reflect.String:
		return "string", false
	case reflect.Slice:
		name, hidden = typeName(t.Elem())
		return "list of " + name + "s", hidden
	case reflect.Map:
		name, hidden = typeName(t.Elem())
		if name == "any" {
			return "map", hidden
		}
		return "map of " + name + "s", hidden
	}
	return "object", false
}

// WithParam returns the route with a description of one of its parameters, which its request type
// lacks, or shares with another route.
func (r Route) WithParam(name, doc string) Route {
	docs := map[string]string{name: doc}
	for n, d := range r.docs {
		docs[n] = d
	}
	r.docs = docs
	return r
}

// WithRest returns the route with parameters for which its request type has no fields.
func (r Route) WithRest(more ...Param) Route {
	r.rest = append(slices.Clip(r.rest), more...)
	return r
}

// Page describes a path that is served without a table, for the reference.
func Page[In, Out any](op Op, pattern, help string) Route {
	return Route{
		Op: op, Pattern: pattern, In: reflect.TypeFor[In](), Out: reflect.TypeFor[Out](), Help: help, Public: true,
	}
}

// HelpText is the answer to a request for help.
type HelpText struct {
	Help    string   `json:"help"`
	SeeAlso []string `json:"see_also"`
}

// HelpOn returns a route that answers r with the help of its path: its parameters or, if nothing
// is served there, the list of paths. Every token may read it, because it describes only the
// program.
func (t *Table) HelpOn(r *Request) *Route {
	text := t.help(strings.Trim(r.Rest, "/"), r.Mount)
	h := On(Help, "", func(_ context.Context, r *Request, _ None) (*HelpText, error) {
		r.SetShape(Bare)
		return &HelpText{Help: text}, nil
	}).WithOwn()
	return &h
}

func (t *Table) help(rest string, m Mount) string {
	var b strings.Builder
	here := t.root.all(rest)
	if rest == "" || len(here) == 0 {
		fmt.Fprintf(&b, "%q serves these paths:\n", m.Type)
		for i := range t.routes {
			r := &t.routes[i]
			fmt.Fprintf(&b, "\n    %-7s %s%s\n        %s\n", r.Op, m.Path, r.Pattern, r.Help)
		}
		return b.String()
	}
	for _, l := range here {
		r := l.route
		fmt.Fprintf(&b, "%s %s%s\n    %s\n", r.Op, m.Path, r.Pattern, r.Help)
		if r.Sudo {
			b.WriteString("    Needs the capability sudo.\n")
		}
		for _, p := range r.Params() {
			fmt.Fprintf(&b, "\n    %s (%s)\n        %s\n", p.Name, p.kind(), p.Doc)
		}
		b.WriteByte('\n')
	}
	return strings.TrimRight(b.String(), "\n")
}

// kind is what a parameter is, in a few words.
func (p Param) kind() string {
	kind := p.Type + ", in the " + p.In
	if p.Default != "" {
		kind += ", " + p.Default + " by default"
	}
	if p.Secret {
		kind += ", secret"
	}
	return kind
}

// all returns the leaves of every operation that a path has, in the order of
// the operations' names.
func (n *node) all(rest string) []*leaf {
	if n == nil {
		return nil
	}
	if rest == "" {
		found := sortedLeaves(n.here)
		if l := n.rest[List]; l != nil {
			found = append(found, l)
		}
		return found
	}
	seg, more, _ := strings.Cut(rest, "/")
	found := n.literal[seg].all(more)
	for _, l := range append(n.name.all(more), sortedLeaves(n.rest)...) {
		if !slices.ContainsFunc(found, func(f *leaf) bool { return f.route.Op == l.route.Op }) {
			found = append(found, l)
		}
	}
	return found
}

func sortedLeaves(m map[Op]*leaf) []*leaf {
	var all []*leaf
	for _, l := range m {
		all = append(all, l)
	}
	slices.SortFunc(all, func(a, b *leaf) int { return strings.Compare(string(a.route.Op), string(b.route.Op)) })
	return all
}
