package token

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// maxCached is how many decoded tokens are kept; past it all are dropped. At
// some 500 bytes each this is 32 MiB.
const maxCached = 1 << 16

// freshFor is how long after the feed's last sign of life a cached token is
// still believed.
const freshFor = time.Second

// A cache of decoded tokens. A reader notes the generation before it reads the
// store and stores only under the same one, so that what it read before a
// change never comes in after it.
type cache struct {
	gen  atomic.Uint64
	seen atomic.Int64 // the feed's last progress, unix nanoseconds

	mu sync.RWMutex
	m  map[string]*Entry
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
	if c.gen.Load() != gen {
		return
	}
	if c.m == nil || len(c.m) >= maxCached {
		c.m = map[string]*Entry{}
	}
	c.m[e.ID] = e
}

func (c *cache) drop(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gen.Add(1)
	delete(c.m, id)
}

func (c *cache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gen.Add(1)
	c.m = nil
}

// Follow keeps the cache true to the store until ctx ends.
func (s *Store) Follow(ctx context.Context) error {
	for ctx.Err() == nil {
		for ch, err := range s.view.Watch(ctx, Prefix, 0) {
			if err != nil {
				break
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
