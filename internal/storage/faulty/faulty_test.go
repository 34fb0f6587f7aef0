package faulty

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/storage/memory"
	"github.com/keyturn/keyturn/internal/storage/storagetest"
)

// TestContract: without faults, it behaves like the store below.
func TestContract(t *testing.T) {
	storagetest.Run(t, func(*testing.T) storage.Store { return New(memory.Open(), 1) })
}

func put(t *testing.T, s *Store, key string) error {
	t.Helper()
	_, err := s.Commit(t.Context(), storage.Batch{Ops: []storage.Op{storage.Set(key, nil)}})
	return err
}

func there(t *testing.T, s *Store, key string) bool {
	t.Helper()
	e, err := s.below.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return e.Version != 0
}

func TestPairs(t *testing.T) {
	for mode, stored := range map[Mode]bool{NotStored: false, Stored: true, Hang: false, StoredThenHang: true} {
		s := New(memory.Open(), 1)
		s.Inject(Fault{Mode: mode})
		ctx, cancel := context.WithCancel(t.Context())
		want := ErrInjected
		if mode == Hang || mode == StoredThenHang {
			want = context.Canceled
		}
		failed := make(chan error, 1)
		go func() {
			_, err := s.Commit(ctx, storage.Batch{Ops: []storage.Op{storage.Set("a", nil)}})
			failed <- err
		}()
		if want != ErrInjected {
			cancel()
		}
		if err := <-failed; !errors.Is(err, want) {
			t.Errorf("mode %d: %v, want %v", mode, err, want)
		}
		cancel()
		if got := there(t, s, "a"); got != stored {
			t.Errorf("mode %d: stored %v, want %v", mode, got, stored)
		}
		if err := put(t, s, "b"); err != nil {
			t.Errorf("mode %d: the second commit: %v, want one failure only", mode, err)
		}
	}
}

func TestSelection(t *testing.T) {
	s := New(memory.Open(), 1)
	own := errors.New("own")
	s.Inject(Fault{Prefix: "lease/", After: 2, Times: 2, Err: own})
	s.Inject(Fault{Calls: Gets, Prefix: "x", Times: -1})
	var failed []string
	for i := range 6 {
		for _, prefix := range []string{"lease/", "token/"} {
			key := fmt.Sprint(prefix, i)
			if err := put(t, s, key); errors.Is(err, own) {
				failed = append(failed, key)
			} else if err != nil {
				t.Error(err)
			}
		}
	}
	if want := []string{"lease/2", "lease/3"}; !slices.Equal(failed, want) {
		t.Errorf("failed: %v, want %v", failed, want)
	}
	for range 3 {
		if _, err := s.Get(t.Context(), "x1"); !errors.Is(err, ErrInjected) {
			t.Errorf("Get(x1) = %v", err)
		}
	}
	if _, err := s.Get(t.Context(), "y"); err != nil {
		t.Errorf("Get(y) = %v", err)
	}
	s.Clear()
	if _, err := s.Get(t.Context(), "x1"); err != nil {
		t.Errorf("Get(x1) after Clear = %v", err)
	}
}

func TestSeed(t *testing.T) {
	run := func(seed uint64) (failed []int) {
		s := New(memory.Open(), seed)
		s.Inject(Fault{Times: -1, Rate: .5})
		for i := range 100 {
			if put(t, s, "a") != nil {
				failed = append(failed, i)
			}
		}
		return failed
	}
	a, again, b := run(1), run(1), run(2)
	if !slices.Equal(a, again) {
		t.Errorf("one seed, two runs: %v and %v", a, again)
	}
	if slices.Equal(a, b) || len(a) < 25 || len(a) > 75 {
		t.Errorf("of 100 calls failed %v with one seed and %v with another, want about half and not the same", a, b)
	}
}

func TestCrash(t *testing.T) {
	for _, mode := range []Mode{NotStored, Stored} {
		s := New(memory.Open(), 1)
		s.Inject(Fault{Calls: Scans, Mode: Hang})
		hung := make(chan error, 1)
		ended := make(chan error, 1)
		watching := make(chan struct{})
		go func() {
			for _, err := range s.Scan(t.Context(), "", "") {
				hung <- err
			}
		}()
		go func() {
			var last error
			for _, err := range s.Watch(t.Context(), "", 0) {
				if last == nil && err == nil {
					select {
					case <-watching:
					default:
						close(watching)
					}
				}
				last = err
			}
			ended <- last
		}()
		<-watching
		s.CrashAfter(2, mode)
		for i, want := range []error{nil, nil, ErrCrashed, ErrCrashed} {
			if err := put(t, s, fmt.Sprint(i)); !errors.Is(err, want) {
				t.Errorf("commit %d: %v, want %v", i, err, want)
			}
		}
		<-s.Crashed()
		for what, err := range map[string]error{"the hanging scan": <-hung, "the watch": <-ended} {
			if !errors.Is(err, ErrCrashed) {
				t.Errorf("%s ended with %v", what, err)
			}
		}
		if _, err := s.Get(t.Context(), "0"); !errors.Is(err, ErrCrashed) {
			t.Errorf("Get = %v", err)
		}
		s.Revive()
		for i, want := range []bool{true, true, mode == Stored, false} {
			if got := there(t, s, fmt.Sprint(i)); got != want {
				t.Errorf("mode %d: commit %d is there: %v, want %v", mode, i, got, want)
			}
		}
		if err := put(t, s, "after"); err != nil {
			t.Errorf("after reviving: %v", err)
		}
		want := 3
		if mode == Stored {
			want = 4
		}
		if got := s.Commits(); got != want {
			t.Errorf("mode %d: %d commits reached the store, want %d", mode, got, want)
		}
	}
}
