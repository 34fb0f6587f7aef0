package cli

import (
	"net/http"
	"strings"

	"github.com/hashicorp/vault/api"
)

// A servedRoute is one route of the server's, as policies see it. What they are is
// generated from the server's own tables (served.go).
type servedRoute struct {
	op      string // read, update, patch, delete or list
	pattern string // below the mount: {name} is one segment, {name...} the rest
	needs   string // sudo: that, too; token: any token, and no policy; nothing: not even a token
}

// capabilities are those that a request needs but for sudo. The policy of a write
// grants both of its kinds: which of them it is depends on what is there.
var capabilities = map[string][]string{
	"read": {"read"}, "update": {"create", "update"}, "patch": {"patch"}, "delete": {"delete"}, "list": {"list"}, "help": {"read"},
}

// findRoute is what the route of a path needs: a literal segment goes before a
// name, and a name before the rest.
func findRoute(routes []servedRoute, op, rest string) string {
	needs, best := "", ""
	for _, r := range routes {
		if rank := r.match(op, rest); rank > best {
			needs, best = r.needs, rank
		}
	}
	return needs
}

// match is how well the pattern fits: a letter for each segment, the later the
// better, and empty where it does not.
func (r servedRoute) match(op, rest string) string {
	if r.op != op {
		return ""
	}
	rank, segments := "", strings.Split(strings.TrimSuffix(rest, "/"), "/")
	for pattern := range strings.SplitSeq(r.pattern, "/") {
		switch {
		case strings.HasSuffix(pattern, "...}"):
			if len(segments) == 0 && op != "list" {
				return ""
			}
			return rank + "a"
		case len(segments) == 0:
			return ""
		case strings.HasPrefix(pattern, "{"):
			rank += "b"
		case pattern == segments[0]:
			rank += "c"
		default:
			return ""
		}
		segments = segments[1:]
	}
	if len(segments) > 0 {
		return ""
	}
	return rank
}

// An ask is a request as a policy sees it.
type ask struct {
	op   string // as of a route; or help
	path target
}

// askOf is the ask of a request that the API library is about to send.
func askOf(r *api.Request, base string) ask {
	a := ask{path: sentTo(strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, base), "/v1/"))}
	switch {
	case r.Params.Get("help") != "":
		a.op = "help"
	case r.Params.Get("list") == "true" || r.Method == "LIST":
		a.op = "list"
	case r.Method == http.MethodPut || r.Method == http.MethodPost:
		a.op = "update"
	case r.Method == http.MethodPatch:
		a.op = "patch"
	case r.Method == http.MethodDelete:
		a.op = "delete"
	default:
		a.op = "read"
	}
	return a
}
