package core

import (
	"context"
	"sync"
	"time"

	"github.com/keyturn/keyturn/internal/barrier"
	"github.com/keyturn/keyturn/internal/storage"
)

// maxJump is how far the wall clock may run ahead of the monotonic one. Beyond it, the server
// revokes and rotates nothing, because acting a day early cannot be undone.
const maxJump = time.Minute

// Boot returns the ID of the machine's current boot and the time since it, measured by a clock
// that nobody can set.
type Boot func() (id string, since time.Duration)

// clockRow is the reading that a server stores for its next start.
type clockRow struct {
	Wall time.Time     `json:"wall"`
	Boot string        `json:"boot"`
	Up   time.Duration `json:"up"`
}

const storedClock barrier.Rows[clockRow] = "core/clock"

// clock compares the wall clock with one that cannot be set. While the server runs, that is Go's
// monotonic reading or the time since boot, whichever advanced further, because the monotonic
// reading stops while the machine sleeps. At the start of the server, it is the time since boot,
// provided that the machine has not been rebooted. A jump backward makes nothing due early, but
// the way back from it does: what was granted in between has times of the clock that was behind.
type clock struct {
	boot Boot

	mu    sync.Mutex
	id    string        // of the boot
	up    time.Duration // time since boot, at base
	base  time.Time     // when the clock was last trusted, with the monotonic reading
	wall  time.Time     // base without the monotonic reading
	ahead time.Duration // how far the wall clock was ahead of the time since boot at the start
	least time.Duration // how far ahead it was at the least since it was trusted; below zero: it was set back

	distrusted bool // result of the last update
}

func openClock(ctx context.Context, view *barrier.View, boot Boot) (*clock, error) {
	now := time.Now()
	c := &clock{boot: boot, base: now, wall: now.Round(0)}
	if boot != nil {
		c.id, c.up = boot()
	}
	last, _, err := storedClock.Get(ctx, view, "")
	if err != nil || last == nil || boot == nil {
		return c, err
	}
	if c.id != "" && c.id == last.Boot {
		c.ahead = c.base.Sub(last.Wall.Add(c.up - last.Up))
		c.distrusted = c.ahead > maxJump
	}
	return c, nil
}

// update compares the clocks, and returns whether the wall clock had jumped before, and has now.
func (c *clock) update(now time.Time) (before, after bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before, c.distrusted = c.distrusted, c.jumpedLocked(now)
	return before, c.distrusted
}

func (c *clock) jumpedLocked(now time.Time) bool {
	wall, passed := now.Round(0).Sub(c.wall), now.Sub(c.base)
	if c.boot != nil && c.id != "" {
		if id, up := c.boot(); id == c.id {
			passed = max(passed, up-c.up)
		}
	}
	ahead := c.ahead + wall - passed
	c.least = min(c.least, ahead)
	return ahead-c.least > maxJump
}

// jumped also compares the clocks now, because the caller acts by the current time, not by that
// of the last update.
func (c *clock) jumped() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.distrusted || c.jumpedLocked(time.Now())
}

// trust accepts the wall clock as it is. The operator has confirmed it.
func (c *clock) trust() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.base, c.ahead, c.least, c.distrusted = time.Now(), 0, 0, false
	c.wall = c.base.Round(0)
	if c.boot != nil {
		c.id, c.up = c.boot()
	}
}

// row returns the reading that the next start compares with. After a jump the last trusted
// reading stays, so that a restart does not launder the jump.
func (c *clock) row() (storage.Op, bool) {
	if c.boot == nil || c.jumped() {
		return storage.Op{}, false
	}
	id, up := c.boot()
	op, err := storedClock.Set("", clockRow{Wall: time.Now().UTC(), Boot: id, Up: up})
	return op, err == nil
}
