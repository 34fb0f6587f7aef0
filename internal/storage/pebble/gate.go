package pebble

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A gate is the file system as one handle of Pebble sees it. After it is cut, the handle changes
// nothing in the folder. An operation that finds no space on the disk waits in the gate until
// there is some, so Pebble gets no error; a failed write of the log poisons the handle. Reads pass
// through.
type gate struct {
	vfs.FS
	space    *space
	log      *slog.Logger
	stop     <-chan struct{} // closed when the store is closed
	dead     <-chan struct{} // closed when the handle is dead
	applying *sync.Mutex     // of the handle
	poison   func(cause error)

	// writing is locked shared by each operation that changes something, and exclusively to wait
	// until they have ended.
	writing sync.RWMutex
	isCut   atomic.Bool
	closing atomic.Bool // the handle is being closed by whoever holds applying
	why     atomic.Pointer[error]
}

var errCut = errors.New("storage: this handle was closed after a failed write")

// broke keeps the first cause.
func (g *gate) broke(err error) { g.why.CompareAndSwap(nil, &err) }

func (g *gate) cause() error {
	if err := g.why.Load(); err != nil {
		return *err
	}
	return errCut
}

// cut prevents further operations. The channel is closed when those that have begun have ended.
func (g *gate) cut() <-chan struct{} {
	g.isCut.Store(true)
	quiet := make(chan struct{})
	go func() {
		g.writing.Lock()
		defer g.writing.Unlock()
		close(quiet)
	}()
	return quiet
}

// once runs an operation, unless the gate is cut.
func (g *gate) once(op func() error) error {
	g.writing.RLock()
	defer g.writing.RUnlock()
	if g.isCut.Load() {
		return errCut
	}
	return op()
}

// do runs an operation that changes something, and repeats it while the disk has no space for it.
// vital: it writes the log.
func (g *gate) do(vital bool, op func() error) error {
	err := g.once(op)
	if isNoSpace(err) {
		leave := g.space.block()
		for isNoSpace(err) && !isClosed(g.dead) && !isClosed(g.stop) {
			time.Sleep(spaceRetry)
			err = g.once(op)
		}
		leave()
	}
	switch {
	case err == nil:
		return nil
	case vital:
		g.failed(err)
	case !errors.Is(err, os.ErrNotExist) && !errors.Is(err, os.ErrExist):
		// Pebble retries a failed flush immediately.
		time.Sleep(spaceRetry)
	}
	return err
}

// failed poisons the handle, because the log could not be written. If no batch is being applied,
// and so none will be, it returns, and Pebble gets the error and can be closed. Otherwise it
// parks.
func (g *gate) failed(err error) {
	g.poison(err)
	for range 50 {
		if g.closing.Load() {
			return
		}
		if g.applying.TryLock() {
			g.applying.Unlock()
			return
		}
		time.Sleep(2 * time.Millisecond)
	}
	g.park()
}

// park keeps the goroutine for ever.
func (g *gate) park() {
	g.log.Error("a goroutine of a failed store is parked")
	select {}
}

const spaceRetry = 100 * time.Millisecond

func isLog(name string) bool { return strings.HasSuffix(name, ".log") }

// open wraps a file that will be written.
func (g *gate) open(name string, op func() (vfs.File, error)) (vfs.File, error) {
	vital := isLog(name)
	var f vfs.File
	err := g.do(vital, func() (err error) { f, err = op(); return err })
	if err != nil {
		return nil, err
	}
	return &gatedFile{f, g, vital}, nil
}

func (g *gate) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return g.open(name, func() (vfs.File, error) { return g.FS.Create(name, c) })
}

func (g *gate) ReuseForWrite(from, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return g.open(name, func() (vfs.File, error) { return g.FS.ReuseForWrite(from, name, c) })
}

func (g *gate) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return g.open(name, func() (vfs.File, error) { return g.FS.OpenReadWrite(name, c, opts...) })
}

// OpenDir returns a file that is only synced. Without that, a new log file might not exist after a
// crash.
func (g *gate) OpenDir(name string) (vfs.File, error) {
	f, err := g.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return &gatedFile{f, g, true}, nil
}

func (g *gate) Link(from, to string) error {
	return g.do(false, func() error { return g.FS.Link(from, to) })
}

func (g *gate) Remove(name string) error {
	return g.do(false, func() error { return g.FS.Remove(name) })
}

func (g *gate) RemoveAll(name string) error {
	return g.do(false, func() error { return g.FS.RemoveAll(name) })
}

func (g *gate) Rename(from, to string) error {
	return g.do(false, func() error { return g.FS.Rename(from, to) })
}

func (g *gate) MkdirAll(dir string, mode os.FileMode) error {
	return g.do(false, func() error { return g.FS.MkdirAll(dir, mode) })
}

// Lock succeeds: the store holds the folder's lock for all its handles.
func (g *gate) Lock(string) (io.Closer, error) { return io.NopCloser(nil), nil }

// Unwrap hides the file system below, so that nothing bypasses the gate.
func (g *gate) Unwrap() vfs.FS { return nil }

type gatedFile struct {
	vfs.File
	gate  *gate
	vital bool
}

func (f *gatedFile) Write(p []byte) (int, error) {
	done := 0
	err := f.gate.do(f.vital, func() error {
		n, err := f.File.Write(p[done:])
		done += n
		return err
	})
	return done, err
}

func (f *gatedFile) WriteAt(p []byte, at int64) (int, error) {
	done := 0
	err := f.gate.do(f.vital, func() error {
		n, err := f.File.WriteAt(p[done:], at+int64(done))
		done += n
		return err
	})
	return done, err
}

// Sync is tried once, even if the disk is full, because after a failed sync the system may have
// discarded data that it did not write.
func (f *gatedFile) Sync() error { return f.sync(f.File.Sync) }

// SyncData is like Sync.
func (f *gatedFile) SyncData() error { return f.sync(f.File.SyncData) }

func (f *gatedFile) sync(op func() error) error {
	err := f.gate.once(op)
	if err != nil && f.vital {
		f.gate.failed(err)
	}
	return err
}

func (f *gatedFile) SyncTo(n int64) (full bool, err error) {
	err = f.sync(func() (err error) { full, err = f.File.SyncTo(n); return err })
	return full, err
}

func (f *gatedFile) Preallocate(offset, n int64) error {
	return f.gate.once(func() error { return f.File.Preallocate(offset, n) })
}
