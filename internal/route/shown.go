package route

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/keyturn/keyturn/internal/secret"
)

// Shown is the path as others may read it: in the audit log, in logs, in errors, in lists of
// requests, as the creation_path of a wrapped answer. Once a route was found, exactly the segments
// that it declares secret are replaced by their names, such as "auth/token/lookup/[token]". Before
// that, and where there is no route, see [Redact].
//
// Path is for what acts on the path: routing, policies and the handler.
func (r *Request) Shown() string {
	if r.shown != "" {
		return r.shown
	}
	return Redact(string(r.Path))
}

// shownRest is Shown below the mount.
func (r *Request) shownRest() string { return strings.TrimPrefix(r.Shown(), r.Mount.Path) }

// Secret returns the segment of the path that is a secret and the name that the route's pattern
// gives to it. Without one, the name is empty.
func (r *Request) Secret() (name string, value secret.Value) {
	if r.secret.name == "" {
		return "", secret.Value{}
	}
	return r.secret.name, secret.Text(r.secret.value)
}

// WithRequestPath returns the route with a parameter that is itself a path of the API, such as a
// client asks about before it sends a request to it. A token may stand in it, which is hidden.
func (r Route) WithRequestPath(name string) Route {
	r.hide = map[string]func(string) string{name: Redact}
	return r
}

// hideSecret finds the segment that In takes as a secret.
func (r *Route) hideSecret() error {
	if r.In.Kind() != reflect.Struct {
		return nil
	}
	for _, p := range pathFields(r.In) {
		if !p.secret {
			continue
		}
		if len(r.hide) > 0 {
			return fmt.Errorf("route: %s %s hides more than one part of its path", r.Op, r.Pattern)
		}
		r.hidden = p.name
		r.hide = map[string]func(string) string{p.name: func(string) string { return "[" + p.name + "]" }}
	}
	return nil
}

// found notes in r what others may read of the path, now that l is its route.
func (r *Request) found(l found) {
	r.shown, r.secret = string(r.Path), param{}
	if len(l.route.hide) == 0 {
		return
	}
	var b strings.Builder
	b.WriteString(r.Mount.Path)
	values := l.values
	for i, seg := range strings.Split(strings.TrimSuffix(l.route.Pattern, "/"), "/") {
		if i > 0 {
			b.WriteByte('/')
		}
		name, ok := strings.CutPrefix(seg, "{")
		if !ok {
			b.WriteString(seg)
			continue
		}
		name, _, _ = strings.Cut(strings.TrimSuffix(name, "}"), "...")
		value := values[0]
		values = values[1:]
		if hide := l.route.hide[name]; hide != nil {
			if l.route.hidden == name {
				r.secret = param{name, value}
			}
			value = hide(value)
		}
		b.WriteString(value)
	}
	r.shown = b.String()
}
