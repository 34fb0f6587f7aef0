// Package pebble is the storage driver for one server with a disk: an LSM tree
// (github.com/cockroachdb/pebble) in one folder.
//
// # On the disk
//
// Layout 1 ([storage.Layout]):
//
//	LAYOUT    the text "keyturn storage layout 1\n"; written first, read first
//	LOCK      locked by the process that has the store open
//	BALLAST   space to give back when the disk is full; holds nothing
//	LOGEND    the newest commit's number and its CRC-32, see below; may be missing
//	others    Pebble's
//
//	key in Pebble          value
//	00 "version"           the newest commit's number, 8 bytes, big endian
//	01 key                 the number of the commit that wrote it, 8 bytes, then the value
//
// # A commit
//
// The caller takes latches on the keys of its batch – shared for what it only
// asserts – and checks the versions; a cold read there stops no one else. Then
// one goroutine, the committer, numbers all batches that wait, merges them into
// one of Pebble's, applies it without waiting, and lets the latches go. A
// second, the syncer, waits for the disk, in order: it moves the durable mark,
// appends to the change feed and answers the callers. So commits that come
// together share one sync, and numbers, log and feed have one order.
//
// A reader that meets a version above the durable mark waits for it. A deleted
// entry has no version, so the mark also covers, by the stripe of the key, the
// last commit that deleted.
//
// # Numbers
//
// The newest number lies in each of Pebble's batches, beside what it numbers.
// A store opens at least 2^16 above it – more than can have been under way –
// and not below the clock's seconds times 2^24, and makes its start durable. So
// no number comes twice: not after a crash, nor – unless the clock went back –
// in an older copy of the folder.
//
// The newest number is noted in LOGEND, too, each time the disk has it. A log
// that ends below it was damaged, and is refused: Pebble alone would take a
// wrong byte near the end for the place where a crash stopped it.
//
// # When the disk fails
//
// A failed write or sync of the log, an error that Pebble calls fatal, or a
// panic inside it poisons the handle: all that waits is answered with an error
// and nothing is served. The gate – the file system that this handle of Pebble
// sees – is cut, so that it can write no more; the handle is closed, and the
// folder is opened anew, which replays the log into tables and syncs them.
// Only then is anything served again; watches end with a gap.
//
// Pebble must not go on after such an error: it may report the next commit as
// stored, and its rotation of the log then dies of unlocking a mutex twice,
// which no recover stops. Nor may the process end without a word. So a goroutine
// that comes out of a failed log write while a commit is being applied, or that
// reaches Fatalf, is parked for ever; such a handle cannot be closed and is
// abandoned behind its gate, with some ten megabytes. After [maxAbandoned] of
// them the store stays closed until the process is restarted. That is why only
// goroutines of this package, never a caller's, run what writes.
package pebble

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"iter"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/keyturn/keyturn/internal/storage"
)

// A Store is a folder opened by this process.
type Store struct {
	opts  Options
	log   *slog.Logger
	cache *pebble.Cache
	lock  io.Closer
	space *space
	feed  *storage.Feed
	stats storage.Recorder
	seed  maphash.Seed
	end   *logEnd

	// current is what serves; nil while the store is being reopened.
	current atomic.Pointer[handle]
	durable mark
	// begun is the newest number given out; moved before Pebble is told.
	begun atomic.Uint64
	// deleted[stripe] is the newest commit that deleted a key of the stripe,
	// lastDelete the newest of all; moved before Pebble is told.
	deleted    [stripes]atomic.Uint64
	lastDelete atomic.Uint64

	reopened, corruptions atomic.Uint64

	stop chan struct{} // closed by Close
	wg   sync.WaitGroup

	mu        sync.Mutex
	closed    bool
	cause     error // why current is nil
	abandoned int
}

var (
	_ storage.Store = (*Store)(nil)
	_ storage.Meter = (*Store)(nil)
)

// enter returns the handle that serves, held open until h.use.RUnlock.
func (s *Store) enter() (*handle, error) {
	h := s.current.Load()
	if h == nil {
		return nil, s.unserved()
	}
	h.use.RLock()
	if h.isDead() {
		h.use.RUnlock()
		return nil, s.unserved()
	}
	return h, nil
}

// unserved says why no handle serves.
func (s *Store) unserved() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return storage.ErrClosed
	case s.cause == nil: // reopened meanwhile
		return errPoisoned
	}
	return fmt.Errorf("storage: refusing until the store is reopened: %w", s.cause)
}

// told turns the end of a handle into what a caller is told: the store was
// closed, or the disk failed.
func (s *Store) told(err error) error {
	if err != errPoisoned {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return storage.ErrClosed
	}
	return err
}

// stripe is the slot of a key among latches and delete marks.
func (s *Store) stripe(key string) uint16 {
	return uint16(maphash.String(s.seed, key) % stripes)
}

// keys are buffers for a key as Pebble stores it.
var keys = sync.Pool{New: func() any { b := make([]byte, 0, 128); return &b }}

// The first byte of a key in Pebble.
const (
	tagMeta  = 0x00
	tagEntry = 0x01
)

const versionLen = 8

// Get implements [storage.Store].
func (s *Store) Get(ctx context.Context, key string) (storage.Entry, error) {
	if err := ctx.Err(); err != nil {
		return storage.Entry{}, err
	}
	h, err := s.enter()
	if err != nil {
		return storage.Entry{}, err
	}
	e, err := h.get(key, true)
	h.use.RUnlock()
	if err == nil {
		err = s.settle(ctx, h, e)
	}
	if err != nil {
		return storage.Entry{}, err
	}
	return e, nil
}

// settle waits until what e tells – a version, or that the key is absent – can
// no longer be lost.
func (s *Store) settle(ctx context.Context, h *handle, e storage.Entry) error {
	need := uint64(e.Version)
	if need == 0 {
		need = s.deleted[s.stripe(e.Key)].Load()
	}
	return s.told(s.durable.wait(ctx, h.dead, need))
}

// get reads one entry, its value only if asked for.
func (h *handle) get(key string, withValue bool) (storage.Entry, error) {
	slot, hash := h.rows.at(key)
	if w := slot.get(key); w != nil {
		return w.entry(withValue), nil
	}
	gen := slot.gen.Load() // before the read
	buf := keys.Get().(*[]byte)
	*buf = append(append((*buf)[:0], tagEntry), key...)
	raw, closer, err := h.db.Get(*buf)
	keys.Put(buf)
	if errors.Is(err, pebble.ErrNotFound) {
		e := storage.Entry{Key: key}
		slot.keep(e, hash, gen)
		return e, nil
	}
	if err != nil {
		return storage.Entry{}, fmt.Errorf("reading %q: %w", key, err)
	}
	e, err := decode(key, raw, withValue)
	if err = errors.Join(err, closer.Close()); err == nil && withValue {
		slot.keep(e, hash, gen)
	}
	return e, err
}

// decode copies an entry out of Pebble's buffer.
func decode(key string, raw []byte, withValue bool) (storage.Entry, error) {
	if len(raw) < versionLen {
		return storage.Entry{}, fmt.Errorf("reading %q: %d bytes where a version of %d stands first", key, len(raw),
			versionLen)
	}
	e := storage.Entry{Key: key, Version: storage.Version(binary.BigEndian.Uint64(raw))}
	if e.Version == 0 {
		return storage.Entry{}, fmt.Errorf("reading %q: it has version 0", key)
	}
	if withValue {
		e.Value = make([]byte, len(raw)-versionLen)
		copy(e.Value, raw[versionLen:])
	}
	return e, nil
}

// Chunks of a Scan: the first is small because most scans want a few rows; no
// chunk is so large that it holds up closing, or much memory.
const (
	firstChunk = 16
	nextChunk  = 512
	chunkBytes = 256 << 10
)

// Scan implements [storage.Store]. It reads a chunk at a time: an iterator kept
// open while the consumer works would pin tables and memory.
func (s *Store) Scan(ctx context.Context, from, to string) iter.Seq2[storage.Entry, error] {
	return func(yield func(storage.Entry, error) bool) {
		cursor, limit := from, firstChunk
		for {
			chunk, more, err := s.chunk(ctx, cursor, to, limit)
			if err != nil {
				yield(storage.Entry{}, err)
				return
			}
			for _, e := range chunk {
				if !yield(e, nil) {
					return
				}
			}
			if !more {
				return
			}
			cursor, limit = chunk[len(chunk)-1].Key+"\x00", nextChunk
		}
	}
}

func (s *Store) chunk(ctx context.Context, from, to string, limit int) (chunk []storage.Entry, more bool, err error) {
	if to != "" && from >= to {
		return nil, false, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, false, err
	}
	h, err := s.enter()
	if err != nil {
		return nil, false, err
	}
	chunk, need, more, err := h.scan(&s.lastDelete, from, to, limit)
	h.use.RUnlock()
	if err == nil {
		err = s.told(s.durable.wait(ctx, h.dead, need))
	}
	return chunk, more, err
}

// scan reads up to limit entries. need is the commit that must be durable
// before they may be told: the newest of theirs, and the last that deleted –
// one of the entries that are missing may be its work.
func (h *handle) scan(
	lastDelete *atomic.Uint64, from, to string, limit int,
) (chunk []storage.Entry, need uint64, more bool, err error) {
	bounds := &pebble.IterOptions{
		LowerBound: append([]byte{tagEntry}, from...),
		UpperBound: []byte{tagEntry + 1},
	}
	if to != "" {
		bounds.UpperBound = append([]byte{tagEntry}, to...)
	}
	it, err := h.db.NewIter(bounds)
	if err != nil {
		return nil, 0, false, fmt.Errorf("opening an iterator: %w", err)
	}
	need = lastDelete.Load()
	size := 0
	for ok := it.First(); ok; ok = it.Next() {
		if len(chunk) == limit || size > chunkBytes {
			more = true
			break
		}
		raw, err := it.ValueAndErr()
		if err != nil {
			return nil, 0, false, errors.Join(fmt.Errorf("reading %q: %w", it.Key()[1:], err), it.Close())
		}
		e, err := decode(string(it.Key()[1:]), raw, true)
		if err != nil {
			return nil, 0, false, errors.Join(err, it.Close())
		}
		need = max(need, uint64(e.Version))
		size += len(e.Key) + len(e.Value)
		chunk = append(chunk, e)
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return nil, 0, false, fmt.Errorf("scanning from %q: %w", from, err)
	}
	return chunk, need, more, nil
}

// Watch implements [storage.Store].
func (s *Store) Watch(ctx context.Context, prefix string, after storage.Version) iter.Seq2[storage.Change, error] {
	return s.feed.Watch(ctx, prefix, after)
}

// Stats implements [storage.Meter].
func (s *Store) Stats() storage.Stats {
	stats := s.stats.Stats()
	stats.Reopened, stats.Corruptions = s.reopened.Load(), s.corruptions.Load()
	stats.Full, stats.FreeBytes = s.space.full.Load(), s.space.free.Load()
	if h, err := s.enter(); err == nil {
		stats.DiskBytes = h.db.Metrics().DiskSpaceUsage()
		h.use.RUnlock()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	stats.Abandoned = uint64(s.abandoned)
	stats.Refusing = s.cause != nil
	return stats
}

// Close implements [storage.Store]. It waits for what is under way; closing
// twice is allowed.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	close(s.stop)
	s.feed.Close()
	var err error
	if h := s.current.Swap(nil); h != nil {
		h.drain()
		s.flush(h)
		s.poison(h, storage.ErrClosed) // for readers that have it still
		if !s.retire(h, closeWait) {
			err = errors.New("storage: the store could not be closed within " + closeWait.String())
		}
	}
	s.wg.Wait()
	s.cache.Unref()
	return errors.Join(err, s.end.close(), s.lock.Close())
}

// flush leaves no log to replay, so that opening again takes no time. That it
// could not is no error: nothing is lost.
func (s *Store) flush(h *handle) {
	if h.isDead() || s.space.full.Load() {
		return
	}
	flushed := make(chan struct{})
	go func() {
		defer close(flushed)
		h.applying.Lock()
		defer h.applying.Unlock()
		if err := h.db.Flush(); err != nil {
			s.log.Warn("flushing before closing the store", "cause", err)
		}
	}()
	timer := time.NewTimer(flushWait)
	defer timer.Stop()
	select {
	case <-flushed:
	case <-h.dead:
	case <-timer.C:
		s.log.Warn("flushing before closing the store took too long", "limit", flushWait)
	}
}

// A mark is a number that only grows, and that can be waited for.
type mark struct {
	v atomic.Uint64

	mu   sync.Mutex
	wake chan struct{} // closed when v grows; nil: nobody waits
}

func (m *mark) advance(v uint64) {
	m.v.Store(v)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.wake != nil {
		close(m.wake)
		m.wake = nil
	}
}

// wait returns once the mark has reached v, or dead or ctx has ended. Of what a handle that has
// died has told it says nothing good: whoever opened the folder again began above all numbers that
// may be lost, so that the mark passed them.
func (m *mark) wait(ctx context.Context, dead <-chan struct{}, v uint64) error {
	for m.v.Load() < v {
		m.mu.Lock()
		if m.v.Load() >= v {
			m.mu.Unlock()
			return nil
		}
		if m.wake == nil {
			m.wake = make(chan struct{})
		}
		wake := m.wake
		m.mu.Unlock()
		select {
		case <-wake:
		case <-dead:
			return errPoisoned
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	select {
	case <-dead:
		return errPoisoned
	default:
		return nil
	}
}

// closeWait is how long closing a handle of Pebble may take before it counts as
// stuck: it waits for a merge that runs. flushWait bounds the flush before.
const (
	closeWait = 30 * time.Second
	flushWait = 5 * time.Second
)
