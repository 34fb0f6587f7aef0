package core

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/barrier"
	"github.com/keyturn/keyturn/internal/barrier/barriertest"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/storage/memory"
)

// TestClockJumps sets the wall clock while the server runs, by moving the time that it is compared
// with.
func TestClockJumps(t *testing.T) {
	for name, tt := range map[string]struct {
		jump         time.Duration
		held, healed bool
	}{
		"not at all": {0, false, true}, "a little": {30 * time.Second, false, true},
		"a day ahead": {24 * time.Hour, true, true},
		"just enough": {61 * time.Second, true, true}, "a little back": {-30 * time.Second, false, true},
		// the grace of a key that was replaced on that day would be over
		"a day back": {-24 * time.Hour, false, false},
	} {
		c, err := openClock(t.Context(), view(t), nil)
		if err != nil {
			t.Fatal(err)
		}
		c.wall = c.wall.Add(-tt.jump)
		if before, after := c.update(time.Now()); before || after != tt.held {
			t.Errorf("%s: held %t, then %t, want %t", name, before, after, tt.held)
		}
		c.wall = c.wall.Add(tt.jump) // somebody sets it right
		if before, after := c.update(time.Now()); before != tt.held || after == tt.healed {
			t.Errorf("%s, set right: held %t, then %t", name, before, after)
		}
		c.trust()
		if _, after := c.update(time.Now()); after {
			t.Errorf("%s, set right and trusted: held", name)
		}
	}
}

// TestJumpBetweenUpdates: a jump is noticed at once, not only by the next update.
func TestJumpBetweenUpdates(t *testing.T) {
	c, err := openClock(t.Context(), view(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.jumped() {
		t.Error("held from the start")
	}
	c.wall = c.wall.Add(-24 * time.Hour)
	if !c.jumped() {
		t.Error("a day ahead, and it is not held until the next check")
	}
	if before, after := c.update(time.Now()); before || !after {
		t.Errorf("the check that tells of it: held %t, then %t", before, after)
	}
}

// TestClockAfterSleep: the time since boot includes the time in which the machine slept; Go's
// monotonic reading does not.
func TestClockAfterSleep(t *testing.T) {
	for name, tt := range map[string]struct {
		wall, up time.Duration
		held     bool
	}{
		"a night's sleep": {10 * time.Hour, 10 * time.Hour, false}, "no sleep": {10 * time.Hour, 0, true},
		"a jump in its sleep": {20 * time.Hour, 10 * time.Hour, true},
		"back in its sleep":   {time.Hour, 10 * time.Hour, false},
	} {
		up := 1000 * time.Hour
		c, err := openClock(t.Context(), view(t), func() (string, time.Duration) { return "one", up })
		if err != nil {
			t.Fatal(err)
		}
		c.wall, up = c.wall.Add(-tt.wall), up+tt.up
		if _, jumped := c.update(time.Now()); jumped != tt.held || c.jumped() != tt.held {
			t.Errorf("%s: held %t, want %t", name, jumped, tt.held)
		}
	}
}

// TestClockWhileRunning: a long time without a jump passes on both clocks.
func TestClockWhileRunning(t *testing.T) {
	c, err := openClock(t.Context(), view(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, jumped := c.update(time.Now().Add(365 * 24 * time.Hour)); jumped {
		t.Error("a year that has passed holds the clock")
	}
}

// TestClockAtStart compares with the reading that the last run has stored.
func TestClockAtStart(t *testing.T) {
	for name, tt := range map[string]struct {
		off  time.Duration // how long ago, by the wall, the last server stopped
		up   time.Duration // how long ago by the time since boot
		boot string
		held bool
	}{
		"a restart":             {10 * time.Second, 10 * time.Second, "one", false},
		"down for a month":      {30 * 24 * time.Hour, 30 * 24 * time.Hour, "one", false},
		"a day ahead":           {24*time.Hour + 10*time.Second, 10 * time.Second, "one", true},
		"a day back":            {-24 * time.Hour, 10 * time.Second, "one", false},
		"another boot":          {24 * time.Hour, -time.Hour, "two", false},
		"boot that is unknown":  {24 * time.Hour, 10 * time.Second, "", false},
		"two minutes in twenty": {22 * time.Minute, 20 * time.Minute, "one", true},
	} {
		v := view(t)
		const up = 1000 * time.Hour
		row, err := json.Marshal(clockRow{Wall: time.Now().Add(-tt.off), Boot: "one", Up: up - tt.up})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.Commit(t.Context(), storage.Set(string(storedClock), row)); err != nil {
			t.Fatal(err)
		}
		boot := func() (string, time.Duration) { return tt.boot, up }
		for range 2 { // a second start does not launder the jump
			c, err := openClock(t.Context(), v, boot)
			if err != nil {
				t.Fatal(err)
			}
			if _, jumped := c.update(time.Now()); jumped != tt.held || c.jumped() != tt.held {
				t.Errorf("%s: held %t, want %t", name, jumped, tt.held)
			}
			op, leaves := c.row()
			if leaves == tt.held {
				t.Errorf("%s: it leaves a row: %t", name, leaves)
			}
			if leaves {
				if _, err := v.Commit(t.Context(), op); err != nil {
					t.Fatal(err)
				}
			}
		}
		c, err := openClock(t.Context(), v, boot)
		if err != nil {
			t.Fatal(err)
		}
		c.trust()
		if _, jumped := c.update(time.Now()); jumped || c.jumped() {
			t.Errorf("%s: an operator trusts it, and it is held", name)
		}
		if _, leaves := c.row(); !leaves {
			t.Errorf("%s: a trusted clock leaves no row", name)
		}
	}
}

func view(t *testing.T) *barrier.View {
	t.Helper()
	return barriertest.Open(t, memory.Open()).View("")
}
