package pebble

import (
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A gate is the file system as one handle of Pebble sees it. It can be cut:
// from then on the handle changes nothing in the folder. What fails for want of
// space waits in it until there is some, so that Pebble never learns of it; a
// failed write of the log poisons the handle.
//
// Reading passes through.
type gate struct {
	vfs.FS
	store  *Store
	handle *handle

	// writing is held shared by each operation that changes something, alone
	// to wait until none is left.
	writing sync.RWMutex
	isCut   atomic.Bool
	why     atomic.Pointer[error]
}

var errCut = errors.New("storage: this handle was closed after a failed write")

func newGate(s *Store, h *handle) *gate { return &gate{FS: s.opts.FS, store: s, handle: h} }

// broke keeps the first cause.
func (g *gate) broke(err error) { g.why.CompareAndSwap(nil, &err) }

func (g *gate) cause() error {
	if err := g.why.Load(); err != nil {
		return *err
	}
	return errCut
}

// cut lets no more operation begin. The channel is closed when the last one
// under way has ended.
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

// once does one operation if the gate is open.
func (g *gate) once(op func() error) error {
	g.writing.RLock()
	defer g.writing.RUnlock()
	if g.isCut.Load() {
		return errCut
	}
	return op()
}

// do does one operation that changes something, and again as long as there is
// no space for it. vital: it is the log's.
func (g *gate) do(vital bool, op func() error) error {
	err := g.once(op)
	if isNoSpace(err) {
		leave := g.store.space.block()
		for isNoSpace(err) && !g.handle.isDead() && !g.stopping() {
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
		// Pebble tries a failed flush again at once.
		time.Sleep(spaceRetry)
	}
	return err
}

func (g *gate) stopping() bool {
	select {
	case <-g.store.stop:
		return true
	default:
		return false
	}
}

// failed poisons the handle because the log could not be written. It returns –
// and so lets Pebble see the error, which can then be closed – only when no
// batch is being applied, for then none will be. Else it parks.
func (g *gate) failed(err error) {
	g.store.poison(g.handle, err)
	for range 50 {
		if g.handle.applying.TryLock() {
			g.handle.applying.Unlock()
			return
		}
		time.Sleep(2 * time.Millisecond)
	}
	g.park()
}

// park keeps the goroutine for ever.
func (g *gate) park() {
	g.store.log.Error("a goroutine of a failed store is parked")
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

// OpenDir's file is only synced; the log's new file is not there without it.
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

// Unwrap hides what lies below, so that nothing goes around the gate.
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

// Sync is tried once, even when space was short: after a failed one the system
// may have forgotten what it did not write.
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
