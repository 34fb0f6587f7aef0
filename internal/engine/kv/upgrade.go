package kv

import (
	"context"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/storage"
)

// upgradedKey is there once a mount is versioned.
const upgradedKey = "upgraded"

// errUpgraded is the error of version 1 for who comes too late. Nothing was stored; clients send such a request again by
// themselves, and then version 2 answers it.
func errUpgraded() error {
	return fault.New("kv.v1", fault.Unavailable, "the mount has just become versioned; send the request again, to data/ or metadata/ below the mount")
}

// start carries what version 1 held over into versions, in the background; a secret that is asked for before
// its turn is carried over then.
func (u *upgrade) start(ctx context.Context) error {
	some := false
	for e, err := range u.v.m.Store.Scan(ctx, dataPrefix, storage.PrefixEnd(dataPrefix)) {
		if err != nil && e.Key == "" {
			return err
		}
		some = true // one that is damaged, too: it keeps no mount from being opened
		break
	}
	if !some {
		return nil
	}
	u.running.Store(true)
	go func() {
		for pause := time.Second; ctx.Err() == nil; pause = min(2*pause, time.Minute) {
			if u.all(ctx) {
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

// all carries over what is left, and reports whether that is all. A secret that cannot be carried over
// stands in no other's way.
func (u *upgrade) all(ctx context.Context) bool {
	all := true
	for e, err := range u.v.m.Store.Scan(ctx, dataPrefix, storage.PrefixEnd(dataPrefix)) {
		path := strings.TrimPrefix(e.Key, dataPrefix)
		if err == nil {
			err = u.latched(ctx, path)
		}
		if err != nil && ctx.Err() == nil {
			u.v.m.Log.Warn("upgrading an unversioned secret failed; it is retried", "path", path, "error", err)
		}
		all = all && err == nil
	}
	return all
}

func (u *upgrade) latched(ctx context.Context, path string) error {
	defer u.v.latch(path)()
	return u.carry(ctx, path)
}

// carry makes what version 1 held at a path the newest version of the secret, if it has not been done yet. Any number
// of servers may do it at once: one of their commits counts.
func (u *upgrade) carry(ctx context.Context, path string) error {
	v := u.v
	for range 16 {
		left, err := v.m.Store.Get(ctx, dataPrefix+path)
		if err != nil || left.Version == 0 {
			return err
		}
		m, ver, err := v.stored(ctx, path)
		if err != nil {
			return err
		}
		c, err := v.settings(ctx)
		if err != nil {
			return err
		}
		next, _, ops := c.append(m.visible(), path, left.Value, nil)
		if m != nil {
			next.hold(m.Held, nil)
		}
		b, err := next.encode()
		if err != nil {
			return err
		}
		move := append(reindex(path, m.visible(), next), storage.Set(metaPrefix+path, b).If(ver), storage.Remove(left.Key).If(left.Version))
		_, err = v.m.Store.Commit(ctx, append(move, ops...)...)
		if fault.Is(err, fault.TooLarge) {
			// The secret and its record are too large for one commit. The data can go first: nothing leads to it yet.
			if _, err = v.m.Store.Commit(ctx, append(ops, storage.Expect(left.Key, left.Version))...); err == nil {
				_, err = v.m.Store.Commit(ctx, move...)
			}
		}
		if !fault.Is(err, fault.Conflict) {
			return err
		}
	}
	return errBusy()
}
