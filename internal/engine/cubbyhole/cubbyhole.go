// Package cubbyhole is the engine in which each token has a private store. No other token can read
// it, not even root, and it is removed with the token.
//
//	c/<token id>/<path>
package cubbyhole

import (
	"context"
	"strings"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/wire"
)

// Type is the cubbyhole engine. Core mounts it once, at cubbyhole/.
var Type = engine.Type{Name: "cubbyhole",
	Single: true, Open: func(_ context.Context, m *engine.Mount) (engine.Engine, error) {
		return &backend{m}, nil
	}}

// prefix precedes the keys of a token's store. Core removes them with the token.
func prefix(tokenID string) string { return "c/" + tokenID + "/" }

type backend struct{ m *engine.Mount }

// Routes of the engine.
func (b *backend) Routes() []route.Route {
	return []route.Route{
		route.On(route.Read, "{path...}", b.read).WithLeaf().WithHelp("Read from the token's own store."),
		route.On(route.Write, "{path...}", b.write).WithExists(b.exists).WithLeaf().
			WithHelp("Write to the token's own store."),
		route.On(route.Delete, "{path...}", b.remove).WithLeaf().WithHelp("Delete from the token's own store."),
		route.On(route.List, "{path...}", b.list).WithHelp("List the token's own store."),
	}
}

// Close has nothing to close.
func (b *backend) Close() error { return nil }

type pathIn struct {
	Path string `path:"path" doc:"The path within the token's own store."`
}

type writeIn struct {
	Path string `path:"path" doc:"The path within the token's own store."`
	//lint:ignore SA5008 the option is wire's
	Data wire.Raw `json:",whole" doc:"The secret, any fields."`
}

func key(r *route.Request, path string) (string, error) {
	if r.Caller == nil || r.Caller.Batch {
		return "", fault.New("cubbyhole", fault.Invalid, "a batch token has no cubbyhole; use a service token")
	}
	return prefix(r.Caller.ID) + path, nil
}

func (b *backend) read(ctx context.Context, r *route.Request, in pathIn) (*wire.Raw, error) {
	k, err := key(r, in.Path)
	if err != nil {
		return nil, err
	}
	e, err := b.m.Store.Get(ctx, k)
	if err != nil || e.Version == 0 {
		return nil, err
	}
	raw := wire.RawOf(e.Value)
	return &raw, nil
}

func (b *backend) write(ctx context.Context, r *route.Request, in writeIn) (route.None, error) {
	k, err := key(r, in.Path)
	if err != nil {
		return route.None{}, err
	}
	if !in.Data.IsObject() {
		return route.None{}, fault.New("cubbyhole.write", fault.Invalid,
			"missing data fields: the request's body must be a JSON object")
	}
	for range 8 { // the token may be renewed or used meanwhile
		guard, err := b.m.Host.Guard(ctx, r.Caller.ID)
		if err != nil {
			return route.None{}, err
		}
		_, err = b.m.Store.CommitWith(ctx, []storage.Op{storage.Set(k, in.Data.Reveal())}, guard)
		if !fault.Is(err, fault.Conflict) {
			return route.None{}, err
		}
	}
	return route.None{}, fault.New("cubbyhole.write", fault.Unavailable,
		"the token is being changed by many requests at once; try again")
}

func (b *backend) remove(ctx context.Context, r *route.Request, in pathIn) (route.None, error) {
	k, err := key(r, in.Path)
	if err != nil {
		return route.None{}, err
	}
	return route.None{}, b.m.Store.Delete(ctx, k)
}

func (b *backend) exists(ctx context.Context, r *route.Request) (bool, error) {
	if r.Caller == nil {
		return false, nil
	}
	return b.m.Store.Has(ctx, prefix(r.Caller.ID)+r.Param("path"))
}

func (b *backend) list(ctx context.Context, r *route.Request, in pathIn) (route.Keys, error) {
	k, err := key(r, in.Path)
	if err != nil {
		return route.Keys{}, err
	}
	if !strings.HasSuffix(k, "/") {
		k += "/"
	}
	var out []string
	for e, err := range b.m.Store.Scan(ctx, k, storage.PrefixEnd(k)) {
		if err != nil {
			return route.Keys{}, err
		}
		name, _, deeper := strings.Cut(strings.TrimPrefix(e.Key, k), "/")
		if deeper {
			name += "/"
		}
		if len(out) == 0 || out[len(out)-1] != name {
			out = append(out, name)
		}
	}
	return route.Keys{Keys: out}, nil
}
