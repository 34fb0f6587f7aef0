package kv

import (
	"context"
	"encoding/json"
	"sync/atomic"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/storage"
)

// A table is the rows of version 2, without secrets that have not been migrated.
type table struct {
	mount   *engine.Mount
	latches latches
	config  atomic.Pointer[config] // the last that was read; see settings
	parsed  parsedCache
}

// settings reads the mount's settings, because another server may have changed them. It decodes
// them only after a change.
func (t *table) settings(ctx context.Context) (*config, error) {
	e, err := t.mount.Store.Get(ctx, configKey)
	if err != nil {
		return nil, err
	}
	if c := t.config.Load(); c != nil && c.stored == e.Version {
		return c, nil
	}
	c := &config{stored: e.Version}
	if e.Version != 0 {
		if err := json.Unmarshal(e.Value, c); err != nil {
			return nil, fault.Wrap("kv.settings", fault.Internal, err)
		}
	}
	t.config.Store(c)
	return c, nil
}

// record reads the record of a path, which may be vacant; nil: there is none.
func (t *table) record(ctx context.Context, path string) (*record, storage.Version, error) {
	e, err := t.mount.Store.Get(ctx, metaPrefix+path)
	if err != nil || e.Version == 0 {
		return nil, 0, err
	}
	if m := t.parsed.get(path, e.Version); m != nil {
		return m, e.Version, nil
	}
	m, err := decodeRecord(e.Value)
	if err != nil {
		return nil, 0, err
	}
	t.parsed.put(path, e.Version, m)
	return m, e.Version, nil
}

func errBusy() error {
	return fault.New("kv.change", fault.Unavailable, "the secret is being written by many requests at once; try again")
}
