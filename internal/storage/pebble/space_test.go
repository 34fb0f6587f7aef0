package pebble

import (
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/keyturn/keyturn/internal/storage"
)

// A disk reports its free space.
type disk struct{ free atomic.Uint64 }

func (d *disk) usage() (free, total uint64, err error) { return d.free.Load(), 100 << 30, nil }

func tryCommit(t *testing.T, s *Store, key string) error {
	t.Helper()
	_, err := s.Commit(t.Context(), storage.Batch{Ops: []storage.Op{storage.Set(key, []byte("v"))}})
	return err
}

// TestLowSpace: below the low-water mark, writes are refused within seconds, and reads work. When
// there is space again, writes work.
func TestLowSpace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{}
		d.free.Store(10 << 30)
		fs := vfs.NewMem()
		s := open(t, Options{Path: "/store", FS: fs, FreeSpace: d.usage})
		if err := tryCommit(t, s, "before"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if _, err := fs.Stat("/store/BALLAST"); err != nil {
			t.Errorf("with ample space there is no ballast: %v", err)
		}
		d.free.Store(highest - 1)
		time.Sleep(time.Second)
		if err := tryCommit(t, s, "full"); !errors.Is(err, storage.ErrFull) {
			t.Errorf("Commit on a full disk = %v, want ErrFull", err)
		}
		for key, there := range map[string]bool{"before": true, "full": false} {
			if e, err := s.Get(t.Context(), key); err != nil || (e.Version != 0) != there {
				t.Errorf("Get(%q) on a full disk = %+v, %v", key, e, err)
			}
		}
		if got := s.Stats(); !got.Full || got.FreeBytes != highest-1 {
			t.Errorf("stats %+v", got)
		}
		d.free.Store(highest + highest/8) // a little more is not enough, or it would flap
		time.Sleep(time.Second)
		if err := tryCommit(t, s, "still"); !errors.Is(err, storage.ErrFull) {
			t.Errorf("Commit just above the mark = %v, want ErrFull", err)
		}
		d.free.Store(2 * highest)
		time.Sleep(time.Second)
		if err := tryCommit(t, s, "after"); err != nil {
			t.Errorf("Commit with space again = %v", err)
		}
	})
}

// TestNoSpace: the disk fills up between two checks. Waiting callers get an unknown outcome within
// five seconds, others an error that it is full; Pebble notices nothing, and continues.
func TestNoSpace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{}
		d.free.Store(10 << 30)
		mem := vfs.NewMem()
		fs := newFailing(mem)
		s := open(t, Options{Path: "/store", FS: fs, FreeSpace: d.usage})
		if err := tryCommit(t, s, "before"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		fs.set(func(op errorfs.Op) error {
			if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && op.Kind != errorfs.OpRemove {
				return fmt.Errorf("injected: %w", syscall.ENOSPC)
			}
			return nil
		})
		start := time.Now()
		if err := tryCommit(t, s, "waiting"); !errors.Is(err, errStalled) {
			t.Errorf("the commit that met the full disk: %v, want errStalled", err)
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("the outcome was returned after %v", took)
		}
		if _, err := mem.Stat("/store/BALLAST"); err == nil {
			t.Error("the ballast was not given back")
		}
		if err := tryCommit(t, s, "refused"); !errors.Is(err, storage.ErrFull) {
			t.Errorf("Commit on a full disk = %v, want ErrFull", err)
		}
		if e, err := s.Get(t.Context(), "before"); err != nil || e.Version == 0 {
			t.Errorf("Get on a full disk = %+v, %v", e, err)
		}
		time.Sleep(time.Hour)
		fs.set(nil)
		time.Sleep(2 * time.Second)
		for key, there := range map[string]bool{"before": true, "waiting": true, "refused": false} {
			if e, err := s.Get(t.Context(), key); err != nil || (e.Version != 0) != there {
				t.Errorf("Get(%q) = %+v, %v, want it there: %v", key, e, err, there)
			}
		}
		if err := tryCommit(t, s, "after"); err != nil {
			t.Errorf("Commit with space again = %v", err)
		}
		if got := s.Stats(); got.Reopened != 0 || got.Full {
			t.Errorf("stats %+v, want no reopening", got)
		}
	})
}

// TestCloseWhileFull: a store that waits for space can be closed.
func TestCloseWhileFull(t *testing.T) {
	t.Parallel()
	fs := newFailing(vfs.NewMem())
	s := open(t, Options{Path: "/store", FS: fs})
	fs.set(func(op errorfs.Op) error {
		if ofLog(errorfs.OpFileWrite)(op) {
			return syscall.ENOSPC
		}
		return nil
	})
	waiting := make(chan error, 1)
	go func() { waiting <- tryCommit(t, s, "a") }()
	for !s.supervisor.space.full.Load() {
		runtime.Gosched()
	}
	start := time.Now()
	if err := s.Close(); err != nil {
		t.Logf("Close = %v", err)
	}
	if err := <-waiting; err == nil {
		t.Error("a commit without space was answered")
	}
	if took := time.Since(start); took > closeWait/2 {
		t.Errorf("closing took %v", took)
	}
}
