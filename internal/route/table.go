package route

import (
	"fmt"
	"slices"
	"strings"

	"github.com/keyturn/keyturn/internal/fault"
)

// NewTable checks and indexes routes. Two routes for one operation on one
// pattern are an error, and so is a path tag without a name in the pattern.
func NewTable(routes []Route) (*Table, error) {
	t := &Table{routes: slices.Clone(routes), root: &node{}}
	for i := range t.routes {
		if err := t.routes[i].hideSecret(); err != nil {
			return nil, err
		}
		if err := t.add(&t.routes[i]); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// Routes returns the routes in their original order.
func (t *Table) Routes() []Route { return slices.Clone(t.routes) }

func (t *Table) add(r *Route) error {
	n := t.root
	var names []string
	pattern := strings.TrimSuffix(r.Pattern, "/")
	segs := strings.Split(pattern, "/")
	if pattern == "" {
		segs = nil
	}
	leafOf := func(m *map[Op]*leaf) error {
		if *m == nil {
			*m = map[Op]*leaf{}
		}
		if (*m)[r.Op] != nil {
			return fmt.Errorf("route: two routes for %s %s", r.Op, r.Pattern)
		}
		(*m)[r.Op] = &leaf{r, names}
		return nil
	}
	for _, seg := range segs {
		switch {
		case strings.HasPrefix(seg, "{") && strings.HasSuffix(seg, "...}"):
			names = append(names, seg[1:len(seg)-4])
			return leafOf(&n.rest)
		case strings.HasPrefix(seg, "{"):
			names = append(names, seg[1:len(seg)-1])
			if n.name == nil {
				n.name = &node{}
			}
			n = n.name
		default:
			if n.literal == nil {
				n.literal = map[string]*node{}
			}
			if n.literal[seg] == nil {
				n.literal[seg] = &node{}
			}
			n = n.literal[seg]
		}
	}
	for _, p := range pathFields(r.In) {
		if !slices.Contains(names, p.name) {
			return fmt.Errorf("route: %s %s has no {%s}", r.Op, r.Pattern, p.name)
		}
	}
	return leafOf(&n.here)
}

// Find returns the route for r, and stores the parts of the path in r. An unknown path is
// NotFound, a path without this operation Unsupported. Reading an empty name is NotFound without a
// message, because clients use it as a probe.
func (t *Table) Find(r *Request) (*Route, error) {
	rest := strings.TrimSuffix(r.Rest, "/")
	r.shown, r.secret = "", param{}
	var values [8]string
	l, why := t.root.find(rest, r.tableOp(), values[:0])
	if l.leaf == nil {
		switch why {
		case noName:
			return nil, fault.New("route.Find", fault.NotFound, "")
		case noOperation:
			return nil, fault.New("route.Find", fault.Unsupported,
				"the operation %q is not supported on this path; ?help=1 lists those that are", r.Op)
		}
		return nil, fault.New("route.Find", fault.NotFound,
			"there is no route for %q below %q; ?help=1 on the mount lists its paths", r.shownRest(), r.Mount.Path)
	}
	r.found(l)
	if r.Folder && l.route.Leaf {
		return nil, r.folder()
	}
	r.params = make([]param, len(l.names))
	for i, v := range l.values {
		if err := l.route.check(l.names[i], v, r.Op); err != nil {
			return nil, err
		}
		r.params[i] = param{l.names[i], v}
	}
	return l.route, nil
}

// check refuses a name in the path that is not canonical.
func (r *Route) check(name, given string, op Op) error {
	canon := r.spell[name]
	if canon == nil || op == Help {
		return nil
	}
	want, err := canon(given)
	if err == nil && want != given {
		err = fault.New("route.Find", fault.Invalid,
			"the path is refused: the name %q is not in its canonical form; write %q", given, want)
	}
	return err
}

// folder is the error for a path that ends in a slash where names do not.
func (r *Request) folder() error {
	if r.Op == Read {
		return fault.New("route.Find", fault.NotFound,
			"there is nothing at %q, because no name ends in a slash; read %q, or list the folder", r.Shown()+"/",
			r.Shown())
	}
	return fault.New("route.Find", fault.Invalid,
		"the path %q is refused, because names do not end in a slash; leave it out, as in %q", r.Shown()+"/",
		r.Shown())
}

// tableOp is the operation by which routes are found.
func (r *Request) tableOp() Op {
	if r.Op == Create {
		return Write
	}
	return r.Op
}

// A miss is why no route was found. Of several reasons, the greatest is reported.
type miss int

const (
	noPath      miss = iota // nothing is served there
	noOperation             // the path has routes for other operations
	noName                  // the read of a name that is empty
)

// find walks the tree: literals before names before the rest, which does not match what a literal
// matches. It returns a value, to avoid an allocation.
func (n *node) find(rest string, op Op, values []string) (found, miss) {
	if rest == "" {
		if l := n.here[op]; l != nil {
			return found{l, values}, noPath
		}
		l := n.rest[op]
		switch {
		case l != nil && op == List:
			return found{l, append(values, "")}, noPath
		case l != nil && op == Read:
			return found{}, noName
		case len(n.here) > 0 || len(n.rest) > 0:
			return found{}, noOperation
		}
		return found{}, noPath
	}
	seg, more, _ := strings.Cut(rest, "/")
	why := noPath
	for _, next := range []struct {
		n      *node
		values []string
	}{{n.literal[seg], values}, {n.name, append(values, seg)}} {
		if next.n == nil {
			continue
		}
		f, w := next.n.find(more, op, next.values)
		if f.leaf != nil {
			return f, noPath
		}
		why = max(why, w)
	}
	if l := n.rest[op]; l != nil && why == noPath {
		return found{l, append(values, rest)}, noPath
	}
	if len(n.rest) > 0 {
		why = max(why, noOperation)
	}
	return found{}, why
}
