package enginetest

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/storage/faulty"
	"github.com/keyturn/keyturn/internal/storage/memory"
)

// Chaos is what is the same in all seeded runs of engines: commits that fail, and a process that dies at commits, between steps of
// issuing, or in the middle of whatever goes on. What the engine's outside does wrong is each engine's own. It runs in a bubble.
//
// Rand is used by the one goroutine that plays; the rest is safe for concurrent use.
type Chaos struct {
	Rand  *rand.Rand
	Store *faulty.Store
	seed  uint64

	mu     sync.Mutex // guards the rest
	steps  int        // at which step between calls the process dies; 0: none
	dead   bool       // the process is as good as dead
	deaths int
	story  []string
}

// NewChaos is the chaos of a seed. Two runs of a seed differ if their streams do.
func NewChaos(seed, stream uint64) *Chaos {
	return &Chaos{Rand: rand.New(rand.NewPCG(seed, stream)), Store: faulty.New(memory.Open(), seed), seed: seed}
}

// Config is of a world in which the chaos reigns.
func (c *Chaos) Config() Config { return Config{Store: c.Store, Between: c.between} }

// Tell adds a line to the story, which is printed if the run fails.
func (c *Chaos) Tell(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tellLocked(format, args...)
}

func (c *Chaos) tellLocked(format string, args ...any) {
	c.story = append(c.story, time.Now().Format("02 15:04:05.000 ")+fmt.Sprintf(format, args...))
}

// Print logs the end of the story of a run that has failed. It is for a defer.
func (c *Chaos) Print(t testing.TB) {
	t.Helper()
	if !t.Failed() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	const most = 150
	for _, line := range c.story[max(0, len(c.story)-most):] {
		t.Log(line)
	}
	t.Logf("seed %d", c.seed)
}

// UpTo is a random time below d.
func (c *Chaos) UpTo(d time.Duration) time.Duration { return time.Duration(c.Rand.Int64N(int64(d))) }

// between has the process die between steps of issuing.
func (c *Chaos) between(step string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.steps--; c.steps != 0 && !c.dead {
		return nil
	}
	c.dead = true
	c.tellLocked("dies when %s", step)
	return fault.New("test", fault.Unavailable, "the process has died")
}

// Arm says when the process will die, or which commit fails, or neither.
func (c *Chaos) Arm() {
	modes := []faulty.Mode{faulty.NotStored, faulty.Stored}
	mode := modes[c.Rand.IntN(len(modes))]
	switch c.Rand.IntN(4) {
	case 0:
		n := c.Rand.IntN(10)
		c.Store.CrashAfter(n, mode)
		c.Tell("dies at commit %d, mode %d", n, mode)
	case 1:
		c.mu.Lock()
		c.steps = 1 + c.Rand.IntN(3)
		c.mu.Unlock()
	case 2:
		c.Store.Inject(faulty.Fault{Calls: faulty.Commits, After: c.Rand.IntN(6), Mode: mode})
		c.Tell("a commit fails, mode %d", mode)
	}
}

// Kill ends the process in the middle of whatever goes on.
func (c *Chaos) Kill(w *World) {
	c.mu.Lock()
	c.dead = true
	c.tellLocked("dies")
	c.mu.Unlock()
	w.Stop()
}

// Down reports whether the process has died.
func (c *Chaos) Down() bool {
	select {
	case <-c.Store.Crashed():
		return true
	default:
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dead
}

// Reboot starts the process anew, where it has died and where it has not.
func (c *Chaos) Reboot(t testing.TB, w *World) {
	t.Helper()
	died := c.Down()
	w.Stop()
	c.Store.Revive()
	c.Store.Clear()
	c.mu.Lock()
	c.dead, c.steps = false, 0
	if died {
		c.deaths++
	}
	c.mu.Unlock()
	w.Reopen(t)
	c.Tell("booted")
}

// Deaths is how often the process has died.
func (c *Chaos) Deaths() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.deaths
}
