package rotate

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/storage"
)

// A census knows where each record of the mount stands, so that metrics cost no scan. What
// this process commits it learns at once; what was stored before, from one slow walk.
type census struct {
	mu     sync.Mutex // guards both
	states map[string]State
	counts map[State]int64
}

func newCensus() *census {
	return &census{states: map[string]State{}, counts: map[State]int64{}}
}

// set notes where a record stands; "" is for one that is deleted.
func (c *census) set(k *Kind, name string, s State) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := k.Records + name
	if was, known := c.states[key]; known {
		if c.counts[was]--; c.counts[was] == 0 {
			delete(c.counts, was)
		}
	}
	if s == "" {
		delete(c.states, key)
		return
	}
	c.states[key] = s
	c.counts[s]++
}

// States tells how many records are in each state, those without a rotation in flight as scheduled.
func (m *Manager) States() map[string]int64 {
	m.census.mu.Lock()
	defer m.census.mu.Unlock()
	out := map[string]int64{}
	for s, n := range m.census.counts {
		out[string(s)] = n
	}
	return out
}

// walkAgain is the pause after a walk that the store has ended.
const walkAgain = time.Minute

// Walk takes all records that are stored into the census. It ends with ctx.
func (m *Manager) Walk(ctx context.Context) {
	for m.walkOnce(ctx) != nil {
		select {
		case <-ctx.Done():
			return
		case <-time.After(walkAgain):
		}
	}
}

func (m *Manager) walkOnce(ctx context.Context) error {
	for _, k := range m.kinds {
		for e, err := range m.cfg.Store.Scan(ctx, k.Records, storage.PrefixEnd(k.Records)) {
			if e.Key == "" && err != nil {
				return err
			}
			if err := m.visit(ctx, k, strings.TrimPrefix(e.Key, k.Records)); err != nil {
				return err
			}
		}
	}
	return nil
}

// visit reads a record under its lock: a commit of its own comes before or after.
func (m *Manager) visit(ctx context.Context, k *Kind, name string) error {
	release, err := m.take(ctx, k, name)
	if err != nil {
		return err
	}
	defer release()
	e, err := m.load(ctx, k, name)
	switch {
	case fault.Is(err, fault.Internal):
		return nil // damaged, and counted nowhere: the others still are
	case err != nil || e == nil:
		return err
	}
	m.census.set(k, name, e.Rec.State())
	return nil
}
