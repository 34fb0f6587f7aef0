package pebble

import (
	"context"
	"encoding/binary"
	"errors"

	"github.com/cockroachdb/pebble/v2"

	"github.com/keyturn/keyturn/internal/storage"
)

// A request is one batch to commit. It owns its memory, because the caller may no longer wait when
// it is applied.
type request struct {
	writes  []write
	size    int
	claims  []claim
	version storage.Version
	done    chan struct{} // closed when the disk has it
}

// A write is a put or a delete as Pebble will store it, without the number.
type write struct {
	name   string // the key, without its stamp
	key    []byte // with room for the stamp
	value  []byte // with room for the version; nil: delete
	stamp  bool
	stripe uint16
}

// newRequest copies a batch.
func newRequest(b storage.Batch, n *numbers) *request {
	size := 0
	for _, op := range b.Ops {
		size += len(op.Key) + len(op.Value) + 1 + versionLen + stampLen
	}
	r := &request{
		writes: make([]write, 0, len(b.Ops)),
		size:   size,
		claims: make([]claim, 0, len(b.Ops)),
		done:   make(chan struct{}),
	}
	buf := make([]byte, 0, size)
	for _, op := range b.Ops {
		stripe := n.stripe(op.Key)
		if !op.Stamp { // a stamped key is new, so no other batch uses it
			r.claims = append(r.claims, claim{stripe, op.Kind != storage.Assert})
		}
		if op.Kind == storage.Assert {
			continue
		}
		w := write{name: op.Key, stamp: op.Stamp, stripe: stripe}
		from := len(buf)
		buf = append(append(buf, tagEntry), op.Key...)
		if op.Stamp {
			buf = append(buf, "0000000000000000"...)
		}
		w.key = buf[from:]
		if op.Kind == storage.Put {
			from = len(buf)
			buf = append(buf, "\x00\x00\x00\x00\x00\x00\x00\x00"...)
			buf = append(buf, op.Value...)
			w.value = buf[from:]
		}
		r.writes = append(r.writes, w)
	}
	r.claims = normalize(r.claims)
	return r
}

const stampLen = 16

// await waits for the syncer's answer. If ctx ends first, the outcome is unknown.
func (r *request) await(ctx context.Context, dead <-chan struct{}, space *space) (storage.Version, error) {
	select {
	case <-r.done:
		return r.version, nil
	default:
	}
	select {
	case <-r.done:
		return r.version, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-dead:
		return 0, errPoisoned
	case <-space.stalled():
		return 0, errStalled
	}
}

var errStalled = errors.New("storage: the disk is full; whether this was stored is not known until there is space")

// Limits of one of Pebble's batches. Larger ones would be copied into their own memtable; more
// requests would delay the first.
const (
	groupRequests = 512
	groupBytes    = 2 << 20
)

// pipeline is how many groups may be applied but not synced. Together with groupRequests, it
// limits the numbers that a crash can lose; see skip.
const pipeline = 64

// skip is the distance of the first number after opening from the newest number found. It is
// larger than the number of commits that a crash can lose.
const skip = 2 * pipeline * groupRequests

// clockShift turns the clock's seconds into a number. It leaves room for 2^24 commits in each
// second, until after the year 2500.
const clockShift = 24

// A group is applied together and synced together.
type group struct {
	requests []*request
	batch    *pebble.Batch
	changes  []storage.Change
	last     uint64
}

// newGroup gives each request its version and writes all into one batch.
func newGroup(db *pebble.DB, n *numbers, requests []*request) *group {
	size, writes := 64, 0
	for _, r := range requests {
		size += r.size
		writes += len(r.writes)
	}
	g := &group{
		requests: requests,
		batch:    db.NewBatchWithSize(size + 8*writes),
		changes:  make([]storage.Change, 0, writes),
		last:     n.begun.Load(),
	}
	for _, r := range requests {
		g.last++
		r.version = storage.Version(g.last)
		for i := range r.writes {
			g.put(n, &r.writes[i])
		}
	}
	n.begun.Store(g.last)
	must(g.batch.Set(metaVersion, binary.BigEndian.AppendUint64(nil, g.last), nil))
	return g
}

// put adds one write to the group.
func (g *group) put(n *numbers, w *write) {
	name := w.name
	if w.stamp {
		name = storage.StampedKey(w.name, storage.Version(g.last))
		copy(w.key[1+len(w.name):], name[len(w.name):])
	}
	if w.value == nil {
		must(g.batch.Delete(w.key, nil))
		n.delete(w.stripe, g.last)
	} else {
		binary.BigEndian.PutUint64(w.value, g.last)
		must(g.batch.Set(w.key, w.value, nil))
	}
	g.changes = append(g.changes, storage.Change{Version: storage.Version(g.last), Key: name, Deleted: w.value == nil})
}

// eachEntry calls f with the resulting entry of each write, in order. Values belong to the
// requests.
func (g *group) eachEntry(f func(storage.Entry)) {
	i := 0
	for _, r := range g.requests {
		for j := range r.writes {
			e := storage.Entry{Key: g.changes[i].Key} // the whole key, also of a stamped one
			if value := r.writes[j].value; value != nil {
				e.Version, e.Value = r.version, value[versionLen:]
			}
			f(e)
			i++
		}
	}
}

// must: adding to a batch in memory has no error to return.
func must(err error) {
	if err != nil {
		panic(err)
	}
}
