package core

import (
	"context"
	"encoding/json"
	"log/slog"
	"time"

	"github.com/keyturn/keyturn/internal/barrier"
	"github.com/keyturn/keyturn/internal/lease"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/token"
)

// countKey is the row in which this node leaves its counts each second, and
// finds them again at its start. A crash loses at most a second of them, which
// the slow count corrects.
const countKey = "count/local"

// counts keeps the numbers of leases: in memory while the server is unsealed, and in a row for its next start.
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
	b, err := json.Marshal(countRow{Leases: c.leases.Stats.Live.Load(), Waiting: c.leases.Stats.Waiting.Load()})
	if err != nil {
		return err
	}
	ops := []storage.Op{storage.Set(countKey, b)}
	if op, ok := c.clock.row(); ok {
		ops = append(ops, op)
	}
	_, err = c.view.Commit(ctx, ops...)
	return err
}

func (c *counts) load(ctx context.Context) error {
	row, err := c.view.Get(ctx, countKey)
	if err != nil || row.Version == 0 {
		return err
	}
	var stored countRow
	if err := json.Unmarshal(row.Value, &stored); err == nil {
		c.leases.Stats.Live.Store(stored.Leases)
		c.leases.Stats.Waiting.Store(stored.Waiting)
	}
	return nil
}

// Pauses between two slow counts, and after one that the store has ended, or
// that leases came and went in: so few are soon counted again.
const (
	recountEvery = time.Hour
	recountAgain = time.Minute
	few          = 100_000
)

// recount counts what is stored, slowly, and corrects the counts: after a crash
// they may be a second old. It pauses often.
func (c *counts) recount(ctx context.Context) error {
	for {
		again := recountEvery
		n, still, err := c.countLeases(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			c.log.Warn("counting the leases", "error", err)
		}
		if err != nil || !still && n < few {
			again = recountAgain
		}
		if !pause(ctx, again) {
			return ctx.Err()
		}
	}
}

// countLeases returns how many there are, and whether none came or went meanwhile.
func (c *counts) countLeases(ctx context.Context) (n int64, still bool, err error) {
	stats := &c.leases.Stats
	failing := int64(0)
	before, waited, undone := stats.Live.Load(), stats.Waiting.Load(), stats.Undone.Load()
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
	live, waiting := stats.Live.Load()-before, stats.Waiting.Load()-waited
	// What came and went meanwhile was seen by half, on average.
	stats.Live.Add(n - before - live/2)
	stats.Waiting.Add(failing - waited - waiting/2)
	return n, live == 0 && waiting == 0 && stats.Undone.Load() == undone, nil
}

// pause waits, and reports false where ctx ended first.
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
