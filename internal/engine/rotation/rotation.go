// Package rotation is the engine that rotates keys which others issue: it creates
// the new key, verifies it, publishes it to a KV path, gives every reader time, retires the
// old key and verifies that it is dead.
//
// This folder holds the contract of a [Provider] of keys (provider.go), the
// engine's routes, and a key as a target of [rotate], which keeps the records and rotates them.
package rotation

import (
	"context"
	"crypto/x509"
	"net"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/route"
)

// A Network is how providers' APIs are reached.
type Network struct {
	Dial  func(ctx context.Context, network, address string) (net.Conn, error)
	Roots *x509.CertPool // nil: the system's
}

// New returns the engine for these providers. Their calls go out by the host's
// guarded dialer.
func New(ps ...Provider) engine.Type { return NewWith(Network{}, ps...) }

// NewWith is New with a way out of its own.
func NewWith(n Network, ps ...Provider) engine.Type {
	return engine.Type{Name: "rotation", Open: func(ctx context.Context, m *engine.Mount) (engine.Engine, error) {
		n := n
		if n.Dial == nil {
			n.Dial = m.Host.Dial
		}
		b := &backend{catalog: &catalog{m: m, net: n, providers: ps}}
		b.rotations = b.manager()
		go b.rotations.Walk(ctx)
		return b, nil
	}}
}

// backend is the engine of one mount.
type backend struct {
	*catalog
	rotations *rotate.Manager
}

// Work implements [engine.Worker].
func (b *backend) Work(ctx context.Context, kind, name string) error {
	return b.rotations.Work(ctx, kind, name)
}

// Rotations implements [engine.Rotator].
func (b *backend) Rotations() *rotate.Manager { return b.rotations }

// Close has nothing to close.
func (b *backend) Close() error { return nil }

// Routes are the mount's API.
func (b *backend) Routes() []route.Route {
	return []route.Route{
		route.On(route.Write, "keys/{name}", b.writeKey).WithExists(b.keyExists).
			WithHelp("Configures a key to be turned. All that is not given has its default; the admin credentials stay where their target does."),
		route.On(route.Patch, "keys/{name}", b.patchKey).WithHelp("Changes what is given and leaves the rest."),
		route.On(route.Read, "keys/{name}", b.readKey).WithHelp("Shows a key's configuration and where it stands. Never shows a secret."),
		route.On(route.Delete, "keys/{name}", b.deleteKey).WithHelp("Forgets a key. What lives at the provider lives on."),
		route.On(route.List, "keys", b.listKeys).WithHelp("Lists the keys."),
		route.On(route.Write, "keys/{name}/rotate", b.rotate).WithHelp("Turns a key now. leaked=true does not wait for readers."),
		route.On(route.Write, "keys/{name}/rollback", b.rollback).WithHelp("Publishes the key before again, or another one that still lives, and takes the turn in flight back."),
		route.On(route.Write, "keys/{name}/pause", b.pause).WithHelp("Stops a key where it stands."),
		route.On(route.Write, "keys/{name}/resume", b.resume).WithHelp("Lets a paused key go on."),
		route.On(route.Write, "keys/{name}/rebind", b.rebind).WithSudo().WithHelp("Binds a key to its recipe as it is now."),
		route.On(route.Read, "keys/{name}/history", b.history).WithHelp("Shows a key's turns, the newest first."),
		route.On(route.Read, "keys/{name}/orphans", orphans{b}.list).WithHelp("Lists what the provider shows with our label and no record knows."),
		route.On(route.Write, "keys/{name}/orphans", orphans{b}.retire).WithHelp("Retires one of these, by its ID."),
		route.On(route.Read, "keys/{name}/plan", b.plan).WithHelp("Shows what will happen to a key and when."),
		route.On(route.Read, "status", overview{b}.status).WithHelp("Shows everything that rotates on this server and that the caller may read, whichever engine rotates it, trouble first."),
		route.On(route.List, "recipes", b.listRecipes).WithHelp("Lists the recipes, built in and written here."),
		route.On(route.Read, "recipes/{name}", b.readRecipe).WithParam("name", "The recipe's name.").WithHelp("Shows a recipe: its text, what it needs, what it can."),
		route.On(route.Write, "recipes/{name}", written{b}.writeRecipe).WithHelp("Writes a recipe. Keys bound to an earlier text stay with it until they are bound anew."),
		route.On(route.Delete, "recipes/{name}", written{b}.deleteRecipe).WithParam("name", "The recipe's name.").WithHelp("Deletes a recipe that no key is bound to."),
		route.On(route.Read, "config", b.readConfig).WithHelp("Shows the mount's defaults and its brake."),
		route.On(route.Write, "config", b.writeConfig).WithHelp("Sets the mount's defaults; brake=true stops all turning."),
	}
}
