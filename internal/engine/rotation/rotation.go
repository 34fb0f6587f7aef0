// Package rotation is the engine that rotates the keys of third-party providers. A rotation
// creates a new key, verifies it, publishes it to a KV path, gives every reader time to read it,
// retires the old key and verifies that the old key is dead.
//
// This folder holds the contract of a [Provider] of keys (provider.go) and the engine's routes.
// The folder also makes a key a target of [rotate], which stores the records and runs the
// rotations.
package rotation

import (
	"context"
	"iter"
	"strings"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage"
)

// backend is the engine of one mount.
type backend struct {
	keys     *keys
	external externals
	recipes  recipeRoutes
}

// New returns the engine for these providers. The providers connect through the host's guarded
// dialer.
func New(ps ...Provider) engine.Type { return NewWith(Network{}, ps...) }

// NewWith is New with a network of the caller's choice. If n.Dial is nil, the providers connect
// through the host's guarded dialer.
func NewWith(n Network, ps ...Provider) engine.Type {
	return engine.Type{Name: "rotation", Open: func(ctx context.Context, m *engine.Mount) (engine.Engine, error) {
		n := n
		if n.Dial == nil {
			n.Dial = m.Host.Dial
		}
		c := &catalog{m: m, net: n, providers: ps}
		ks := &keys{m: m, catalog: c, config: mountConfigs{m}}
		external := externals{ks}
		ks.rotations = rotate.New(m.Rotations(), ks.kind(), external.kind())
		go ks.rotations.Walk(ctx)
		return &backend{ks, external, recipeRoutes{c, ks}}, nil
	}}
}

// Work implements [engine.Worker].
func (b *backend) Work(ctx context.Context, kind, name string) error {
	return b.keys.rotations.Work(ctx, kind, name)
}

// Rotations implements [engine.Rotator].
func (b *backend) Rotations() *rotate.Manager { return b.keys.rotations }

// Reserved implements [engine.Publisher].
func (b *backend) Reserved(ctx context.Context) iter.Seq2[engine.Reservation, error] {
	return func(yield func(engine.Reservation, error) bool) {
		for _, all := range []iter.Seq2[engine.Reservation, error]{b.keys.reserved(ctx), b.external.reserved(ctx)} {
			for r, err := range all {
				if !yield(r, err) {
					return
				}
			}
		}
	}
}

// Overwritten implements [engine.Publisher].
func (b *backend) Overwritten(ctx context.Context, record string, o engine.Overwrite,
	commit func([]storage.Op) error) error {
	if strings.HasPrefix(record, externalPrefix) {
		return b.external.overwritten(ctx, record, o, commit)
	}
	return b.keys.overwritten(ctx, record, o, commit)
}

// Unfinished implements [engine.Keeper]. A rotation in flight may hold keys that only its record
// knows, so Unfinished returns a conflict while there is one.
func (b *backend) Unfinished(ctx context.Context) error {
	_, r, err := b.keys.rotations.Unfinished(ctx)
	if err != nil || r == nil {
		return err
	}
	t := r.Turn
	return fault.New("rotation.disable", fault.Conflict, "rotation %d of key %q is in flight (%s), and nothing "+
		"would finish it once the mount is gone; wait for its end, or disable it with force=true and delete %q at "+
		"the provider yourself", t.N, r.Name, t.State, t.IDs())
}

// Close does nothing, because the engine holds nothing to close.
func (b *backend) Close() error { return nil }

// Routes returns the API of the mount.
func (b *backend) Routes() []route.Route {
	ks := b.keys
	return []route.Route{
		route.On(route.Write, "keys/{name}", ks.write).WithExists(ks.exists).
			WithHelp("Configures a key for rotation. Fields that are not given get their defaults; stored admin " +
				"credentials are kept unless the target changes."),
		route.On(route.Patch, "keys/{name}",
			ks.patch).WithHelp("Changes the fields that are given and keeps the others."),
		route.On(route.Read, "keys/{name}",
			ks.read).WithHelp("Shows a key's configuration and the state of its rotation. Never shows a secret."),
		route.On(route.Delete, "keys/{name}",
			ks.delete).WithHelp("Deletes a key's configuration and history here. Keys at the provider stay valid."),
		route.On(route.List, "keys", ks.list).WithHelp("Lists the keys."),
		route.On(route.Write, "keys/{name}/rotate", ks.rotate).WithHelp(
			"Starts a rotation of a key now. With leaked=true, the old key is retired without waiting for readers."),
		route.On(route.Write, "keys/{name}/rollback", ks.rollback).WithHelp("Rolls back the rotation in flight and " +
			"publishes the previous key again, or another key that is still valid."),
		route.On(route.Write, "keys/{name}/supply",
			byHandRoutes{ks}.supply).WithHelp("Supplies the key that a person has created " +
			"for a rotation of the style manual. The key is verified; one that the provider refuses changes nothing."),
		route.On(route.Write, "keys/{name}/confirm",
			byHandRoutes{ks}.confirm).WithHelp("Confirms that a person has deleted the " +
			"old key of a rotation at the provider."),
		route.On(route.Write, "keys/{name}/pause", ks.pause).WithHelp(
			"Pauses a key: its schedule stops, and so does a rotation in flight before its next step."),
		route.On(route.Write, "keys/{name}/resume", ks.resume).WithHelp("Resumes a paused key."),
		route.On(route.Write, "keys/{name}/rebind",
			ks.rebind).WithSudo().WithHelp("Binds a key to the present text of its recipe."),
		route.On(route.Read, "keys/{name}/history", ks.history).WithHelp("Shows a key's rotations, newest first."),
		route.On(route.Read, "keys/{name}/orphans",
			ks.orphans).WithHelp("Lists the keys that the provider shows with this server's label and that no " +
			"record of the server knows."),
		route.On(route.Write, "keys/{name}/orphans",
			ks.retireOrphan).WithHelp("Retires one such key at the provider, by its ID."),
		route.On(route.Read, "keys/{name}/plan", ks.plan).WithHelp("Shows what will happen to a key, and when."),
		route.On(route.Write, "external/{name}", b.external.write).WithExists(b.external.exists).
			WithHelp("Registers a path whose key somebody else rotates. A write of the path with a key that is " +
				"empty, null, or refused by the provider is refused."),
		route.On(route.Read, "external/{name}", b.external.read).
			WithHelp("Shows a registration, and when its key was last rotated. Never shows a secret."),
		route.On(route.Delete, "external/{name}", b.external.delete).
			WithHelp("Ends a registration. The secret stays as it is, and its writes are not checked any more."),
		route.On(route.List, "external", b.external.list).WithHelp("Lists the registrations."),
		route.On(route.Read, "external/{name}/history", b.external.history).
			WithHelp("Shows the rotations of a registered path, newest first: who wrote a new key, when, and in " +
				"which version."),
		route.On(route.Read, "status", overview{ks.m}.status).WithHelp("Shows every credential that rotates on this " +
			"server, under any engine, and that the caller may read. Credentials that need attention come first."),
		route.On(route.Read, "compliance", overview{ks.m}.compliance).WithHelp("Shows the secrets whose rotation is " +
			"late, the latest first, then those whose dates cannot be judged: what rotates here, and the secrets of " +
			"every versioned key-value mount. Shows only what the caller may read."),
		route.On(route.List, "recipes",
			b.recipes.list).WithHelp("Lists the recipes: those that are built in and those written to this mount."),
		route.On(route.Read, "recipes/{name}", b.recipes.read).WithParam("name", "The recipe's name.").WithHelp(
			"Shows a recipe: its text, its parameters, and the operations that it supports."),
		route.On(route.Write, "recipes/{name}",
			b.recipes.write).WithHelp("Writes a recipe. Keys that are bound to an earlier text keep using that text " +
			"until they are bound again."),
		route.On(route.Delete, "recipes/{name}", b.recipes.delete).WithParam("name",
			"The recipe's name.").WithHelp("Deletes a recipe that no key is bound to."),
		route.On(route.Read, "config",
			ks.config.read).WithHelp("Shows the mount's defaults, and whether rotation is stopped for the mount."),
		route.On(route.Write, "config",
			ks.writeConfig).WithHelp("Sets the mount's defaults. brake=true stops all rotation of the mount."),
	}
}
