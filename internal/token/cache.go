package token

import (
	"sync"
	"sync/atomic"
	"time"
)

// freshFor is how long after the feed's last sign of life the cache is used.
const freshFor = time.Second

// A cache of decoded tokens. A reader remembers the generation before it reads the store, and
// caches the token only if the generation is still the same, so that no outdated token is cached.
type cache struct {
	gen      atomic.Uint64
	feedSeen atomic.Int64 // the feed's last progress, unix nanoseconds

	mu    sync.RWMutex
	m     map[string]*Entry
	bytes int // total size of the cached records
}

func (c *cache) get(id string) *Entry {
	if time.Now().UnixNano()-c.feedSeen.Load() > int64(freshFor) {
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
