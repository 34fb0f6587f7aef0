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
	"errors"
	"iter"
	"time"

	"github.com/keyturn/keyturn/internal/storage"
)

// A Store is a folder opened by this process.
type Store struct {
	supervisor *supervisor
	stats      storage.Recorder
}

var (
	_ storage.Store = (*Store)(nil)
	_ storage.Meter = (*Store)(nil)
)

// Get implements [storage.Store].
func (s *Store) Get(ctx context.Context, key string) (storage.Entry, error) {
	if err := ctx.Err(); err != nil {
		return storage.Entry{}, err
	}
	h, err := s.supervisor.enter()
	if err != nil {
		return storage.Entry{}, err
	}
	e, err := h.get(key, true)
	h.use.RUnlock()
	if err == nil {
		err = s.supervisor.explain(h.numbers.settle(ctx, h.dead, e))
	}
	if err != nil {
		return storage.Entry{}, err
	}
	return e, nil
}

// Chunks of a Scan. The first is small, because most scans read a few rows; see [chunkBytes].
const (
	firstChunk = 16
	nextChunk  = 512
)

// Scan implements [storage.Store]. It reads a chunk at a time, because an iterator that is open
// while the consumer works would pin tables and memory.
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
	h, err := s.supervisor.enter()
	if err != nil {
		return nil, false, err
	}
	chunk, need, more, err := h.scan(from, to, limit)
	h.use.RUnlock()
	if err == nil {
		err = s.supervisor.explain(h.numbers.durable.wait(ctx, h.dead, need))
	}
	return chunk, more, err
}

// Commit implements [storage.Store].
func (s *Store) Commit(ctx context.Context, b storage.Batch) (storage.Version, error) {
	start := time.Now()
	v, err := s.commit(ctx, b)
	err = s.supervisor.explain(err)
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
	if s.supervisor.space.full.Load() {
		return 0, storage.ErrFull
	}
	r := newRequest(b, &s.supervisor.numbers)
	h := s.supervisor.current.Load()
	if h == nil {
		return 0, s.supervisor.unserved()
	}
	if err := h.latches.lock(ctx, h.dead, r.claims); err != nil {
		return 0, err
	}
	if err := h.check(ctx, b); err != nil {
		h.latches.unlock(r.claims)
		return 0, err
	}
	if !h.submit(r) {
		h.latches.unlock(r.claims)
		return 0, s.supervisor.unserved()
	}
	return r.await(ctx, h.dead, s.supervisor.space)
}

// Watch implements [storage.Store].
func (s *Store) Watch(ctx context.Context, prefix string, after storage.Version) iter.Seq2[storage.Change, error] {
	return s.supervisor.feed.Watch(ctx, prefix, after)
}

// Stats implements [storage.Meter].
func (s *Store) Stats() storage.Stats {
	stats := s.stats.Stats()
	s.supervisor.addStats(&stats)
	return stats
}

// Close implements [storage.Store]. It waits for the requests that have begun; closing twice is
// allowed.
func (s *Store) Close() error { return s.supervisor.close() }
