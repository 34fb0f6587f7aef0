package cli

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

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
