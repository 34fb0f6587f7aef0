package main

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/keyturn/keyturn/internal/auth"
	"github.com/keyturn/keyturn/internal/barrier"
	"github.com/keyturn/keyturn/internal/core/node"
	"github.com/keyturn/keyturn/internal/core/sys"
	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/plugins"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/server/httpapi"
	"github.com/keyturn/keyturn/internal/storage/memory"
)

// A table is the routes of one kind of mount.
type table struct {
	name   string // "kv", version 2
	at     string // the usual mount: "secret/"
	about  string
	routes []route.Route
}

func (t table) file() string { return "api-" + strings.ReplaceAll(t.name, " ", "-") + ".md" }

// places maps an engine to its mount in the examples, and its description.
var places = map[string][2]string{
	"aws":       {"aws/", "AWS credentials that expire with their leases, and rotation of access keys."},
	"cubbyhole": {"cubbyhole/", "Private storage of each token, deleted with the token."},
	"database":  {"database/", "Database credentials that expire with their leases, and rotation of passwords."},
	"kv":        {"secret/", "Secrets without versions. Mount it with version=1."},
	"kv-v2":     {"secret/", "Secrets with versions. Mount it with version=2."},
	"rotation":  {"rotation/", "Rotation of keys that other services issue."},
	"token":     {"auth/token/", "Tokens and token roles."},
}

// tables opens one mount of every kind and returns its routes.
func tables(ctx context.Context) ([]table, error) {
	store := memory.Open()
	root := secret.New(make([]byte, barrier.RootKeySize))
	if err := barrier.Initialize(ctx, store, root); err != nil {
		return nil, err
	}
	b, err := barrier.Open(ctx, store, root)
	if err != nil {
		return nil, err
	}
	all := []table{{
		"sys", "sys/", "The server itself: mounts, policies, leases, wrapping, audit devices.",
		slices.Concat(pagesOfServer(), sys.Routes(sys.Config{}), node.Routes(node.Config{})),
	}}
	for _, m := range plugins.AuthMethods {
		t, err := m.Open(ctx, &auth.Mount{Store: b.View("a/"), Log: slog.New(slog.DiscardHandler),
			Settings: func() auth.Settings { return auth.Settings{} }})
		if err != nil {
			return nil, fmt.Errorf("opening %s: %w", m.Name, err)
		}
		all = append(all, named(m.Name, "auth/"+m.Name+"/", t.Routes()))
	}
	for _, e := range plugins.Engines {
		versions := map[string]map[string]string{e.Name: nil}
		if e.Name == "kv" {
			versions["kv-v2"] = map[string]string{"version": "2"}
		}
		for _, name := range []string{e.Name, e.Name + "-v2"} {
			options, has := versions[name]
			if !has {
				continue
			}
			t, err := e.Open(ctx, &engine.Mount{
				UUID: name, Type: e.Name, Store: b.View("mount/" + name + "/"), Log: slog.New(slog.DiscardHandler),
				Settings: func() engine.Settings { return engine.Settings{Path: e.Name + "/", Options: options} },
			})
			if err != nil {
				return nil, fmt.Errorf("opening %s: %w", name, err)
			}
			all = append(all, named(name, e.Name+"/", t.Routes()))
		}
	}
	return all, nil
}

func named(name, at string, routes []route.Route) table {
	if p, ok := places[name]; ok {
		return table{name, p[0], p[1], routes}
	}
	return table{name, at, "", routes}
}

// pagesOfServer returns the routes that are served while sealed, relative to sys/.
func pagesOfServer() []route.Route {
	all := httpapi.Pages()
	for i := range all {
		all[i].Pattern = strings.TrimPrefix(all[i].Pattern, "sys/")
	}
	return all
}

// verbs are the methods of operations.
var verbs = map[route.Op]string{route.Read: "GET", route.Write: "POST", route.Delete: "DELETE", route.List: "LIST",
	route.Patch: "PATCH"}

const head = "<!-- Written by `make generate` from the code; a change here is lost. -->\n\n"

// page returns the Markdown of one kind of mount.
func (t table) page() string {
	var b strings.Builder
	fmt.Fprintf(&b, head+"# %s\n\n%s Paths are below `/v1/%s`, or wherever else it is mounted.\n", t.name, t.about,
		t.at)
	if t.name == "sys" || t.name == "token" || t.name == "cubbyhole" {
		b.Reset()
		fmt.Fprintf(&b, head+"# %s\n\n%s Paths are below `/v1/%s`.\n", t.name, t.about, t.at)
	}
	for i := range t.routes {
		r := &t.routes[i]
		fmt.Fprintf(&b, "\n## %s %s%s\n\n%s%s\n", verbs[r.Op], t.at, r.Pattern, r.Help, notes(r))
		params := r.Params()
		if len(params) == 0 {
			continue
		}
		b.WriteString("\n| parameter | in | type | default | what it is for |\n|---|---|---|---|---|\n")
		for _, p := range params {
			kind := p.Type
			if p.Secret {
				kind += ", secret"
			}
			row(&b, "`"+p.Name+"`", p.In, kind, orDash(p.Default), p.Doc)
		}
	}
	return b.String()
}

// notes returns the remarks about policies and leases of a route.
func notes(r *route.Route) string {
	var s string
	if r.Public {
		s += " No token is needed."
	}
	if r.Sudo {
		s += " Needs the capability `sudo`."
	}
	if r.Leased() {
		s += " The answer carries a lease."
	}
	if r.Exists != nil {
		s += " Needs `create` if nothing exists at the path, else `update`."
	}
	return s
}

func orDash(s string) string {
	if s == "" {
		return "–"
	}
	return s
}

// row writes a row of a table.
func row(b *strings.Builder, cells ...string) {
	for _, c := range cells {
		b.WriteString("| " + strings.ReplaceAll(strings.Join(strings.Fields(c), " "), "|", "\\|") + " ")
	}
	b.WriteString("|\n")
}

// index returns the page with links to the others.
func index(mounts []table) string {
	var b strings.Builder
	b.WriteString(head + "# Reference\n\nThe API, which follows Vault's API wherever Vault has the same feature:\n\n")
	for _, t := range mounts {
		fmt.Fprintf(&b, "- [%s](%s) – %s\n", t.name, t.file(), t.about)
	}
	b.WriteString(`
Other references:

- [cli.md](cli.md) – every command and its flags
- [config.md](config.md) – the server's configuration
- [metrics.md](metrics.md) – every series for Prometheus

A write is POST or PUT. LIST is also GET with ` + "`list=true`" + `. A duration is a number of seconds or text such as ` + "`1h30m`" + `. A list may also be
text with commas. GET with ` + "`help=1`" + ` shows the parameters of a path. The audit log contains a parameter marked *secret* only as a hash. An unknown
field is answered with a warning.

An update treats the fields of an existing object as follows, unless its page says otherwise:

- A field that is left out keeps its value.
- *null* clears the field: its default applies again. If there is no default, the write is refused.
- An empty text keeps a duration, a number or a boolean, because some clients send it for fields that nobody has set.
- 0 of a duration or a number means "not configured".
- For TTLs of mounts, *system* means the server's TTL.
`)
	return b.String()
}
