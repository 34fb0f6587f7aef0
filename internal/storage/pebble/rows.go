package pebble

import (
	"hash/maphash"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/keyturn/keyturn/internal/storage"
)

// Limits of the cache: at most four megabytes. Entries that are read repeatedly are small: a
// token, a policy, a secret.
const (
	rowSlots    = 1 << 12
	rowMaxBytes = 1 << 10
)

// rows cache entries, encrypted as on the disk, that were read repeatedly, and absent keys. Reads
// of unchanged entries, and commits that assert what their caller has just read, then need not
// search every table of Pebble. Each hash of a key has one slot, so no order of eviction is
// needed.
//
// A slot is never stale: when a batch is applied, the committer updates the slots of its keys,
// before it unlocks their latches and before any caller gets the result. A reader that has read
// the old entry finds that the generation of the slot has changed, and does not cache it.
type rows struct {
	seed  maphash.Seed
	slots [rowSlots]rowSlot
}

type rowSlot struct {
	row  atomic.Pointer[row]
	seen atomic.Uint32 // part of the hash of the last key that was read but not cached
	gen  atomic.Uint32 // number of commits; changed under mu

	mu sync.Mutex // held while row is set
}

// A row is one entry; version 0: the key is absent. It does not change.
type row struct {
	key     string
	version storage.Version
	value   []byte
}

func newRows() *rows { return &rows{seed: maphash.MakeSeed()} }

// at returns the slot of a key, and the rest of its hash.
func (r *rows) at(key string) (*rowSlot, uint32) {
	h := maphash.String(r.seed, key)
	return &r.slots[h%rowSlots], uint32(h >> 32)
}

// get returns the cached row of a key, or nil.
func (s *rowSlot) get(key string) *row {
	if w := s.row.Load(); w != nil && w.key == key {
		return w
	}
	return nil
}

// entry returns the entry, with a copy of its value if asked for.
func (w *row) entry(withValue bool) storage.Entry {
	e := storage.Entry{Key: w.key, Version: w.version}
	if withValue && w.version != 0 {
		e.Value = make([]byte, len(w.value))
		copy(e.Value, w.value)
	}
	return e
}

// keep caches an entry that was read in the slot's generation gen: an absent one at once, others
// at the second read.
func (s *rowSlot) keep(e storage.Entry, hash, gen uint32) {
	if e.Version != 0 && s.seen.Swap(hash) != hash || len(e.Key)+len(e.Value) > rowMaxBytes {
		return
	}
	w := &row{key: strings.Clone(e.Key), version: e.Version} // the key may be a part of a large text
	if e.Version != 0 {
		w.value = append(make([]byte, 0, len(e.Value)), e.Value...)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gen.Load() == gen {
		s.row.Store(w)
	}
}

// changed replaces the cached row of a key by the entry that a commit has written; version 0:
// removed. It copies the value.
func (r *rows) changed(e storage.Entry) {
	s, _ := r.at(e.Key)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gen.Add(1)
	old := s.row.Load()
	if old == nil || old.key != e.Key {
		return
	}
	if len(e.Key)+len(e.Value) > rowMaxBytes {
		s.row.Store(nil)
		return
	}
	s.row.Store(&row{key: old.key, version: e.Version, value: append(make([]byte, 0, len(e.Value)), e.Value...)})
}
