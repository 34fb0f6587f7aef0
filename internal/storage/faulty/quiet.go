package faulty

import (
	"context"
	"iter"
	"slices"
	"strings"
	"sync"

	"github.com/keyturn/keyturn/internal/storage"
)

// quiet is a store whose feed sends no marks of progress.
type quiet struct {
	storage.Store

	mu   sync.Mutex // guards the rest
	told []storage.Change
	more chan struct{} // closed by the next commit
}

// Quiet returns a store over an empty one. Its feed sends every change, but no marks of progress,
// which would slow down a test in a bubble that lets hours pass. It is for readers that need no
// marks, such as the due loop.
func Quiet(s storage.Store) storage.Store { return &quiet{Store: s, more: make(chan struct{})} }

// Commit also notifies watchers.
func (s *quiet) Commit(ctx context.Context, b storage.Batch) (storage.Version, error) {
	s.mu.Lock() // watchers see changes in the order of the commits
	defer s.mu.Unlock()
	v, err := s.Store.Commit(ctx, b)
	if err != nil {
		return v, err
	}
	for _, op := range b.Ops {
		if op.Kind != storage.Assert {
			s.told = append(s.told, storage.Change{Key: op.Key, Version: v, Deleted: op.Kind == storage.Delete})
		}
	}
	close(s.more)
	s.more = make(chan struct{})
	return v, nil
}

// after returns the changes after the first seen ones, and a channel that is closed when there are
// more.
func (s *quiet) after(seen int) ([]storage.Change, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.told[seen:], s.more
}

// Watch implements [storage.Store], with only the first mark.
func (s *quiet) Watch(ctx context.Context, prefix string, after storage.Version) iter.Seq2[storage.Change, error] {
	return func(yield func(storage.Change, error) bool) {
		all, _ := s.after(0)
		seen := len(all)
		if after != 0 {
			if at := slices.IndexFunc(all, func(c storage.Change) bool { return c.Version > after }); at >= 0 {
				seen = at
			}
		} else if !yield(storage.Change{Version: newest(all)}, nil) {
			return
		}
		for {
			news, more := s.after(seen)
			seen += len(news)
			for _, c := range news {
				if strings.HasPrefix(c.Key, prefix) && !yield(c, nil) {
					return
				}
			}
			if len(news) > 0 {
				continue
			}
			select {
			case <-more:
			case <-ctx.Done():
				yield(storage.Change{}, ctx.Err())
				return
			}
		}
	}
}

func newest(all []storage.Change) storage.Version {
	if len(all) == 0 {
		return 0
	}
	return all[len(all)-1].Version
}
