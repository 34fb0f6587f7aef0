// Package mounts is the part of core that owns the mount table, and opens, changes and closes the
// engines and login methods in it.
//
// Requests read an immutable [Snapshot]. Changes are made one at a time: a record is committed,
// then the engine is opened, then the snapshot is swapped. [Manager.Follow] updates the snapshot
// when another server of the store makes a change. Because that takes a moment, a commit that
// depends on a mount asserts the mount's record.
package mounts

import (
	"context"
	"fmt"

	"github.com/keyturn/keyturn/internal/mount"
)

// Load reads the records and opens every mount. It is called once. Engines are closed when ctx
// ends.
func (m *Manager) Load(ctx context.Context, services Services) error {
	m.services = services
	m.scope = func() (context.Context, context.CancelFunc) { return context.WithCancel(ctx) }
	entries, err := m.read(ctx)
	if err != nil {
		return err
	}
	table, err := mount.NewTable(entries)
	if err != nil {
		return err
	}
	s := &Snapshot{Table: table, open: map[string]*Open{}}
	for _, e := range entries {
		o, err := m.openEntry(e)
		if err != nil {
			return fmt.Errorf("opening the mount at %s: %w", e.Path, err)
		}
		s.open[e.UUID] = o
	}
	m.snap.Store(s)
	return nil
}

// Snapshot returns the current mounts.
func (m *Manager) Snapshot() *Snapshot { return m.snap.Load() }

// Close closes every engine.
func (m *Manager) Close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, o := range m.snap.Load().open {
		if err := o.close(); err != nil {
			m.cfg.Log.Warn("closing a mount", "path", o.Entry().Path, "error", err)
		}
	}
}
