package barrier_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/internal/barrier"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/seal"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/storage/memory"
	"github.com/keyturn/keyturn/internal/storage/storagetest"
)

// A store adapts a view to the interface of a store.
type store struct {
	*barrier.View
	below storage.Store
}

func (s store) Commit(ctx context.Context, b storage.Batch) (storage.Version, error) {
	return s.View.Commit(ctx, b.Ops...)
}

func (s store) Close() error { return s.below.Close() }

// TestViewIsAStore: a view passes the suite of storage drivers, except the exact limits, because
// its prefix and encryption take some bytes.
func TestViewIsAStore(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) storage.Store {
		st, b := initialized(t)
		if strings.HasSuffix(t.Name(), "/limits") {
			return st
		}
		return store{b.View("mount/x/"), st}
	})
}

// TestRandomOperations: random operations on views, with rotations and restarts between them, have
// the same results as on a plain store.
func TestRandomOperations(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	st, b := initialized(t)
	plain := memory.Open()
	prefixes := []string{"", "mount/a/", "mount/b/"}
	for step := range 2000 {
		switch rnd.IntN(50) {
		case 0:
			if _, err := b.Rotate(t.Context()); err != nil {
				t.Fatal(err)
			}
		case 1:
			b.Close()
			b = open(t, st, root)
		}
		prefix := prefixes[rnd.IntN(len(prefixes))]
		v := b.View(prefix)
		ops, mirror := randomBatch(t, rnd, v, plain, prefix)
		_, err := v.Commit(t.Context(), ops...)
		_, wantErr := plain.Commit(t.Context(), storage.Batch{Ops: mirror})
		if errors.Is(err, storage.ErrConflict) != errors.Is(wantErr, storage.ErrConflict) ||
			(err == nil) != (wantErr == nil) {
			t.Fatalf("step %d: Commit = %v, the plain store %v", step, err, wantErr)
		}
		if step%100 == 0 {
			for _, p := range prefixes {
				if d := cmp.Diff(contents(t, plain, p), viewed(t, b.View(p))); d != "" {
					t.Fatalf("step %d, below %q (-plain +view):\n%s", step, p, d)
				}
			}
		}
	}
}

// randomBatch returns operations for the view and the same ones for the plain
// store, which has other versions.
func randomBatch(
	t *testing.T, rnd *rand.Rand, v *barrier.View, plain storage.Store, prefix string,
) (ops, mirror []storage.Op) {
	seen := map[string]bool{}
	for range 1 + rnd.IntN(4) {
		key := fmt.Sprint("k", rnd.IntN(30))
		if seen[key] {
			continue
		}
		seen[key] = true
		var op storage.Op
		switch rnd.IntN(5) {
		case 0:
			op = storage.Remove(key)
		default:
			op = storage.Set(key, bytes.Repeat([]byte{byte(rnd.Uint32())}, rnd.IntN(300)))
		}
		twin := op
		twin.Key = prefix + key
		if rnd.IntN(2) == 0 {
			e, err := v.Get(t.Context(), key)
			p, err2 := plain.Get(t.Context(), twin.Key)
			if err != nil || err2 != nil {
				t.Fatal(err, err2)
			}
			stale := storage.Version(rnd.IntN(10) / 9)
			op, twin = op.If(e.Version+stale), twin.If(p.Version+stale)
		}
		ops, mirror = append(ops, op), append(mirror, twin)
	}
	return ops, mirror
}

func contents(t *testing.T, st storage.Store, prefix string) map[string]string {
	all := map[string]string{}
	for key, value := range dump(t, st) {
		if rest, ok := strings.CutPrefix(key, prefix); ok {
			all[rest] = value
		}
	}
	return all
}

func viewed(t *testing.T, v *barrier.View) map[string]string {
	t.Helper()
	all := map[string]string{}
	for e, err := range v.Scan(t.Context(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		all[e.Key] = string(e.Value)
		if got := get(t, v, e.Key); got != string(e.Value) {
			t.Errorf("Get(%q) = %q, Scan gave %q", e.Key, got, e.Value)
		}
	}
	return all
}

// TestCommitAcrossViews: one commit contains operations and assertions of several views.
func TestCommitAcrossViews(t *testing.T) {
	_, b := initialized(t)
	a, all := b.View("mount/a/"), b.View("")
	leader := commit(t, all, storage.Set("core/leader", []byte("me")))
	guarded := a.With(storage.Expect("core/leader", leader))
	due := b.View("due/")
	v, err := guarded.CommitWith(t.Context(), []storage.Op{storage.Set("k", []byte("1"))},
		[]storage.Op{due.Abs(storage.Set("x", nil)), storage.Append("event/", []byte("e"))})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"core/leader": "me", "mount/a/k": "1", "due/x": "", storage.StampedKey("event/", v): "e"}
	if d := cmp.Diff(want, viewed(t, all)); d != "" {
		t.Errorf("stored (-want +got):\n%s", d)
	}
	if got := get(t, a, "k"); got != "1" {
		t.Errorf("the view read %q", got)
	}

	commit(t, all, storage.Set("core/leader", []byte("you")))
	if _, err := guarded.Commit(t.Context(), storage.Set("k", []byte("2"))); !fault.Is(err, fault.Conflict) ||
		!errors.Is(err, storage.ErrConflict) {
		t.Errorf("Commit of one who leads no more = %v, want a conflict", err)
	}
	if _, err := a.Commit(t.Context(), storage.Set("k", []byte("2"))); err != nil {
		t.Errorf("With changed the view that it was called on: %v", err)
	}
}

// TestGuardsJoinOperations: an assertion on a key that the batch writes becomes a part of that
// operation, because a batch contains each key once.
func TestGuardsJoinOperations(t *testing.T) {
	_, b := initialized(t)
	all := b.View("")
	v1 := commit(t, all, storage.Set("leader", []byte("1")))
	guarded := all.With(storage.Expect("leader", v1))
	v2, err := guarded.Commit(t.Context(), storage.Set("leader", []byte("2")))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := guarded.Commit(t.Context(), storage.Set("leader", []byte("3"))); !fault.Is(err, fault.Conflict) {
		t.Errorf("the guard was lost: %v", err)
	}
	if _, err := guarded.Commit(t.Context(), storage.Set("leader", []byte("3")).If(v2)); !fault.Is(err,
		fault.Conflict) {
		t.Errorf("a batch that wants two versions of a key: %v, want a conflict", err)
	}
	if _, err := all.With(storage.Expect("leader", v2)).
		Commit(t.Context(), storage.Expect("leader", v2), storage.Set("x", nil)); err != nil {
		t.Errorf("the same assertion twice: %v", err)
	}
}

// TestCommitDoesNotTouchOperations: Commit does not change the caller's operations, so that a
// retry can reuse them.
func TestCommitDoesNotTouchOperations(t *testing.T) {
	_, b := initialized(t)
	ops := []storage.Op{storage.Set("a", []byte("1")), storage.Append("e/", []byte("2"))}
	for _, f := range []func(context.Context, ...storage.Op) (storage.Version, error){b.View("x/").Commit, b.Commit} {
		if _, err := f(t.Context(), ops...); err != nil {
			t.Fatal(err)
		}
		if ops[0].Key != "a" || string(ops[0].Value) != "1" || string(ops[1].Value) != "2" {
			t.Errorf("the operations are now %+v", ops)
		}
	}
}

func TestRawKeysAreOutOfReach(t *testing.T) {
	st, b := initialized(t)
	if _, err := st.Commit(t.Context(),
		storage.Batch{Ops: []storage.Op{storage.Set(seal.RecordKey, []byte("record"))}}); err != nil {
		t.Fatal(err)
	}
	before := dump(t, st)
	for _, v := range []*barrier.View{b.View(""), b.View("core/")} {
		for _, key := range []string{barrier.RingKey, seal.RecordKey} {
			key = strings.TrimPrefix(key, v.Prefix())
			if _, err := v.Commit(t.Context(), storage.Set(key, nil)); !fault.Is(err, fault.Internal) {
				t.Errorf("writing %q = %v, want internal", key, err)
			}
			if _, err := v.Commit(t.Context(), storage.Remove(key)); !fault.Is(err, fault.Internal) {
				t.Errorf("removing %q = %v, want internal", key, err)
			}
			if _, err := v.Get(t.Context(), key); !fault.Is(err, fault.Internal) {
				t.Errorf("reading %q = %v, want internal", key, err)
			}
		}
		if got := viewed(t, v); len(got) != 0 {
			t.Errorf("Scan below %q found %v", v.Prefix(), got)
		}
	}
	if d := cmp.Diff(before, dump(t, st)); d != "" {
		t.Errorf("something changed:\n%s", d)
	}
}

func TestWatchIsRelative(t *testing.T) {
	_, b := initialized(t)
	v := b.View("mount/a/")
	var got []string
	first := true
	for c, err := range v.Watch(t.Context(), "k/", 0) {
		if err != nil {
			t.Fatal(err)
		}
		if first { // a mark: it watches now
			first = false
			commit(t, v, storage.Set("k/1", nil), storage.Set("other", nil))
			commit(t, b.View("mount/b/"), storage.Set("k/1", nil))
			commit(t, v, storage.Remove("k/1"))
		}
		if c.Key != "" {
			got = append(got, fmt.Sprint(c.Key, c.Deleted))
		}
		if len(got) == 2 {
			break
		}
	}
	if d := cmp.Diff([]string{"k/1false", "k/1true"}, got); d != "" {
		t.Errorf("changes (-want +got):\n%s", d)
	}
}

// A failing store returns the same error for everything.
type failing struct {
	storage.Store
	err error
}

func (f *failing) Get(ctx context.Context, key string) (storage.Entry, error) {
	if f.err != nil {
		return storage.Entry{}, f.err
	}
	return f.Store.Get(ctx, key)
}

func (f *failing) Commit(ctx context.Context, b storage.Batch) (storage.Version, error) {
	if f.err != nil {
		return 0, f.err
	}
	return f.Store.Commit(ctx, b)
}

func (f *failing) Scan(ctx context.Context, from, to string) iter.Seq2[storage.Entry, error] {
	if f.err != nil {
		return func(yield func(storage.Entry, error) bool) { yield(storage.Entry{}, f.err) }
	}
	return f.Store.Scan(ctx, from, to)
}

func (f *failing) Watch(ctx context.Context, prefix string, after storage.Version) iter.Seq2[storage.Change, error] {
	return func(yield func(storage.Change, error) bool) { yield(storage.Change{}, f.err) }
}

func TestStoreErrorsHaveKinds(t *testing.T) {
	st := &failing{Store: memory.Open()}
	if err := barrier.Initialize(t.Context(), st, root); err != nil {
		t.Fatal(err)
	}
	b := open(t, st, root)
	v := b.View("")
	commit(t, v, storage.Set("a", nil))
	for _, tt := range []struct {
		err  error
		kind fault.Kind
	}{
		{storage.ErrConflict, fault.Conflict},
		{storage.ErrTooLarge, fault.TooLarge},
		{storage.ErrFull, fault.Unavailable},
		{storage.ErrClosed, fault.Unavailable},
		{storage.ErrGap, fault.Unavailable},
		{errDisk, fault.Unavailable},
		{context.DeadlineExceeded, fault.Timeout},
		{context.Canceled, fault.Timeout},
		{fault.New("x", fault.Held, "held"), fault.Held},
	} {
		st.err = fmt.Errorf("below: %w", tt.err)
		calls := map[string]func() error{
			"Get":    func() error { _, err := v.Get(t.Context(), "a"); return err },
			"Commit": func() error { _, err := v.Commit(t.Context(), storage.Set("a", nil)); return err },
			"Scan": func() (err error) {
				for _, err = range v.Scan(t.Context(), "", "") {
				}
				return err
			},
			"Watch": func() (err error) {
				for _, err = range v.Watch(t.Context(), "", 0) {
				}
				return err
			},
		}
		for name, call := range calls {
			if err := call(); !fault.Is(err, tt.kind) || !errors.Is(err, tt.err) || fault.Message(err) == "" {
				t.Errorf("%s with %v below = %v (%s, message %q), want %s with a message", name, tt.err, err,
					fault.KindOf(err), fault.Message(err), tt.kind)
			}
		}
	}
	st.err = nil
	if _, err := v.Commit(t.Context(), storage.Set("a", make([]byte, storage.MaxBytes))); !fault.Is(err,
		fault.TooLarge) {
		t.Errorf("a large value: %v, want too large", err)
	}
	if _, err := v.Commit(t.Context(), storage.Set("a", make([]byte, 3*storage.MaxBytes))); !fault.Is(err,
		fault.TooLarge) {
		t.Errorf("a huge value: %v, want too large", err)
	}
	for name, ops := range map[string][]storage.Op{
		"empty batch": nil,
		"empty key":   {storage.Set("", nil)},
		"key twice":   {storage.Set("a", nil), storage.Remove("a")},
	} {
		if _, err := v.Commit(t.Context(), ops...); !fault.Is(err, fault.Internal) {
			t.Errorf("%s: %v, want internal", name, err)
		}
	}
}
