package storage

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"
)

// Limits of a Feed's memory. A reader that falls further behind gets [ErrGap] and starts again, so
// they need to cover a pause of a goroutine, not a restart: half a second, at 30,000 commits of
// four keys a second. With more, a stuck reader would only use an older cache.
const (
	feedChanges = 1 << 16
	feedBytes   = 8 << 20
)

// markEvery is the pause between marks of progress. The contract promises one every half second;
// half of that leaves room for a busy machine.
const markEvery = 250 * time.Millisecond

// A Feed is the change feed of a store in one process: a bounded ring of recent changes. Drivers
// whose medium has its own feed do not need it. Safe for concurrent use.
type Feed struct {
	mu        sync.Mutex
	ring      []Change // oldest first
	first     uint64   // number of changes that were dropped before ring[0]
	bytes     int      // of the keys in ring
	floor     Version  // the newest commit with a dropped change
	at        Version  // all changes up to this commit were appended
	suspended bool
	closed    bool
	watchers  []*watcher
}

// A watcher is one running Watch. Guarded by Feed.mu, except wake.
type watcher struct {
	prefix string
	next   uint64 // number of the first change that it has not read, counted like first
	behind bool   // a change at or after next may match
	ended  error
	wake   chan struct{}
}

// NewFeed returns an empty feed that begins after the commit at.
func NewFeed(at Version) *Feed { return &Feed{at: at, floor: at} }

// Append adds the changes of the commits up to v, in commit order. They must be durable and
// visible to every reader of the store.
func (f *Feed) Append(v Version, changes []Change) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at = v
	f.ring = append(f.ring, changes...)
	for _, c := range changes {
		f.bytes += len(c.Key)
	}
	f.trimLocked()
	end := f.endLocked()
	for _, w := range f.watchers {
		if w.behind {
			continue
		}
		if slices.ContainsFunc(changes, w.wants) {
			w.wakeLocked()
		} else {
			w.next = end
		}
	}
}

func (w *watcher) wants(c Change) bool { return strings.HasPrefix(c.Key, w.prefix) }

func (w *watcher) wakeLocked() {
	w.behind = true
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (f *Feed) endLocked() uint64 { return f.first + uint64(len(f.ring)) }

// trimLocked drops the oldest changes, a quarter more than necessary, so that it is called less
// often.
func (f *Feed) trimLocked() {
	if len(f.ring) <= feedChanges && f.bytes <= feedBytes {
		return
	}
	n := 0
	for len(f.ring)-n > feedChanges/4*3 || f.bytes > feedBytes/4*3 {
		f.bytes -= len(f.ring[n].Key)
		n++
	}
	f.floor = f.ring[n-1].Version
	f.first += uint64(n)
	f.ring = slices.Delete(f.ring, 0, n)
}

// Suspend stops the marks of progress, because the feed may be out of date.
func (f *Feed) Suspend() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.suspended = true
}

// Reset ends every Watch with ErrGap, and continues after the commit at, because the feed does not
// know what happened before.
func (f *Feed) Reset(at Version) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.first = f.endLocked()
	f.ring, f.bytes = nil, 0
	f.floor, f.at, f.suspended = at, at, false
	f.endAllLocked(ErrGap)
}

// Close ends every Watch with ErrClosed.
func (f *Feed) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	f.endAllLocked(ErrClosed)
}

func (f *Feed) endAllLocked(why error) {
	for _, w := range f.watchers {
		if w.ended == nil {
			w.ended = why
		}
		w.wakeLocked()
	}
}

// Watch is [Store.Watch].
func (f *Feed) Watch(ctx context.Context, prefix string, after Version) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		w, at, err := f.join(prefix, after)
		if err != nil {
			yield(Change{}, err)
			return
		}
		defer f.leave(w)
		if after == 0 && !yield(Change{Version: at}, nil) {
			return
		}
		f.follow(ctx, w, yield)
	}
}

func (f *Feed) join(prefix string, after Version) (*watcher, Version, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w := &watcher{prefix: prefix, next: f.endLocked(), wake: make(chan struct{}, 1)}
	switch {
	case f.closed:
		return nil, 0, ErrClosed
	case after == 0:
	case after < f.floor || after > f.at:
		return nil, 0, ErrGap
	default:
		i, _ := slices.BinarySearchFunc(f.ring, after+1, func(c Change, v Version) int {
			if c.Version < v {
				return -1
			}
			return 1
		})
		w.next = f.first + uint64(i)
		w.wakeLocked()
	}
	f.watchers = append(f.watchers, w)
	return w, f.at, nil
}

func (f *Feed) leave(w *watcher) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.watchers = slices.DeleteFunc(f.watchers, func(o *watcher) bool { return o == w })
}

// follow yields changes and marks until something ends it.
func (f *Feed) follow(ctx context.Context, w *watcher, yield func(Change, error) bool) {
	tick := time.NewTicker(markEvery)
	defer tick.Stop()
	for {
		mark := false
		select {
		case <-ctx.Done():
			yield(Change{}, ctx.Err())
			return
		case <-w.wake:
		case <-tick.C:
			mark = true
		}
		at, err := f.drain(w, yield)
		switch {
		case err == errStopped:
			return
		case err != nil:
			yield(Change{}, err)
			return
		case mark && at != 0 && !yield(Change{Version: at}, nil):
			return
		}
	}
}

// errStopped means that the consumer has stopped.
var errStopped = errors.New("storage: the consumer wants no more")

// drain yields all changes that w has not seen, and returns the commit that they reach; 0: the
// feed is suspended.
func (f *Feed) drain(w *watcher, yield func(Change, error) bool) (Version, error) {
	var chunk []Change
	for {
		var at Version
		var more bool
		var err error
		chunk, at, more, err = f.read(w, chunk[:0])
		if err != nil {
			return 0, err
		}
		for _, c := range chunk {
			if !yield(c, nil) {
				return 0, errStopped
			}
		}
		if !more {
			return at, nil
		}
	}
}

// read returns up to some hundred changes for w.
func (f *Feed) read(w *watcher, chunk []Change) (_ []Change, at Version, more bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if w.ended != nil {
		return nil, 0, false, w.ended
	}
	if w.next < f.first {
		return nil, 0, false, ErrGap
	}
	for i := w.next - f.first; i < uint64(len(f.ring)); i++ {
		if len(chunk) == 256 {
			return chunk, 0, true, nil
		}
		if c := f.ring[i]; w.wants(c) {
			chunk = append(chunk, c)
		}
		w.next++
	}
	w.behind = false
	if f.suspended {
		return chunk, 0, false, nil
	}
	return chunk, f.at, false, nil
}
