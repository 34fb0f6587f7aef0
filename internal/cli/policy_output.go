package cli

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
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

// capabilities are those that a request needs but for sudo. The policy of a write
// grants both of its kinds: which of them it is depends on what is there.
var capabilities = map[string][]string{
	"read": {"read"}, "update": {"create", "update"}, "patch": {"patch"}, "delete": {"delete"}, "list": {"list"}, "help": {"read"},
}

// policyFor is a policy that allows what a command asks for, and no more.
func (c *client) policyFor(ctx context.Context, asks []ask) string {
	var paths []target
	granted := map[target][]string{}
	notes := map[target]string{}
	for _, a := range asks {
		if _, seen := granted[a.path]; !seen {
			paths = append(paths, a.path)
		}
		caps := capabilities[a.op]
		needs := c.needs(ctx, a)
		if needs == "sudo" {
			caps = append(slices.Clip(caps), "sudo")
		}
		for _, capability := range caps {
			if !slices.Contains(granted[a.path], capability) {
				granted[a.path] = append(granted[a.path], capability)
			}
		}
		notes[a.path] = policyNote(a.path, needs)
	}
	blocks := make([]string, len(paths))
	for i, path := range paths {
		blocks[i] = fmt.Sprintf("%spath %s {\n  capabilities = [\"%s\"]\n}", notes[path], strconv.Quote(string(path)), strings.Join(granted[path], `", "`))
	}
	return strings.Join(blocks, "\n\n")
}

// policyNote is a comment where a block says less, or more, than one may think.
func policyNote(path target, needs string) string {
	switch {
	case needs == "nothing":
		return "# Needs no token, and so no policy.\n"
	case needs == "token":
		return "# Every token may do this; no policy is needed.\n"
	case strings.HasSuffix(string(path), "*") || slices.Contains(strings.Split(string(path), "/"), "+"):
		return "# In a policy, + stands for any segment and * at the end for any text.\n"
	}
	return ""
}

// needs is what the route of an ask needs besides the capability; empty: nothing
// more, or the server is not known to have the route.
func (c *client) needs(ctx context.Context, a ask) string {
	if a.op == "help" {
		return "token"
	}
	for _, m := range servedMounts {
		if rest, below := strings.CutPrefix(string(a.path), m.prefix); below {
			return findRoute(served[m.kind], a.op, rest)
		}
	}
	special := false // a path that is the same below every mount needs no look at the mount
	for kind, routes := range served {
		for i := range strings.Count(string(a.path), "/") {
			rest := strings.SplitN(string(a.path), "/", i+2)[i+1]
			special = special || kind != "sys" && findRoute(routes, a.op, rest) != ""
		}
	}
	if !special {
		return ""
	}
	found, err := c.mountOf(ctx, a.path)
	if err != nil || found == nil { // not known to this token: as it is usually mounted
		kind, rest, _ := strings.Cut(string(a.path), "/")
		return findRoute(served[kind], a.op, rest)
	}
	return findRoute(served[found.servedAs()], a.op, strings.TrimPrefix(string(a.path), found.path))
}

// servedMounts are the mounts that are always at one path.
var servedMounts = []struct{ prefix, kind string }{{"sys/", "sys"}, {"auth/token/", "token"}, {"cubbyhole/", "cubbyhole"}}

// servedAs is the name of the mount's routes.
func (m *foundMount) servedAs() string {
	if m.versioned {
		return "kv-v2"
	}
	return m.kind
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
