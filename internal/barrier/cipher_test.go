package barrier_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/internal/barrier"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/storage"
)

const canary = "canary-4c1f-do-not-leak"

func put(t testing.TB, st storage.Store, key string, value []byte) {
	t.Helper()
	if _, err := st.Commit(t.Context(), storage.Batch{Ops: []storage.Op{storage.Set(key, value)}}); err != nil {
		t.Fatal(err)
	}
}

func TestEveryByteIsAuthenticated(t *testing.T) {
	st, b := initialized(t)
	v := b.View("")
	version := commit(t, v, storage.Set("plain-key", []byte(canary)), storage.Append("event/", []byte(canary)))
	for _, key := range []string{"plain-key", storage.StampedKey("event/", version)} {
		good := []byte(dump(t, st)[key])
		check := func(what string, bad []byte) {
			put(t, st, key, bad)
			e, err := v.Get(t.Context(), key)
			if !fault.Is(err, fault.Internal) || e.Value != nil {
				t.Fatalf("%s, %s: Get = %q, %v; want internal", key, what, e.Value, err)
			}
			msg := err.Error()
			if !strings.Contains(msg, key) || strings.Contains(msg, canary) ||
				strings.Contains(fault.Message(err), key) {
				t.Errorf("%s, %s: the error says %q, to clients %q", key, what, msg, fault.Message(err))
			}
		}
		for i := range good {
			for bit := range 8 {
				bad := bytes.Clone(good)
				bad[i] ^= 1 << bit
				check("changed", bad)
			}
		}
		for n := range good {
			check("cut off", good[:n])
		}
		check("longer", append(bytes.Clone(good), 0))
		put(t, st, key, good)
		if got := get(t, v, key); got != canary {
			t.Errorf("restored, it reads %q", got)
		}
	}
}

func TestValuesCannotBeMoved(t *testing.T) {
	st, b := initialized(t)
	v := b.View("")
	version := commit(t, v, storage.Set("a", []byte("1")), storage.Append("event/", []byte("2")),
		storage.Set("event/x", []byte("3")))
	all := dump(t, st)
	stamped := storage.StampedKey("event/", version)
	for _, move := range [][2]string{
		{"a", "b"}, {"a", "a\x00"}, {"a", "a0000000000000001"}, {"a", stamped},
		{stamped, "a"}, {stamped, "event/"}, {stamped, "other/0000000000000001"}, {stamped, "event/x0000000000000001"},
		{"event/x", stamped},
	} {
		put(t, st, move[1], []byte(all[move[0]]))
		if e, err := v.Get(t.Context(), move[1]); !fault.Is(err, fault.Internal) {
			t.Errorf("the value of %q reads as %q at %q (%v)", move[0], e.Value, move[1], err)
		}
		if v, ok := all[move[1]]; ok {
			put(t, st, move[1], []byte(v))
		}
	}
	// Nor between installations.
	foreign, fb := initialized(t)
	commit(t, fb.View(""), storage.Set("a", []byte("1")))
	put(t, st, "a", []byte(dump(t, foreign)["a"]))
	if e, err := v.Get(t.Context(), "a"); !fault.Is(err, fault.Internal) {
		t.Errorf("the value of another installation reads as %q (%v)", e.Value, err)
	}
}

// TestScanPassesDamage: a scan returns an error for each damaged entry, and can continue after it.
func TestScanPassesDamage(t *testing.T) {
	st, b := initialized(t)
	v := b.View("x/")
	commit(t, v, storage.Set("1", []byte("a")), storage.Set("2", []byte("b")), storage.Set("3", []byte("c")))
	put(t, st, "x/2", []byte("garbage"))
	var got []string
	for e, err := range v.Scan(t.Context(), "", "") {
		if err != nil {
			if !fault.Is(err, fault.Internal) || e.Value != nil {
				t.Errorf("%q: %q, %v; want internal", e.Key, e.Value, err)
			}
			got = append(got, e.Key+"!")
			continue
		}
		got = append(got, e.Key)
	}
	if s := strings.Join(got, " "); s != "1 2! 3" {
		t.Errorf("scanned %q, want 1 2! 3", s)
	}
}

// TestNothingLeaks: the store contains no plaintext, and equal values differ in it.
func TestNothingLeaks(t *testing.T) {
	st, b := initialized(t)
	v := b.View("mount/x/")
	ctx := t.Context()
	commit(t, v, storage.Set("a", []byte(canary)), storage.Set("b", []byte(canary)),
		storage.Append("event/", []byte(canary)))
	sum := b.HMAC("token", []byte(canary))
	commit(t, v, storage.Set(string(sum[:]), []byte(canary)))
	blob, err := b.SealBytes("p", []byte(canary))
	if err != nil {
		t.Fatal(err)
	}
	twin, err := b.SealBytes("p", []byte(canary))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(blob, []byte(canary)) || bytes.Equal(blob, twin) {
		t.Error("a blob shows what is in it")
	}
	if _, err := b.Rotate(ctx); err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{}
	for key, value := range dump(t, st) {
		if strings.Contains(key+value, canary) || strings.Contains(value, string(root.Reveal())) {
			t.Errorf("%q shows a secret", key)
		}
		if twin, twice := seen[value]; twice {
			t.Errorf("%q and %q have the same ciphertext", key, twin)
		}
		seen[value] = key
	}
}

func TestBlobs(t *testing.T) {
	_, b := initialized(t)
	_, foreign := initialized(t)
	for _, plain := range []string{"", "x", canary} {
		sealed, err := b.SealBytes("batch", []byte(plain))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := b.OpenBytes("batch", sealed); err != nil || string(got) != plain {
			t.Errorf("OpenBytes = %q, %v; want %q", got, err, plain)
		}
		refused := func(what string, b *barrier.Barrier, purpose string, sealed []byte) {
			if got, err := b.OpenBytes(purpose, sealed); !fault.Is(err, fault.Invalid) {
				t.Errorf("%s: OpenBytes = %q, %v; want invalid", what, got, err)
			}
		}
		refused("another purpose", b, "other", sealed)
		refused("another installation", foreign, "batch", sealed)
		for i := range sealed {
			bad := bytes.Clone(sealed)
			bad[i] ^= 0x81
			refused("changed", b, "batch", bad)
			refused("cut off", b, "batch", sealed[:i])
		}
	}
}

func TestHMAC(t *testing.T) {
	st, b := initialized(t)
	sum := b.HMAC("token", []byte("x"))
	if sum != b.Hasher("token").Sum([]byte("x")) || sum != open(t, st, root).HMAC("token", []byte("x")) {
		t.Error("the HMAC is not stable")
	}
	_, foreign := initialized(t)
	for name, o := range map[string][32]byte{
		"purpose": b.HMAC("other", []byte("x")), "data": b.HMAC("token", []byte("y")),
		"installation": foreign.HMAC("token", []byte("x")),
	} {
		if o == sum {
			t.Errorf("another %s, the same HMAC", name)
		}
	}
}

func FuzzValue(f *testing.F) {
	st, b := initialized(f)
	v := b.View("")
	commit(f, v, storage.Set("a0123456789abcdef", []byte("value")))
	f.Add([]byte(dump(f, st)["a0123456789abcdef"]))
	f.Add([]byte{2, 1})
	f.Add([]byte{1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	good := dump(f, st)["a0123456789abcdef"]
	f.Fuzz(func(t *testing.T, value []byte) {
		for _, key := range []string{"a0123456789abcdef", "short"} {
			put(t, st, key, value)
			e, err := v.Get(t.Context(), key)
			if err == nil && (key == "short" || string(value) != good) {
				t.Errorf("%x reads as %q", value, e.Value)
			}
			if err != nil && !fault.Is(err, fault.Internal) {
				t.Errorf("%x: %v, want internal", value, err)
			}
		}
	})
}

func FuzzBlob(f *testing.F) {
	_, b := initialized(f)
	sealed, err := b.SealBytes("p", []byte("x"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed)
	f.Add([]byte{1, 1})
	f.Fuzz(func(t *testing.T, blob []byte) {
		if got, err := b.OpenBytes("p", blob); err == nil && !bytes.Equal(blob, sealed) {
			t.Errorf("%x opens as %q", blob, got)
		} else if err != nil && !fault.Is(err, fault.Invalid) {
			t.Errorf("%x: %v, want invalid", blob, err)
		}
	})
}
