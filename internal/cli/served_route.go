package cli

import (
	"net/http"
	"strings"

	"github.com/hashicorp/vault/api"
)

// A servedRoute is one route of the server, as policies see it. served.go, which is generated from
// the server's own tables, lists them.
type servedRoute struct {
	op      string // read, update, patch, delete or list
	pattern string // below the mount: {name} is one segment, {name...} the rest
	needs   string // sudo: also that capability; token: any token without a policy; nothing: no token
}

// capabilities maps an operation to the capabilities that it needs, without sudo. A policy for a
// write grants create and update, because what is stored decides which of them is needed.
var capabilities = map[string][]string{
	"read": {"read"}, "update": {"create", "update"}, "patch": {"patch"}, "delete": {"delete"}, "list": {"list"},
	"help": {"read"},
}

// findRoute returns what the route of a path needs. A literal segment wins over a name, and a name
// over the rest.
func findRoute(routes []servedRoute, op, rest string) string {
	needs, best := "", ""
	for _, r := range routes {
		if rank := r.match(op, rest); rank > best {
			needs, best = r.needs, rank
		}
	}
	return needs
}

// match returns how well the pattern matches: one letter for each segment, in which a later letter
// is better. It is empty if the pattern does not match.
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

// An access is a request as a policy sees it.
type access struct {
	op   string // the op of a route, or help
	path target
}

// accessOf returns the access of a request that the API library is about to send.
func accessOf(r *api.Request, base string) access {
	a := access{path: sentTo(strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, base), "/v1/"))}
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
