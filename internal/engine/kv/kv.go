// Package kv is the key/value engine, unversioned (1) and versioned (2).
//
// Version 1 keeps a secret at d/<path>. Version 2 keeps
//
//	m/<path>                  the metadata record: settings, and each version's times
//	v/<path>\x00<version>     the data of one version, ten digits
//	next/<unix s, 16 hex>/<path>  index of next_rotation, for what is overdue
//
// A write commits the new version with an assertion of the metadata's version,
// so that two writers never make the same one. The data and the
// metadata of a version are one commit; so is the event that tells of it.
package kv

import (
	"context"
	"hash/maphash"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage"
)

// Type is the key/value engine.
var Type = engine.Type{Name: "kv", Options: options, Open: open}

func options(in map[string]string) (map[string]string, error) {
	out := map[string]string{"version": "1"}
	for k, v := range in {
		if k != "version" {
			return nil, fault.New("kv.options", fault.Invalid, "options: %q is not an option of kv; it has \"version\"", k)
		}
		if v != "1" && v != "2" {
			return nil, fault.New("kv.options", fault.Invalid, "options.version must be \"1\" or \"2\", not %q", v)
		}
		out[k] = v
	}
	return out, nil
}

func open(ctx context.Context, m *engine.Mount) (engine.Engine, error) {
	b := &backend{m: m, seed: maphash.MakeSeed()}
	if m.Settings().Options["version"] != "2" {
		return &unversioned{b}, nil
	}
	v := &versioned{backend: b}
	if err := v.begin(ctx); err != nil {
		return nil, err
	}
	return v, nil
}

// backend is what both versions share.
type backend struct {
	m    *engine.Mount
	seed maphash.Seed
	// latches order the writers of one path, so that a write without CAS does
	// not meet a conflict with its neighbour again and again.
	latches [256]sync.Mutex
}

func (b *backend) latch(path string) func() {
	l := &b.latches[maphash.String(b.seed, path)%uint64(len(b.latches))]
	l.Lock()
	return l.Unlock
}

// Close has nothing to close.
func (b *backend) Close() error { return nil }

// listIn is the request of a listing, in pages if the client wants.
type listIn struct {
	Path  string `path:"path" doc:"The folder."`
	After string `json:"after" doc:"Begin behind this name."`
	Limit int    `json:"limit" default:"all" doc:"How many names at most."`
}

// list returns the names directly below a folder of keys, seeking past what
// is deeper.
func (b *backend) list(ctx context.Context, base string, in listIn) (route.Keys, error) {
	folder := base
	if p := strings.Trim(in.Path, "/"); p != "" {
		folder += p + "/"
	}
	from := folder
	if in.After != "" {
		from = folder + in.After + "\x00"
		if strings.HasSuffix(in.After, "/") {
			from = storage.PrefixEnd(folder + in.After)
		}
	}
	var names []string
	for in.Limit <= 0 || len(names) < in.Limit {
		key := ""
		for e, err := range b.m.Store.Scan(ctx, from, storage.PrefixEnd(folder)) {
			if err != nil {
				return route.Keys{}, err
			}
			key = e.Key
			break
		}
		if key == "" {
			break
		}
		name, _, deeper := strings.Cut(strings.TrimPrefix(key, folder), "/")
		from = key + "\x00"
		if deeper {
			name += "/"
			from = storage.PrefixEnd(folder + name)
		}
		// "a" sorts before "a/b" but "a-" stands between: the same folder
		// can come once only, since all of it was sought past.
		names = append(names, name)
	}
	return route.Keys{Keys: names}, nil
}

// upgrade is the state of a mount that becomes versioned.
type upgrade struct{ running atomic.Bool }
