package barrier

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/storage"
)

// Formats of a value.
const (
	formatKey   = 1 // bound to its whole key
	formatStamp = 2 // bound to its key without the commit's number
)

// overhead is the most that encryption adds to a value: format, key id, nonce
// and tag.
const overhead = 1 + binary.MaxVarintLen32 + 12 + 16

// stampSize is the length of a commit's number at the end of a key.
var stampSize = len(storage.StampedKey("", 0))

// scratch holds the additional data of one operation: what is passed through
// an interface would else be allocated anew each time.
var scratch = sync.Pool{New: func() any { return &[]byte{} }}

// sealValue appends the encrypted value of a put to buf.
func (k *dataKey) sealValue(buf []byte, o storage.Op) []byte {
	format := byte(formatKey)
	if o.Stamp {
		format = formatStamp
	}
	start := len(buf)
	buf = append(buf, format)
	buf = binary.AppendUvarint(buf, uint64(k.id))
	ad := scratch.Get().(*[]byte)
	*ad = append(append((*ad)[:0], buf[start:]...), o.Key...)
	buf = k.values.Seal(buf, nil, o.Value, *ad)
	scratch.Put(ad)
	return buf
}

// decrypt replaces an entry's value by its plaintext.
func (b *Barrier) decrypt(ctx context.Context, op string, r *ring, e *storage.Entry) error {
	key, head, err := b.keyOf(ctx, op, r, e)
	if err != nil {
		return err
	}
	bound := e.Key
	if e.Value[0] == formatStamp {
		bound = e.Key[:len(e.Key)-stampSize]
	}
	sealed := e.Value[head:]
	ad := scratch.Get().(*[]byte)
	*ad = append(append((*ad)[:0], e.Value[:head]...), bound...)
	plain, err := key.values.Open(make([]byte, 0, len(sealed)), nil, sealed, *ad)
	scratch.Put(ad)
	if err != nil {
		return damaged(op, e.Key, errors.New("not authentic"))
	}
	e.Value = plain
	return nil
}

// keyOf parses a value's header and finds its data key; an id that the
// snapshot has not makes it read the ring again.
func (b *Barrier) keyOf(ctx context.Context, op string, r *ring, e *storage.Entry) (k *dataKey, head int, err error) {
	id, head, err := parseHeader(e.Key, e.Value)
	if err != nil {
		return nil, 0, damaged(op, e.Key, err)
	}
	if k = r.keys[id]; k == nil {
		if r, err = b.reload(ctx, op, r); err != nil {
			return nil, 0, err
		}
		if k = r.keys[id]; k == nil {
			return nil, 0, damaged(op, e.Key, fmt.Errorf("unknown data key %d", id))
		}
	}
	return k, head, nil
}

// parseHeader returns the id of a value's data key and the header's length.
func parseHeader(key string, value []byte) (id uint32, head int, err error) {
	if len(value) == 0 {
		return 0, 0, errors.New("no format")
	}
	switch f := value[0]; {
	case f != formatKey && f != formatStamp:
		return 0, 0, fmt.Errorf("unknown format %d", f)
	case f == formatStamp && len(key) < stampSize:
		return 0, 0, errors.New("a stamped value at a key without a stamp")
	}
	wide, n := binary.Uvarint(value[1:])
	if n <= 0 || wide == 0 || wide > 1<<32-1 {
		return 0, 0, errors.New("no data key's id")
	}
	return uint32(wide), 1 + n, nil
}

// damaged is the error of an entry that cannot be decrypted. It names the
// key for the log, and shows no byte of the value.
func damaged(op, key string, why error) error {
	return &fault.Error{Op: op, Kind: fault.Internal, Err: fmt.Errorf("decrypting %q: %w", key, why),
		Msg: "a stored record is damaged; the server's log names it"}
}

// Blobs: version (1) · data key's id (uvarint) · salt (24) · AES-256-GCM. Each
// has a key of its own, derived with its salt, so that their number needs no
// counting and making one no commit.
const (
	blobVersion = 1
	saltSize    = 24
)

// SealBytes encrypts what is not stored under a key: a batch token. Purpose is
// what it is for, and must be the same in [Barrier.OpenBytes].
func (b *Barrier) SealBytes(purpose string, plain []byte) ([]byte, error) {
	r := b.ring.Load()
	if r == nil {
		return nil, errSealed("barrier.SealBytes")
	}
	out := make([]byte, 0, 1+binary.MaxVarintLen32+saltSize+len(plain)+16)
	out = append(out, blobVersion)
	out = binary.AppendUvarint(out, uint64(r.active.id))
	head := len(out)
	out = out[:head+saltSize]
	_, _ = rand.Read(out[head:]) // it does not fail: it ends the process instead
	aead, err := r.active.blobAEAD(out[head:])
	if err != nil {
		return nil, fault.Wrap("barrier.SealBytes", fault.Internal, err)
	}
	return aead.Seal(out, make([]byte, aead.NonceSize()), plain, append(out[:head:head], purpose...)), nil
}

// OpenBytes decrypts what [Barrier.SealBytes] made for the same purpose. All
// else is fault.Invalid. Because a client may have sent it, an unknown key id
// does not make the ring be read again.
func (b *Barrier) OpenBytes(purpose string, sealed []byte) ([]byte, error) {
	const op = "barrier.OpenBytes"
	r := b.ring.Load()
	if r == nil {
		return nil, errSealed(op)
	}
	if len(sealed) == 0 || sealed[0] != blobVersion {
		return nil, fault.Wrap(op, fault.Invalid, errors.New("unknown version"))
	}
	id, n := binary.Uvarint(sealed[1:])
	head := 1 + n
	if n <= 0 || id > 1<<32-1 || len(sealed) < head+saltSize {
		return nil, fault.Wrap(op, fault.Invalid, errors.New("cut off"))
	}
	k := r.keys[uint32(id)]
	if k == nil {
		return nil, fault.Wrap(op, fault.Invalid, errors.New("unknown data key"))
	}
	aead, err := k.blobAEAD(sealed[head : head+saltSize])
	if err != nil {
		return nil, fault.Wrap(op, fault.Internal, err)
	}
	plain, err := aead.Open(nil, make([]byte, aead.NonceSize()), sealed[head+saltSize:], append(sealed[:head:head], purpose...))
	if err != nil {
		return nil, fault.Wrap(op, fault.Invalid, errors.New("not authentic"))
	}
	return plain, nil
}

// blobAEAD returns the cipher of the one blob that has this salt; its nonce is
// zero.
func (k *dataKey) blobAEAD(salt []byte) (cipher.AEAD, error) {
	key, err := hkdf.Expand(sha256.New, k.blobs, string(salt), keySize)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}
