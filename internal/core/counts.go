package core

import (
	"context"
	"log/slog"
	"time"

	"github.com/keyturn/keyturn/internal/barrier"
	"github.com/keyturn/keyturn/internal/lease"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/token"
)

// storedCounts is the row in which this node stores its counts each second, and from which it
// loads them at its start. A crash loses at most one second of changes, which recount corrects.
const storedCounts barrier.Rows[countRow] = "count/local"

// counts stores the numbers of leases, which the lease manager counts in memory, for the next
// start.
type counts struct {
	view   *barrier.View
	leases *lease.Manager
	clock  *clock // its row is stored in the same commit
	log    *slog.Logger
}

type countRow struct {
	Leases  int64 `json:"leases"`
	Waiting int64 `json:"waiting,omitempty"`
}

func (c *counts) save(ctx context.Context) error {
	op, err := storedCounts.Set("",
		countRow{Leases: c.leases.Stats.Live.Load(), Waiting: c.leases.Stats.Waiting.Load()})
	if err != nil {
		return err
	}
	ops := []storage.Op{op}
	if op, ok := c.clock.row(); ok {
		ops = append(ops, op)
	}
	_, err = c.view.Commit(ctx, ops...)
	return err
}

func (c *counts) load(ctx context.Context) error {
	row, err := c.view.Get(ctx, string(storedCounts))
	if err != nil || row.Version == 0 {
		return err
	}
	if stored, err := storedCounts.Decode(row); err == nil {
		c.leases.Stats.Live.Store(stored.Leases)
		c.leases.Stats.Waiting.Store(stored.Waiting)
	}
	return nil
}

// Pauses between two recounts. The short one follows a count that failed, or during which leases
// changed while there are only a few, because these are soon counted again.
const (
	recountInterval = time.Hour
	recountSoon     = time.Minute
	fewLeases       = 100_000
)

// recount counts the stored leases slowly, with many pauses, and corrects the counts, which may be
// a second old after a crash.
func (c *counts) recount(ctx context.Context) error {
	for {
		wait := recountInterval
		n, unchanged, err := c.countLeases(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			c.log.Warn("counting the leases", "error", err)
		}
		if err != nil || !unchanged && n < fewLeases {
			wait = recountSoon
		}
		if !pause(ctx, wait) {
			return ctx.Err()
		}
	}
}

// countLeases returns the number of leases, and whether none was added or removed meanwhile.
func (c *counts) countLeases(ctx context.Context) (n int64, unchanged bool, err error) {
	stats := &c.leases.Stats
	failing := int64(0)
	liveBefore, waitingBefore, undoneBefore := stats.Live.Load(), stats.Waiting.Load(), stats.Undone.Load()
	for e, err := range c.view.Scan(ctx, lease.Prefix, storage.PrefixEnd(lease.Prefix)) {
		if err != nil && e.Key == "" {
			return n, false, err
		}
		if err == nil && lease.Failing(e.Value) {
			failing++
		}
		if n++; n%1000 == 0 && !pause(ctx, 5*time.Millisecond) {
			return n, false, ctx.Err()
		}
	}
	live, waiting := stats.Live.Load()-liveBefore, stats.Waiting.Load()-waitingBefore
	// On average, the scan has seen half of the changes that happened meanwhile.
	stats.Live.Add(n - liveBefore - live/2)
	stats.Waiting.Add(failing - waitingBefore - waiting/2)
	return n, live == 0 && waiting == 0 && stats.Undone.Load() == undoneBefore, nil
}

// pause waits, and reports false if ctx ends first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// tokenCounter counts the rows of service tokens, without decrypting them.
func tokenCounter(store storage.Store) func(ctx context.Context) (int64, error) {
	return func(ctx context.Context) (count int64, err error) {
		for _, err := range store.Scan(ctx, token.Prefix, storage.PrefixEnd(token.Prefix)) {
			if err != nil {
				return 0, err
			}
			count++
		}
		return count, nil
	}
}
