package barrier_test

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/keyturn/keyturn/internal/barrier"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/seal"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/storage/memory"
)

var (
	root  = secret.New(bytes.Repeat([]byte{7}, barrier.RootKeySize))
	other = secret.New(bytes.Repeat([]byte{8}, barrier.RootKeySize))
)

func open(t testing.TB, st storage.Store, root secret.Value) *barrier.Barrier {
	t.Helper()
	b, err := barrier.Open(t.Context(), st, root)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(b.Close)
	return b
}

func initialized(t testing.TB) (storage.Store, *barrier.Barrier) {
	t.Helper()
	st := memory.Open()
	t.Cleanup(func() { _ = st.Close() })
	if err := barrier.Initialize(t.Context(), st, root); err != nil {
		t.Fatalf("Initialize: %v", err)
	}
	return st, open(t, st, root)
}

func commit(t testing.TB, v *barrier.View, ops ...storage.Op) storage.Version {
	t.Helper()
	version, err := v.Commit(t.Context(), ops...)
	if err != nil {
		t.Fatalf("Commit: %v", err)
	}
	return version
}

func get(t testing.TB, v *barrier.View, key string) string {
	t.Helper()
	e, err := v.Get(t.Context(), key)
	if err != nil || e.Version == 0 {
		t.Fatalf("Get(%q) = version %d, %v", key, e.Version, err)
	}
	return string(e.Value)
}

// dump returns the contents of a store.
func dump(t testing.TB, st storage.Store) map[string]string {
	t.Helper()
	all := map[string]string{}
	for e, err := range st.Scan(t.Context(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		all[e.Key] = string(e.Value)
	}
	return all
}

func TestInitialize(t *testing.T) {
	st := memory.Open()
	ctx := t.Context()
	if initialized, err := barrier.Initialized(ctx, st); initialized || err != nil {
		t.Errorf("Initialized of an empty store = %v, %v", initialized, err)
	}
	if _, err := barrier.Open(ctx, st, root); !fault.Is(err, fault.NotFound) {
		t.Errorf("Open of an empty store = %v, want not found", err)
	}
	if err := barrier.Initialize(ctx, st, secret.Text("short")); !fault.Is(err, fault.Invalid) {
		t.Errorf("Initialize with a short key = %v, want invalid", err)
	}
	if err := barrier.Initialize(ctx, st, root, storage.Set(seal.RecordKey, []byte("record"))); err != nil {
		t.Fatal(err)
	}
	if initialized, err := barrier.Initialized(ctx, st); !initialized || err != nil {
		t.Errorf("Initialized = %v, %v", initialized, err)
	}
	before := dump(t, st)
	if before[seal.RecordKey] != "record" {
		t.Errorf("the seal record was stored as %q", before[seal.RecordKey])
	}
	if err := barrier.Initialize(ctx, st, other); !fault.Is(err, fault.Conflict) ||
		!errors.Is(err, storage.ErrConflict) {
		t.Errorf("Initialize again = %v, want a conflict", err)
	}
	one, two := open(t, st, root), open(t, st, root)
	if id := one.Installation(); len(id) != 36 || id != two.Installation() {
		t.Errorf("installation %q, then %q", id, two.Installation())
	}
	if after := dump(t, st); after[barrier.RingKey] != before[barrier.RingKey] {
		t.Error("opening, or initializing again, changed the ring")
	}
}

// TestInitializeIsOneCommit: if the seal record cannot be stored, there is no ring either.
func TestInitializeIsOneCommit(t *testing.T) {
	st := memory.Open()
	err := barrier.Initialize(t.Context(), st, root, storage.Set(seal.RecordKey, nil).If(7))
	if !fault.Is(err, fault.Conflict) {
		t.Errorf("Initialize = %v, want a conflict", err)
	}
	if all := dump(t, st); len(all) != 0 {
		t.Errorf("stored %d keys", len(all))
	}
}

func TestWrongRootKey(t *testing.T) {
	st, b := initialized(t)
	commit(t, b.View(""), storage.Set("a", []byte("value")))
	before := dump(t, st)
	_, err := barrier.Open(t.Context(), st, other)
	if !fault.Is(err, fault.Invalid) || fault.Message(err) == "" {
		t.Errorf("Open with another key = %v, want invalid with a message", err)
	}
	after := dump(t, st)
	if len(after) != len(before) || after[barrier.RingKey] != before[barrier.RingKey] {
		t.Error("opening with another key changed something")
	}
}

func TestDamagedRing(t *testing.T) {
	st, b := initialized(t)
	b.Close()
	e, err := st.Get(t.Context(), barrier.RingKey)
	if err != nil {
		t.Fatal(err)
	}
	put := func(value []byte) {
		_, err := st.Commit(t.Context(), storage.Batch{Ops: []storage.Op{storage.Set(barrier.RingKey, value)}})
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range e.Value {
		bad := bytes.Clone(e.Value)
		bad[i] ^= 1
		put(bad)
		if b, err := barrier.Open(t.Context(), st, root); err == nil {
			b.Close()
			t.Errorf("opened with byte %d of the ring changed", i)
		} else if k := fault.KindOf(err); k != fault.Internal && k != fault.Invalid {
			t.Errorf("byte %d changed: %v", i, err)
		}
	}
	for n := range e.Value {
		put(e.Value[:n])
		if _, err := barrier.Open(t.Context(), st, root); err == nil {
			t.Errorf("opened a ring cut to %d bytes", n)
		}
	}
	newer := bytes.Clone(e.Value)
	newer[0]++
	put(newer)
	if _, err := barrier.Open(t.Context(), st, root); !fault.Is(err, fault.Invalid) {
		t.Errorf("Open of a newer ring = %v, want invalid", err)
	}
	put(e.Value)
	open(t, st, root)
}

func TestClose(t *testing.T) {
	_, b := initialized(t)
	v := b.View("x/")
	commit(t, v, storage.Set("a", []byte("1")))
	hasher := b.Hasher("token")
	sum := hasher.Sum([]byte("a"))
	blob, err := b.SealBytes("p", []byte("blob"))
	if err != nil {
		t.Fatal(err)
	}
	b.Close()
	b.Close()
	ctx := t.Context()
	calls := map[string]func() error{
		"Get":    func() error { _, err := v.Get(ctx, "a"); return err },
		"Commit": func() error { _, err := v.Commit(ctx, storage.Set("b", nil)); return err },
		"assert": func() error { _, err := b.Commit(ctx, storage.Expect("b", 0)); return err },
		"remove": func() error { _, err := b.Commit(ctx, storage.Remove("x/a")); return err },
		"Rotate": func() error { _, err := b.Rotate(ctx); return err },
		"Rekey":  func() error { return b.Rekey(ctx, other) },
		"Status": func() error { _, err := b.KeyStatus(); return err },
		"Seal":   func() error { _, err := b.SealBytes("p", nil); return err },
		"Open":   func() error { _, err := b.OpenBytes("p", blob); return err },
		"Scan": func() error {
			for _, err := range v.Scan(ctx, "", "") {
				return err
			}
			return nil
		},
		"Watch": func() error {
			for _, err := range v.Watch(ctx, "", 0) {
				return err
			}
			return nil
		},
	}
	for name, call := range calls {
		if err := call(); !fault.Is(err, fault.Sealed) {
			t.Errorf("%s after Close = %v, want sealed", name, err)
		}
	}
	for _, h := range []*barrier.Hasher{hasher, b.Hasher("token"), b.Hasher("new")} {
		if got := h.Sum([]byte("a")); got == sum || got == h.Sum([]byte("a")) {
			t.Error("a closed barrier still hashes")
		}
	}
}

// TestCloseWhileWorking: after Close, calls return fault.Sealed, and only commits in progress are
// stored.
func TestCloseWhileWorking(t *testing.T) {
	_, b := initialized(t)
	v := b.View("")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				_, err := v.Commit(t.Context(), storage.Set("a", []byte("1")))
				if fault.Is(err, fault.Sealed) {
					return
				}
				if err != nil {
					t.Errorf("Commit: %v", err)
					return
				}
				if _, err := v.Get(t.Context(), "a"); err != nil && !fault.Is(err, fault.Sealed) {
					t.Errorf("Get: %v", err)
				}
				b.HMAC("p", []byte("x"))
			}
		})
	}
	if _, err := b.Rotate(t.Context()); err != nil {
		t.Error(err)
	}
	b.Close()
	wg.Wait()
}

func TestRotate(t *testing.T) {
	st, b := initialized(t)
	v := b.View("")
	sum := b.HMAC("token", []byte("t"))
	blob, err := b.SealBytes("p", []byte("old blob"))
	if err != nil {
		t.Fatal(err)
	}
	commit(t, v, storage.Set("old", []byte("1")))
	first, err := b.KeyStatus()
	if err != nil || first.Term != 1 || first.Created.IsZero() || first.Uses != 1 {
		t.Errorf("KeyStatus = %+v, %v; want term 1 with one use", first, err)
	}
	term, err := b.Rotate(t.Context())
	if err != nil || term != 2 {
		t.Fatalf("Rotate = %d, %v; want 2", term, err)
	}
	commit(t, v, storage.Set("new", []byte("2")))
	for _, b := range []*barrier.Barrier{b, open(t, st, root)} {
		v := b.View("")
		if got := get(t, v, "old") + get(t, v, "new"); got != "12" {
			t.Errorf("read %q", got)
		}
		if b.HMAC("token", []byte("t")) != sum {
			t.Error("the HMAC changed with the data key")
		}
		if got, err := b.OpenBytes("p", blob); err != nil || string(got) != "old blob" {
			t.Errorf("OpenBytes = %q, %v", got, err)
		}
		if s, _ := b.KeyStatus(); s.Term != 2 {
			t.Errorf("term %d, want 2", s.Term)
		}
	}
	if all := dump(t, st); all["old"][1] != 1 || all["new"][1] != 2 {
		t.Error("the values do not bear the ids of the keys that were active")
	}
}

// TestUnknownKeyIsLookedUp: a node that does not know a key ID reads the ring again.
func TestUnknownKeyIsLookedUp(t *testing.T) {
	st, b := initialized(t)
	late := open(t, st, root)
	if _, err := b.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	commit(t, b.View(""), storage.Set("a", []byte("1")))
	if got := get(t, late.View(""), "a"); got != "1" {
		t.Errorf("the other node read %q", got)
	}
	if s, _ := late.KeyStatus(); s.Term != 2 {
		t.Errorf("it writes with term %d still", s.Term)
	}
}

func TestRekey(t *testing.T) {
	st, b := initialized(t)
	commit(t, b.View(""), storage.Set("a", []byte("1")))
	if err := b.Rekey(t.Context(), other, storage.Set(seal.RecordKey, []byte("new record"))); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Rotate(t.Context()); err != nil {
		t.Errorf("Rotate under the new root key: %v", err)
	}
	if _, err := barrier.Open(t.Context(), st, root); !fault.Is(err, fault.Invalid) {
		t.Errorf("Open with the old root key = %v, want invalid", err)
	}
	if got := get(t, open(t, st, other).View(""), "a"); got != "1" {
		t.Errorf("read %q", got)
	}
	if got := dump(t, st)[seal.RecordKey]; got != "new record" {
		t.Errorf("the seal record is %q", got)
	}
}

func TestRotateUnderLoad(t *testing.T) {
	st, b := initialized(t)
	var stop atomic.Bool
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			v := b.View("load/").With(storage.Expect("leader", 0))
			key := string(rune('a' + w))
			for i := 0; !stop.Load(); i++ {
				want := []byte{byte(i), byte(i >> 8)}
				if _, err := v.Commit(t.Context(), storage.Set(key, want)); err != nil {
					t.Errorf("Commit: %v", err)
					return
				}
				if e, err := v.Get(t.Context(), key); err != nil || !bytes.Equal(e.Value, want) {
					t.Errorf("Get = %v, %v; want %v", e.Value, err, want)
					return
				}
				b.HMAC("p", want)
				blob, err := b.SealBytes("p", want)
				if err != nil {
					t.Error(err)
				}
				if got, err := b.OpenBytes("p", blob); err != nil || !bytes.Equal(got, want) {
					t.Errorf("OpenBytes = %v, %v", got, err)
				}
			}
		})
	}
	for range 50 {
		if _, err := b.Rotate(t.Context()); err != nil {
			t.Error(err)
		}
	}
	stop.Store(true)
	wg.Wait()
	if s, err := open(t, st, root).KeyStatus(); err != nil || s.Term != 51 {
		t.Errorf("KeyStatus = %+v, %v; want term 51", s, err)
	}
}

// A flaky store fails commits on command: before or after they are stored.
type flaky struct {
	storage.Store
	before, after atomic.Bool
}

var errDisk = errors.New("the disk is gone")

func (f *flaky) Commit(ctx context.Context, b storage.Batch) (storage.Version, error) {
	if f.before.Load() {
		return 0, errDisk
	}
	v, err := f.Store.Commit(ctx, b)
	if f.after.Load() {
		return 0, errDisk
	}
	return v, err
}

// TestBlocksAreNeverUndercounted: uses are recorded before they happen, whatever fails.
func TestBlocksAreNeverUndercounted(t *testing.T) {
	for name, fail := range map[string]func(*flaky) *atomic.Bool{
		"not stored":         func(f *flaky) *atomic.Bool { return &f.before },
		"stored, reply lost": func(f *flaky) *atomic.Bool { return &f.after },
	} {
		t.Run(name, func(t *testing.T) {
			st := &flaky{Store: memory.Open()}
			if err := barrier.Initialize(t.Context(), st, root); err != nil {
				t.Fatal(err)
			}
			used := uint64(0)
			for range 5 {
				b := open(t, st, root)
				v := b.View("")
				fail(st).Store(true)
				if _, err := v.Commit(t.Context(),
					storage.Set("a", []byte("lost"))); !fault.Is(err, fault.Unavailable) || !errors.Is(err, errDisk) {
					t.Errorf("Commit = %v, want unavailable for the disk", err)
				}
				fail(st).Store(false)
				commit(t, v, storage.Set("a", []byte("1")), storage.Set("b", []byte("2")))
				used += 2
				b.Close() // like a crash, it stores nothing
				reopened := open(t, st, root)
				s, err := reopened.KeyStatus()
				if err != nil || s.Uses < used {
					t.Fatalf("after a restart %d uses are on record, %d were made (%v)", s.Uses, used, err)
				}
				used = s.Uses
				reopened.Close()
			}
		})
	}
}

func TestRotateReplyLost(t *testing.T) {
	st := &flaky{Store: memory.Open()}
	if err := barrier.Initialize(t.Context(), st, root); err != nil {
		t.Fatal(err)
	}
	b := open(t, st, root)
	st.after.Store(true)
	if _, err := b.Rotate(t.Context()); !fault.Is(err, fault.Unavailable) {
		t.Errorf("Rotate = %v, want unavailable", err)
	}
	st.after.Store(false)
	commit(t, b.View(""), storage.Set("a", []byte("1")))
	if got := get(t, open(t, st, root).View(""), "a"); got != "1" {
		t.Errorf("read %q", got)
	}
	if term, err := b.Rotate(t.Context()); err != nil || term != 3 {
		t.Errorf("Rotate = %d, %v; want 3", term, err)
	}
}
