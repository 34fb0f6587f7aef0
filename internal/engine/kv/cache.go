package kv

import (
	"sync"

	"github.com/keyturn/keyturn/internal/storage"
)

// parsedCache caches decoded records by the version of their row. It is never stale, because each
// read gets the current version from the store.
type parsedCache struct {
	mu sync.RWMutex
	m  map[string]parsedRecord
}

type parsedRecord struct {
	version storage.Version
	record  *record
}

func (c *parsedCache) get(path string, v storage.Version) *record {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if p, ok := c.m[path]; ok && p.version == v {
		return p.record
	}
	return nil
}

func (c *parsedCache) put(path string, v storage.Version, m *record) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil || len(c.m) >= 4096 { // some 4 MiB
		c.m = map[string]parsedRecord{}
	}
	c.m[path] = parsedRecord{v, m}
}
