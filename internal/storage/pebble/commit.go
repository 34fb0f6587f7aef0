package pebble

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/keyturn/keyturn/internal/storage"
)

// Limits of one of Pebble's batches. Larger ones would be copied into their own memtable; more
// requests would delay the first.
const (
	groupRequests = 512
	groupBytes    = 2 << 20
)

// pipeline is how many groups may be applied but not synced. Together with groupRequests, it
// limits the numbers that a crash can lose; see skip.
const pipeline = 64

// A request is one batch to commit. It owns its memory, because the caller may no longer wait when
// it is applied.
type request struct {
	writes  []write
	size    int
	held    []claim
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

// Commit implements [storage.Store].
func (s *Store) Commit(ctx context.Context, b storage.Batch) (storage.Version, error) {
	start := time.Now()
	v, err := s.commit(ctx, b)
	err = s.told(err)
	switch {
	case err == nil:
		s.stats.Committed(time.Since(start))
	case errors.Is(err, storage.ErrConflict):
		s.stats.Conflict()
	default:
		s.stats.Failed()
	}
	return v, err
}

func (s *Store) commit(ctx context.Context, b storage.Batch) (storage.Version, error) {
	if err := b.Validate(); err != nil {
		return 0, err
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if s.space.full.Load() {
		return 0, storage.ErrFull
	}
	r := s.encode(b)
	h := s.current.Load()
	if h == nil {
		return 0, s.unserved()
	}
	if err := h.latches.lock(ctx, h.dead, r.held); err != nil {
		return 0, err
	}
	if err := s.check(ctx, h, b); err != nil {
		h.latches.unlock(r.held)
		return 0, err
	}
	if !h.submit(r) {
		h.latches.unlock(r.held)
		return 0, s.unserved()
	}
	return r.await(ctx, h.dead, s.space)
}

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

// encode copies a batch into a request.
func (s *Store) encode(b storage.Batch) *request {
	size := 0
	for _, op := range b.Ops {
		size += len(op.Key) + len(op.Value) + 1 + versionLen + stampLen
	}
	r := &request{
		writes: make([]write, 0, len(b.Ops)),
		size:   size,
		held:   make([]claim, 0, len(b.Ops)),
		done:   make(chan struct{}),
	}
	buf := make([]byte, 0, size)
	for _, op := range b.Ops {
		stripe := s.stripe(op.Key)
		if !op.Stamp { // a stamped key is new, so no other batch uses it
			r.held = append(r.held, claim{stripe, op.Kind != storage.Assert})
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
	r.held = normalize(r.held)
	return r
}

const stampLen = 16

// check compares b's assertions with what is applied. It returns a conflict only when the
// conflicting commit is durable.
func (s *Store) check(ctx context.Context, h *handle, b storage.Batch) error {
	h.use.RLock()
	e, op, err := h.firstConflict(b)
	h.use.RUnlock()
	if err != nil || op == nil {
		return err
	}
	if err := s.settle(ctx, h, e); err != nil {
		return err
	}
	return fmt.Errorf("%w: %q has version %d, not %d", storage.ErrConflict, op.Key, e.Version, op.Want)
}

func (h *handle) firstConflict(b storage.Batch) (storage.Entry, *storage.Op, error) {
	if h.isDead() {
		return storage.Entry{}, nil, errPoisoned
	}
	for i := range b.Ops {
		op := &b.Ops[i]
		if !op.Check {
			continue
		}
		e, err := h.get(op.Key, false)
		if err != nil {
			return e, nil, err
		}
		if e.Version != op.Want {
			return e, op, nil
		}
	}
	return storage.Entry{}, nil, nil
}

// submit queues r for the committer; false if the handle takes no more.
func (h *handle) submit(r *request) bool {
	h.qmu.Lock()
	defer h.qmu.Unlock()
	if h.draining || h.isDead() {
		return false
	}
	h.queue = append(h.queue, r)
	select {
	case h.queued <- struct{}{}:
	default:
	}
	return true
}

// take returns the next group of requests; last: no more will follow.
func (h *handle) take() (group []*request, last bool) {
	h.qmu.Lock()
	defer h.qmu.Unlock()
	n, size := 0, 0
	for n < len(h.queue) && n < groupRequests && (n == 0 || size+h.queue[n].size <= groupBytes) {
		size += h.queue[n].size
		n++
	}
	group = h.queue[:n:n]
	h.queue = h.queue[n:]
	return group, h.draining && len(group) == 0
}

// A group is applied together and synced together.
type group struct {
	requests []*request
	batch    *pebble.Batch
	changes  []storage.Change
	last     uint64
}

// commitLoop is the committer: the only goroutine that assigns numbers, and calls Pebble to write.
func (s *Store) commitLoop(h *handle) {
	defer close(h.syncing)
	for {
		// Let those who are about to commit join: one sync for all.
		runtime.Gosched()
		requests, last := h.take()
		if last {
			return
		}
		if len(requests) == 0 {
			select {
			case <-h.queued:
			case <-h.dead:
				return
			}
			continue
		}
		g := s.apply(h, requests)
		if g == nil {
			return
		}
		g.eachEntry(h.rows.changed)
		for _, r := range requests {
			h.latches.unlock(r.held)
		}
		select {
		case h.syncing <- g:
		case <-h.dead:
			return
		}
	}
}

// number gives each request its version and writes all into one batch.
func (s *Store) number(h *handle, requests []*request) *group {
	size, writes := 64, 0
	for _, r := range requests {
		size += r.size
		writes += len(r.writes)
	}
	g := &group{
		requests: requests,
		batch:    h.db.NewBatchWithSize(size + 8*writes),
		changes:  make([]storage.Change, 0, writes),
		last:     s.begun.Load(),
	}
	for _, r := range requests {
		g.last++
		r.version = storage.Version(g.last)
		for i := range r.writes {
			g.put(s, &r.writes[i])
		}
	}
	s.begun.Store(g.last)
	must(g.batch.Set(metaVersion, binary.BigEndian.AppendUint64(nil, g.last), nil))
	return g
}

// put adds one write to the group.
func (g *group) put(s *Store, w *write) {
	name := w.name
	if w.stamp {
		name = storage.StampedKey(w.name, storage.Version(g.last))
		copy(w.key[1+len(w.name):], name[len(w.name):])
	}
	if w.value == nil {
		must(g.batch.Delete(w.key, nil))
		s.deleted[w.stripe].Store(g.last)
		s.lastDelete.Store(g.last)
	} else {
		binary.BigEndian.PutUint64(w.value, g.last)
		must(g.batch.Set(w.key, w.value, nil))
	}
	g.changes = append(g.changes, storage.Change{Version: storage.Version(g.last), Key: name, Deleted: w.value == nil})
}

// eachEntry calls f with the resulting entry of each write, in order. Values belong to the
// requests.
func (g *group) eachEntry(f func(storage.Entry)) {
	n := 0
	for _, r := range g.requests {
		for i := range r.writes {
			e := storage.Entry{Key: g.changes[n].Key} // the whole key, also of a stamped one
			if value := r.writes[i].value; value != nil {
				e.Version, e.Value = r.version, value[versionLen:]
			}
			f(e)
			n++
		}
	}
}

// must: adding to a batch in memory has no error to return.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// apply numbers the requests and passes them to Pebble; nil: the handle is dead, and only its
// successor may assign numbers.
func (s *Store) apply(h *handle, requests []*request) (g *group) {
	h.applying.Lock()
	defer h.applying.Unlock()
	if h.isDead() {
		return nil
	}
	defer func() {
		if p := recover(); p != nil {
			s.poison(h, fmt.Errorf("applying a batch: panic: %v", p))
			g = nil
		}
	}()
	g = s.number(h, requests)
	if err := h.db.ApplyNoSyncWait(g.batch, pebble.Sync); err != nil {
		s.poison(h, fmt.Errorf("applying a batch: %w", err))
		return nil
	}
	return g
}

// syncLoop is the syncer: it answers requests in order, when they are on the disk.
func (s *Store) syncLoop(h *handle) {
	defer close(h.synced)
	for g := range h.syncing {
		if err := g.batch.SyncWait(); err != nil {
			s.poison(h, fmt.Errorf("syncing the log: %w", err))
			return
		}
		s.end.saw(g.last)
		if !s.publish(h, g) {
			return
		}
		for _, r := range g.requests {
			close(r.done)
		}
		must(g.batch.Close())
	}
}

// publish makes a group visible, unless its handle is dead; then its outcome is unknown until the
// folder is reopened.
func (s *Store) publish(h *handle, g *group) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.isDead() {
		return false
	}
	s.feed.Append(storage.Version(g.last), g.changes)
	s.durable.advance(g.last)
	return true
}
