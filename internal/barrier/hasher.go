package barrier

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"hash"
	"sync"
)

// A Hasher computes HMAC-SHA-256 with the key of one purpose, which never changes. Safe for
// concurrent use.
type Hasher struct {
	barrier *Barrier
	pool    sync.Pool // of *state
}

type state struct {
	mac hash.Hash
	sum [sha256.Size]byte
	in  []byte
}

// Hasher returns the hasher of a purpose, such as "token". Keep it if you hash often.
func (b *Barrier) Hasher(purpose string) *Hasher {
	if h, ok := b.hashers.Load(purpose); ok {
		return h.(*Hasher)
	}
	h := &Hasher{barrier: b}
	r := b.ring.Load()
	if r == nil {
		return h // after Close, Sum does not use the key
	}
	root := r.hmacKey.Reveal()
	key := derive(root, "keyturn/hmac/"+purpose)
	clear(root)
	h.pool.New = func() any { return &state{mac: hmac.New(sha256.New, key)} }
	kept, _ := b.hashers.LoadOrStore(purpose, h)
	return kept.(*Hasher)
}

// HMAC returns the HMAC of data for a purpose; see [Hasher.Sum].
func (b *Barrier) HMAC(purpose string, data []byte) [32]byte { return b.Hasher(purpose).Sum(data) }

// Sum returns the HMAC of data. After the barrier is closed, it returns random bytes, which match
// nothing.
func (h *Hasher) Sum(data []byte) (sum [32]byte) {
	if h.barrier.ring.Load() == nil {
		_, _ = rand.Read(sum[:]) // never fails
		return sum
	}
	s := h.pool.Get().(*state)
	s.mac.Reset()
	s.in = append(s.in[:0], data...)
	s.mac.Write(s.in)
	s.mac.Sum(s.sum[:0])
	sum = s.sum
	clear(s.in)
	h.pool.Put(s)
	return sum
}
