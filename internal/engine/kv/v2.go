package kv

import (
	"context"
	"fmt"
	"net/http"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
)

// versioned is KV version 2.
type versioned struct {
	mount   *engine.Mount
	secrets *secrets
	walk    *ageWalk
}

var (
	_ engine.Versioned = (*versioned)(nil)
	_ engine.Aged      = (*versioned)(nil)
)

func openVersioned(ctx context.Context, m *engine.Mount) (engine.Engine, error) {
	t := &table{mount: m, latches: newLatches()}
	if _, err := t.settings(ctx); err != nil {
		return nil, err
	}
	u := &upgrade{table: t}
	w := &ageWalk{table: t}
	if err := w.start(ctx); err != nil {
		return nil, err
	}
	return &versioned{mount: m, secrets: &secrets{table: t, upgrade: u}, walk: w}, u.start(ctx)
}

// Close has nothing to close.
func (v *versioned) Close() error { return nil }

// Routes of version 2.
func (v *versioned) Routes() []route.Route {
	config, data, metadata := configAPI{v.secrets.table}, dataAPI{v.secrets}, metadataAPI{v.secrets}
	all := []route.Route{
		route.On(route.Read, "config", config.read).WithHelp("Read the mount's settings."),
		route.On(route.Write, "config", config.write).WithHelp("Change the mount's settings."),
		route.On(route.Read, "data/{path...}", data.read).WithLeaf().WithHelp("Read a version of a secret."),
		route.On(route.Write, "data/{path...}", data.write).WithExists(data.exists).WithLeaf().
			WithHelp("Write a new version of a secret."),
		route.On(route.Patch, "data/{path...}", data.patch).WithLeaf().
			WithHelp("Merge into the current version, as a new one."),
		route.On(route.Delete, "data/{path...}", data.deleteLatest).WithLeaf().
			WithHelp("Soft-delete the newest version."),
		route.On(route.Write, "delete/{path...}", data.deleteVersions).WithLeaf().WithHelp("Soft-delete versions."),
		route.On(route.Write, "undelete/{path...}", data.undelete).WithLeaf().WithHelp("Undo a soft delete."),
		route.On(route.Write, "destroy/{path...}", data.destroy).WithLeaf().WithHelp("Destroy versions for good."),
		route.On(route.Read, "subkeys/{path...}", data.subkeys).WithLeaf().
			WithHelp("Read the structure of a version, without values."),
		route.On(route.Read, "metadata/{path...}", metadata.read).WithLeaf().WithHelp("Read a secret's metadata."),
		route.On(route.Write, "metadata/{path...}", metadata.write).WithExists(data.exists).WithLeaf().
			WithHelp("Change a secret's settings and custom metadata."),
		route.On(route.Patch, "metadata/{path...}", metadata.patch).WithLeaf().
			WithHelp("Merge into a secret's settings and custom metadata."),
		route.On(route.Delete, "metadata/{path...}", metadata.remove).WithLeaf().
			WithHelp("Delete a secret with all its versions."),
		route.On(route.List, "metadata/{path...}", metadata.list).WithHelp("List the names below a folder."),
	}
	for _, verb := range []struct {
		op      route.Op
		command string
	}{{route.Read, "get"}, {route.Write, "put"}, {route.Patch, "patch"}, {route.Delete, "delete"}, {route.List,
		"list"}} {
		all = append(all, route.On(verb.op, "{path...}", wrongVersion(verb.op, verb.command)).
			WithHelp("Not a path of version 2: the answer names the right one."))
	}
	return all
}

// wrongVersion answers requests in the form of version 1. For reads it uses a warning, because
// clients do not show the error of a 404.
func wrongVersion(op route.Op, command string) func(context.Context, *route.Request, writeIn) (route.None, error) {
	at := "data/"
	if op == route.List {
		at = "metadata/"
	}
	return func(_ context.Context, r *route.Request, in writeIn) (route.None, error) {
		hint := fmt.Sprintf(
			"%q is version 2 of the key-value engine, and nothing is at %q: use %q, or \"kv %s\" on the command line",
			r.Mount.Path, r.Shown(), r.Mount.Path+at+in.Path, command)
		if op != route.Read && op != route.List {
			return route.None{}, fault.New("kv.elsewhere", fault.NotFound, "%s", hint)
		}
		r.SetStatus(http.StatusNotFound)
		r.Warn("%s", hint)
		return route.None{}, nil
	}
}
