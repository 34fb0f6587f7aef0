package core

import (
	"context"
	"time"

	"github.com/keyturn/keyturn/internal/core/node"
	"github.com/keyturn/keyturn/internal/engine"
)

// Stats returns the current counts.
func (c *Core) Stats() Stats {
	u := c.active.Load()
	if u == nil {
		return Stats{}
	}
	s := Stats{
		Unsealed: true, Leases: max(u.leases.Stats.Live.Load(), 0), Undone: u.leases.Stats.Undone.Load(),
		UndoFailures: u.leases.Stats.Failed.Load(), UndoWaiting: max(u.leases.Stats.Waiting.Load(), 0),
		ClockHeld: u.clock.jumped(), Audit: u.broker.Devices(),
	}
	u.lateness.addTo(&s)
	return s
}

// tallyTime limits how long Rotations reads from the store. It reads one row of each mount.
const tallyTime = time.Second

// A Tally counts the rotating records of one mount by their state.
type Tally = engine.Tally

// Rotations returns a tally for each mount that rotates. Together they list at most that many
// records, failing ones first.
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

// ReloadAudit reopens every audit device.
func (c *Core) ReloadAudit() error {
	if u := c.active.Load(); u != nil {
		return u.broker.Reopen()
	}
	return nil
}

// CORS returns the origins whose web pages may call the API; none while the server is sealed.
func (c *Core) CORS(ctx context.Context) (node.CORS, error) {
	u := c.active.Load()
	if u == nil {
		return node.CORS{}, nil
	}
	return node.CORSSetting.Read(ctx, u.view)
}

// UIHeaders returns the headers of answers below /ui; none while the server is sealed.
func (c *Core) UIHeaders(ctx context.Context) (map[string][]string, error) {
	u := c.active.Load()
	if u == nil {
		return nil, nil
	}
	return node.UIHeaders.Read(ctx, u.view)
}
