package core

import (
	"context"
	"time"

	"github.com/keyturn/keyturn/internal/core/node"
	"github.com/keyturn/keyturn/internal/engine"
)

// Stats returns the counts of now.
func (c *Core) Stats() Stats {
	u := c.active.Load()
	if u == nil {
		return Stats{}
	}
	s := Stats{
		Unsealed: true, Leases: max(u.leases.Stats.Live.Load(), 0), Undone: u.leases.Stats.Undone.Load(),
		UndoFailures: u.leases.Stats.Failed.Load(), UndoWaiting: max(u.leases.Stats.Waiting.Load(), 0),
		ClockHeld: u.clock.held(), Audit: u.broker.Devices(),
	}
	u.lateness.addTo(&s)
	return s
}

// tallyTime bounds what Rotations reads of the store: one row of each mount.
const tallyTime = time.Second

// A Tally is where the records of one mount stand that rotate.
type Tally = engine.Tally

// Rotations tells where all records stand that rotate, a tally for each mount. Of all together at
// most so many are listed one by one, those in trouble first.
func (c *Core) Rotations(most int) []Tally {
	u := c.active.Load()
	if u == nil {
		return nil
	}
	scope, end := u.scope()
	defer end()
	ctx, cancel := context.WithTimeout(scope, tallyTime)
	defer cancel()
	return u.mounts.Snapshot().Tallies(ctx, most)
}

// ReloadAudit opens every audit device anew.
func (c *Core) ReloadAudit() error {
	if u := c.active.Load(); u != nil {
		return u.broker.Reopen()
	}
	return nil
}

// CORS returns which web pages of other origins may call; while sealed, none.
func (c *Core) CORS(ctx context.Context) (node.CORS, error) {
	u := c.active.Load()
	if u == nil {
		return node.CORS{}, nil
	}
	return node.CORSSetting.Read(ctx, u.view)
}

// UIHeaders returns the headers that answers below /ui carry; while sealed, none.
func (c *Core) UIHeaders(ctx context.Context) (map[string][]string, error) {
	u := c.active.Load()
	if u == nil {
		return nil, nil
	}
	return node.UIHeaders.Read(ctx, u.view)
}
