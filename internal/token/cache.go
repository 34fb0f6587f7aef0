package token

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of the decoded tokens that are kept; past one all are dropped. At
// some 500 bytes each the two meet. A token may carry up to a megabyte of metadata,
// and one that is larger than maxHeld is read anew each time.
const (
	maxCached = 1 << 16
	maxBytes  = 32 << 20
	maxHeld   = 16 << 10
)

// freshFor is how long after the feed's last sign of life a cached token is
// still believed.
const freshFor = time.Second

// A cache of decoded tokens. A reader notes the generation before it reads the
// store and stores only under the same one, so that what it read before a
// change never comes in after it.
type cache struct {
	gen  atomic.Uint64
	seen atomic.Int64 // the feed's last progress, unix nanoseconds

	mu    sync.RWMutex
	m     map[string]*Entry
	bytes int // of their records
}

func (c *cache) get(id string) *Entry {
	if time.Now().UnixNano()-c.seen.Load() > int64(freshFor) {
		return nil
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.m[id]
}

func (c *cache) generation() uint64 { return c.gen.Load() }

func (c *cache) put(e *Entry, gen uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gen.Load() != gen || e.Large() {
		return
	}
	c.forgetLocked(e.ID)
	if c.m == nil || len(c.m) >= maxCached || c.bytes+e.size > maxBytes {
		c.m, c.bytes = map[string]*Entry{}, 0
	}
	c.m[e.ID] = e
	c.bytes += e.size
}

func (c *cache) forgetLocked(id string) {
	if e := c.m[id]; e != nil {
		c.bytes -= e.size
		delete(c.m, id)
	}
}

func (c *cache) drop(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gen.Add(1)
	c.forgetLocked(id)
}

func (c *cache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gen.Add(1)
	c.m, c.bytes = nil, 0
}

// Follow keeps the cache true to the store until ctx ends.
func (s *Store) Follow(ctx context.Context) error {
	for ctx.Err() == nil {
		begun := false
		for ch, err := range s.view.Watch(ctx, Prefix, 0) {
			if err != nil {
				break
			}
			if !begun { // what was changed after a token was read, and before the feed began, is in no change
				begun = true
				s.cache.clear()
			}
			if ch.Key != "" {
				s.cache.drop(strings.TrimPrefix(ch.Key, Prefix))
			}
			s.cache.seen.Store(time.Now().UnixNano())
		}
		s.cache.seen.Store(0)
		s.cache.clear()
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
	return ctx.Err()
}
