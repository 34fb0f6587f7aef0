package mounts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/mount"
	"github.com/keyturn/keyturn/internal/storage"
)

// commitLocked replaces the version of a mount's record that was read, with extra. If the store
// does not say whether the commit succeeded, it reads the record again to find out.
func (m *Manager) commitLocked(ctx context.Context, e *mount.Entry, extra ...storage.Op) error {
	b, err := e.Encode()
	if err != nil {
		return err
	}
	v, err := m.view.Commit(ctx, append([]storage.Op{storage.Set(e.Key(), b).If(e.Version)}, extra...)...)
	switch {
	case err == nil:
		e.Version = v
		return nil
	case fault.Is(err, fault.TooLarge), fault.Is(err, fault.Internal), fault.Is(err, fault.Sealed),
		errors.Is(err, storage.ErrFull):
		return err // certainly not stored
	case fault.Is(err, fault.Conflict):
		m.stale = true
		return err
	}
	scope, cancel := m.scope() // because the request may have been cancelled
	defer cancel()
	scope, stop := context.WithTimeout(scope, confirmTimeout)
	defer stop()
	row, rerr := m.view.Get(scope, e.Key())
	if rerr != nil {
		m.stale = true
		return err
	}
	if row.Version != e.Version && bytes.Equal(row.Value, b) {
		e.Version = row.Version
		return nil
	}
	return err
}

// reloadLocked reads the snapshot from the store again if it is unknown whether a commit was
// stored. Every change calls it first, because otherwise two mounts could get the same path.
func (m *Manager) reloadLocked(ctx context.Context) error {
	if !m.stale {
		return nil
	}
	entries, err := m.read(ctx)
	if err != nil {
		return err
	}
	table, err := mount.NewTable(entries)
	if err != nil {
		return err
	}
	before := m.snap.Load().open
	open, opened := map[string]*Open{}, []*Open(nil)
	for _, e := range entries {
		o := before[e.UUID]
		if o == nil || m.outdated(o, e) {
			if o, err = m.openEntry(e); err != nil {
				for _, o := range opened {
					_ = o.close() // no request has reached it
				}
				return fmt.Errorf("opening the mount at %s: %w", e.Path, err)
			}
			opened = append(opened, o)
		}
		open[e.UUID] = o
	}
	for _, e := range entries {
		open[e.UUID].entry.Store(e)
	}
	m.snap.Store(&Snapshot{Table: table, open: open})
	m.stale = false
	for uuid, o := range before {
		if open[uuid] != o {
			_ = o.close() // removed, or replaced by another
		}
	}
	return nil
}

// read returns the stored records. A conflict must not prevent unsealing: the older of two mounts
// at one path gets another path until it is moved.
func (m *Manager) read(ctx context.Context) ([]*mount.Entry, error) {
	var entries []*mount.Entry
	for row, err := range m.view.Scan(ctx, mount.Prefix, storage.PrefixEnd(mount.Prefix)) {
		if err != nil {
			return nil, err
		}
		e, err := mount.Decode(row)
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	if _, err := mount.NewTable(entries); err == nil {
		return entries, nil
	}
	return entries, m.resolveConflicts(entries)
}

// resolveConflicts gives a mount whose path conflicts with another's a different path, in memory.
func (m *Manager) resolveConflicts(entries []*mount.Entry) error {
	// The newest mount keeps its path, because clients know that one.
	slices.SortStableFunc(entries, func(a, b *mount.Entry) int { return b.Created.Compare(a.Created) })
	table, err := mount.NewTable(nil)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if why := table.Conflict(e.Path); why != "" && e.Gone.IsZero() {
			path := strings.ReplaceAll(strings.TrimSuffix(e.Path, "/"), "/", "-") + "-" + e.UUID + "/"
			if e.Class == mount.ClassAuth {
				path = "auth/" + strings.TrimPrefix(path, "auth-")
			}
			m.cfg.Log.Error("two mounts are in each other's way; one stands elsewhere until it is moved or disabled",
				"path", e.Path, "now", path, "reason", why)
			e.Path = path
		}
		if table, err = table.With(e); err != nil {
			return err
		}
	}
	return nil
}

// markStale makes the next reloadLocked read the records again.
func (m *Manager) markStale() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stale = true
}

// outdated reports whether o was opened with options other than those of e.
func (m *Manager) outdated(o *Open, e *mount.Entry) bool {
	return m.judge(e) != nil && !maps.Equal(o.options, e.Options)
}

// confirmTimeout limits the attempt to find out whether a commit was stored.
const confirmTimeout = 5 * time.Second
