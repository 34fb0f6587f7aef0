package shamir

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/seal"
	"github.com/keyturn/keyturn/internal/seal/sealtest"
	"github.com/keyturn/keyturn/internal/secret"
)

func open(t testing.TB) seal.Seal {
	s, err := Driver.Open(nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestShamir(t *testing.T) {
	sealtest.Run(t, Driver, func(t *testing.T) seal.Seal { return open(t) })
}

func TestSplits(t *testing.T) {
	s := open(t)
	for _, split := range []seal.Split{{Shares: 1, Threshold: 1}, {Shares: 2, Threshold: 2}, {
		Shares: 5, Threshold: 3,
	}, {Shares: 7, Threshold: 7}, {Shares: 255, Threshold: 2}, {Shares: 255, Threshold: 128}} {
		t.Run(fmt.Sprintf("%d of %d", split.Threshold, split.Shares), func(t *testing.T) {
			root, shares, r, err := seal.Initialize(t.Context(), s, split)
			if err != nil {
				t.Fatal(err)
			}
			c, err := r.Copy("shamir")
			if err != nil {
				t.Fatal(err)
			}
			if c.Shares != split.Shares || c.Threshold != split.Threshold || len(shares) != split.Shares {
				t.Errorf("the copy says %d of %d, with %d shares", c.Threshold, c.Shares, len(shares))
			}
			for range 3 { // any of them, in any order; more than enough do no harm
				rand.Shuffle(len(shares), func(i, j int) { shares[i], shares[j] = shares[j], shares[i] })
				for _, n := range []int{split.Threshold, split.Shares} {
					got, err := s.Unwrap(t.Context(), c, shares[:n])
					if err != nil || !got.Equal(root) {
						t.Errorf("Unwrap with %d shares = another key, %v", n, err)
					}
				}
				if _, err := s.Unwrap(t.Context(), c, shares[:split.Threshold-1]); !fault.Is(err, fault.Invalid) {
					t.Errorf("Unwrap with %d shares = %v, want invalid", split.Threshold-1, err)
				}
			}
		})
	}
}

func TestCheckSplitNamesTheField(t *testing.T) {
	for _, tt := range []struct {
		split seal.Split
		field string
	}{
		{seal.Split{}, "secret_shares"},
		{seal.Split{Shares: 256, Threshold: 3}, "secret_shares"},
		{seal.Split{Shares: -1, Threshold: -1}, "secret_shares"},
		{seal.Split{Shares: 5}, "secret_threshold"},
		{seal.Split{Shares: 5, Threshold: 6}, "secret_threshold"},
		{seal.Split{Shares: 5, Threshold: 1}, "secret_threshold"},
	} {
		_, _, _, err := seal.Initialize(t.Context(), open(t), tt.split)
		if !fault.Is(err, fault.Invalid) || !strings.HasPrefix(fault.Message(err), tt.field+": ") {
			t.Errorf("%+v: %v, want invalid for %s", tt.split, err, tt.field)
		}
	}
}

// TestLoweredThreshold: lowering the threshold in the record does not make fewer shares
// sufficient.
func TestLoweredThreshold(t *testing.T) {
	_, shares, r, err := seal.Initialize(t.Context(), open(t), seal.Split{Shares: 5, Threshold: 3})
	if err != nil {
		t.Fatal(err)
	}
	c := r.Copies[0]
	for c.Threshold = range 3 {
		root, err := open(t).Unwrap(t.Context(), c, shares[:c.Threshold])
		if !fault.Is(err, fault.Invalid) || !root.Empty() {
			t.Errorf("threshold %d: Unwrap = %d bytes, %v; want invalid", c.Threshold, root.Len(), err)
		}
	}
}

// TestShareForm: shares have the format that operators' tools expect: 33 bytes, number first.
func TestShareForm(t *testing.T) {
	_, shares, _, err := seal.Initialize(t.Context(), open(t), seal.Split{Shares: 3, Threshold: 2})
	if err != nil {
		t.Fatal(err)
	}
	for i, sh := range shares {
		if b := sh.Reveal(); len(b) != 33 || int(b[0]) != i+1 {
			t.Errorf("share %d has %d bytes and number %d", i+1, len(b), b[0])
		}
		if h, b := seal.Hex(sh).Len(), seal.Base64(sh).Len(); h != 66 || b != 44 {
			t.Errorf("share %d prints in %d and %d characters, want 66 and 44", i+1, h, b)
		}
	}
}

func FuzzShare(f *testing.F) {
	s := open(f)
	_, shares, r, err := seal.Initialize(f.Context(), s, seal.Split{Shares: 2, Threshold: 2})
	if err != nil {
		f.Fatal(err)
	}
	c := r.Copies[0]
	f.Add(shares[0].Reveal())
	f.Add(make([]byte, 33))
	f.Add([]byte(strings.Repeat("\xff", 33)))
	f.Fuzz(func(t *testing.T, b []byte) {
		share := secret.New(b)
		known := share.Equal(shares[0]) || share.Equal(shares[1])
		if _, err := s.Recognise(c, share); (err == nil) != known {
			t.Errorf("Recognise(%x) = %v", b, err)
		}
		if _, err := s.Unwrap(t.Context(), c,
			[]secret.Value{share, shares[1]}); (err == nil) != share.Equal(shares[0]) {
			t.Errorf("Unwrap with %x = %v", b, err)
		} else if err != nil && !fault.Is(err, fault.Invalid) {
			t.Errorf("Unwrap with %x = %v, want invalid", b, err)
		}
	})
}
