// Package sealtest is the conformance suite of seals, with and without key shares.
package sealtest

import (
	"bytes"
	"testing"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/seal"
	"github.com/keyturn/keyturn/internal/secret"
)

// Run tests the seals that open returns. Each call of open returns one with a new key, if the seal
// has keys.
func Run(t *testing.T, driver seal.Driver, open func(t *testing.T) seal.Seal) {
	for _, c := range []struct {
		name string
		test func(*testing.T, seal.Seal)
	}{
		{"wrap and unwrap", testRoundTrip},
		{"another each time", testFresh},
		{"every byte is authenticated", testTamper},
		{"description is bound", testDescription},
		{"record", testRecord},
		{"rekey", testRekey},
		{"shares", testShares},
		{"progress", testProgress},
		{"unseals itself", testUnseal},
		{"no wrong size", testRootSize},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t)) })
	}
	t.Run("another seal's copy", func(t *testing.T) { testForeign(t, open(t), open(t)) })
	t.Run("driver", func(t *testing.T) {
		for _, p := range driver.Params {
			if p.Name == "" || p.Takes == "" || p.Doc == "" {
				t.Errorf("parameter %+v: it has no name, type or description", p)
			}
		}
		if s := open(t); s.Name() != driver.Name {
			t.Errorf("the driver is %q, its seal %q", driver.Name, s.Name())
		}
	})
}

// split returns a split that the seal supports: three of five, if it has shares.
func split(s seal.Seal) seal.Split {
	if s.Splits() {
		return seal.Split{Shares: 5, Threshold: 3}
	}
	return seal.Split{}
}

func initialize(t *testing.T, s seal.Seal, split seal.Split) (secret.Value, []secret.Value, *seal.Record) {
	t.Helper()
	root, shares, r, err := seal.Initialize(t.Context(), s, split)
	if err != nil {
		t.Fatalf("Initialize: %v", err)
	}
	if root.Len() != seal.RootKeySize || len(shares) != split.Shares {
		t.Fatalf("Initialize gave a key of %d bytes and %d shares, want %d and %d", root.Len(), len(shares),
			seal.RootKeySize, split.Shares)
	}
	return root, shares, r
}

func own(t *testing.T, s seal.Seal, r *seal.Record) seal.Copy {
	t.Helper()
	c, err := r.Copy(s.Name())
	if err != nil {
		t.Fatalf("Copy: %v", err)
	}
	return c
}

// enough is as many shares as the copy needs, the last ones.
func enough(c seal.Copy, shares []secret.Value) []secret.Value {
	return shares[len(shares)-c.Threshold:]
}

func refused(t *testing.T, s seal.Seal, c seal.Copy, shares []secret.Value, what string) {
	t.Helper()
	root, err := s.Unwrap(t.Context(), c, shares)
	if !fault.Is(err, fault.Invalid) || fault.Message(err) == "" || !root.Empty() {
		t.Errorf("%s: Unwrap = %d bytes, %v; want invalid with a message", what, root.Len(), err)
	}
}

func testRoundTrip(t *testing.T, s seal.Seal) {
	root, shares, r := initialize(t, s, split(s))
	c := own(t, s, r)
	got, err := s.Unwrap(t.Context(), c, enough(c, shares))
	if err != nil || !got.Equal(root) {
		t.Errorf("Unwrap = another key, %v", err)
	}
	if !s.Current(c) {
		t.Error("a copy just made is not current")
	}
}

func testFresh(t *testing.T, s seal.Seal) {
	root, shares, r := initialize(t, s, split(s))
	root2, shares2, r2 := initialize(t, s, split(s))
	if root.Equal(root2) || bytes.Equal(own(t, s, r).Wrapped, own(t, s, r2).Wrapped) {
		t.Error("two root keys are the same")
	}
	for i := range shares {
		if shares[i].Equal(shares2[i]) {
			t.Errorf("share %d is the same twice", i+1)
		}
	}
}

func testTamper(t *testing.T, s seal.Seal) {
	_, shares, r := initialize(t, s, split(s))
	c := own(t, s, r)
	for i := range c.Wrapped {
		bad := c
		bad.Wrapped = bytes.Clone(c.Wrapped)
		bad.Wrapped[i] ^= 0x10
		refused(t, s, bad, enough(c, shares), "a changed byte")
		bad.Wrapped = c.Wrapped[:i]
		refused(t, s, bad, enough(c, shares), "cut off")
	}
}

func testDescription(t *testing.T, s seal.Seal) {
	_, shares, r := initialize(t, s, split(s))
	c := own(t, s, r)
	for what, change := range map[string]func(*seal.Copy){
		"seal":   func(c *seal.Copy) { c.Seal += "x" },
		"key id": func(c *seal.Copy) { c.KeyID += "x" },
		"shares": func(c *seal.Copy) { c.Shares++ },
		"salt":   func(c *seal.Copy) { c.Salt = append(bytes.Clone(c.Salt), 0) },
	} {
		bad := c
		change(&bad)
		refused(t, s, bad, enough(c, shares), "another "+what)
	}
	bad := c
	bad.Threshold++
	refused(t, s, bad, shares, "another threshold")
}

func testRecord(t *testing.T, s seal.Seal) {
	root, shares, r := initialize(t, s, split(s))
	b, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range append([]secret.Value{root}, shares...) {
		for _, form := range []secret.Value{v, seal.Hex(v), seal.Base64(v)} {
			if bytes.Contains(b, form.Reveal()) {
				t.Error("the record shows a secret")
			}
		}
	}
	again, err := seal.Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	c := own(t, s, again)
	got, err := s.Unwrap(t.Context(), c, enough(c, shares))
	if err != nil || !got.Equal(root) {
		t.Errorf("decoded, it unwraps to another key, %v", err)
	}
	if _, err := again.Copy("no such seal"); !fault.Is(err, fault.Invalid) {
		t.Errorf("the copy of another seal: %v, want invalid", err)
	}
}

// testRekey: the same root key, other shares; the old ones are refused.
func testRekey(t *testing.T, s seal.Seal) {
	root, old, r := initialize(t, s, split(s))
	r2, shares, err := r.Rewrap(t.Context(), s, root, split(s))
	if err != nil || len(r2.Copies) != 1 {
		t.Fatalf("Rewrap = %d copies, %v; want 1", len(r2.Copies), err)
	}
	c := own(t, s, r2)
	got, err := s.Unwrap(t.Context(), c, enough(c, shares))
	if err != nil || !got.Equal(root) {
		t.Errorf("after Rewrap, Unwrap = another key, %v", err)
	}
	if s.Splits() {
		refused(t, s, c, enough(c, old), "the old shares")
		if _, err := s.Recognise(c, old[0]); !fault.Is(err, fault.Invalid) {
			t.Errorf("an old share is recognised: %v", err)
		}
	}
}

func testShares(t *testing.T, s seal.Seal) {
	if !s.Splits() {
		if err := s.CheckSplit(seal.Split{Shares: 1, Threshold: 1}); !fault.Is(err, fault.Invalid) {
			t.Errorf("CheckSplit(1 of 1) = %v, want invalid", err)
		}
		if _, err := s.Recognise(seal.Copy{}, secret.Text("x")); !fault.Is(err, fault.Invalid) {
			t.Errorf("Recognise = %v, want invalid", err)
		}
		return
	}
	_, shares, r := initialize(t, s, split(s))
	c := own(t, s, r)
	seen := map[string]bool{}
	for _, sh := range shares {
		id, err := s.Recognise(c, sh)
		if err != nil || seen[id] {
			t.Errorf("Recognise = %q, %v; seen before: %v", id, err, seen[id])
		}
		seen[id] = true
	}
	refused(t, s, c, nil, "no shares")
	refused(t, s, c, shares[:c.Threshold-1], "one too few")
	refused(t, s, c, []secret.Value{shares[0], shares[0], shares[0]}, "one share three times")
	bad := shares[0].Reveal()
	for i := range bad {
		bad[i] ^= 1
		if _, err := s.Recognise(c, secret.New(bad)); !fault.Is(err, fault.Invalid) {
			t.Errorf("byte %d changed: Recognise = %v, want invalid", i, err)
		}
		refused(t, s, c, []secret.Value{secret.New(bad), shares[1], shares[2]}, "a changed share")
		bad[i] ^= 1
	}
}

func testProgress(t *testing.T, s seal.Seal) {
	root, shares, r := initialize(t, s, split(s))
	var p seal.Progress
	give := func(text secret.Value) (secret.Value, error) { return p.Give(t.Context(), s, r, text) }
	if !s.Splits() {
		if _, err := give(secret.Text("00")); !fault.Is(err, fault.Invalid) {
			t.Errorf("Give = %v, want invalid", err)
		}
		return
	}
	if p.Nonce() != "" || p.Count() != 0 {
		t.Error("a new progress is not empty")
	}
	for _, bad := range []string{"", "zz??", "00", "AAAA"} {
		if _, err := give(secret.Text(bad)); !fault.Is(err, fault.Invalid) || p.Count() != 0 {
			t.Errorf("Give(%q) = %v with %d shares; want invalid and none", bad, err, p.Count())
		}
	}
	for range 2 {
		if key, err := give(seal.Hex(shares[4])); err != nil || !key.Empty() || p.Count() != 1 {
			t.Fatalf("Give = %d bytes, %v, progress %d; want 1", key.Len(), err, p.Count())
		}
	}
	nonce := p.Nonce()
	want := seal.Status{Type: s.Name(), Shares: 5, Threshold: 3, Progress: 1, Nonce: nonce}
	if got := p.Status(s, r); got != want || nonce == "" {
		t.Errorf("Status = %+v, want %+v", got, want)
	}
	p.Reset()
	if p.Nonce() != "" || p.Count() != 0 {
		t.Error("Reset left something")
	}
	for i, text := range []secret.Value{
		seal.Base64(shares[1]), seal.Hex(shares[3]), secret.Text(" " + seal.Base64(shares[0]).RevealString() + "\n"),
	} {
		key, err := give(text)
		if err != nil || key.Empty() != (i < 2) || i == 2 && !key.Equal(root) {
			t.Fatalf("share %d: Give = %d bytes, %v", i+1, key.Len(), err)
		}
	}
	if p.Count() != 0 || p.Nonce() == nonce {
		t.Error("the shares are kept after unsealing")
	}
}

func testUnseal(t *testing.T, s seal.Seal) {
	root, _, r := initialize(t, s, split(s))
	got, renewed, err := seal.Unseal(t.Context(), s, r)
	if s.Splits() {
		if !fault.Is(err, fault.Invalid) || !got.Empty() {
			t.Errorf("Unseal without shares = %v, want invalid", err)
		}
		return
	}
	if err != nil || !got.Equal(root) || renewed != nil {
		t.Errorf("Unseal = another key or a renewed record (%v), %v", renewed != nil, err)
	}
}

func testRootSize(t *testing.T, s seal.Seal) {
	if _, _, err := s.Wrap(t.Context(), secret.Text("short"), split(s)); !fault.Is(err, fault.Invalid) {
		t.Errorf("Wrap of a short key = %v, want invalid", err)
	}
}

func testForeign(t *testing.T, s, foreign seal.Seal) {
	_, shares, r := initialize(t, s, split(s))
	_, others, r2 := initialize(t, foreign, split(foreign))
	refused(t, s, own(t, foreign, r2), enough(own(t, s, r), shares), "another seal's copy")
	c := own(t, s, r)
	if !s.Splits() {
		return
	}
	mixed := append(enough(c, shares)[1:], others[0])
	refused(t, s, c, mixed, "a share of another seal")
	if _, err := s.Recognise(c, others[0]); !fault.Is(err, fault.Invalid) {
		t.Errorf("a share of another seal is recognised: %v", err)
	}
}
