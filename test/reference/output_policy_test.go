package main

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/internal/cli"
	"github.com/keyturn/keyturn/internal/route"
)

// names matches the names in a pattern.
var names = regexp.MustCompile(`\{[^}]*\}`)

// TestOutputPolicyOfEveryRoute compares the policy that the command line prints for each route, at
// its usual mount and at another one, with what the route needs.
func TestOutputPolicyOfEveryRoute(t *testing.T) {
	mounts, err := tables(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mounts {
		places := []string{m.at}
		if !slices.Contains([]string{"sys/", "auth/token/", "cubbyhole/"}, m.at) {
			places = append(places, "team/of/"+m.name+"/")
		}
		for _, at := range places {
			server := httptest.NewServer(describesMount(m, at))
			for i := range m.routes {
				r := &m.routes[i]
				path := at + names.ReplaceAllStringFunc(r.Pattern, func(name string) string {
					if strings.HasSuffix(name, "...}") {
						return "x/y"
					}
					return "x"
				})
				checkPolicy(t, server.URL, r, strings.TrimSuffix(path, "/"))
			}
			server.Close()
		}
	}
}

// describesMount answers the request for the mount of a path, and refuses others.
func describesMount(m table, at string) http.Handler {
	kind, options := m.name, "null"
	if m.name == "kv-v2" {
		kind, options = "kv", `{"version":"2"}`
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/v1/sys/internal/ui/mounts/"+at) {
			fmt.Fprintf(w, `{"data":{"path":%q,"type":%q,"options":%s}}`, at, kind, options)
			return
		}
		w.WriteHeader(http.StatusTeapot)
	})
}

func checkPolicy(t *testing.T, server string, r *route.Route, path string) {
	t.Helper()
	words := map[route.Op][]string{
		route.Read: {"read", path}, route.Write: {"write", path, "a=b"}, route.Patch: {"patch", path, "a=b"},
		route.Delete: {"delete", path}, route.List: {"list", path},
	}[r.Op]
	var stdout, stderr bytes.Buffer
	env := map[string]string{"VAULT_ADDR": server, "VAULT_TOKEN": "x", "HOME": t.TempDir()}
	code := cli.Main(t.Context(), append([]string{"vault", "-output-policy"}, words...), cli.Env{
		Stdout: &stdout, Stderr: &stderr, Getenv: func(name string) string { return env[name] },
	})
	capabilities := map[route.Op]string{route.Read: `"read"`, route.Write: `"create", "update"`,
		route.Patch: `"patch"`, route.Delete: `"delete"`, route.List: `"list"`}[r.Op]
	comment := ""
	switch {
	case r.Public:
		comment = "# Needs no token, and so no policy.\n"
	case r.Own:
		comment = "# Every token may do this; no policy is needed.\n"
	case r.Sudo:
		capabilities += `, "sudo"`
	}
	want := fmt.Sprintf("%spath %q {\n  capabilities = [%s]\n}\n", comment, path, capabilities)
	if code != 0 || stdout.String() != want || stderr.Len() > 0 {
		t.Errorf("%v: exit %d, %s%s\nwant %s", words, code, &stdout, &stderr, want)
	}
}
