package audit

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"sync"

	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/wire"
)

const hmacPrefix = "hmac-sha256:"

// A Hasher replaces plaintext by its HMAC with one device's salt. It is safe for concurrent use,
// and only allocates for dst.
type Hasher struct {
	// Raw leaves plaintext unchanged; it is the device's option log_raw.
	Raw bool

	states sync.Pool // *hashState
	leaf   wire.Leaf // AppendString, bound once
}

type hashState struct {
	mac hash.Hash
	sum [sha256.Size]byte
	in  []byte
}

// NewHasher returns a hasher for a device's salt.
func NewHasher(salt secret.Value) *Hasher {
	h := new(Hasher)
	key := salt.Reveal()
	h.states.New = func() any { return &hashState{mac: hmac.New(sha256.New, key)} }
	h.leaf = h.AppendString
	return h
}

// AppendString appends the audit form of plain as a JSON string.
func (h *Hasher) AppendString(dst, plain []byte) []byte {
	if h.Raw {
		return wire.AppendString(dst, string(plain))
	}
	s := h.states.Get().(*hashState)
	dst = append(dst, '"')
	dst = s.append(dst, plain)
	h.states.Put(s)
	return append(dst, '"')
}

func (h *Hasher) appendText(dst []byte, plain string) []byte {
	if h.Raw {
		return wire.AppendString(dst, plain)
	}
	s := h.states.Get().(*hashState)
	s.in = append(s.in[:0], plain...)
	dst = append(dst, '"')
	dst = s.append(dst, s.in)
	clear(s.in)
	h.states.Put(s)
	return append(dst, '"')
}

func (h *Hasher) appendSecret(dst []byte, v secret.Value) []byte {
	plain := v.Reveal()
	dst = h.AppendString(dst, plain)
	clear(plain)
	return dst
}

// Hash returns the HMAC of v as in the lines of a device without log_raw.
func (h *Hasher) Hash(v secret.Value) string {
	s := h.states.Get().(*hashState)
	defer h.states.Put(s)
	return string(s.append(nil, v.Reveal()))
}

func (s *hashState) append(dst, plain []byte) []byte {
	s.mac.Reset()
	s.mac.Write(plain)
	dst = append(dst, hmacPrefix...)
	return hex.AppendEncode(dst, s.mac.Sum(s.sum[:0]))
}
