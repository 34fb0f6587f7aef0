package route

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/keyturn/keyturn/internal/secret"
)

// Shown is the path without secrets, for the audit log, logs, errors, lists of requests, and the
// creation_path of wrapped answers. After a route was found, the segments that it declares secret
// are replaced by their names, such as "auth/token/lookup/[token]". Before that, and without a
// route, see [Redact].
//
// Path is for routing, policies and the handler.
func (r *Request) Shown() string {
	if r.shown != "" {
		return r.shown
	}
	return Redact(string(r.Path))
}

// shownRest is Shown below the mount.
func (r *Request) shownRest() string { return strings.TrimPrefix(r.Shown(), r.Mount.Path) }

// Secret returns the secret segment of the path, and its name in the route's pattern. If there is
// none, the name is empty.
func (r *Request) Secret() (name string, value secret.Value) {
	if r.secret.name == "" {
		return "", secret.Value{}
	}
	return r.secret.name, secret.Text(r.secret.value)
}

// WithRequestPath returns the route with a parameter that is a path of the API, which a client
// asks about. A token in it is hidden.
func (r Route) WithRequestPath(name string) Route {
	r.hide = map[string]func(string) string{name: Redact}
	return r
}

// hideSecret finds the segment that is a secret.Value in In.
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

// found sets what [Request.Shown] returns, after l was found as the route.
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
