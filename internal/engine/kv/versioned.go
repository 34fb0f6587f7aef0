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
	config  atomic.Pointer[config] // as it was read last; see settings
	parsed  parsedCache
}

// settings are the mount's, as they are stored now: another server may have changed them. They are decoded once.
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

// stored reads the row of a path that is known to be carried over.
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

// reindex moves the path in the index of next rotations. Times within one
// second have the same row there.
func reindex(path string, old, next *record) []storage.Op {
	var was, is string
	if old != nil && !old.Indexed.IsZero() {
		was = nextKey(old.Indexed, path)
	}
	if !next.Indexed.IsZero() {
		is = nextKey(next.Indexed, path)
	}
	if was == is {
		return nil
	}
	var ops []storage.Op
	if was != "" {
		ops = append(ops, storage.Remove(was))
	}
	if is != "" {
		ops = append(ops, storage.Set(is, nil))
	}
	return ops
}

func errBusy() error {
	return fault.New("kv.change", fault.Unavailable, "the secret is being written by many requests at once; try again")
}

// append makes the record with one version more, and the operations that
// store its data and drop what is too old.
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
	// At most 90 go at once, so that the batch stays within its limit; the
	// next write drops more.
	keep := next.keep(c)
	for n := 0; len(next.Versions) > keep && n < 90; n++ {
		ops = append(ops, storage.Remove(versionKey(path, next.Versions[0].N)))
		next.Versions = next.Versions[1:]
	}
	if len(next.Versions) >= keep { // from now on, each write drops one
		next.Oldest = next.Versions[0].N
	}
	return next, &next.Versions[len(next.Versions)-1], ops
}

// upgrade is the work of a mount that was unversioned once.
type upgrade struct {
	v       *versioned
	running atomic.Bool // there may be something left of version 1
}
