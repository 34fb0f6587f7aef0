// Package due is the index of what must happen when, and the loop that makes
// it happen.
//
// The index is rows of the store, in order of time within a lane:
//
//	due/<lane>/<unix milliseconds, 8 bytes, big endian>/<kind>/<id>
//
// A lane is one target of revocations (a connection of a mount), or tokens, or the work of one
// engine. A row says only that something is due. What is due is another row, committed in the same
// batch, which is authoritative: a handler that finds it moved or gone does nothing.
//
// Invariants: nothing is kept in memory per item, so a start costs what is due soon, not what is
// stored. A lane whose target fails delays no other lane: it is paused, and probed with one item
// at a time.
package due

import (
	"encoding/binary"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/storage"
)

// Prefix of all keys of the index.
const Prefix = "due/"

// An Item is one row of the index. Lane and Kind contain no slash.
type Item struct {
	Lane string
	At   time.Time // to the millisecond
	Kind string
	ID   string
}

// Key is the item's key in the store.
func (it Item) Key() string {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(max(it.At.UnixMilli(), 0)))
	return Prefix + it.Lane + "/" + string(b[:]) + "/" + it.Kind + "/" + it.ID
}

// Parse reads a key made by Key.
func Parse(key string) (Item, bool) {
	rest, ok := strings.CutPrefix(key, Prefix)
	lane, rest, cut := strings.Cut(rest, "/")
	if !ok || !cut || len(rest) < 10 || rest[8] != '/' {
		return Item{}, false
	}
	ms := binary.BigEndian.Uint64([]byte(rest[:8]))
	kind, id, cut := strings.Cut(rest[9:], "/")
	if !cut || ms > 1<<53 {
		return Item{}, false
	}
	return Item{Lane: lane, At: time.UnixMilli(int64(ms)), Kind: kind, ID: id}, true
}

// Move returns the operations that move an item from one time to another, for the caller's batch.
// A zero from adds it, a zero to removes it.
func Move(it Item, from, to time.Time) []storage.Op {
	var ops []storage.Op
	it.At = to
	next := it.Key()
	if !from.IsZero() {
		it.At = from
		if old := it.Key(); old != next || to.IsZero() {
			ops = append(ops, storage.Remove(old))
		}
	}
	if !to.IsZero() {
		ops = append(ops, storage.Set(next, nil))
	}
	return ops
}
