package kv

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/storage"
)

// secrets is the records of all paths. It migrates a secret of version 1 when it is first
// accessed.
type secrets struct {
	table   *table
	upgrade *upgrade
}

// load reads the metadata of a path; nil: there is no secret.
func (s *secrets) load(ctx context.Context, path string) (*record, storage.Version, error) {
	m, ver, err := s.row(ctx, path)
	return m.visible(), ver, err
}

// row reads the record of a path, which may be vacant.
func (s *secrets) row(ctx context.Context, path string) (*record, storage.Version, error) {
	if s.upgrade.running.Load() {
		if err := s.upgrade.migrate(ctx, path); err != nil {
			return nil, 0, err
		}
	}
	return s.table.record(ctx, path)
}

// An edit returns the changed record of a path, and operations for the same commit. m is nil if
// there is no record. It may be called repeatedly. If it returns a nil record, nothing is changed.
type edit func(c *config, m *record) (*record, []storage.Op, error)

// A writer is what changes a secret: a client, or a rotation with operations on absolute keys for
// the same commit.
type writer struct {
	client *client // nil: a rotation
	extra  []storage.Op
}

// change commits an edit of a path's record.
func (s *secrets) change(ctx context.Context, path string, by writer, f edit) error {
	defer s.table.latches.lock(path)()
	for range 16 {
		row, ver, err := s.row(ctx, path)
		if err != nil {
			return err
		}
		old := row.visible()
		c, err := s.table.settings(ctx)
		if err != nil {
			return err
		}
		next, ops, err := f(c, old)
		if err != nil || next == nil {
			return err
		}
		if old == nil && row != nil {
			next.setPublished(row.Published, nil)
		}
		err = s.commit(ctx,
			revision{path: path, by: by.client, extra: by.extra, old: old, next: next, version: ver, ops: ops})
		if !errors.Is(err, storage.ErrConflict) {
			return err
		}
	}
	return errBusy()
}

// commit stores a revision if the record has not changed since. Keys that publish a changed field
// check the revision first, and can refuse it. The caller has locked the latch of the path; it is
// unlocked while the keys call their providers.
func (s *secrets) commit(ctx context.Context, r revision) error {
	write := func(extra []storage.Op) error {
		index, err := s.table.reindex(ctx, r.path, r.old, r.next, r.ops)
		if err != nil {
			return err
		}
		row := storage.Remove(metaPrefix + r.path)
		if !r.remove {
			b, err := r.next.encode()
			if err != nil {
				return err
			}
			row = storage.Set(metaPrefix+r.path, b)
		}
		ops := slices.Concat(r.ops, []storage.Op{row.If(r.version)}, index)
		extra = keepOneEvent(slices.Concat(extra, s.event(r.path, r.next)))
		ver, err := s.table.mount.Store.CommitWith(ctx, ops, extra)
		if err == nil && !r.remove {
			s.table.parsed.put(r.path, ver, r.next)
		}
		return err
	}
	o, err := r.overwrites(ctx, s.table.mount)
	if err != nil {
		return err
	}
	if o == nil {
		return write(r.extra)
	}
	l := s.table.latches.of(r.path)
	l.Unlock()
	defer l.Lock()
	var warnings []func() // sent only after the commit, because a revision that conflicts is checked again
	o.Custom = func(values map[string]string) {
		r.next.Custom = maps.Clone(r.next.Custom)
		if r.next.Custom == nil {
			r.next.Custom = map[string]string{}
		}
		maps.Copy(r.next.Custom, values)
	}
	o.Warn = func(format string, args ...any) {
		warnings = append(warnings, func() { r.by.warn(format, args...) })
	}
	if err := s.table.mount.Host.Overwrite(ctx, *o, write); err != nil {
		return err
	}
	for _, warn := range warnings {
		warn()
	}
	return nil
}

func (s *secrets) event(path string, m *record) []storage.Op {
	mount := s.table.mount
	return []storage.Op{mount.Host.Event("kv/write",
		engine.Detail{Name: "mount", Value: mount.UUID}, engine.Detail{Name: "path", Value: path},
		engine.Detail{Name: "version", Value: itoa(m.Current)},
	)}
}

// keepOneEvent removes all events except the first, because a commit can contain only one. The
// event of a key comes first, because it says more than that of the write.
func keepOneEvent(ops []storage.Op) []storage.Op {
	seen := map[string]bool{}
	return slices.DeleteFunc(ops, func(o storage.Op) bool {
		duplicate := o.Stamp && seen[o.Key]
		seen[o.Key] = seen[o.Key] || o.Stamp
		return duplicate
	})
}
