package kv

import (
	"context"
	"strings"
	"sync/atomic"
	"time"

	"github.com/keyturn/keyturn/internal/barrier"
	"github.com/keyturn/keyturn/internal/cron"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/storage"
)

// walkRows is the row that says how far the walk has come.
const walkRows barrier.Rows[walked] = "ages"

// walked is the progress of the walk.
type walked struct {
	Done  bool   `json:"done,omitempty"`
	After string `json:"after,omitempty"` // the path of the last secret
}

// An ageWalk adds the secrets that earlier versions of Keyturn have written to the index of ages.
type ageWalk struct {
	table   *table
	running atomic.Bool // the index may lack secrets
}

// Pauses of the walk: after every walkPage secrets, and after an error.
const (
	walkPage  = 1000
	walkPace  = 5 * time.Millisecond
	walkAgain = time.Minute
)

// start walks in the background, unless a walk has ended or there is no secret.
func (w *ageWalk) start(ctx context.Context) error {
	at, err := w.progress(ctx)
	if err != nil || at.Done {
		return err
	}
	anyLeft := false
	for e, err := range w.table.mount.Store.Scan(ctx, metaPrefix, storage.PrefixEnd(metaPrefix)) {
		if err != nil && e.Key == "" {
			return err
		}
		anyLeft = true
		break
	}
	if !anyLeft {
		return nil
	}
	w.running.Store(true)
	go func() {
		for {
			err := w.walk(ctx)
			if err == nil {
				w.running.Store(false)
				return
			}
			if ctx.Err() == nil {
				w.table.mount.Log.Warn("indexing when secrets are rotated failed; it is retried",
					"next_try", time.Now().Add(walkAgain), "error", err)
			}
			if !cron.Pause(ctx, walkAgain) {
				return
			}
		}
	}()
	return nil
}

// progress returns how far the walk has come. A damaged row means that it has not begun: walking
// once more costs little, and a mount that does not open costs everything.
func (w *ageWalk) progress(ctx context.Context) (walked, error) {
	at, _, err := walkRows.Get(ctx, w.table.mount.Store, "")
	switch {
	case fault.Is(err, fault.Internal):
		w.table.mount.Log.Warn("how far secrets are indexed cannot be read; all of them are indexed again", "error",
			err)
		return walked{}, nil
	case err != nil || at == nil:
		return walked{}, err
	}
	return *at, nil
}

// walk continues after the last secret of an earlier walk. Two servers may walk at once, because
// each commit asserts the version of a record.
func (w *ageWalk) walk(ctx context.Context) error {
	store := w.table.mount.Store
	at, err := w.progress(ctx)
	if err != nil {
		return err
	}
	n := 0
	for e, err := range store.Scan(ctx, metaPrefix+at.After, storage.PrefixEnd(metaPrefix)) {
		if e.Key == "" && err != nil {
			return err
		}
		path := strings.TrimPrefix(e.Key, metaPrefix)
		if err == nil {
			err = w.visit(ctx, path)
		}
		switch {
		case err == nil:
		case fault.Is(err, fault.Internal): // one damaged secret does not block the others
			w.table.mount.Log.Warn("a secret cannot be indexed", "path", path, "error", err)
		default:
			return err
		}
		if n++; n%walkPage == 0 {
			if err := walkRows.Put(ctx, store, "", walked{After: path}); err != nil {
				return err
			}
			if !cron.Pause(ctx, walkPace) {
				return ctx.Err()
			}
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return walkRows.Put(ctx, store, "", walked{Done: true})
}

// visit puts the row of one secret right.
func (w *ageWalk) visit(ctx context.Context, path string) error {
	t := w.table
	defer t.latches.lock(path)()
	for range 16 {
		m, ver, err := t.record(ctx, path)
		if err != nil || m.visible() == nil {
			return err
		}
		next := m.clone()
		a, err := t.ageNow(ctx, path, next, next.readable(time.Now()), nil)
		if err != nil || a == nil && m.Indexed.IsZero() {
			return err
		}
		ops, err := moveInIndex(path, m, next, a)
		if err != nil {
			return err
		}
		b, err := next.encode()
		if err != nil {
			return err
		}
		_, err = t.mount.Store.Commit(ctx, append(ops, storage.Set(metaPrefix+path, b).If(ver))...)
		if !fault.Is(err, fault.Conflict) {
			return err
		}
	}
	return errBusy()
}
