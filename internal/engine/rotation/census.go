package rotation

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/storage"
)

// A census knows where each key of the mount stands, so that metrics cost no scan. What
// this process commits it learns at once; what was stored before, from one slow walk.
type census struct {
	mu     sync.Mutex // guards both
	states map[string]State
	counts map[State]int64
}

func newCensus() *census {
	return &census{states: map[string]State{}, counts: map[State]int64{}}
}

// set notes where a key stands; "" is for one that is no more.
func (c *census) set(name string, s State) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if was, known := c.states[name]; known {
		if c.counts[was]--; c.counts[was] == 0 {
			delete(c.counts, was)
		}
	}
	if s == "" {
		delete(c.states, name)
		return
	}
	c.states[name] = s
	c.counts[s]++
}

// States tells how many keys are in each state, those without a turn as scheduled.
func (b *backend) States() map[string]int64 {
	b.census.mu.Lock()
	defer b.census.mu.Unlock()
	out := map[string]int64{}
	for s, n := range b.census.counts {
		out[string(s)] = n
	}
	return out
}

// walkAgain is the pause after a walk that the store has ended.
const walkAgain = time.Minute

// walk takes all keys that are stored into the census. It ends with ctx.
func (b *backend) walk(ctx context.Context) {
	for b.walkOnce(ctx) != nil {
		select {
		case <-ctx.Done():
			return
		case <-time.After(walkAgain):
		}
	}
}

func (b *backend) walkOnce(ctx context.Context) error {
	for e, err := range b.m.Store.Scan(ctx, recordPrefix, storage.PrefixEnd(recordPrefix)) {
		if e.Key == "" && err != nil {
			return err
		}
		if err := b.visit(ctx, strings.TrimPrefix(e.Key, recordPrefix)); err != nil {
			return err
		}
	}
	return nil
}

// visit reads a key under its lock: a commit of its own comes before or after.
func (b *backend) visit(ctx context.Context, name string) error {
	release, err := b.locks.take(ctx, name)
	if err != nil {
		return err
	}
	defer release()
	r, err := b.load(ctx, name)
	switch {
	case fault.Is(err, fault.Internal):
		return nil // damaged, and counted nowhere: the others still are
	case err != nil || r == nil:
		return err
	}
	b.census.set(name, r.state())
	return nil
}
