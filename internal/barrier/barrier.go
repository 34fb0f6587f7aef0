// Package barrier is the encrypted view of a store. Everything above it reads
// and writes plaintext through a [View]; everything below sees ciphertext.
//
// Key names are not encrypted: what must not be seen on the disk – a token, a
// one-time code – stands in a key only as an HMAC ([Barrier.HMAC]).
//
// # Layout, version 1
//
//	core/keyring    the ring, under the root key:
//	                version (1) · fingerprint of root key (8) · nonce (12) · AES-256-GCM of JSON
//	core/seal       the seal record, written by core as package seal encodes it
//	anything else   a value:
//	                format (1) · data key's id (uvarint) · nonce (12) · AES-256-GCM
//
// The additional data of a value is its format, key ID and storage key, so a value cannot be moved
// to another key. Format 1 uses the whole storage key. Format 2 is for operations whose key the
// store completes with the commit's number ([storage.Append]), and uses the part before these 16
// digits: an attacker who can write the disk could swap the rows of an event log, or restore an
// old value at its own key.
//
// # Keys
//
// The ring contains the data keys, the secret of every HMAC, and the installation's ID. Because a
// data key is used with random nonces, its uses are counted. A node takes them from a block that
// the ring has recorded as used before, so a crash wastes the rest of a block, but never counts
// too few. After [usesPerKey] uses, a new key becomes active, far below the limit of 2^32 for
// random nonces. Old keys stay in the ring and only decrypt. The HMAC secret never changes,
// because the store contains names that were made with it.
//
// A change of the ring is one commit that asserts the version that was read. A node that meets an
// unknown key ID reads the ring again. With several nodes, a new key must be recorded first, and
// become active only after the feed of every live node has passed that commit; with one node, both
// happen in the same commit.
//
// # Locking
//
// Readers load the ring's snapshot from an atomic pointer. Changes are serialized by a lock with a
// context. [Barrier.Close] drops the snapshot without waiting.
package barrier

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/seal"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
)

const (
	// usesPerKey is the number of encryptions after which a data key is replaced. Of 2^30 random
	// nonces, two are equal with a probability of 2^-37; NIST's limit is 2^32 nonces, with 2^-32.
	usesPerKey = 1 << 30
	// usesPerBlock is how many uses are recorded at once. At 200,000 uses a second, that is one
	// commit in five seconds; a thousand restarts waste one data key.
	usesPerBlock = 1 << 20
)

// A Barrier encrypts and decrypts with the keys of one ring. All methods are
// safe for concurrent use.
type Barrier struct {
	store        storage.Store
	installation string

	ring    atomic.Pointer[ring] // nil once closed
	hashers sync.Map             // purpose → *Hasher

	changing chan struct{} // capacity 1: the lock of the fields below
	root     *rootKey
}

// Initialized reports whether the store has a key ring.
func Initialized(ctx context.Context, st storage.Store) (bool, error) {
	e, err := st.Get(ctx, RingKey)
	return e.Version != 0, storeError("barrier.Initialized", err)
}

// Initialize creates the key ring, with a first data key and the installation's ID, under a new
// root key. The operations in with are stored unencrypted in the same commit; they contain the
// seal record, so that no crash leaves only one of both. If the store has a ring, the error is
// fault.Conflict.
func Initialize(ctx context.Context, st storage.Store, root secret.Value, with ...storage.Op) error {
	return InitializeWith(ctx, st, root, func(*Barrier) ([]storage.Op, error) { return nil, nil }, with...)
}

// InitializeWith is [Initialize] with the rows that fill returns, on absolute keys. They are
// encrypted, and stored in the same commit, because an installation is useless without them. fill
// gets a barrier with the new ring, for HMACs and blobs, before anything is stored.
func InitializeWith(
	ctx context.Context, st storage.Store, root secret.Value, fill func(b *Barrier) ([]storage.Op, error),
	with ...storage.Op,
) error {
	const op = "barrier.Initialize"
	rk, err := newRootKey(op, root)
	if err != nil {
		return err
	}
	rec := &ringRecord{Installation: newUUID(), HMACKey: newKey()}
	defer rec.wipe()
	rec.rotate(time.Now())
	r, err := newRing(rec, nil)
	if err != nil {
		return fault.Wrap(op, fault.Internal, err)
	}
	b := &Barrier{store: st, root: rk, installation: rec.Installation, changing: make(chan struct{}, 1)}
	b.ring.Store(r)
	defer b.Close()
	rows, err := fill(b)
	if err != nil {
		return err
	}
	if len(rows) > 0 { // they use the first block of uses
		rec.active().Reserved = usesPerBlock
		r.active.left.Store(usesPerBlock)
	}
	if err := b.encrypt(ctx, op, rows); err != nil {
		return err
	}
	sealed := rk.seal(rec)
	ops := slices.Concat([]storage.Op{storage.Set(RingKey, sealed).If(0)}, with, rows)
	_, err = st.Commit(ctx, storage.Batch{Ops: ops})
	switch {
	case errors.Is(err, storage.ErrConflict):
		return &fault.Error{
			Op: op, Kind: fault.Conflict, Msg: "the storage is initialized already; unseal it", Err: err,
		}
	case err != nil && !errors.Is(err, storage.ErrTooLarge):
		// Find out whether it was stored, because the root key must not be lost.
		if e, rerr := st.Get(context.WithoutCancel(ctx), RingKey); rerr == nil && bytes.Equal(e.Value, sealed) {
			return nil
		}
	}
	return storeError(op, err)
}

// Open reads the key ring, and writes nothing. The error is fault.Invalid for a wrong root key,
// fault.NotFound for a store without a ring, and fault.Internal for a damaged ring.
func Open(ctx context.Context, st storage.Store, root secret.Value) (*Barrier, error) {
	const op = "barrier.Open"
	rk, err := newRootKey(op, root)
	if err != nil {
		return nil, err
	}
	b := &Barrier{store: st, root: rk, changing: make(chan struct{}, 1)}
	rec, _, err := b.readRing(ctx, op)
	if err != nil {
		return nil, err
	}
	defer rec.wipe()
	b.installation = rec.Installation
	r, err := newRing(rec, nil)
	if err != nil {
		return nil, fault.Wrap(op, fault.Internal, err)
	}
	b.ring.Store(r)
	return b, nil
}

// Close drops the keys. Later calls return fault.Sealed, and calls in progress begin no other
// commit. Closing twice is allowed.
func (b *Barrier) Close() {
	if r := b.ring.Swap(nil); r != nil {
		b.hashers.Clear()
	}
}

// Installation returns the ID that this installation got when it was initialized, for generated
// names and markers. It is a UUID, and not secret.
func (b *Barrier) Installation() string { return b.installation }

// Commit stores a batch of operations with absolute keys and returns its
// number.
func (b *Barrier) Commit(ctx context.Context, ops ...storage.Op) (storage.Version, error) {
	return b.commit(ctx, slices.Clone(ops))
}

// commit encrypts the operations in place, and commits them. Every write to the store, except that
// of the ring, calls it.
func (b *Barrier) commit(ctx context.Context, ops []storage.Op) (storage.Version, error) {
	const op = "barrier.Commit"
	if err := b.encrypt(ctx, op, ops); err != nil {
		return 0, err
	}
	if b.ring.Load() == nil {
		return 0, errSealed(op)
	}
	batch := storage.Batch{Ops: ops}
	v, err := b.store.Commit(ctx, batch)
	if err == nil {
		return v, nil
	}
	if bug := batch.Validate(); bug != nil && !errors.Is(bug, storage.ErrTooLarge) {
		return 0, fault.Wrap(op, fault.Internal, bug) // our bug, not an error of the store
	}
	return 0, storeError(op, err)
}

// encrypt replaces the values of the puts by ciphertext, all in one buffer.
func (b *Barrier) encrypt(ctx context.Context, op string, ops []storage.Op) error {
	puts, size := 0, 0
	for _, o := range ops {
		if raw(o.Key) && o.Kind != storage.Assert {
			return fault.Wrap(op, fault.Internal, fmt.Errorf("%q is not written through the barrier", o.Key))
		}
		if o.Kind == storage.Put {
			puts, size = puts+1, size+len(o.Value)+overhead
		}
	}
	if size > 2*storage.MaxBytes { // the store will refuse it, so do not encrypt it
		return storeError(op, fmt.Errorf("%w: %d bytes", storage.ErrTooLarge, size))
	}
	k, err := b.use(ctx, op, puts)
	if err != nil {
		return err
	}
	buf := make([]byte, 0, size)
	for i := range ops {
		if o := &ops[i]; o.Kind == storage.Put {
			start := len(buf)
			buf = k.sealValue(buf, *o)
			o.Value = buf[start:len(buf):len(buf)]
		}
	}
	return nil
}

// raw reports whether a key's row is not encrypted by the barrier.
func raw(key string) bool { return key == RingKey || key == seal.RecordKey }

// use takes n uses of the active data key from the recorded block.
func (b *Barrier) use(ctx context.Context, op string, n int) (*dataKey, error) {
	for {
		r := b.ring.Load()
		if r == nil {
			return nil, errSealed(op)
		}
		k := r.active
		if k.left.Add(-int64(n)) >= 0 {
			return k, nil
		}
		k.left.Add(int64(n))
		if n > usesPerBlock {
			return nil, storeError(op, storage.ErrTooLarge)
		}
		if err := b.reserve(ctx, op, k, n); err != nil {
			return nil, err
		}
	}
}

// reserve records another block of uses for the active key or, if that has reached its limit, for
// a new one.
func (b *Barrier) reserve(ctx context.Context, op string, k *dataKey, n int) error {
	unlock, err := b.lock(ctx, op)
	if err != nil {
		return err
	}
	defer unlock()
	r := b.ring.Load()
	if r == nil || r.active != k || k.left.Load() >= int64(n) {
		return nil // another goroutine was faster
	}
	r, err = b.changeLocked(ctx, op, func(rec *ringRecord) {
		a := rec.active()
		if a.Reserved+usesPerBlock > usesPerKey {
			a = rec.rotate(time.Now())
		}
		a.Reserved += usesPerBlock
	})
	if err != nil {
		return err
	}
	r.active.left.Add(usesPerBlock)
	return nil
}

// Rotate creates a new data key, which encrypts everything from now on, and returns its number.
// Stored values stay unchanged.
func (b *Barrier) Rotate(ctx context.Context) (term int, err error) {
	const op = "barrier.Rotate"
	unlock, err := b.lock(ctx, op)
	if err != nil {
		return 0, err
	}
	defer unlock()
	r, err := b.changeLocked(ctx, op, func(rec *ringRecord) { rec.rotate(time.Now()) })
	if err != nil {
		return 0, err
	}
	return int(r.active.id), nil
}

// Rekey encrypts the ring with a new root key. As in [Initialize], the operations in with are
// stored in the same commit; they contain the seal record that wraps the new root key.
func (b *Barrier) Rekey(ctx context.Context, root secret.Value, with ...storage.Op) error {
	const op = "barrier.Rekey"
	rk, err := newRootKey(op, root)
	if err != nil {
		return err
	}
	unlock, err := b.lock(ctx, op)
	if err != nil {
		return err
	}
	defer unlock()
	rec, version, err := b.readRing(ctx, op)
	if err != nil {
		return err
	}
	defer rec.wipe()
	if _, err = b.putRing(ctx, op, rk, rec, version, with...); err != nil {
		return err
	}
	b.root = rk
	return nil
}

// A KeyStatus describes the active data key.
type KeyStatus struct {
	Term    int
	Created time.Time
	Uses    uint64 // encryptions, including those that restarts have wasted
}

// KeyStatus returns the state of the active data key.
func (b *Barrier) KeyStatus() (KeyStatus, error) {
	r := b.ring.Load()
	if r == nil {
		return KeyStatus{}, errSealed("barrier.KeyStatus")
	}
	k := r.active
	return KeyStatus{Term: int(k.id), Created: k.created, Uses: k.reserved - uint64(max(k.left.Load(), 0))}, nil
}

// lock locks changes, unless ctx ends first.
func (b *Barrier) lock(ctx context.Context, op string) (unlock func(), err error) {
	select {
	case b.changing <- struct{}{}:
		return func() { <-b.changing }, nil
	case <-ctx.Done():
		return nil, storeError(op, ctx.Err())
	}
}

// changeLocked reads the stored ring, edits it and commits it. If it is unknown whether the commit
// succeeded, the node keeps its snapshot; the next change reads the stored ring.
func (b *Barrier) changeLocked(ctx context.Context, op string, edit func(*ringRecord)) (*ring, error) {
	for range 16 {
		rec, version, err := b.readRing(ctx, op)
		if err != nil {
			return nil, err
		}
		edit(rec)
		r, err := b.putRing(ctx, op, b.root, rec, version)
		rec.wipe()
		if fault.Is(err, fault.Conflict) {
			continue
		}
		return r, err
	}
	return nil, fault.New(op, fault.Unavailable, "the key ring is being changed by others; try again")
}

// putRing commits a ring and swaps the snapshot.
func (b *Barrier) putRing(
	ctx context.Context, op string, rk *rootKey, rec *ringRecord, version storage.Version, with ...storage.Op,
) (*ring, error) {
	old := b.ring.Load()
	if old == nil {
		return nil, errSealed(op)
	}
	ops := append([]storage.Op{storage.Set(RingKey, rk.seal(rec)).If(version)}, with...)
	if _, err := b.store.Commit(ctx, storage.Batch{Ops: ops}); err != nil {
		return nil, storeError(op, err)
	}
	return b.swap(op, rec, old)
}

// swap replaces the snapshot, unless the barrier was closed meanwhile, because Close does not
// lock.
func (b *Barrier) swap(op string, rec *ringRecord, old *ring) (*ring, error) {
	r, err := newRing(rec, old)
	if err != nil {
		return nil, fault.Wrap(op, fault.Internal, err)
	}
	if !b.ring.CompareAndSwap(old, r) {
		return nil, errSealed(op)
	}
	return r, nil
}

// readRing reads and decrypts the ring.
func (b *Barrier) readRing(ctx context.Context, op string) (*ringRecord, storage.Version, error) {
	e, err := b.store.Get(ctx, RingKey)
	if err != nil {
		return nil, 0, storeError(op, err)
	}
	if e.Version == 0 {
		return nil, 0, fault.New(op, fault.NotFound, "the storage is not initialized; run `keyturn operator init`")
	}
	rec, err := b.root.open(op, e.Value)
	return rec, e.Version, err
}

// newUUID returns a random UUID (version 4).
func newUUID() string {
	var u [16]byte
	_, _ = rand.Read(u[:]) // never fails
	u[6], u[8] = u[6]&0x0f|0x40, u[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// reload reads the ring again, because the snapshot seen lacks a key ID.
func (b *Barrier) reload(ctx context.Context, op string, seen *ring) (*ring, error) {
	unlock, err := b.lock(ctx, op)
	if err != nil {
		return nil, err
	}
	defer unlock()
	old := b.ring.Load()
	if old == nil {
		return nil, errSealed(op)
	}
	if old != seen {
		return old, nil
	}
	rec, _, err := b.readRing(ctx, op)
	if err != nil {
		return nil, err
	}
	defer rec.wipe()
	return b.swap(op, rec, old)
}
