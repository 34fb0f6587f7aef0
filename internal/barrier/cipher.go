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

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/storage"
)

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

// keyOf parses a value's header and finds its data key. If the snapshot lacks its ID, it reads the
// ring again.
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

// Blobs: version (1) · data key's id (uvarint) · salt (24) · AES-256-GCM. Each has its own key,
// derived with its salt, so they need not be counted, and creating one needs no commit.
const (
	blobVersion = 1
	saltSize    = 24
)

// SealBytes encrypts data that is not stored, such as a batch token. The purpose must be the same
// in [Barrier.OpenBytes].
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
	_, _ = rand.Read(out[head:]) // never fails
	aead, err := r.active.blobAEAD(out[head:])
	if err != nil {
		return nil, fault.Wrap("barrier.SealBytes", fault.Internal, err)
	}
	return aead.Seal(out, make([]byte, aead.NonceSize()), plain, append(out[:head:head], purpose...)), nil
}

// OpenBytes decrypts the result of [Barrier.SealBytes] for the same purpose. Anything else is
// fault.Invalid. An unknown key ID does not make it read the ring again, because a client may have
// sent it.
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
	plain, err := aead.Open(nil, make([]byte, aead.NonceSize()), sealed[head+saltSize:],
		append(sealed[:head:head], purpose...))
	if err != nil {
		return nil, fault.Wrap(op, fault.Invalid, errors.New("not authentic"))
	}
	return plain, nil
}

// blobAEAD returns the cipher of the blob with this salt; its nonce is zero.
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
