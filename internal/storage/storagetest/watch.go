package storagetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/internal/storage"
)

// A feed is a running Watch whose items come through a channel.
type feed struct {
	items chan storage.Change
	ended chan error
}

// watch starts a Watch and, if it starts now, waits for its first mark.
func watch(t *testing.T, s storage.Store, prefix string, after storage.Version) *feed {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	f := &feed{make(chan storage.Change, 1<<17), make(chan error, 1)}
	go func() {
		for c, err := range s.Watch(ctx, prefix, after) {
			if err != nil {
				f.ended <- err
				return
			}
			f.items <- c
		}
	}()
	if after == 0 {
		if c := f.next(t); c.Key != "" || c.Version == 0 {
			t.Errorf("a watch from now begins with %+v, want a mark", c)
		}
	}
	return f
}

func (f *feed) next(t *testing.T) storage.Change {
	t.Helper()
	select {
	case c := <-f.items:
		return c
	case err := <-f.ended:
		t.Fatalf("the watch ended: %v", err)
	case <-time.After(10 * time.Second):
		t.Fatal("nothing came from the watch")
	}
	return storage.Change{}
}

// until returns the changes up to the first mark at or after v.
func (f *feed) until(t *testing.T, v storage.Version) []storage.Change {
	t.Helper()
	var all []storage.Change
	for {
		c := f.next(t)
		if c.Key == "" {
			if c.Version >= v {
				return all
			}
			continue
		}
		all = append(all, c)
	}
}

func testWatchNow(t *testing.T, s storage.Store) {
	commit(t, s, storage.Set("before", nil))
	f := watch(t, s, "", 0)
	v1 := commit(t, s, storage.Set("a", nil), storage.Set("b", nil))
	v2 := commit(t, s, storage.Remove("a"), storage.Expect("b", v1))
	v3 := commit(t, s, storage.Append("event/", nil))
	want := []storage.Change{
		{Version: v1, Key: "a"},
		{Version: v1, Key: "b"},
		{Version: v2, Key: "a", Deleted: true},
		{Version: v3, Key: storage.StampedKey("event/", v3)},
	}
	if diff := cmp.Diff(want, f.until(t, v3)); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
}

func testWatchResumes(t *testing.T, s storage.Store) {
	var versions []storage.Version
	for i := range 100 {
		versions = append(versions, commit(t, s, storage.Set(fmt.Sprintf("k%d", i), nil)))
	}
	for _, from := range []int{0, 1, 50, 98} {
		got := watch(t, s, "", versions[from]).until(t, versions[99])
		if len(got) != 99-from || got[0].Version != versions[from+1] {
			t.Errorf("after commit %d: %d changes, the first %+v", from, len(got), got[0])
		}
	}
	if got := watch(t, s, "", versions[99]).until(t, versions[99]); len(got) != 0 {
		t.Errorf("after the last commit came %+v", got)
	}
}

func testWatchPrefix(t *testing.T, s storage.Store) {
	f := watch(t, s, "a/", 0)
	var last storage.Version
	for i := range 200 {
		last = commit(t, s, storage.Set(fmt.Sprintf("a/%d", i), nil), storage.Set(fmt.Sprintf("b/%d", i), nil),
			storage.Set("a", nil))
	}
	got := f.until(t, last)
	if len(got) != 200 {
		t.Fatalf("%d changes below the prefix, want 200", len(got))
	}
	for i, c := range got {
		if want := fmt.Sprintf("a/%d", i); c.Key != want {
			t.Errorf("change %d is %q, want %q", i, c.Key, want)
		}
	}
}

// testWatchFresh: marks are sent while nothing changes, and while only other keys change.
func testWatchFresh(t *testing.T, s storage.Store) {
	f := watch(t, s, "mine/", 0)
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				_, err := s.Commit(t.Context(),
					storage.Batch{Ops: []storage.Op{storage.Set(fmt.Sprintf("theirs/%d", i%50), nil)}})
				if err != nil {
					t.Errorf("Commit = %v", err)
					return
				}
			}
		}
	}()
	start := time.Now()
	for range 4 {
		if c := f.next(t); c.Key != "" {
			t.Errorf("got %+v, want a mark", c)
		}
	}
	if took := time.Since(start); took > 8*time.Second {
		t.Errorf("four marks took %v, want half a second each on a machine that is not busy", took)
	}
	close(stop)
	<-done
}

// testWatchGap: a Watch from a version that the feed no longer has ends with ErrGap.
func testWatchGap(t *testing.T, s storage.Store) {
	first := commit(t, s, storage.Set("a", nil))
	var ops []storage.Op
	for i := range storage.MaxOps {
		ops = append(ops, storage.Set(fmt.Sprintf("k%d", i), nil))
	}
	gap := func() bool {
		for c, err := range s.Watch(t.Context(), "k", first) {
			if errors.Is(err, storage.ErrGap) {
				return true
			}
			if err != nil {
				t.Fatalf("Watch = %v", err)
			}
			if c.Key != "k0" {
				t.Fatalf("resumed at %+v and left something out", c)
			}
			return false
		}
		return false
	}
	for i := range 3000 {
		commit(t, s, ops...)
		if i%100 == 99 && gap() {
			return
		}
	}
	t.Skip("the feed remembers 300,000 changes; a gap was not reached")
}

func testWatchFuture(t *testing.T, s storage.Store) {
	v := commit(t, s, storage.Set("a", nil))
	for _, err := range s.Watch(t.Context(), "", v+1<<30) {
		if !errors.Is(err, storage.ErrGap) {
			t.Errorf("watching from a commit that never was: %v, want ErrGap", err)
		}
		return
	}
	t.Error("watching from a commit that never was ended without an error")
}
