package rotate

import (
	"context"
	"math"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/cron"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/storage"
)

// Walk reads all stored records into the census, repeatedly, until ctx ends.
func (m *Manager) Walk(ctx context.Context) {
	for {
		wait := walkEvery
		if err := m.walkOnce(ctx); err != nil {
			if ctx.Err() == nil {
				m.cfg.Log.Warn("counting what rotates", "mount", m.cfg.Mount(), "next_try", time.Now().Add(walkAgain),
					"error", err)
			}
			wait = walkAgain
		}
		if !cron.Pause(ctx, wait) {
			return
		}
	}
}

func (m *Manager) walkOnce(ctx context.Context) error {
	m.census.beginWalk()
	rows := 0
	for _, k := range m.kinds {
		for e, err := range m.cfg.Store.Scan(ctx, k.Records, storage.PrefixEnd(k.Records)) {
			if e.Key == "" && err != nil {
				return err
			}
			if !m.census.seen(e.Key, e.Version) {
				if err := m.visit(ctx, k, strings.TrimPrefix(e.Key, k.Records)); err != nil {
					return err
				}
			}
			if rows++; rows%walkRows == 0 && !cron.Pause(ctx, walkPace) {
				return ctx.Err()
			}
		}
		for _, key := range m.census.missing(k) {
			if err := m.visit(ctx, k, strings.TrimPrefix(key, k.Records)); err != nil {
				return err
			}
		}
		for name, err := range m.unstored(ctx, k) {
			if err != nil {
				return err
			}
			// its first change counts for more: it has a version
			if r, _, err := k.Missing(ctx, name); err == nil && r != nil {
				m.census.set(k, name, 0, standingOf(k, r))
			}
		}
	}
	return nil
}

// visit stores the standing of a record in the census. visit does not wait for the record's lock,
// which may be held during a call that hangs. Instead visit reads the row until its version is
// the noted one, so that a commit in between is not undone.
func (m *Manager) visit(ctx context.Context, k *Kind, name string) error {
	for noted := storage.Version(math.MaxUint64); ; {
		row, err := m.cfg.Store.Get(ctx, k.Records+name)
		damaged := fault.Is(err, fault.Internal)
		if err != nil && !damaged {
			return err
		}
		if row.Version == noted {
			return nil
		}
		switch r := (&Record{Name: name}); {
		case row.Version == 0 && !damaged:
			m.census.drop(k, name)
		case damaged || !readable(k, row, r):
			m.census.set(k, name, row.Version, standing{path: k.Path(name), state: unreadable, alert: true})
		default:
			m.census.set(k, name, row.Version, standingOf(k, r))
		}
		noted = row.Version
	}
}

// readable decodes a row into r, and reports whether that worked.
func readable(k *Kind, row storage.Entry, r *Record) bool {
	_, err := k.decode(row, r)
	return err == nil
}
