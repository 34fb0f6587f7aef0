package cli

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// policyFor returns a policy that allows exactly the requests of a command.
func (c *client) policyFor(ctx context.Context, accesses []access) string {
	var paths []target
	granted := map[target][]string{}
	notes := map[target]string{}
	for _, a := range accesses {
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
		blocks[i] = fmt.Sprintf("%spath %s {\n  capabilities = [\"%s\"]\n}", notes[path], strconv.Quote(string(path)),
			strings.Join(granted[path], `", "`))
	}
	return strings.Join(blocks, "\n\n")
}

// policyNote returns a comment for a block that is not needed, or that allows more than it seems
// to.
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

// needs returns what the route of a request needs besides the capability. It is empty if the route
// needs nothing more or is not known.
func (c *client) needs(ctx context.Context, a access) string {
	if a.op == "help" {
		return "token"
	}
	for _, m := range servedMounts {
		if rest, below := strings.CutPrefix(string(a.path), m.prefix); below {
			return findRoute(served[m.kind], a.op, rest)
		}
	}
	special := false // whether a route of some engine with this path needs more, so that the mount matters
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
	if err != nil || found == nil { // the token may not see the mount: assume the default path of the engine
		kind, rest, _ := strings.Cut(string(a.path), "/")
		return findRoute(served[kind], a.op, rest)
	}
	return findRoute(served[found.servedAs()], a.op, strings.TrimPrefix(string(a.path), found.path))
}

// servedMounts are the mounts whose path is fixed.
var servedMounts = []struct{ prefix, kind string }{{"sys/", "sys"}, {"auth/token/", "token"},
	{"cubbyhole/", "cubbyhole"}}

// servedAs returns the key of the mount's routes in served.
func (m *mountInfo) servedAs() string {
	if m.versioned {
		return "kv-v2"
	}
	return m.kind
}
