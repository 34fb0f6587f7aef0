package core

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/keyturn/keyturn/internal/audit"
	"github.com/keyturn/keyturn/internal/due"
	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/lease"
	"github.com/keyturn/keyturn/internal/storage"
)

// countKey is the row in which this node leaves its counts each second, and
// finds them again at its start. A crash loses at most a second of them, which
// the slow count corrects.
const countKey = "count/local"

type countRow struct {
	Leases  int64 `json:"leases"`
	Waiting int64 `json:"waiting,omitempty"`
}

func (h ledger) saveCounts(ctx context.Context) error {
	b, err := json.Marshal(countRow{Leases: h.leases.Stats.Live.Load(), Waiting: h.leases.Stats.Waiting.Load()})
	if err != nil {
		return err
	}
	ops := []storage.Op{storage.Set(countKey, b)}
	if op, ok := h.clock.row(); ok {
		ops = append(ops, op)
	}
	_, err = h.view.Commit(ctx, ops...)
	return err
}

func (h ledger) loadCounts(ctx context.Context) error {
	row, err := h.view.Get(ctx, countKey)
	if err != nil || row.Version == 0 {
		return err
	}
	var c countRow
	if err := json.Unmarshal(row.Value, &c); err == nil {
		h.leases.Stats.Live.Store(c.Leases)
		h.leases.Stats.Waiting.Store(c.Waiting)
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
func (h ledger) recount(ctx context.Context) error {
	for {
		again := recountEvery
		n, still, err := h.countLeases(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			h.log.Warn("counting the leases", "error", err)
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
func (h ledger) countLeases(ctx context.Context) (n int64, still bool, err error) {
	stats := &h.leases.Stats
	failing := int64(0)
	before, waited, undone := stats.Live.Load(), stats.Waiting.Load(), stats.Undone.Load()
	for e, err := range h.view.Scan(ctx, lease.Prefix, storage.PrefixEnd(lease.Prefix)) {
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

// owedPrefix is where audit entries wait that no device took.
const owedPrefix = "audit-owed/"

// owe commits entries that are to be written once a device is back.
func (h ledger) owe(ctx context.Context, entries ...*audit.Entry) error {
	b := h.broker.Render(entries...)
	if b == nil {
		return nil
	}
	_, err := h.view.Commit(ctx, storage.Append(owedPrefix, b))
	return err
}

// payOwed writes what is owed, in order, once a device writes again.
func (h ledger) payOwed(ctx context.Context) error {
	if h.broker.Enabled() && !h.broker.Healthy() {
		return nil
	}
	for {
		var ops []storage.Op
		var lines [][]byte
		for e, err := range h.view.Scan(ctx, owedPrefix, storage.PrefixEnd(owedPrefix)) {
			if err != nil {
				return err
			}
			ops, lines = append(ops, storage.Remove(e.Key)), append(lines, e.Value)
			if len(ops) == storage.MaxOps {
				break
			}
		}
		if len(ops) == 0 {
			return nil
		}
		if err := h.broker.WriteRendered(ctx, lines...); err != nil {
			return err
		}
		if _, err := h.view.Commit(ctx, ops...); err != nil {
			return err
		}
	}
}

// lateness counts how late due items were begun, in buckets of seconds.
type lateness struct {
	mu      sync.Mutex
	buckets []int64
	sum     time.Duration
	count   int64
}

// LatenessBounds are the upper bounds of the buckets of [Stats.Lateness], in
// seconds; one more bucket holds the rest.
var LatenessBounds = []float64{0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600}

func newLateness() *lateness { return &lateness{buckets: make([]int64, len(LatenessBounds)+1)} }

func (l *lateness) observe(_ due.Item, by time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := 0
	for i < len(LatenessBounds) && by.Seconds() > LatenessBounds[i] {
		i++
	}
	l.buckets[i]++
	l.sum += by
	l.count++
}

// Stats are counts for metrics. None of them costs a scan.
type Stats struct {
	Unsealed      bool
	Leases        int64
	Undone        int64
	UndoFailures  int64
	UndoWaiting   int64
	Lateness      []int64 // by LatenessBounds, not cumulative
	LatenessSum   time.Duration
	LatenessCount int64
	ClockHeld     bool
	Audit         []audit.Status
}

// Stats returns the counts of now.
func (c *Core) Stats() Stats {
	h := c.house.Load()
	if h == nil {
		return Stats{}
	}
	s := Stats{
		Unsealed: true, Leases: max(h.leases.Stats.Live.Load(), 0), Undone: h.leases.Stats.Undone.Load(),
		UndoFailures: h.leases.Stats.Failed.Load(), UndoWaiting: max(h.leases.Stats.Waiting.Load(), 0),
		ClockHeld: h.held(), Audit: h.broker.Devices(),
	}
	h.lateness.mu.Lock()
	defer h.lateness.mu.Unlock()
	s.Lateness = append(s.Lateness, h.lateness.buckets...)
	s.LatenessSum, s.LatenessCount = h.lateness.sum, h.lateness.count
	return s
}

// tallyTime bounds what Rotations reads of the store: one row of each mount.
const tallyTime = time.Second

// A Tally is where the records of one mount stand that rotate.
type Tally = engine.Tally

// Rotations tells where all records stand that rotate, a tally for each mount. Of all together at
// most so many are listed one by one, those in trouble first.
func (c *Core) Rotations(most int) []Tally {
	h := c.house.Load()
	if h == nil {
		return nil
	}
	scope, end := h.scope()
	defer end()
	ctx, cancel := context.WithTimeout(scope, tallyTime)
	defer cancel()
	return h.mounts.Snapshot().Tallies(ctx, most)
}

// ReloadAudit opens every audit device anew.
func (c *Core) ReloadAudit() error {
	if h := c.house.Load(); h != nil {
		return h.broker.Reopen()
	}
	return nil
}
