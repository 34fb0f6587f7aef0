package pebble

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/keyturn/keyturn/internal/storage"
)

func TestRowsKeep(t *testing.T) {
	kept := func(r *rows, e storage.Entry) bool {
		slot, hash := r.at(e.Key)
		slot.keep(e, hash, slot.gen.Load())
		w := slot.get(e.Key)
		return w != nil && w.entry(true).Version == e.Version && string(w.entry(true).Value) == string(e.Value)
	}
	r := newRows()
	small := storage.Entry{Key: "k", Version: 7, Value: []byte("v")}
	if kept(r, small) {
		t.Error("kept at the first read")
	}
	if !kept(r, small) {
		t.Error("not kept at the second read")
	}
	if !kept(r, storage.Entry{Key: "absent"}) {
		t.Error("what is absent is not kept at once")
	}
	for range 2 {
		if kept(r, storage.Entry{Key: "large", Version: 1, Value: make([]byte, rowMaxBytes)}) {
			t.Error("kept though it is large")
		}
	}
	slot, hash := r.at("k")
	gen := slot.gen.Load()
	for _, e := range []storage.Entry{
		{Key: "k", Version: 8, Value: []byte("w")}, {Key: "k"}, {Key: "k", Version: 10},
	} {
		r.changed(e)
		if w := slot.get("k"); w == nil || w.entry(true).Version != e.Version ||
			string(w.entry(true).Value) != string(e.Value) {
			t.Errorf("after a commit made it %+v: %+v", e, w)
		}
		slot.keep(small, hash, gen)
		if w := slot.get("k"); w == nil || w.version == small.Version {
			t.Error("kept though a commit has changed it since it was read")
		}
	}
	r.changed(storage.Entry{Key: "k", Version: 11, Value: make([]byte, rowMaxBytes)})
	if slot.get("k") != nil {
		t.Error("kept though it is large now")
	}
	slot.keep(small, hash, gen)
	if slot.get("k") != nil {
		t.Error("kept though a commit has changed it since it was read")
	}
	r.changed(storage.Entry{Key: "k", Version: 12})
	if slot.get("k") != nil {
		t.Error("a commit keeps what nobody has read")
	}
}

// TestRowsNeverStale: a reader that knows of a commit reads that commit or a later one.
func TestRowsNeverStale(t *testing.T) {
	s, err := Open(t.Context(), Options{Path: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	const n = 150
	var known atomic.Uint64
	var over atomic.Bool
	var all sync.WaitGroup
	all.Go(func() {
		defer over.Store(true)
		for i := range n {
			op := storage.Set("k", []byte("v"))
			if i%10 == 9 {
				op = storage.Remove("k")
			}
			v, err := s.Commit(t.Context(), storage.Batch{Ops: []storage.Op{op}})
			if err != nil {
				t.Error(err)
				break
			}
			if i%10 != 9 {
				known.Store(uint64(v))
			}
		}
	})
	for range 2 {
		all.Go(func() {
			for !over.Load() {
				least := known.Load()
				e, err := s.Get(t.Context(), "k")
				if err != nil {
					t.Error(err)
					return
				}
				if e.Version != 0 && uint64(e.Version) < least {
					t.Errorf("read version %d after %d was committed", e.Version, least)
					return
				}
			}
		})
	}
	all.Wait()
}

// TestMarkOfDeadHandle: a commit of a dead handle does not count as durable, although the mark has
// passed its number, because the next handle starts above all numbers that may be lost.
func TestMarkOfDeadHandle(t *testing.T) {
	var m mark
	dead := make(chan struct{})
	m.advance(7)
	if err := m.wait(t.Context(), dead, 7); err != nil {
		t.Error(err)
	}
	close(dead)
	m.advance(100)
	if err := m.wait(t.Context(), dead, 8); err != errPoisoned {
		t.Errorf("%v, want that it is not known", err)
	}
}
