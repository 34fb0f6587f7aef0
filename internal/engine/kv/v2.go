package kv

import (
	"context"
	"fmt"
	"net/http"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
)

// Routes of version 2.
func (v *versioned) Routes() []route.Route {
	all := []route.Route{
		route.On(route.Read, "config", v.readConfig).WithHelp("Read the mount's settings."),
		route.On(route.Write, "config", v.writeConfig).WithHelp("Change the mount's settings."),
		route.On(route.Read, "data/{path...}", v.read).WithLeaf().WithHelp("Read a version of a secret."),
		route.On(route.Write, "data/{path...}", v.write).WithExists(v.exists).WithLeaf().
			WithHelp("Write a new version of a secret."),
		route.On(route.Patch, "data/{path...}", v.patch).WithLeaf().
			WithHelp("Merge into the current version, as a new one."),
		route.On(route.Delete, "data/{path...}", v.deleteLatest).WithLeaf().
			WithHelp("Soft-delete the newest version."),
		route.On(route.Write, "delete/{path...}", v.deleteVersions).WithLeaf().WithHelp("Soft-delete versions."),
		route.On(route.Write, "undelete/{path...}", v.undelete).WithLeaf().WithHelp("Undo a soft delete."),
		route.On(route.Write, "destroy/{path...}", v.destroy).WithLeaf().WithHelp("Destroy versions for good."),
		route.On(route.Read, "subkeys/{path...}", v.subkeys).WithLeaf().
			WithHelp("Read the structure of a version, without values."),
		route.On(route.Read, "metadata/{path...}", v.readMeta).WithLeaf().WithHelp("Read a secret's metadata."),
		route.On(route.Write, "metadata/{path...}", v.writeMeta).WithExists(v.exists).WithLeaf().
			WithHelp("Change a secret's settings and custom metadata."),
		route.On(route.Patch, "metadata/{path...}", v.patchMeta).WithLeaf().
			WithHelp("Merge into a secret's settings and custom metadata."),
		route.On(route.Delete, "metadata/{path...}", v.deleteMeta).WithLeaf().
			WithHelp("Delete a secret with all its versions."),
		route.On(route.List, "metadata/{path...}", v.listMeta).WithHelp("List the names below a folder."),
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

var _ engine.Versioned = (*versioned)(nil)
