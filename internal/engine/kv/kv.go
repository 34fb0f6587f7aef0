// Package kv is the key/value engine, unversioned (1) and versioned (2).
//
// Version 1 keeps a secret at d/<path>. Version 2 keeps
//
//	m/<path>                  the metadata record: settings, and each version's times
//	v/<path>\x00<version>     the data of one version, ten digits
//	next/<unix s, 16 hex>/<path>  index of next_rotation, for what is overdue
//	config                    the mount's settings
//	upgraded                  nothing, since the mount is versioned
//
// A mount becomes versioned in the commit that changes its option and writes "upgraded", whose absence every write of
// version 1 asserts: no server can write to d/ after it. What is at d/ then becomes a version of its secret when it is first
// asked for, or in the background. Nothing leads back to version 1.
//
// A write commits the new version with an assertion of the metadata's version,
// so that two writers never make the same one. The data and the
// metadata of a version are one commit; so is the event that tells of it.
package kv

import (
	"context"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage"
)

// Type is the key/value engine.
var Type = engine.Type{Name: "kv", Aliases: []string{"generic"}, Options: options, Open: open}

// versionOption is the one option that is read; without it, or "1", the mount is unversioned.
const versionOption = "version"

func options(was, want map[string]string) (engine.Options, error) {
	const op = "kv.options"
	out := engine.Options{Stored: want}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if name != versionOption {
			out.Warnings = append(out.Warnings, fmt.Sprintf("the option %q is kept and has no effect: kv reads \"version\" alone; settings such as max_versions go to config below the mount", name))
		}
	}
	version, given := want[versionOption]
	switch {
	case given && version != "1" && version != "2":
		return engine.Options{}, fault.New(op, fault.Invalid, "options.version must be \"1\" or \"2\", not %q", version)
	case isVersioned(was) && !isVersioned(want):
		return engine.Options{}, fault.New(op, fault.Invalid, "options.version: a versioned mount cannot be made unversioned again, because only one version of each secret would be left; mount another with version 1, and copy what it is to hold")
	case isVersioned(want) && !isVersioned(was):
		out.Along = []storage.Op{storage.Set(upgradedKey, nil)}
	}
	return out, nil
}

func isVersioned(options map[string]string) bool { return options[versionOption] == "2" }

func open(ctx context.Context, m *engine.Mount) (engine.Engine, error) {
	b := &backend{m: m, seed: maphash.MakeSeed()}
	if !isVersioned(m.Settings().Options) {
		return &unversioned{b}, nil
	}
	v := &versioned{backend: b}
	v.upgrade.v = v
	if _, err := v.settings(ctx); err != nil {
		return nil, err
	}
	return v, v.upgrade.start(ctx)
}

// backend is what both versions share.
type backend struct {
	m    *engine.Mount
	seed maphash.Seed
	// latches order the writers of one path, so that a write without CAS does
	// not meet a conflict with its neighbour again and again. Each is held for as long as a commit takes. With
	// 256, 7 of 64 writers waited for the writer of another path; 2048 cost 16 KiB for each mount.
	latches [2048]sync.Mutex
}

func (b *backend) latch(path string) func() {
	l := b.latchOf(path)
	l.Lock()
	return l.Unlock
}

func (b *backend) latchOf(path string) *sync.Mutex {
	return &b.latches[maphash.String(b.seed, path)%uint64(len(b.latches))]
}

// Close has nothing to close.
func (b *backend) Close() error { return nil }

// listIn is the request of a listing, in pages if the client wants.
type listIn struct {
	Path  string `path:"path" doc:"The folder."`
	After string `json:"after" doc:"Start after this name."`
	Limit int    `json:"limit" default:"all" doc:"How many names to return at most."`
}

// list returns the names directly below a folder, of the keys below any of the bases, seeking past what is deeper.
func (b *backend) list(ctx context.Context, in listIn, bases ...string) (route.Keys, error) {
	folder := ""
	if in.Path != "" {
		folder = in.Path + "/"
	}
	var names []string
	for after := in.After; in.Limit <= 0 || len(names) < in.Limit; {
		next := ""
		for _, base := range bases {
			name, err := b.nameBehind(ctx, base+folder, after)
			if err != nil {
				return route.Keys{}, err
			}
			if name != "" && (next == "" || name < next) {
				next = name
			}
		}
		if next == "" {
			break
		}
		names, after = append(names, next), next
	}
	return route.Keys{Keys: names}, nil
}

// nameBehind is the name behind another, "" for the first, directly below a folder of keys; "" where there is none.
// "a" sorts before "a/b" but "a-" stands between: the same folder comes once only, because all of it is sought past.
func (b *backend) nameBehind(ctx context.Context, folder, after string) (string, error) {
	from := folder
	if strings.HasSuffix(after, "/") {
		from = storage.PrefixEnd(folder + after)
	} else if after != "" {
		from = folder + after + "\x00"
	}
	for e, err := range b.m.Store.Scan(ctx, from, storage.PrefixEnd(folder)) {
		if err != nil {
			return "", err
		}
		if isVacant(e) {
			continue
		}
		name, _, deeper := strings.Cut(strings.TrimPrefix(e.Key, folder), "/")
		if deeper {
			name += "/"
		}
		return name, nil
	}
	return "", nil
}
