// Package memory is the storage driver that keeps everything in memory: for
// `keyturn server -dev` and for tests. Nothing survives the process.
//
// A B-tree with one read-write lock contains the entries. A Scan copies a chunk at a time, so that
// nothing is locked while its consumer works.
package memory

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"time"

	"github.com/RaduBerinde/btreemap"

	"github.com/keyturn/keyturn/internal/storage"
)

// Driver is the storage driver "memory". It takes no parameters.
var Driver = storage.Driver{
	Name: "memory",
	Open: func(context.Context, map[string]string, *slog.Logger) (storage.Store, error) { return Open(), nil },
}

// degree of the tree. Nodes have some kilobytes; smaller and larger ones were slower.
const degree = 32

// A Store is an ordered map in memory.
type Store struct {
	feed  *storage.Feed
	stats storage.Recorder

	mu     sync.RWMutex
	tree   *btreemap.BTreeMap[string, value]
	at     storage.Version
	bytes  int
	closed bool
}

type value struct {
	data    []byte
	version storage.Version
}

var (
	_ storage.Store = (*Store)(nil)
	_ storage.Meter = (*Store)(nil)
)

// Open returns an empty store.
func Open() *Store {
	return &Store{feed: storage.NewFeed(1), at: 1, tree: btreemap.New[string, value](degree, cmp.Compare[string])}
}

// Get implements [storage.Store].
func (s *Store) Get(ctx context.Context, key string) (storage.Entry, error) {
	if err := ctx.Err(); err != nil {
		return storage.Entry{}, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return storage.Entry{}, storage.ErrClosed
	}
	_, v, _ := s.tree.Get(key)
	return storage.Entry{Key: key, Value: v.data, Version: v.version}, nil
}

// Chunks of a Scan: the first is small because most scans want a few rows.
const firstChunk, nextChunk = 16, 512

// Scan implements [storage.Store].
func (s *Store) Scan(ctx context.Context, from, to string) iter.Seq2[storage.Entry, error] {
	return func(yield func(storage.Entry, error) bool) {
		cursor, limit := from, firstChunk
		for {
			chunk, err := s.chunk(ctx, cursor, to, limit)
			if err != nil {
				yield(storage.Entry{}, err)
				return
			}
			for _, e := range chunk {
				if !yield(e, nil) {
					return
				}
			}
			if len(chunk) < limit {
				return
			}
			cursor, limit = chunk[len(chunk)-1].Key+"\x00", nextChunk
		}
	}
}

func (s *Store) chunk(ctx context.Context, from, to string, limit int) ([]storage.Entry, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return nil, storage.ErrClosed
	}
	end := btreemap.Max[string]()
	if to != "" {
		if from >= to {
			return nil, nil
		}
		end = btreemap.LT(to)
	}
	var chunk []storage.Entry
	for key, v := range s.tree.Ascend(btreemap.GE(from), end) {
		chunk = append(chunk, storage.Entry{Key: key, Value: v.data, Version: v.version})
		if len(chunk) == limit {
			break
		}
	}
	return chunk, nil
}

// Commit implements [storage.Store].
func (s *Store) Commit(ctx context.Context, b storage.Batch) (storage.Version, error) {
	start := time.Now()
	if err := b.Validate(); err != nil {
		s.stats.Failed()
		return 0, err
	}
	if err := ctx.Err(); err != nil {
		s.stats.Failed()
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		s.stats.Failed()
		return 0, storage.ErrClosed
	}
	for _, op := range b.Ops {
		if _, v, _ := s.tree.Get(op.Key); op.Check && v.version != op.Want {
			s.stats.Conflict()
			return 0, fmt.Errorf("%w: %q has version %d, not %d", storage.ErrConflict, op.Key, v.version, op.Want)
		}
	}
	s.at++
	s.applyLocked(b)
	s.stats.Committed(time.Since(start))
	return s.at, nil
}

func (s *Store) applyLocked(b storage.Batch) {
	changes := make([]storage.Change, 0, len(b.Ops))
	for _, op := range b.Ops {
		key := op.Key
		switch op.Kind {
		case storage.Put:
			if op.Stamp {
				key = storage.StampedKey(key, s.at)
			}
			data := bytes.Clone(op.Value)
			if data == nil {
				data = []byte{}
			}
			_, old, replaced := s.tree.ReplaceOrInsert(key, value{data, s.at})
			s.bytes += len(data) - len(old.data)
			if !replaced {
				s.bytes += len(key)
			}
		case storage.Delete:
			if _, old, was := s.tree.Delete(key); was {
				s.bytes -= len(key) + len(old.data)
			}
		default:
			continue
		}
		changes = append(changes, storage.Change{Version: s.at, Key: key, Deleted: op.Kind == storage.Delete})
	}
	s.feed.Append(s.at, changes)
}

// Watch implements [storage.Store].
func (s *Store) Watch(ctx context.Context, prefix string, after storage.Version) iter.Seq2[storage.Change, error] {
	return s.feed.Watch(ctx, prefix, after)
}

// Stats implements [storage.Meter].
func (s *Store) Stats() storage.Stats {
	stats := s.stats.Stats()
	s.mu.RLock()
	defer s.mu.RUnlock()
	stats.DiskBytes = uint64(s.bytes)
	return stats
}

// Close implements [storage.Store]. Closing twice is allowed.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		s.tree.Clear(false)
		s.feed.Close()
	}
	return nil
}
