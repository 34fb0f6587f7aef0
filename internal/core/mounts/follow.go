package mounts

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/cron"
	"github.com/keyturn/keyturn/internal/mount"
	"github.com/keyturn/keyturn/internal/storage"
)

// Follow updates the snapshot when other servers of the store change a mount, until ctx ends. It
// also retries engines that could not be opened when they were changed.
func (m *Manager) Follow(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := m.follow(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, storage.ErrGap) {
			m.cfg.Log.Warn("reading the changes of mounts; retrying", "error", err)
		}
		cron.Pause(ctx, 50*time.Millisecond)
	}
	return ctx.Err()
}

func (m *Manager) follow(ctx context.Context) error {
	begun := false
	for c, err := range m.view.Watch(ctx, mount.Prefix, 0) {
		if err != nil {
			return err
		}
		if !begun { // the feed does not report changes from before it began
			begun, c = true, storage.Change{}
			m.markStale()
		}
		if err := m.refresh(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// refresh brings the snapshot up to date with a change, unless it already is.
func (m *Manager) refresh(ctx context.Context, c storage.Change) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c.Key != "" {
		e := m.snap.Load().Table.ByUUID(strings.TrimPrefix(c.Key, mount.Prefix))
		known := e != nil && e.Version == c.Version && !c.Deleted || e == nil && c.Deleted
		m.stale = m.stale || !known
	}
	return m.reloadLocked(ctx)
}
