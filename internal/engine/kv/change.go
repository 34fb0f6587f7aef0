package kv

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/storage"
)

// load reads the metadata of a path; nil where there is none.
func (v *versioned) load(ctx context.Context, path string) (*record, storage.Version, error) {
	m, ver, err := v.row(ctx, path)
	return m.visible(), ver, err
}

// row reads the row of a path, which may be vacant.
func (v *versioned) row(ctx context.Context, path string) (*record, storage.Version, error) {
	if v.upgrade.running.Load() {
		if err := v.upgrade.carry(ctx, path); err != nil {
			return nil, 0, err
		}
	}
	return v.stored(ctx, path)
}

// An edit makes a new record of a path's, with operations to be committed along. It gets the mount's settings, and nil
// where there is no record; it may be called again. A nil record changes nothing.
type edit func(c *config, m *record) (*record, []storage.Op, error)

// A writer is who changes a secret: a client, or a rotation with what it commits along, on absolute keys.
type writer struct {
	by    *hand
	along []storage.Op
}

// change commits what f makes of a path's record.
func (v *versioned) change(ctx context.Context, path string, by writer, f edit) error {
	defer v.latch(path)()
	for range 16 {
		row, ver, err := v.row(ctx, path)
		if err != nil {
			return err
		}
		old := row.visible()
		c, err := v.settings(ctx)
		if err != nil {
			return err
		}
		next, ops, err := f(c, old)
		if err != nil || next == nil {
			return err
		}
		if old == nil && row != nil {
			next.hold(row.Held, nil)
		}
		err = v.commit(ctx, revision{path: path, by: by.by, along: by.along, old: old, next: next, version: ver, ops: ops})
		if !errors.Is(err, storage.ErrConflict) {
			return err
		}
	}
	return errBusy()
}

// commit stores a revision, if the record is still at its version. Whoever holds a field that it
// changes is told, and has a say. The latch of the path is held, and is released while a holder
// asks its provider.
func (v *versioned) commit(ctx context.Context, r revision) error {
	write := func(along []storage.Op) error {
		row := storage.Remove(metaPrefix + r.path)
		if !r.remove {
			b, err := r.next.encode()
			if err != nil {
				return err
			}
			row = storage.Set(metaPrefix+r.path, b)
		}
		ops := slices.Concat(r.ops, []storage.Op{row.If(r.version)}, reindex(r.path, r.old, r.next))
		ver, err := v.m.Store.CommitWith(ctx, ops, oneEvent(slices.Concat(along, v.event(r.path, r.next))))
		if err == nil && !r.remove {
			v.parsed.put(r.path, ver, r.next)
		}
		return err
	}
	o, err := r.overwrites(ctx, v.backend)
	if err != nil {
		return err
	}
	if o == nil {
		return write(r.along)
	}
	l := v.latchOf(r.path)
	l.Unlock()
	defer l.Lock()
	var said []func() // by a judgement whose write loses, nothing is: the next one says what is true
	o.Custom = func(values map[string]string) {
		r.next.Custom = maps.Clone(r.next.Custom)
		if r.next.Custom == nil {
			r.next.Custom = map[string]string{}
		}
		maps.Copy(r.next.Custom, values)
	}
	o.Warn = func(format string, args ...any) { said = append(said, func() { r.by.warn(format, args...) }) }
	if err := v.m.Host.Overwrite(ctx, *o, write); err != nil {
		return err
	}
	for _, warn := range said {
		warn()
	}
	return nil
}

func (b *backend) event(path string, m *record) []storage.Op {
	return []storage.Op{b.m.Host.Event("kv/write",
		engine.Detail{Name: "mount", Value: b.m.UUID}, engine.Detail{Name: "path", Value: path}, engine.Detail{Name: "version", Value: itoa(m.Current)},
	)}
}
