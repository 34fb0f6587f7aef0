package core

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/keyturn/keyturn/internal/barrier"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/storage"
)

// maxJump is how far the wall clock may run ahead of the monotonic one before
// nothing is revoked or turned any more: acting a day early cannot be undone.
const maxJump = time.Minute

// Boot tells which boot of the machine this is and how long ago it began, by
// a clock that nobody sets.
type Boot func() (id string, since time.Duration)

const clockKey = "core/clock"

// clockRow is what a server leaves for its next start.
type clockRow struct {
	Wall time.Time     `json:"wall"`
	Boot string        `json:"boot"`
	Up   time.Duration `json:"up"`
}

// clock compares the wall clock with one that cannot be set: while the server
// runs with Go's monotonic reading, or, as that stands still while the machine
// sleeps, with the time since boot, whichever has gone further; at its start – within
// one boot of the machine – with the time since boot. Backward it never holds:
// nothing falls due early.
type clock struct {
	boot Boot

	mu      sync.Mutex
	id      string // the boot, and how long ago it was, at base
	up      time.Duration
	base    time.Time     // with its monotonic reading, when the clock was last trusted
	wall    time.Time     // the same without
	ahead   time.Duration // at the start: how far the wall was ahead of the time since boot
	stopped bool
}

func openClock(ctx context.Context, view *barrier.View, boot Boot) (*clock, error) {
	now := time.Now()
	c := &clock{boot: boot, base: now, wall: now.Round(0)}
	if boot != nil {
		c.id, c.up = boot()
	}
	row, err := view.Get(ctx, clockKey)
	if err != nil || row.Version == 0 || boot == nil {
		return c, err
	}
	var last clockRow
	if err := json.Unmarshal(row.Value, &last); err != nil {
		return nil, fault.Wrap("core.openClock", fault.Internal, err)
	}
	if c.id != "" && c.id == last.Boot {
		c.ahead = c.base.Sub(last.Wall.Add(c.up - last.Up))
		c.stopped = c.ahead > maxJump
	}
	return c, nil
}

// check judges the clock anew, and returns whether it was held and is now.
func (c *clock) check(now time.Time) (was, is bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	was, c.stopped = c.stopped, c.jumpedLocked(now)
	return was, c.stopped
}

func (c *clock) jumpedLocked(now time.Time) bool {
	wall, passed := now.Round(0).Sub(c.wall), now.Sub(c.base)
	if c.boot != nil && c.id != "" {
		if id, up := c.boot(); id == c.id {
			passed = max(passed, up-c.up)
		}
	}
	return c.ahead+wall-passed > maxJump
}

// held judges at the moment, too: who asks acts by the time that he reads next,
// and not by that of the last check.
func (c *clock) held() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stopped || c.jumpedLocked(time.Now())
}

// trust takes the wall clock as it is: what an operator confirms.
func (c *clock) trust() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.base, c.ahead, c.stopped = time.Now(), 0, false
	c.wall = c.base.Round(0)
	if c.boot != nil {
		c.id, c.up = c.boot()
	}
}

// row is what the next start compares with; while the clock is held the last
// trusted reading stays, so that a restart does not launder the jump.
func (c *clock) row() (storage.Op, bool) {
	if c.boot == nil || c.held() {
		return storage.Op{}, false
	}
	id, up := c.boot()
	b, err := json.Marshal(clockRow{Wall: time.Now().UTC(), Boot: id, Up: up})
	if err != nil {
		return storage.Op{}, false
	}
	return storage.Set(clockKey, b), true
}
