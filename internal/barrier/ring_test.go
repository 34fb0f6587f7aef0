package barrier

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/storage/memory"
)

var testRoot = secret.Text("the root key of the fixture, 32b")

func testBarrier(t testing.TB) (*memory.Store, *Barrier) {
	t.Helper()
	st := memory.Open()
	if err := Initialize(t.Context(), st, testRoot); err != nil {
		t.Fatal(err)
	}
	b, err := Open(t.Context(), st, testRoot)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return st, b
}

// edit changes the stored ring without the barrier's knowledge.
func edit(t *testing.T, b *Barrier, f func(*ringRecord)) {
	t.Helper()
	rec, v, err := b.readRing(t.Context(), "test")
	if err != nil {
		t.Fatal(err)
	}
	f(rec)
	if _, err := b.store.Commit(t.Context(),
		storage.Batch{Ops: []storage.Op{storage.Set(RingKey, b.root.seal(rec)).If(v)}}); err != nil {
		t.Fatal(err)
	}
}

func reserved(t *testing.T, b *Barrier) map[uint32]uint64 {
	t.Helper()
	rec, _, err := b.readRing(t.Context(), "test")
	if err != nil {
		t.Fatal(err)
	}
	all := map[uint32]uint64{}
	for _, k := range rec.Keys {
		all[k.ID] = k.Reserved
	}
	return all
}

// TestKeysAreReplaced: a data key is replaced at its limit of uses, and none exceeds it.
func TestKeysAreReplaced(t *testing.T) {
	_, b := testBarrier(t)
	edit(t, b, func(r *ringRecord) { r.active().Reserved = usesPerKey - usesPerBlock })
	put := func(want uint32) {
		t.Helper()
		if _, err := b.Commit(t.Context(), storage.Set("a", nil), storage.Set("b", nil)); err != nil {
			t.Fatal(err)
		}
		if got := b.ring.Load().active.id; got != want {
			t.Errorf("written with key %d, want %d", got, want)
		}
	}
	put(1)
	if r := reserved(t, b); r[1] != usesPerKey {
		t.Errorf("reserved %v, want the last block of key 1", r)
	}
	b.ring.Load().active.left.Store(1) // one use is left, two are needed
	put(2)
	if r := reserved(t, b); r[1] != usesPerKey || r[2] != usesPerBlock {
		t.Errorf("reserved %v, want no more of key 1 and a block of key 2", r)
	}
	for _, key := range []string{"a", "b"} {
		if _, err := b.View("").Get(t.Context(), key); err != nil {
			t.Error(err)
		}
	}
}

// TestBlocksOfTwoNodes: two nodes that share a ring never share a block of uses.
func TestBlocksOfTwoNodes(t *testing.T) {
	st, one := testBarrier(t)
	two, err := Open(t.Context(), st, testRoot)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range []*Barrier{one, two, one, two} {
		if _, err := b.Commit(t.Context(), storage.Set("a", nil)); err != nil {
			t.Fatal(err)
		}
	}
	if r := reserved(t, one); r[1] != 2*usesPerBlock {
		t.Errorf("reserved %v, want a block for each node", r)
	}
}

// TestReserveConcurrently: goroutines that find the block empty at the same time reserve one
// block, and no use is counted twice.
func TestReserveConcurrently(t *testing.T) {
	_, b := testBarrier(t)
	const workers, each = 8, 200
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range each {
				if _, err := b.use(t.Context(), "test", 3); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if left := b.ring.Load().active.left.Load(); left != usesPerBlock-3*workers*each {
		t.Errorf("%d uses are left, want %d", left, usesPerBlock-3*workers*each)
	}
	if r := reserved(t, b); r[1] != usesPerBlock {
		t.Errorf("reserved %v, want one block", r)
	}
}

// TestUnknownKey: a value whose key is not in the ring cannot be decrypted.
func TestUnknownKey(t *testing.T) {
	st, b := testBarrier(t)
	if _, err := b.Commit(t.Context(), storage.Set("a", []byte("1"))); err != nil {
		t.Fatal(err)
	}
	e, err := st.Get(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	bad := append([]byte{formatKey, 9}, e.Value[2:]...)
	if _, err := st.Commit(t.Context(), storage.Batch{Ops: []storage.Op{storage.Set("a", bad)}}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.View("").Get(t.Context(), "a"); !fault.Is(err, fault.Internal) {
		t.Errorf("Get = %v, want internal", err)
	}
}

func TestWipe(t *testing.T) {
	rec := &ringRecord{Installation: newUUID(), HMACKey: newKey()}
	rec.rotate(time.Now())
	rec.wipe()
	for _, k := range append([][]byte{rec.HMACKey}, rec.Keys[0].Key) {
		for _, b := range k {
			if b != 0 {
				t.Fatal("wipe left a byte")
			}
		}
	}
}

func ringJSON(t testing.TB) []byte {
	rec := &ringRecord{Installation: newUUID(), HMACKey: newKey()}
	rec.rotate(time.Now())
	rec.rotate(time.Now())
	b, err := json.Marshal(rec)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestParseRingRefuses(t *testing.T) {
	good := ringJSON(t)
	if _, err := parseRing(good); err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]func(*ringRecord){
		"no installation": func(r *ringRecord) { r.Installation = "" },
		"HMAC key":        func(r *ringRecord) { r.HMACKey = r.HMACKey[1:] },
		"no keys":         func(r *ringRecord) { r.Keys = nil },
		"no active key":   func(r *ringRecord) { r.Active = 3 },
		"id zero":         func(r *ringRecord) { r.Keys[0].ID = 0 },
		"id twice":        func(r *ringRecord) { r.Keys[1].ID = 1 },
		"short key":       func(r *ringRecord) { r.Keys[1].Key = r.Keys[1].Key[1:] },
	} {
		r, err := parseRing(good)
		if err != nil {
			t.Fatal(err)
		}
		f(r)
		b, _ := json.Marshal(r)
		if _, err := parseRing(b); err == nil {
			t.Errorf("%s: parsed", name)
		}
	}
	for _, text := range []string{
		"", "null", "[]", "{}", `{"new":1}`, string(good) + "{}", string(good[:len(good)-1]),
	} {
		if _, err := parseRing([]byte(text)); err == nil {
			t.Errorf("%.20q: parsed", text)
		}
	}
}

func FuzzParseRing(f *testing.F) {
	f.Add(ringJSON(f))
	f.Add([]byte(`{"installation":"x","hmac_key":"","active":1,"keys":[{"id":1}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		rec, err := parseRing(b)
		if err != nil {
			return
		}
		if _, err := newRing(rec, nil); err != nil {
			t.Errorf("a ring that was parsed cannot be used: %v", err)
		}
		if rec.active().ID != rec.Active {
			t.Error("the active key is another one")
		}
	})
}

func FuzzOpenRing(f *testing.F) {
	rk, err := newRootKey("test", testRoot)
	if err != nil {
		f.Fatal(err)
	}
	// the same in every process of the fuzzer
	good, err := base64.StdEncoding.DecodeString(readFixture(f).Rows[RingKey])
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:ringHeader])
	f.Fuzz(func(t *testing.T, b []byte) {
		_, err := rk.open("test", b)
		if (err == nil) != (string(b) == string(good)) {
			t.Errorf("open(%x) = %v", b, err)
		}
	})
}

// A fixture is a store that a released version has written.
type fixture struct {
	Installation string            `json:"installation"`
	Rows         map[string]string `json:"rows"` // base64, by key
	Plain        map[string]string `json:"plain"`
	Blob         []byte            `json:"blob"` // holds "blob", for purpose "fixture"
	HMAC         []byte            `json:"hmac"` // of "data", for purpose "fixture"
}

func readFixture(t testing.TB) fixture {
	t.Helper()
	text, err := os.ReadFile("testdata/layout-1.json")
	if err != nil {
		t.Fatal(err)
	}
	var f fixture
	if err := json.Unmarshal(text, &f); err != nil {
		t.Fatal(err)
	}
	return f
}

// TestFixture opens what layout 1 wrote, with two data keys.
func TestFixture(t *testing.T) {
	f := readFixture(t)
	st := memory.Open()
	for key, row := range f.Rows {
		value, err := base64.StdEncoding.DecodeString(row)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := st.Commit(t.Context(), storage.Batch{Ops: []storage.Op{storage.Set(key, value)}}); err != nil {
			t.Fatal(err)
		}
	}
	b, err := Open(t.Context(), st, testRoot)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if b.Installation() != f.Installation {
		t.Errorf("installation %q, want %q", b.Installation(), f.Installation)
	}
	found := 0
	for e, err := range b.View("").Scan(t.Context(), "", "") {
		if want, ok := f.Plain[e.Key]; err != nil || !ok || string(e.Value) != want {
			t.Errorf("%q = %q, %v; want %q", e.Key, e.Value, err, want)
		}
		found++
	}
	if found != len(f.Plain) || found < 3 {
		t.Errorf("found %d rows, want %d", found, len(f.Plain))
	}
	if got, err := b.OpenBytes("fixture", f.Blob); err != nil || string(got) != "blob" {
		t.Errorf("OpenBytes = %q, %v", got, err)
	}
	if sum := b.HMAC("fixture", []byte("data")); string(sum[:]) != string(f.HMAC) {
		t.Errorf("HMAC = %x, want %x", sum, f.HMAC)
	}
	if s, err := b.KeyStatus(); err != nil || s.Term != 2 {
		t.Errorf("KeyStatus = %+v, %v; want term 2", s, err)
	}
}

func TestStoreErrorKeepsFaults(t *testing.T) {
	if storeError("op", nil) != nil {
		t.Error("nil became an error")
	}
	held := fault.New("x", fault.Held, "held")
	if err := storeError("op", held); !errors.Is(err, held) || !fault.Is(err, fault.Held) {
		t.Errorf("storeError = %v", err)
	}
}
