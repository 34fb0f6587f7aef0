package pebble

import (
	"hash/maphash"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/keyturn/keyturn/internal/storage"
)

// Bounds of what rows keep: four megabytes at worst. What is read again and again is small: a token, a policy's
// record, a secret.
const (
	rowSlots    = 1 << 12
	rowMaxBytes = 1 << 10
)

// rows keep entries as the disk has them – encrypted – that were read more than once of late, and keys
// that were found absent: a commit that asserts what its caller has just read need not look for it again, through every
// table, and a read asks Pebble for nothing that has not changed. There is a slot for each hash of a key, so nothing is to
// be ordered or thrown out.
//
// A slot never tells what a commit has replaced: the committer puts what a batch has written in the place of what is
// kept of its keys once it is applied, before it lets their latches go and before anybody is told; and who read before
// then and comes to keep it after finds the slot's generation changed.
type rows struct {
	seed  maphash.Seed
	slots [rowSlots]rowSlot
}

type rowSlot struct {
	row  atomic.Pointer[row]
	seen atomic.Uint32 // part of the hash of the last key that was read here and is not kept
	gen  atomic.Uint32 // counts commits; moved under mu

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

// get returns what is kept of a key; nil if nothing is.
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

// keep keeps what was read when the slot's generation was gen: at once what is absent, else the second
// time.
func (s *rowSlot) keep(e storage.Entry, hash, gen uint32) {
	if e.Version != 0 && s.seen.Swap(hash) != hash || len(e.Key)+len(e.Value) > rowMaxBytes {
		return
	}
	w := &row{key: strings.Clone(e.Key), version: e.Version} // a part of something large would keep it
	if e.Version != 0 {
		w.value = append(make([]byte, 0, len(e.Value)), e.Value...)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gen.Load() == gen {
		s.row.Store(w)
	}
}

// changed puts what a commit has made of a key – version 0: removed it – in the place of what is kept of it. The value is
// copied.
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
