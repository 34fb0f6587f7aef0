package storage

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestPrefixEnd(t *testing.T) {
	for _, tt := range []struct{ prefix, want string }{
		{"", ""}, {"a", "b"}, {"a/", "a0"}, {"a\xff", "b"}, {"\xff", ""}, {"\xff\xff", ""}, {"a\x00", "a\x01"},
	} {
		if got := PrefixEnd(tt.prefix); got != tt.want {
			t.Errorf("PrefixEnd(%q) = %q, want %q", tt.prefix, got, tt.want)
		}
	}
}

func FuzzPrefixEnd(f *testing.F) {
	f.Add("a", "ab")
	f.Add("\xff", "\xff\xff")
	f.Fuzz(func(t *testing.T, prefix, key string) {
		end := PrefixEnd(prefix)
		inside := key >= prefix && (end == "" || key < end)
		if inside != strings.HasPrefix(key, prefix) {
			t.Errorf("%q in [%q, %q): %v", key, prefix, end, inside)
		}
	})
}

func TestStampsSort(t *testing.T) {
	last := ""
	for _, v := range []Version{1, 9, 10, 15, 16, 255, 1 << 20, 1 << 56, 1<<64 - 1} {
		key := StampedKey("event/", v)
		if key <= last || len(key) != len("event/")+stampLen || key != fmt.Sprintf("event/%016x", uint64(v)) {
			t.Errorf("StampedKey(%d) = %q after %q", v, key, last)
		}
		last = key
	}
}

func TestRecorder(t *testing.T) {
	var r Recorder
	for _, d := range []time.Duration{0, 100 * time.Microsecond, 101 * time.Microsecond, time.Minute} {
		r.Committed(d)
	}
	r.Conflict()
	r.Failed()
	got := r.Stats()
	h := got.CommitSeconds
	if got.Commits != 4 || got.Conflicts != 1 || got.Failed != 1 || h.Counts[0] != 2 || h.Counts[1] != 1 ||
		h.Counts[len(h.Bounds)] != 1 {
		t.Errorf("stats %+v", got)
	}
	if h.Sum < 60 || h.Sum > 60.001 {
		t.Errorf("sum %v, want a minute", h.Sum)
	}
}

func change(v int, key string) Change { return Change{Version: Version(v), Key: key} }

// take reads n items from a Watch.
func take(t *testing.T, f *Feed, prefix string, after Version, n int) (got []Change, err error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for c, err := range f.Watch(ctx, prefix, after) {
		if err != nil {
			return got, err
		}
		if got = append(got, c); len(got) == n {
			return got, nil
		}
	}
	return got, nil
}

func TestFeedMarks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := NewFeed(5)
		start := time.Now()
		got, err := take(t, f, "", 0, 4)
		diff := cmp.Diff([]Change{{Version: 5}, {Version: 5}, {Version: 5}, {Version: 5}}, got)
		if diff != "" || err != nil {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
		if took := time.Since(start); took != 3*markEvery {
			t.Errorf("four marks in %v", took)
		}
		f.Suspend()
		go func() {
			time.Sleep(time.Hour)
			f.Reset(9)
		}()
		if got, err := take(t, f, "", 5, 1); !errors.Is(err, ErrGap) || len(got) != 0 {
			t.Errorf("a suspended feed gave %v, %v; want ErrGap", got, err)
		}
		if got, err := take(t, f, "", 9, 1); err != nil || got[0].Version != 9 {
			t.Errorf("after the reset: %v, %v", got, err)
		}
	})
}

// TestFeedIdleReader: any number of changes that do not match a reader cause no gap for it.
func TestFeedIdleReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := NewFeed(1)
		got := make(chan Change, 10)
		go func() {
			for c, err := range f.Watch(t.Context(), "mine/", 0) {
				if err != nil && t.Context().Err() == nil {
					t.Error(err)
				}
				if c.Key != "" {
					got <- c
				}
			}
		}()
		synctest.Wait()
		for v := 2; v < 3*feedChanges; v++ {
			f.Append(Version(v), []Change{change(v, "theirs/")})
		}
		v := 3 * feedChanges
		f.Append(Version(v), []Change{change(v, "mine/a")})
		if c := <-got; c != change(v, "mine/a") {
			t.Errorf("got %+v", c)
		}
	})
}

// TestFeedBounds: neither many changes nor long keys exceed the limits, and a reader that falls
// behind gets ErrGap, and never misses a change.
func TestFeedBounds(t *testing.T) {
	for name, key := range map[string]string{"many": "k", "long": strings.Repeat("k", MaxKey)} {
		f := NewFeed(1)
		for v := 2; v < 3*feedChanges; v++ {
			f.Append(Version(v), []Change{change(v, key)})
			if len(f.ring) > feedChanges || f.bytes > feedBytes {
				t.Fatalf("%s: %d changes, %d bytes", name, len(f.ring), f.bytes)
			}
		}
		oldest := f.ring[0].Version
		if _, err := take(t, f, "", oldest-2, 1); !errors.Is(err, ErrGap) {
			t.Errorf("%s: from before the oldest: %v", name, err)
		}
		got, err := take(t, f, "", oldest-1, 500)
		if err != nil {
			t.Fatal(err)
		}
		for i, c := range got {
			if c.Key != "" && c.Version != oldest+Version(i) {
				t.Fatalf("%s: item %d is %d, the first was %d", name, i, c.Version, oldest)
			}
		}
	}
}

// TestFeedWholeCommits: a partly dropped commit is a gap.
func TestFeedWholeCommits(t *testing.T) {
	f := NewFeed(1)
	var changes []Change
	for i := range 1000 {
		changes = append(changes, change(2, fmt.Sprint(i)))
	}
	f.Append(2, changes)
	f.mu.Lock()
	f.ring, f.first, f.floor = f.ring[500:], 500, 2
	f.mu.Unlock()
	if _, err := take(t, f, "", 1, 1); !errors.Is(err, ErrGap) {
		t.Errorf("half a commit: %v, want ErrGap", err)
	}
}

func TestFeedClose(t *testing.T) {
	f := NewFeed(1)
	f.Close()
	if _, err := take(t, f, "", 0, 1); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v", err)
	}
}
