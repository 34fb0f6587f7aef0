package pebble

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/keyturn/keyturn/internal/storage"
)

// A supervisor opens the folder, and reopens it when a handle dies.
type supervisor struct {
	opts    Options
	log     *slog.Logger
	cache   *pebble.Cache
	lock    io.Closer
	space   *space
	feed    *storage.Feed
	end     *logEnd
	numbers numbers

	current               atomic.Pointer[handle] // nil while the store is being reopened
	reopened, corruptions atomic.Uint64

	stop chan struct{} // closed by close
	wg   sync.WaitGroup

	mu        sync.Mutex
	closed    bool
	cause     error // why current is nil
	abandoned int
}

// enter returns the handle that serves. It stays open until h.use.RUnlock.
func (s *supervisor) enter() (*handle, error) {
	h := s.current.Load()
	if h == nil {
		return nil, s.unserved()
	}
	if !h.acquire() {
		return nil, s.unserved()
	}
	return h, nil
}

// unserved returns why no handle serves.
func (s *supervisor) unserved() error {
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

// explain returns the error for a caller whose handle has died: the store was closed, or the disk
// failed.
func (s *supervisor) explain(err error) error {
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

// addStats adds the state of the folder.
func (s *supervisor) addStats(stats *storage.Stats) {
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
}

// openHandle opens the folder and returns the number to continue from, which is durable. Pebble
// runs in a goroutine of its own, because that may be parked; see the package comment.
func (s *supervisor) openHandle(ctx context.Context) (*handle, uint64, error) {
	h := &handle{
		rows:    newRows(),
		dead:    make(chan struct{}),
		queued:  make(chan struct{}, 1),
		syncing: make(chan *group, pipeline),
		synced:  make(chan struct{}),
		numbers: &s.numbers,
		end:     s.end,
	}
	h.poison = func(cause error) { s.poison(h, cause) }
	h.publish = func(g *group) bool { return s.publish(h, g) }
	h.gate = &gate{
		FS: s.opts.FS, space: s.space, log: s.log, stop: s.stop, dead: h.dead, applying: &h.applying, poison: h.poison,
	}
	type result struct {
		start uint64
		err   error
	}
	opened := make(chan result, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				opened <- result{0, fmt.Errorf("panic: %v", p)}
			}
		}()
		start, err := s.openDB(h)
		opened <- result{start, err}
	}()
	var err error
	select {
	case r := <-opened:
		if r.err == nil {
			return h, r.start, nil
		}
		err = r.err
	case <-h.dead:
		err = h.gate.cause()
	case <-ctx.Done():
		err = ctx.Err()
	}
	s.poison(h, err)
	h.gate.cut()
	go func() {
		if r := <-opened; r.err == nil {
			s.retire(h, deadWait)
		}
	}()
	return nil, 0, err
}

// openDB runs in the goroutine of openHandle.
func (s *supervisor) openDB(h *handle) (start uint64, err error) {
	db, err := pebble.Open(s.opts.Path, pebbleOptions(h.gate, s.cache, &s.corruptions))
	if err != nil {
		return 0, err
	}
	h.db = db
	newest, found := s.numbers.begun.Load(), uint64(0)
	value, closer, err := db.Get(metaVersion)
	switch {
	case errors.Is(err, pebble.ErrNotFound):
	case err != nil:
		return 0, errors.Join(fmt.Errorf("reading the newest commit's number: %w", err), db.Close())
	case len(value) != versionLen:
		return 0, errors.Join(errors.New("reading the newest commit's number: it is damaged"), closer.Close(),
			db.Close())
	default:
		found = binary.BigEndian.Uint64(value)
		newest = max(newest, found)
		if err := closer.Close(); err != nil {
			return 0, errors.Join(err, db.Close())
		}
	}
	if err := s.end.check(found); err != nil {
		return 0, errors.Join(err, db.Close())
	}
	start = max(newest+skip, uint64(time.Now().Unix())<<clockShift)
	h.applying.Lock()
	defer h.applying.Unlock()
	if err := db.Set(metaVersion, binary.BigEndian.AppendUint64(nil, start), pebble.Sync); err != nil {
		return 0, errors.Join(err, db.Close())
	}
	if newest == 0 {
		// The log of a new folder has an older format, in which a wrong byte looks like the log's
		// end. Flushing starts the next log.
		if err := db.Flush(); err != nil {
			return 0, errors.Join(err, db.Close())
		}
	}
	return start, nil
}

// install makes h serve, from the number start.
func (s *supervisor) install(h *handle, start uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return storage.ErrClosed
	}
	if h.isDead() {
		return h.gate.cause()
	}
	if s.cause != nil { // before callers can see that it serves
		s.reopened.Add(1)
	}
	s.cause = nil
	s.numbers.begun.Store(start)
	s.numbers.durable.advance(start)
	s.feed.Reset(storage.Version(start))
	s.current.Store(h)
	go h.commitLoop()
	go h.syncLoop()
	return nil
}

// poison ends a handle: waiting requests get an error, and if it was the current handle, the
// folder is reopened. Only the first call for a handle has an effect.
func (s *supervisor) poison(h *handle, cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.isDead() {
		return
	}
	h.gate.broke(cause)
	close(h.dead)
	if !s.current.CompareAndSwap(h, nil) {
		return // it never served, or the store is being closed
	}
	s.cause = cause
	s.feed.Suspend()
	s.log.Error("a write to the store failed; refusing until it is reopened", "cause", cause)
	if s.closed {
		return
	}
	s.wg.Go(func() { s.replace(h) })
}

// Pauses between attempts to reopen: not too short for a failing disk, and not too long for one
// that has recovered.
const (
	firstPause = 50 * time.Millisecond
	lastPause  = 5 * time.Second
)

// maxAbandoned is how many handles may be abandoned, each with its memtables, before only a
// restart of the process helps.
const maxAbandoned = 8

// replace closes a dead handle and reopens the folder. It retries until that succeeds.
func (s *supervisor) replace(old *handle) {
	select {
	case <-old.gate.cut(): // from now on, the old handle writes nothing
	case <-s.stop:
		return
	}
	s.retire(old, deadWait)
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-s.stop:
			timer.Stop()
			return
		}
		if s.tooMany() {
			return
		}
		if err := s.reopen(); err != nil {
			s.log.Error("reopening the store", "cause", err)
			continue
		}
		s.log.Info("the store was reopened and serves again")
		return
	}
}

// tooMany gives up when too many handles were abandoned, and reports it.
func (s *supervisor) tooMany() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.abandoned < maxAbandoned {
		return false
	}
	s.cause = fmt.Errorf("the disk failed too often; look at it, then restart the process: %w", s.cause)
	s.log.Error("the store stays closed until the process is restarted", "abandoned", s.abandoned)
	return true
}

func (s *supervisor) reopen() error {
	h, start, err := s.openHandle(stopped{s.stop})
	if err != nil {
		return err
	}
	if err := s.install(h, start); err != nil {
		s.poison(h, err)
		h.gate.cut()
		s.retire(h, deadWait)
		return err
	}
	return nil
}

// stopped is a context that ends when its channel is closed.
type stopped struct{ done <-chan struct{} }

func (stopped) Deadline() (time.Time, bool) { return time.Time{}, false }
func (stopped) Value(any) any               { return nil }
func (s stopped) Done() <-chan struct{}     { return s.done }

func (s stopped) Err() error {
	select {
	case <-s.done:
		return storage.ErrClosed
	default:
		return nil
	}
}

// retire closes a handle that is no longer used. One that cannot be closed, because a goroutine is
// parked or hangs, is abandoned; its gate prevents access to the folder.
func (s *supervisor) retire(h *handle, wait time.Duration) bool {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		h.use.Lock()
		defer h.use.Unlock()
		h.applying.Lock()
		defer h.applying.Unlock()
		h.gate.closing.Store(true)
		defer func() {
			if p := recover(); p != nil {
				s.log.Error("closing a handle of the store", "panic", p)
			}
		}()
		if err := h.db.Close(); err != nil {
			s.log.Warn("closing a handle of the store", "cause", err)
		}
	}()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-closed:
		return true
	case <-timer.C:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.abandoned++
	s.log.Error("a handle of the store could not be closed and was left behind", "abandoned", s.abandoned)
	return false
}

// deadWait is how long closing a dead handle may take. It is short, because every call fails
// meanwhile.
const deadWait = time.Second

// publish makes a group visible, unless its handle is dead; then its outcome is unknown until the
// folder is reopened.
func (s *supervisor) publish(h *handle, g *group) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.isDead() {
		return false
	}
	s.feed.Append(storage.Version(g.last), g.changes)
	s.numbers.durable.advance(g.last)
	return true
}

// close closes the handle, after its requests are done. Closing twice is allowed.
func (s *supervisor) close() error {
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
		s.poison(h, storage.ErrClosed) // for readers that still have it
		if !s.retire(h, closeWait) {
			err = errors.New("storage: the store could not be closed within " + closeWait.String())
		}
	}
	s.wg.Wait()
	s.cache.Unref()
	return errors.Join(err, s.end.close(), s.lock.Close())
}

// flush leaves no log to replay, so that the next opening takes no time. A failure is no error,
// because nothing is lost.
func (s *supervisor) flush(h *handle) {
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

// closeWait is how long closing a handle of Pebble may take, which includes a running merge.
// flushWait limits the flush before.
const (
	closeWait = 30 * time.Second
	flushWait = 5 * time.Second
)
