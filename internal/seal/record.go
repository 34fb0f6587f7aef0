package seal

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
)

const (
	recordVersion = 1
	maxCopies     = 16
	maxShares     = 255
	saltSize      = 32
	checkSize     = 8
)

// A Record contains the wrapped copies of one root key. It is immutable.
type Record struct {
	Version int    `json:"version"`
	Copies  []Copy `json:"copies"`
}

// A Copy is the root key, wrapped by one seal.
type Copy struct {
	Seal      string    `json:"seal"`                // the driver's name
	KeyID     string    `json:"key_id,omitempty"`    // which of the seal's keys
	Shares    int       `json:"shares,omitempty"`    // of a seal that splits
	Threshold int       `json:"threshold,omitempty"` // how many of them open it
	Salt      []byte    `json:"salt,omitempty"`
	Checks    [][]byte  `json:"checks,omitempty"` // a digest of each share
	Wrapped   []byte    `json:"wrapped"`
	Created   time.Time `json:"created"`
}

// Encode returns the bytes to be stored at [RecordKey].
func (r *Record) Encode() ([]byte, error) {
	if err := r.validate(); err != nil {
		return nil, fault.Wrap("seal.Encode", fault.Internal, err)
	}
	b, err := json.Marshal(r)
	return b, fault.Wrap("seal.Encode", fault.Internal, err)
}

// Decode decodes the result of Encode. Unlike the copies, the record is not authenticated; its
// contents are checked when they are used.
func Decode(b []byte) (*Record, error) {
	const op = "seal.Decode"
	var v struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return nil, damaged(op, err)
	}
	if v.Version > recordVersion {
		return nil, fault.New(op, fault.Invalid,
			"the seal record has version %d, this program reads up to %d: use the newer one", v.Version, recordVersion)
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	r := &Record{}
	if err := dec.Decode(r); err != nil {
		return nil, damaged(op, err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, damaged(op, errors.New("something follows the record"))
	}
	if err := r.validate(); err != nil {
		return nil, damaged(op, err)
	}
	return r, nil
}

func damaged(op string, why error) error {
	return &fault.Error{Op: op, Kind: fault.Internal, Err: fmt.Errorf("reading %s: %w", RecordKey, why),
		Msg: "the seal record is damaged; restore the storage from a backup"}
}

func (r *Record) validate() error {
	if r.Version != recordVersion {
		return fmt.Errorf("unknown version %d", r.Version)
	}
	if len(r.Copies) == 0 || len(r.Copies) > maxCopies {
		return fmt.Errorf("%d copies", len(r.Copies))
	}
	for i, c := range r.Copies {
		switch {
		case c.Seal == "" || len(c.Wrapped) == 0:
			return fmt.Errorf("copy %d has no seal or no key", i)
		case slices.ContainsFunc(r.Copies[:i], func(o Copy) bool { return o.Seal == c.Seal }):
			return fmt.Errorf("two copies of seal %q", c.Seal)
		case c.Shares < 0 || c.Shares > maxShares || c.Threshold < 0 || c.Threshold > c.Shares ||
			(c.Threshold == 0) != (c.Shares == 0):
			return fmt.Errorf("copy %d has %d shares with threshold %d", i, c.Shares, c.Threshold)
		case len(c.Checks) != 0 && len(c.Checks) != c.Shares:
			return fmt.Errorf("copy %d has %d checks of %d shares", i, len(c.Checks), c.Shares)
		case slices.ContainsFunc(c.Checks, func(d []byte) bool { return len(d) != checkSize }):
			return fmt.Errorf("copy %d has a check of a wrong length", i)
		}
	}
	return nil
}

// Copy returns the copy of a seal. If there is none, the error is fault.Invalid, because the
// configuration has a different seal than at initialization.
func (r *Record) Copy(name string) (Copy, error) {
	var has []string
	for _, c := range r.Copies {
		if c.Seal == name {
			return c, nil
		}
		has = append(has, c.Seal)
	}
	return Copy{}, fault.New("seal.Copy", fault.Invalid,
		"the configuration has seal %q, but the storage was initialized with seal %q; name that one",
		name, strings.Join(has, ", "))
}

// Without returns a record without the copy of a seal.
func (r *Record) Without(name string) *Record {
	next := &Record{Version: recordVersion}
	for _, c := range r.Copies {
		if c.Seal != name {
			next.Copies = append(next.Copies, c)
		}
	}
	return next
}

// NewCopy begins a copy. Implementations then call [Copy.Lock].
func NewCopy(name, keyID string, s Split) Copy {
	salt := make([]byte, saltSize)
	_, _ = rand.Read(salt) // it does not fail: it ends the process instead
	return Copy{Seal: name, KeyID: keyID, Shares: s.Shares, Threshold: s.Threshold, Salt: salt,
		Created: time.Now().UTC().Truncate(time.Second)}
}

// AddCheck registers a share, so that [Copy.Check] recognises it. Shares are added in the order of
// their IDs, which begin with 1.
func (c *Copy) AddCheck(share []byte) { c.Checks = append(c.Checks, check(c.Salt, share)) }

// Check reports whether share is the one with this ID.
func (c *Copy) Check(id int, share []byte) bool {
	if id < 1 || id > len(c.Checks) {
		return false
	}
	return subtle.ConstantTimeCompare(c.Checks[id-1], check(c.Salt, share)) == 1
}

// Lock wraps the root key with a key derived from the seal's, and binds it to the other fields of
// the copy.
func (c *Copy) Lock(key []byte, root secret.Value) error {
	const op = "seal.Lock"
	if root.Len() != RootKeySize {
		return fault.New(op, fault.Invalid, "a root key must have %d bytes, not %d", RootKeySize, root.Len())
	}
	aead, err := c.aead(key)
	if err != nil {
		return fault.Wrap(op, fault.Internal, err)
	}
	plain := root.Reveal()
	defer clear(plain)
	c.Wrapped = aead.Seal(nil, nil, plain, c.bound())
	return nil
}

// Unlock returns the root key, or an error if any field has been changed.
func (c *Copy) Unlock(key []byte) (secret.Value, error) {
	const op = "seal.Unlock"
	aead, err := c.aead(key)
	if err != nil {
		return secret.Value{}, fault.Wrap(op, fault.Internal, err)
	}
	plain, err := aead.Open(nil, nil, c.Wrapped, c.bound())
	if err != nil || len(plain) != RootKeySize {
		return secret.Value{}, fault.Wrap(op, fault.Invalid, errors.New("authentication of the wrapped root key"))
	}
	defer clear(plain)
	return secret.New(plain), nil
}

// aead derives the key of this one copy.
func (c *Copy) aead(key []byte) (cipher.AEAD, error) {
	k, err := hkdf.Key(sha256.New, key, c.Salt, "keyturn/seal/"+c.Seal, 32)
	if err != nil {
		return nil, err
	}
	defer clear(k)
	block, err := aes.NewCipher(k)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// bound is the additional data: an unambiguous encoding of the copy's other fields.
func (c *Copy) bound() []byte {
	return fmt.Appendf(nil, "keyturn/seal/1 %q %q %d %d %x", c.Seal, c.KeyID, c.Shares, c.Threshold, c.Salt)
}

// A Split says into how many shares a secret is split, and how many of them restore it. It is zero
// for a seal without shares.
type Split struct{ Shares, Threshold int }

// RootKeySize is the length of a root key in bytes.
const RootKeySize = 32

// check is the digest by which a share is recognised on its own. A share has 252 random bits, so
// the digest does not reveal it.
func check(salt, share []byte) []byte {
	h := sha256.New()
	h.Write([]byte("keyturn/seal/share\x00"))
	h.Write(salt)
	h.Write(share)
	return h.Sum(nil)[:checkSize]
}
