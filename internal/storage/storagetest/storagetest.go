// Package storagetest is the conformance suite of storage drivers: the contract of [storage.Store]
// case by case, and random histories of one client and of many, which are compared with a model.
package storagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/internal/storage"
)

// Run tests the stores that open returns. Each call of open returns an empty store, and closes it
// when the test ends.
func Run(t *testing.T, open func(t *testing.T) storage.Store) {
	for _, c := range []struct {
		name string
		test func(*testing.T, storage.Store)
	}{
		{"put and get", testPutGet},
		{"empty value", testEmptyValue},
		{"values are copies", testCopies},
		{"delete", testDelete},
		{"conditions", testConditions},
		{"all or nothing", testAllOrNothing},
		{"assert only", testAssertOnly},
		{"versions grow", testVersions},
		{"stamps", testStamps},
		{"limits", testLimits},
		{"malformed batches", testMalformed},
		{"scan", testScan},
		{"scan many", testScanMany},
		{"scan while writing", testScanWhileWriting},
		{"any byte in a key", testBytes},
		{"cancelled context", testCancelled},
		{"watch from now", testWatchNow},
		{"watch resumes", testWatchResumes},
		{"watch prefix", testWatchPrefix},
		{"watch is fresh", testWatchFresh},
		{"watch gap", testWatchGap},
		{"watch the future", testWatchFuture},
		{"closed", testClosed},
		{"history", testHistory},
		{"concurrent history", testConcurrent},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.test(t, open(t))
		})
	}
}

func names(entries []storage.Entry) string {
	var keys []string
	for _, e := range entries {
		keys = append(keys, e.Key)
	}
	return strings.Join(keys, " ")
}

func testPutGet(t *testing.T, s storage.Store) {
	if got := get(t, s, "a"); got.Version != 0 || got.Value != nil || got.Key != "a" {
		t.Errorf("Get of an absent key = %+v", got)
	}
	v := commit(t, s, storage.Set("a", []byte("1")), storage.Set("b", []byte("2")))
	want := storage.Entry{Key: "a", Value: []byte("1"), Version: v}
	if diff := cmp.Diff(want, get(t, s, "a")); diff != "" {
		t.Errorf("Get(a) (-want +got):\n%s", diff)
	}
	if got := get(t, s, "b"); got.Version != v {
		t.Errorf("b has version %d, its commit %d", got.Version, v)
	}
	for _, key := range []string{"", "aa", "A", "a\x00"} {
		if got := get(t, s, key); got.Version != 0 {
			t.Errorf("Get(%q) = %+v, want absent", key, got)
		}
	}
}

func testEmptyValue(t *testing.T, s storage.Store) {
	v := commit(t, s, storage.Set("nil", nil), storage.Set("empty", []byte{}))
	for _, key := range []string{"nil", "empty"} {
		if got := get(t, s, key); got.Version != v || len(got.Value) != 0 {
			t.Errorf("Get(%q) = %+v, want version %d and no bytes", key, got, v)
		}
	}
}

func testCopies(t *testing.T, s storage.Store) {
	value := []byte("before")
	commit(t, s, storage.Set("a", value))
	copy(value, "after!")
	got := get(t, s, "a")
	if string(got.Value) != "before" {
		t.Errorf("the store kept the caller's slice: %q", got.Value)
	}
	commit(t, s, storage.Set("a", []byte("second")))
	if string(got.Value) != "before" {
		t.Errorf("a value changed after it was read: %q", got.Value)
	}
}

func testDelete(t *testing.T, s storage.Store) {
	first := commit(t, s, storage.Set("a", []byte("1")))
	commit(t, s, storage.Remove("a"), storage.Remove("never there"))
	if got := get(t, s, "a"); got.Version != 0 || got.Value != nil {
		t.Errorf("Get after delete = %+v", got)
	}
	again := commit(t, s, storage.Set("a", []byte("1")).If(0))
	if again <= first {
		t.Errorf("version %d after %d", again, first)
	}
}

func testConditions(t *testing.T, s storage.Store) {
	v1 := commit(t, s, storage.Set("a", []byte("1")).If(0))
	v2 := commit(t, s, storage.Set("a", []byte("2")).If(v1))
	for _, op := range []storage.Op{
		storage.Set("a", nil).If(0), storage.Set("a", nil).If(v1), storage.Set("a", nil).If(v2 + 1),
		storage.Remove("a").If(v1), storage.Remove("a").If(0), storage.Remove("b").If(v1),
		storage.Expect("a", v1), storage.Expect("a", 0), storage.Expect("b", v1),
	} {
		_, err := s.Commit(t.Context(), storage.Batch{Ops: []storage.Op{op, storage.Set("other", nil)}})
		if !errors.Is(err, storage.ErrConflict) {
			t.Errorf("Commit(%+v) = %v, want ErrConflict", op, err)
		}
	}
	if got := get(t, s, "other"); got.Version != 0 {
		t.Errorf("a batch in conflict stored something: %+v", got)
	}
	commit(t, s, storage.Expect("b", 0), storage.Expect("a", v2), storage.Set("c", nil).If(0))
	commit(t, s, storage.Remove("a").If(v2), storage.Remove("b").If(0))
}

func testAllOrNothing(t *testing.T, s storage.Store) {
	before := commit(t, s, storage.Set("k05", []byte("old")))
	var ops []storage.Op
	for i := range 20 {
		ops = append(ops, storage.Set(fmt.Sprintf("k%02d", i), []byte("new")).If(0))
	}
	if _, err := s.Commit(t.Context(), storage.Batch{Ops: ops}); !errors.Is(err, storage.ErrConflict) {
		t.Fatalf("Commit = %v, want ErrConflict", err)
	}
	want := []storage.Entry{{Key: "k05", Value: []byte("old"), Version: before}}
	if diff := cmp.Diff(want, scan(t, s, "", "")); diff != "" {
		t.Errorf("after a refused batch (-want +got):\n%s", diff)
	}
}

func testAssertOnly(t *testing.T, s storage.Store) {
	v := commit(t, s, storage.Set("a", nil))
	later := commit(t, s, storage.Expect("a", v))
	if later <= v {
		t.Errorf("a commit that only asserts has number %d, after %d", later, v)
	}
	if got := get(t, s, "a"); got.Version != v {
		t.Errorf("asserting moved the version from %d to %d", v, got.Version)
	}
}

func testVersions(t *testing.T, s storage.Store) {
	last := storage.Version(0)
	for i := range 50 {
		op := storage.Set("same", []byte{byte(i)})
		if i%3 == 2 {
			op = storage.Remove("same")
		}
		v := commit(t, s, op)
		if v <= last {
			t.Fatalf("commit %d has number %d after %d", i, v, last)
		}
		last = v
	}
}

func testStamps(t *testing.T, s storage.Store) {
	var want []storage.Entry
	for i := range 20 {
		value := []byte{byte(i)}
		v := commit(t, s, storage.Append("event/", value), storage.Append("log/", value), storage.Set("x", value))
		want = append(want, storage.Entry{Key: storage.StampedKey("event/", v), Value: value, Version: v})
	}
	if diff := cmp.Diff(want, scan(t, s, "event/", storage.PrefixEnd("event/"))); diff != "" {
		t.Errorf("rows of events (-want +got):\n%s", diff)
	}
	if got := len(scan(t, s, "log/", "log0")); got != 20 {
		t.Errorf("%d rows of the second log, want 20", got)
	}
	if got := get(t, s, "event/"); got.Version != 0 {
		t.Errorf("the prefix itself was stored: %+v", got)
	}
	// A name that somebody guessed was absent, and is no more.
	for i := range storage.Version(4) {
		get(t, s, storage.StampedKey("event/", want[len(want)-1].Version+1+i))
	}
	v := commit(t, s, storage.Append("event/", []byte("late")))
	name := storage.StampedKey("event/", v)
	if diff := cmp.Diff(storage.Entry{Key: name, Value: []byte("late"), Version: v}, get(t, s, name)); diff != "" {
		t.Errorf("a stamped row that was asked for before it was there (-want +got):\n%s", diff)
	}
	_, err := s.Commit(t.Context(), storage.Batch{Ops: []storage.Op{storage.Set(name, nil).If(0)}})
	if !errors.Is(err, storage.ErrConflict) {
		t.Errorf("it counts as absent: %v", err)
	}
}

func testLimits(t *testing.T, s storage.Store) {
	var many []storage.Op
	for i := range storage.MaxOps {
		many = append(many, storage.Set(fmt.Sprintf("many/%03d", i), nil))
	}
	commit(t, s, many...)
	longKey := strings.Repeat("k", storage.MaxKey)
	commit(t, s, storage.Set(longKey, []byte("v")))
	if got := get(t, s, longKey); string(got.Value) != "v" {
		t.Errorf("the longest key was not stored")
	}
	large := bytes.Repeat([]byte("x"), storage.MaxBytes-len("large"))
	commit(t, s, storage.Set("large", large))
	if got := get(t, s, "large"); !bytes.Equal(got.Value, large) {
		t.Errorf("the largest value came back with %d bytes, want %d", len(got.Value), len(large))
	}
	for name, ops := range map[string][]storage.Op{
		"operations":  append(many, storage.Set("one more", nil)),
		"bytes":       {storage.Set("large", append(large, 'x'))},
		"bytes of 2":  {storage.Set("large", large), storage.Set("b", nil)},
		"key":         {storage.Set(longKey+"k", nil)},
		"stamped key": {storage.Append(longKey[1:], nil)},
	} {
		if _, err := s.Commit(t.Context(), storage.Batch{Ops: ops}); !errors.Is(err, storage.ErrTooLarge) {
			t.Errorf("too many %s: %v, want ErrTooLarge", name, err)
		}
	}
	if got := get(t, s, "one more"); got.Version != 0 {
		t.Errorf("a batch that was too large stored something")
	}
}

func testMalformed(t *testing.T, s storage.Store) {
	for name, ops := range map[string][]storage.Op{
		"no operation":        nil,
		"empty key":           {storage.Set("", nil)},
		"key twice":           {storage.Set("a", nil), storage.Remove("a")},
		"assert and put":      {storage.Expect("a", 0), storage.Set("a", nil)},
		"unknown kind":        {{Kind: storage.Assert + 1, Key: "a"}},
		"asserts nothing":     {{Kind: storage.Assert, Key: "a"}},
		"stamped delete":      {{Kind: storage.Delete, Key: "a", Stamp: true}},
		"stamped and checked": {storage.Append("a", nil).If(0)},
	} {
		if _, err := s.Commit(t.Context(), storage.Batch{Ops: ops}); err == nil {
			t.Errorf("%s: was committed", name)
		}
	}
	if got := scan(t, s, "", ""); len(got) != 0 {
		t.Errorf("malformed batches stored %s", names(got))
	}
}

func testScan(t *testing.T, s storage.Store) {
	commit(t, s, storage.Set("a", nil), storage.Set("a/1", nil), storage.Set("a/2", nil), storage.Set("a0", nil),
		storage.Set("b", nil))
	for _, tt := range []struct{ from, to, want string }{
		{"", "", "a a/1 a/2 a0 b"},
		{"a", "b", "a a/1 a/2 a0"},
		{"a/", "a0", "a/1 a/2"},
		{"a/1\x00", "", "a/2 a0 b"},
		{"a/1", "a/1", ""},
		{"b", "a", ""},
		{"c", "", ""},
		{"", "a", ""},
		{"", "a\x00", "a"},
	} {
		if got := names(scan(t, s, tt.from, tt.to)); got != tt.want {
			t.Errorf("Scan(%q, %q) = %q, want %q", tt.from, tt.to, got, tt.want)
		}
	}
	for e, err := range s.Scan(t.Context(), "", "") {
		if err != nil || e.Key != "a" {
			t.Errorf("first of a scan: %+v, %v", e, err)
		}
		break
	}
}

func testScanMany(t *testing.T, s storage.Store) {
	const n = 3000
	for i := 0; i < n; i += 100 {
		var ops []storage.Op
		for j := i; j < i+100; j++ {
			ops = append(ops, storage.Set(fmt.Sprintf("k%05d", j), fmt.Append(nil, j)))
		}
		commit(t, s, ops...)
	}
	for i, e := range scan(t, s, "", "") {
		if want := fmt.Sprintf("k%05d", i); e.Key != want || string(e.Value) != fmt.Sprint(i) {
			t.Fatalf("entry %d of the scan is %q = %q", i, e.Key, e.Value)
		}
	}
	if got := len(scan(t, s, "k00500", "k02500")); got != 2000 {
		t.Errorf("%d entries in the middle, want 2000", got)
	}
}

// testScanWhileWriting: unchanged entries are yielded exactly once, others at most once, and the
// consumer may write.
func testScanWhileWriting(t *testing.T, s storage.Store) {
	for i := range 20 {
		var ops []storage.Op
		for j := range 100 {
			ops = append(ops, storage.Set(fmt.Sprintf("%02d/%02d", i, j), nil))
		}
		commit(t, s, ops...)
	}
	seen := map[string]int{}
	for e, err := range s.Scan(t.Context(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		seen[e.Key]++
		switch {
		case strings.HasSuffix(e.Key, "/10"):
			commit(t, s, storage.Remove(e.Key), storage.Set(e.Key+"new", nil), storage.Remove(e.Key[:2]+"/20"))
		case strings.HasSuffix(e.Key, "/50"):
			commit(t, s, storage.Set(e.Key, []byte("again")))
		}
	}
	for key, n := range seen {
		if n != 1 {
			t.Errorf("%s came %d times", key, n)
		}
	}
	for i := range 20 {
		for j := range 100 {
			key := fmt.Sprintf("%02d/%02d", i, j)
			if j != 20 && seen[key] == 0 {
				t.Errorf("%s did not come", key)
			}
		}
	}
}

func testBytes(t *testing.T, s storage.Store) {
	keys := []string{"\x00", "\x00version", "\x01", "a\x00b", "a\xff", "\xff", "\xff\xff\xff", "ü"}
	for _, k := range keys {
		commit(t, s, storage.Set(k, []byte(k)))
	}
	for _, k := range keys {
		if got := get(t, s, k); string(got.Value) != k {
			t.Errorf("Get(%q) = %q", k, got.Value)
		}
	}
	if got := names(scan(t, s, "", "")); got != "\x00 \x00version \x01 a\x00b a\xff ü \xff \xff\xff\xff" {
		t.Errorf("scan gave %q", got)
	}
	if got := names(scan(t, s, "\xff", storage.PrefixEnd("\xff"))); got != "\xff \xff\xff\xff" {
		t.Errorf("scan of the last prefix gave %q", got)
	}
}

func testCancelled(t *testing.T, s storage.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Get(ctx, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("Get = %v", err)
	}
	if _, err := s.Commit(ctx, storage.Batch{Ops: []storage.Op{storage.Set("a", nil)}}); !errors.Is(err,
		context.Canceled) {
		t.Errorf("Commit = %v", err)
	}
	for _, err := range s.Scan(ctx, "", "") {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Scan = %v", err)
		}
	}
	var last error
	for _, err := range s.Watch(ctx, "", 0) {
		last = err
	}
	if !errors.Is(last, context.Canceled) {
		t.Errorf("Watch ended with %v", last)
	}
}

func testClosed(t *testing.T, s storage.Store) {
	v := commit(t, s, storage.Set("a", nil))
	ended := make(chan error, 1)
	started := make(chan struct{})
	go func() {
		var last error
		first := true
		for _, err := range s.Watch(t.Context(), "", 0) {
			if first {
				close(started)
				first = false
			}
			last = err
		}
		ended <- last
	}()
	<-started
	if err := s.Close(); err != nil {
		t.Fatalf("Close = %v", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("closing again: %v", err)
	}
	if _, err := s.Get(t.Context(), "a"); !errors.Is(err, storage.ErrClosed) {
		t.Errorf("Get = %v", err)
	}
	if _, err := s.Commit(t.Context(), storage.Batch{Ops: []storage.Op{storage.Set("a", nil)}}); !errors.Is(err,
		storage.ErrClosed) {
		t.Errorf("Commit = %v", err)
	}
	for _, err := range s.Scan(t.Context(), "", "") {
		if !errors.Is(err, storage.ErrClosed) {
			t.Errorf("Scan = %v", err)
		}
	}
	for _, err := range s.Watch(t.Context(), "", v) {
		if !errors.Is(err, storage.ErrClosed) {
			t.Errorf("Watch = %v", err)
		}
	}
	select {
	case err := <-ended:
		if !errors.Is(err, storage.ErrClosed) {
			t.Errorf("the running Watch ended with %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the running Watch did not end")
	}
}
