package kv

import (
	"context"
	"encoding/json"
	"sync/atomic"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/storage"
)

// versioned is KV version 2.
type versioned struct {
	*backend
	upgrade upgrade
	config  atomic.Pointer[config] // the last that was read; see settings
	parsed  parsedCache
}

// settings reads the mount's settings, because another server may have changed them. It decodes
// them only after a change.
func (v *versioned) settings(ctx context.Context) (*config, error) {
	e, err := v.m.Store.Get(ctx, configKey)
	if err != nil {
		return nil, err
	}
	if c := v.config.Load(); c != nil && c.stored == e.Version {
		return c, nil
	}
	c := &config{stored: e.Version}
	if e.Version != 0 {
		if err := json.Unmarshal(e.Value, c); err != nil {
			return nil, fault.Wrap("kv.settings", fault.Internal, err)
		}
	}
	v.config.Store(c)
	return c, nil
}

// stored reads the record of a path that has been migrated.
func (v *versioned) stored(ctx context.Context, path string) (*record, storage.Version, error) {
	e, err := v.m.Store.Get(ctx, metaPrefix+path)
	if err != nil || e.Version == 0 {
		return nil, 0, err
	}
	if m := v.parsed.get(path, e.Version); m != nil {
		return m, e.Version, nil
	}
	m, err := decodeRecord(e.Value)
	if err != nil {
		return nil, 0, err
	}
	v.parsed.put(path, e.Version, m)
	return m, e.Version, nil
}

// reindex moves the path in the index of next rotations, where times of one second share a row.
func reindex(path string, old, next *record) []storage.Op {
	var before, after string
	if old != nil && !old.Indexed.IsZero() {
		before = nextKey(old.Indexed, path)
	}
	if !next.Indexed.IsZero() {
		after = nextKey(next.Indexed, path)
	}
	if before == after {
		return nil
	}
	var ops []storage.Op
	if before != "" {
		ops = append(ops, storage.Remove(before))
	}
	if after != "" {
		ops = append(ops, storage.Set(after, nil))
	}
	return ops
}

func errBusy() error {
	return fault.New("kv.change", fault.Unavailable, "the secret is being written by many requests at once; try again")
}

// append returns the record with one more version, and the operations that store its data and
// remove versions that are too old.
func (c *config) append(m *record, path string, data []byte, t *turn) (*record, *version, []storage.Op) {
	now := time.Now().UTC()
	next := &record{Created: now}
	if m != nil {
		next = m.clone()
	}
	next.Updated, next.Current = now, next.Current+1
	ver := version{N: next.Current, Created: now, Deleted: next.deletesAt(c, now), Turn: t}
	ver.Rotated, ver.Next = rotationTimes(data, next.Custom)
	next.Versions = append(next.Versions, ver)
	next.Indexed = ver.Next
	ops := []storage.Op{storage.Set(versionKey(path, ver.N), data)}
	// Remove at most 90 at once, because of the limit of a batch; the next write removes more.
	keep := next.versionsToKeep(c)
	for n := 0; len(next.Versions) > keep && n < 90; n++ {
		ops = append(ops, storage.Remove(versionKey(path, next.Versions[0].N)))
		next.Versions = next.Versions[1:]
	}
	if len(next.Versions) >= keep { // from now on, each write removes one
		next.Oldest = next.Versions[0].N
	}
	return next, &next.Versions[len(next.Versions)-1], ops
}

// upgrade is the migration of a mount from version 1.
type upgrade struct {
	v       *versioned
	running atomic.Bool // data of version 1 may be left
}
