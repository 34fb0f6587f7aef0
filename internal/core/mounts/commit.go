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

// commitLocked stores a mount's record over the version that it was read at,
// with extra. Where the store leaves open whether it did, the record tells.
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
	case fault.Is(err, fault.TooLarge), fault.Is(err, fault.Internal), fault.Is(err, fault.Sealed), errors.Is(err, storage.ErrFull):
		return err // surely nothing
	case fault.Is(err, fault.Conflict):
		m.unsure = true
		return err
	}
	scope, cancel := m.scope() // the request may have been given up
	defer cancel()
	scope, stop := context.WithTimeout(scope, settled)
	defer stop()
	row, rerr := m.view.Get(scope, e.Key())
	if rerr != nil {
		m.unsure = true
		return err
	}
	if row.Version != e.Version && bytes.Equal(row.Value, b) {
		e.Version = row.Version
		return nil
	}
	return err
}

// settleLocked makes the snapshot what is stored, where a commit has left that
// open. Nothing is changed before that is known: two mounts at one path would
// come of it.
func (m *Manager) settleLocked(ctx context.Context) error {
	if !m.unsure {
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
	was := m.snap.Load().open
	open, fresh := map[string]*Open{}, []*Open(nil)
	for _, e := range entries {
		o := was[e.UUID]
		if o == nil || m.outdated(o, e) {
			if o, err = m.openEntry(e); err != nil {
				for _, o := range fresh {
					_ = o.close() // nothing was routed to it
				}
				return fmt.Errorf("opening the mount at %s: %w", e.Path, err)
			}
			fresh = append(fresh, o)
		}
		open[e.UUID] = o
	}
	for _, e := range entries {
		open[e.UUID].entry.Store(e)
	}
	m.snap.Store(&Snapshot{Table: table, open: open})
	m.unsure = false
	for uuid, o := range was {
		if open[uuid] != o {
			_ = o.close() // what it served is not stored any more, or another serves it
		}
	}
	return nil
}

// read returns the stored records. None of them keeps the server from opening:
// of two at one path the older stands beside it until somebody moves it.
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
	return entries, m.disentangle(entries)
}

// disentangle gives mounts that are in others' way another path, in memory.
func (m *Manager) disentangle(entries []*mount.Entry) error {
	// The newest first: of two, that is the one that clients were told of.
	slices.SortStableFunc(entries, func(a, b *mount.Entry) int { return b.Created.Compare(a.Created) })
	table, err := mount.NewTable(nil)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if why := table.Conflict(e.Path); why != "" && e.Gone.IsZero() {
			beside := strings.ReplaceAll(strings.TrimSuffix(e.Path, "/"), "/", "-") + "-" + e.UUID + "/"
			if e.Class == mount.ClassAuth {
				beside = "auth/" + strings.TrimPrefix(beside, "auth-")
			}
			m.cfg.Log.Error("two mounts are in each other's way; one stands elsewhere until it is moved or disabled", "path", e.Path, "now", beside, "reason", why)
			e.Path = beside
		}
		if table, err = table.With(e); err != nil {
			return err
		}
	}
	return nil
}

// doubt has the records read again.
func (m *Manager) doubt() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.unsure = true
}

// outdated reports whether o was opened with other options than e has.
func (m *Manager) outdated(o *Open, e *mount.Entry) bool {
	return m.judge(e) != nil && !maps.Equal(o.options, e.Options)
}

// settled is how long a change waits to learn whether it was stored.
const settled = 5 * time.Second
