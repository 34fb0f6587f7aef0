package pebble

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/keyturn/keyturn/internal/storage"
)

// A handle is the folder opened once. It dies at the first failed write and is
// never used again.
type handle struct {
	db      *pebble.DB
	gate    *gate
	latches latches
	rows    *rows

	dead    chan struct{} // closed by poison, under Store.mu
	use     sync.RWMutex  // readers lock it shared, closing db exclusively
	queued  chan struct{} // something is in queue, or draining
	syncing chan *group
	synced  chan struct{} // closed when the syncer has ended

	// applying is locked while Pebble applies a batch, also by a committer that is stuck or parked
	// in it.
	applying sync.Mutex

	qmu      sync.Mutex
	queue    []*request
	draining bool
}

var (
	errPoisoned = errors.New("storage: a write to the disk failed; whether this was stored is not known")
	errStalled  = errors.New("storage: the disk is full; whether this was stored is not known until there is space")
)

func (h *handle) isDead() bool {
	select {
	case <-h.dead:
		return true
	default:
		return false
	}
}

// drain lets what was submitted finish, and nothing new in.
func (h *handle) drain() {
	h.qmu.Lock()
	h.draining = true
	h.qmu.Unlock()
	select {
	case h.queued <- struct{}{}:
	default:
	}
	select {
	case <-h.synced:
	case <-h.dead:
	}
}

// metaVersion is the key of the newest commit's number.
var metaVersion = append([]byte{tagMeta}, "version"...)

// skip is the distance of the first number after opening from the newest number found. It is
// larger than the number of commits that a crash can lose.
const skip = 2 * pipeline * groupRequests

// clockShift makes a number of the clock's seconds. It leaves room for 2^24
// commits in each second, and for the year 2500.
const clockShift = 24

// openHandle opens the folder and returns the number to go on from, which is
// durable. What Pebble does runs on a goroutine of its own: see the package
// comment on parking.
func (s *Store) openHandle(ctx context.Context) (*handle, uint64, error) {
	h := &handle{
		rows:    newRows(),
		dead:    make(chan struct{}),
		queued:  make(chan struct{}, 1),
		syncing: make(chan *group, pipeline),
		synced:  make(chan struct{}),
	}
	h.gate = newGate(s, h)
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

// openDB runs on the goroutine of openHandle.
func (s *Store) openDB(h *handle) (start uint64, err error) {
	db, err := pebble.Open(s.opts.Path, pebbleOptions(s, h))
	if err != nil {
		return 0, err
	}
	h.db = db
	newest, found := s.begun.Load(), uint64(0)
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
		// The log of a new folder was begun in an older format, in which a
		// wrong byte looks like the log's end. This begins the next one.
		if err := db.Flush(); err != nil {
			return 0, errors.Join(err, db.Close())
		}
	}
	return start, nil
}

// install lets h serve from the number start on.
func (s *Store) install(h *handle, start uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return storage.ErrClosed
	}
	if h.isDead() {
		return h.gate.cause()
	}
	if s.cause != nil { // before anybody can see that it serves
		s.reopened.Add(1)
	}
	s.cause = nil
	s.begun.Store(start)
	s.durable.advance(start)
	s.feed.Reset(storage.Version(start))
	s.current.Store(h)
	go s.commitLoop(h)
	go s.syncLoop(h)
	return nil
}

// poison ends a handle: waiting requests get an error, and if it was the current handle, the
// folder is reopened. Only the first call for a handle has an effect.
func (s *Store) poison(h *handle, cause error) {
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

// replace closes a dead handle and opens the folder again, for as long as it
// takes.
func (s *Store) replace(old *handle) {
	select {
	case <-old.gate.cut(): // no write of the old one can come any more
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

// tooMany gives up once too many handles were abandoned.
func (s *Store) tooMany() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.abandoned < maxAbandoned {
		return false
	}
	s.cause = fmt.Errorf("the disk failed too often; look at it, then restart the process: %w", s.cause)
	s.log.Error("the store stays closed until the process is restarted", "abandoned", s.abandoned)
	return true
}

func (s *Store) reopen() error {
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
func (s *Store) retire(h *handle, wait time.Duration) bool {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		h.use.Lock()
		defer h.use.Unlock()
		h.applying.Lock()
		defer h.applying.Unlock()
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
