package pebble

import (
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// isNoSpace reports whether the disk, a quota or the inodes are used up.
func isNoSpace(err error) bool {
	return vfs.IsNoSpaceError(err) || errors.Is(err, syscall.EDQUOT)
}

// space watches the free space on the disk. Below the low-water mark, the store refuses writes, so
// that Pebble has space to flush and compact. If the disk fills faster than it is watched, the
// ballast is removed, and operations that still find no space wait in the gate.
type space struct {
	fs      vfs.FS
	ballast string // the file
	usage   func() (free, total uint64, err error)
	low     uint64 // 0: depends on the size of the disk
	log     *slog.Logger

	full atomic.Bool
	free atomic.Uint64

	mu      sync.Mutex
	blocked int // operations that wait in the gate
	since   time.Time
	stall   chan struct{} // closed while they have waited too long
	stuck   bool
}

const (
	// spaceEvery is the interval between checks. A disk that writes 1 GB/s fills its last 128 MiB
	// in an eighth of a second, so shorter intervals would not replace the ballast and the gate.
	spaceEvery = 500 * time.Millisecond
	// stallAfter is how long a commit waits for space before its caller gets an error that says
	// that the outcome is unknown. The promise is five seconds.
	stallAfter = 3 * time.Second
)

// Bounds of the low-water mark, which is a twentieth of the disk. A flush needs 8 MiB, and a
// compaction a multiple of that; more than 128 MiB would be wasted.
const (
	lowest  = 16 << 20
	highest = 128 << 20
)

func newSpace(o *Options) *space {
	s := &space{
		fs:      o.FS,
		ballast: o.FS.PathJoin(o.Path, "BALLAST"),
		usage:   o.FreeSpace,
		low:     o.LowWater,
		log:     o.Log,
		stall:   make(chan struct{}),
	}
	if s.usage == nil {
		s.usage = func() (free, total uint64, err error) {
			u, err := o.FS.GetDiskUsage(o.Path)
			return u.AvailBytes, u.TotalBytes, err
		}
	}
	return s
}

// run checks the disk until stop is closed.
func (s *space) run(stop <-chan struct{}) {
	tick := time.NewTicker(spaceEvery)
	defer tick.Stop()
	for {
		s.check()
		select {
		case <-tick.C:
		case <-stop:
			return
		}
	}
}

// check decides whether writes are refused.
func (s *space) check() {
	free, total, err := s.usage()
	known := err == nil && total > 0
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stallLocked()
	if !known {
		s.free.Store(0)
		s.fullLocked(s.blocked > 0)
		return
	}
	s.free.Store(free)
	low := s.lowWater(total)
	switch {
	case s.blocked > 0 || free < low:
		s.fullLocked(true)
	case !s.full.Load() || free >= low+low/4:
		s.fullLocked(false)
		s.restoreLocked(free, low)
	}
}

func (s *space) lowWater(total uint64) uint64 {
	if s.low != 0 {
		return s.low
	}
	return min(max(total/20, lowest), highest)
}

func (s *space) fullLocked(full bool) {
	if s.full.Swap(full) == full {
		return
	}
	if full {
		s.log.Error("the disk is nearly full: writes are refused until there is space", "free_bytes", s.free.Load())
	} else {
		s.log.Info("there is space on the disk again: writes go on", "free_bytes", s.free.Load())
	}
}

// restoreLocked creates the ballast again when there is ample space for it.
func (s *space) restoreLocked(free, low uint64) {
	if free < 2*low {
		return
	}
	if _, err := s.fs.Stat(s.ballast); err == nil {
		return
	}
	f, err := s.fs.Create(s.ballast, vfs.WriteCategoryUnspecified)
	if err != nil {
		return // without ballast, the gate still makes operations wait
	}
	err = f.Preallocate(0, int64(low/2))
	if err := errors.Join(err, f.Close()); err != nil {
		s.log.Warn("reserving space on the disk", "cause", err)
	}
}

// block counts an operation that has found no space and waits. leave ends its waiting.
func (s *space) block() (leave func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.blocked == 0 {
		s.since = time.Now()
		if err := s.fs.Remove(s.ballast); err == nil {
			s.log.Warn("the disk is full: the reserved space was given back")
		}
	}
	s.blocked++
	s.fullLocked(true)
	return s.unblock
}

func (s *space) unblock() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blocked--
	s.stallLocked()
}

// stallLocked opens or closes the channel that stalled returns.
func (s *space) stallLocked() {
	stuck := s.blocked > 0 && time.Since(s.since) >= stallAfter
	switch {
	case stuck && !s.stuck:
		close(s.stall)
	case !stuck && s.stuck:
		s.stall = make(chan struct{})
	}
	s.stuck = stuck
}

// stalled returns a channel that is closed while writes have waited for space too long.
func (s *space) stalled() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stall
}
