package kv

import (
	"context"
	"strings"
	"sync/atomic"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/storage"
)

// upgradedKey exists if the mount is versioned.
const upgradedKey = "upgraded"

// errUpgraded is the error of an engine of version 1 after the upgrade. Nothing was stored.
// Clients retry such a request automatically, and then version 2 answers it.
func errUpgraded() error {
	return fault.New("kv.v1", fault.Unavailable,
		"the mount has just become versioned; send the request again, to data/ or metadata/ below the mount")
}

// upgrade is the migration of a mount from version 1.
type upgrade struct {
	table   *table
	running atomic.Bool // data of version 1 may be left
}

// start migrates the secrets of version 1 in the background. A secret that is accessed earlier is
// migrated then.
func (u *upgrade) start(ctx context.Context) error {
	anyLeft := false
	for e, err := range u.table.mount.Store.Scan(ctx, dataPrefix, storage.PrefixEnd(dataPrefix)) {
		if err != nil && e.Key == "" {
			return err
		}
		anyLeft = true // also for a damaged one, which must not prevent opening the mount
		break
	}
	if !anyLeft {
		return nil
	}
	u.running.Store(true)
	go func() {
		for pause := time.Second; ctx.Err() == nil; pause = min(2*pause, time.Minute) {
			if u.migrateAll(ctx) {
				u.running.Store(false)
				return
			}
			select {
			case <-ctx.Done():
			case <-time.After(pause):
			}
		}
	}()
	return nil
}

// migrateAll migrates the remaining secrets, and reports whether it has migrated all. A secret
// that cannot be migrated does not block others.
func (u *upgrade) migrateAll(ctx context.Context) bool {
	all := true
	for e, err := range u.table.mount.Store.Scan(ctx, dataPrefix, storage.PrefixEnd(dataPrefix)) {
		path := strings.TrimPrefix(e.Key, dataPrefix)
		if err == nil {
			err = u.migrateLatched(ctx, path)
		}
		if err != nil && ctx.Err() == nil {
			u.table.mount.Log.Warn("upgrading an unversioned secret failed; it is retried", "path", path, "error", err)
		}
		all = all && err == nil
	}
	return all
}

func (u *upgrade) migrateLatched(ctx context.Context, path string) error {
	defer u.table.latches.lock(path)()
	return u.migrate(ctx, path)
}

// migrate makes the data of version 1 at a path the newest version of the secret, unless that has
// been done. If several servers do it at once, only one of the commits succeeds.
func (u *upgrade) migrate(ctx context.Context, path string) error {
	t := u.table
	for range 16 {
		left, err := t.mount.Store.Get(ctx, dataPrefix+path)
		if err != nil || left.Version == 0 {
			return err
		}
		m, ver, err := t.record(ctx, path)
		if err != nil {
			return err
		}
		c, err := t.settings(ctx)
		if err != nil {
			return err
		}
		next, _, ops := c.append(m.visible(), path, left.Value, nil)
		if m != nil {
			next.setPublished(m.Published, nil)
		}
		index, err := t.reindex(ctx, path, m.visible(), next, ops)
		if err != nil {
			return err
		}
		b, err := next.encode()
		if err != nil {
			return err
		}
		move := append(index, storage.Set(metaPrefix+path, b).If(ver),
			storage.Remove(left.Key).If(left.Version))
		_, err = t.mount.Store.Commit(ctx, append(move, ops...)...)
		if fault.Is(err, fault.TooLarge) {
			// The secret and its record are too large for one commit. Store the data first,
			// because nothing refers to it yet.
			if _, err = t.mount.Store.Commit(ctx, append(ops, storage.Expect(left.Key, left.Version))...); err == nil {
				_, err = t.mount.Store.Commit(ctx, move...)
			}
		}
		if !fault.Is(err, fault.Conflict) {
			return err
		}
	}
	return errBusy()
}
