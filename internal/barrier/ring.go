package barrier

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/seal"
	"github.com/keyturn/keyturn/internal/secret"
)

const keySize = 32

// A rootKey encrypts the ring.
type rootKey struct {
	aead        cipher.AEAD
	fingerprint [fingerprintSize]byte
}

const (
	ringVersion     = 1
	fingerprintSize = 8
	ringHeader      = 1 + fingerprintSize
)

func newRootKey(op string, root secret.Value) (*rootKey, error) {
	if root.Len() != RootKeySize {
		return nil, fault.New(op, fault.Invalid, "a root key must have %d bytes, not %d", RootKeySize, root.Len())
	}
	key := root.Reveal()
	defer clear(key)
	aead, err := newAEAD(derive(key, "keyturn/keyring"))
	if err != nil {
		return nil, fault.Wrap(op, fault.Internal, err)
	}
	rk := &rootKey{aead: aead}
	copy(rk.fingerprint[:], derive(key, "keyturn/keyring/fingerprint"))
	return rk, nil
}

// seal encodes and encrypts a ring.
func (k *rootKey) seal(rec *ringRecord) []byte {
	plain, err := json.Marshal(rec)
	if err != nil {
		panic(err) // numbers, strings and bytes always encode
	}
	defer clear(plain)
	head := append([]byte{ringVersion}, k.fingerprint[:]...)
	return k.aead.Seal(head, nil, plain, ringAD(head))
}

// ringAD is the additional data of a ring: its key and header.
func ringAD(head []byte) []byte { return append([]byte(RingKey), head...) }

// open decrypts and decodes a ring.
func (k *rootKey) open(op string, b []byte) (*ringRecord, error) {
	damaged := func(why error) error {
		return &fault.Error{Op: op, Kind: fault.Internal, Err: fmt.Errorf("reading %s: %w", RingKey, why),
			Msg: "the key ring is damaged; restore the storage from a backup"}
	}
	switch {
	case len(b) < ringHeader:
		return nil, damaged(fmt.Errorf("%d bytes are too few", len(b)))
	case b[0] > ringVersion:
		return nil, fault.New(op, fault.Invalid,
			"the key ring has version %d, this program reads up to %d: use the newer one", b[0], ringVersion)
	case b[0] != ringVersion:
		return nil, damaged(fmt.Errorf("unknown version %d", b[0]))
	case !bytes.Equal(b[1:ringHeader], k.fingerprint[:]):
		return nil, fault.New(op, fault.Invalid,
			"this is not the root key of the key ring; was the seal of another installation used?")
	}
	plain, err := k.aead.Open(nil, nil, b[ringHeader:], ringAD(b[:ringHeader]))
	if err != nil {
		return nil, damaged(err)
	}
	defer clear(plain)
	rec, err := parseRing(plain)
	if err != nil {
		return nil, damaged(err)
	}
	return rec, nil
}

// A ringRecord is the ring as it is stored.
type ringRecord struct {
	Installation string      `json:"installation"`
	HMACKey      []byte      `json:"hmac_key"`
	Active       uint32      `json:"active"`
	Keys         []keyRecord `json:"keys"` // ascending by id
}

// A keyRecord is one data key.
type keyRecord struct {
	ID       uint32    `json:"id"`
	Key      []byte    `json:"key"`
	Created  time.Time `json:"created"`
	Reserved uint64    `json:"reserved"` // uses that may have happened
}

func parseRing(plain []byte) (*ringRecord, error) {
	dec := json.NewDecoder(bytes.NewReader(plain))
	dec.DisallowUnknownFields()
	rec := &ringRecord{}
	if err := dec.Decode(rec); err != nil {
		return nil, fmt.Errorf("decoding: %w", err)
	}
	if dec.More() {
		return nil, errors.New("decoding: something follows the ring")
	}
	if rec.Installation == "" || len(rec.HMACKey) != keySize {
		return nil, errors.New("the installation's id or the HMAC key is missing")
	}
	last, active := uint32(0), false
	for _, k := range rec.Keys {
		if k.ID <= last || len(k.Key) != keySize {
			return nil, fmt.Errorf("data key %d is out of order or of %d bytes", k.ID, len(k.Key))
		}
		last, active = k.ID, active || k.ID == rec.Active
	}
	if !active {
		return nil, fmt.Errorf("there is no data key %d, the active one", rec.Active)
	}
	return rec, nil
}

// active returns the record of the active key.
func (r *ringRecord) active() *keyRecord {
	for i := range r.Keys {
		if r.Keys[i].ID == r.Active {
			return &r.Keys[i]
		}
	}
	panic("barrier: a ring without its active key was not refused")
}

// rotate adds a data key and makes it the active one.
func (r *ringRecord) rotate(now time.Time) *keyRecord {
	id := uint32(1)
	if n := len(r.Keys); n > 0 {
		id = r.Keys[n-1].ID + 1
	}
	r.Keys = append(r.Keys, keyRecord{ID: id, Key: newKey(), Created: now.UTC().Truncate(time.Second)})
	r.Active = id
	return &r.Keys[len(r.Keys)-1]
}

// wipe overwrites the keys.
func (r *ringRecord) wipe() {
	clear(r.HMACKey)
	for _, k := range r.Keys {
		clear(k.Key)
	}
}

// A ring is an immutable snapshot of the stored ring, except for the uses that are left, which all
// snapshots of a node share.
type ring struct {
	active  *dataKey
	keys    map[uint32]*dataKey
	hmacKey secret.Value
}

// A dataKey encrypts.
type dataKey struct {
	id       uint32
	created  time.Time
	reserved uint64
	left     *atomic.Int64 // uses left of the recorded block
	values   cipher.AEAD   // prepends its random nonce
	blobs    []byte        // the key of each blob is derived from this
}

// newRing builds a snapshot. The uses that are left come from the previous snapshot, if there is
// one.
func newRing(rec *ringRecord, old *ring) (*ring, error) {
	r := &ring{keys: make(map[uint32]*dataKey, len(rec.Keys)), hmacKey: secret.New(rec.HMACKey)}
	for _, kr := range rec.Keys {
		k := &dataKey{id: kr.ID, created: kr.Created, reserved: kr.Reserved, left: new(atomic.Int64)}
		if old != nil && old.keys[kr.ID] != nil {
			before := old.keys[kr.ID]
			k.left, k.values, k.blobs = before.left, before.values, before.blobs
		} else {
			aead, err := newAEAD(derive(kr.Key, "keyturn/value"))
			if err != nil {
				return nil, err
			}
			k.values, k.blobs = aead, derive(kr.Key, "keyturn/blob")
		}
		r.keys[kr.ID] = k
	}
	r.active = r.keys[rec.Active]
	return r, nil
}

// derive returns the key of one purpose.
func derive(key []byte, purpose string) []byte {
	out, err := hkdf.Key(sha256.New, key, nil, purpose, keySize)
	if err != nil {
		panic(err) // only for other lengths
	}
	return out
}

// newAEAD returns AES-256-GCM that prepends a random nonce.
func newAEAD(key []byte) (cipher.AEAD, error) {
	defer clear(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

func newKey() []byte {
	key := make([]byte, keySize)
	_, _ = rand.Read(key) // never fails
	return key
}

// RingKey is the storage key of the key ring.
const RingKey = "core/keyring"

// RootKeySize is the length of a root key in bytes.
const RootKeySize = seal.RootKeySize
