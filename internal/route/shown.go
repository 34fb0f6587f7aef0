package route

import (
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"github.com/keyturn/keyturn/internal/secret"
)

// hiddenToken stands where a token stood.
const hiddenToken = "[token]"

// Shown is the path as others may read it: in the audit log, in logs, in errors, in lists of requests, as the
// creation_path of a wrapped answer. Once a route was found, exactly the segments that it declares secret are replaced by
// their names, such as "auth/token/lookup/[token]". Before that, and where there is no route, see [Redact].
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

// Secret returns the segment of the path that is a secret and the name that the route's pattern gives to it. Without one,
// the name is empty.
func (r *Request) Secret() (name string, value secret.Value) {
	if r.secret.name == "" {
		return "", secret.Value{}
	}
	return r.secret.name, secret.Text(r.secret.value)
}

// Redact returns a path without what may be a token in it. It is for paths without a known route, so it hides too much rather than
// too little: what follows a segment that begins with "lookup", "renew" or "revoke" below a login method, what follows a
// segment below auth/token/ that no route has, and a segment that looks like a token, with all that follows it. Case, escapes
// (also repeated ones), empty segments and backslashes make no difference.
func Redact(path string) string {
	decoded := path
	for range 4 { // as deep as ParsePath looks
		next := escape.ReplaceAllStringFunc(decoded, unescape)
		if next == decoded {
			break
		}
		decoded = next
	}
	if short, found := withoutToken(decoded); found {
		return short
	}
	return path
}

// escape is decoded one by one: a path with a bad escape in it hides no token from [Redact].
var escape = regexp.MustCompile(`%[0-9A-Fa-f]{2}`)

func unescape(e string) string {
	b, err := strconv.ParseUint(e[1:], 16, 8)
	if err != nil {
		return e
	}
	return string([]byte{byte(b)})
}

func withoutToken(path string) (short string, found bool) {
	var login, tokens bool // below auth or token; directly below auth/token
	for at := 0; at < len(path); {
		end := len(path)
		if n := strings.IndexAny(path[at:], `/\`); n >= 0 {
			end = at + n
		}
		seg := strings.ToLower(strings.TrimFunc(path[at:end], notLetter))
		switch {
		case looksLikeToken(path[at:end]):
			return path[:at] + hiddenToken, true
		case seg == "": // "//", "/./" and "/../" change nothing
		case login && namesToken(seg), tokens && seg != "create" && seg != "roles":
			if strings.Trim(path[end:], `/\`) == "" {
				return "", false
			}
			return path[:end] + "/" + hiddenToken, true
		default:
			tokens = login && strings.HasPrefix(seg, "token")
			login = login || strings.HasPrefix(seg, "auth") || strings.HasPrefix(seg, "token")
		}
		at = end + 1
	}
	return "", false
}

func notLetter(c rune) bool { return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') }

// namesToken reports whether a token may follow a segment.
func namesToken(seg string) bool {
	return strings.HasPrefix(seg, "lookup") || strings.HasPrefix(seg, "renew") || strings.HasPrefix(seg, "revoke")
}

// looksLikeToken reports whether a segment contains a token by its form, the one of old servers included.
func looksLikeToken(seg string) bool {
	seg = strings.ToLower(seg)
	if strings.Contains(seg, "hvs.") || strings.Contains(seg, "hvb.") || strings.Contains(seg, "hvr.") {
		return true
	}
	return len(seg) >= 24 && (strings.HasPrefix(seg, "s.") || strings.HasPrefix(seg, "b."))
}

// WithRequestPath returns the route with a parameter that is itself a path of the API, such as a client asks about before it sends
// a request to it. A token may stand in it, which is hidden.
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
