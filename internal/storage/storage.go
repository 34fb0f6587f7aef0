// Package storage is the contract of storage drivers: an ordered map of keys to small values, with
// atomic, conditional batches and a feed of changes. Each driver is a subfolder, and passes
// storagetest.
//
// Invariants that all other packages rely on:
//   - A batch is stored whole or not at all. What a Commit or a read has returned survives kill -9
//     and loss of power.
//   - A [Version] is a store-wide commit number, and is never reused: not after a delete, a failed
//     commit or a restart.
//   - [ErrConflict] and [ErrTooLarge] mean that nothing was stored. After any other error of
//     Commit, the outcome is unknown: re-read, and look for an ID of your own.
package storage

import (
	"context"
	"errors"
	"fmt"
	"iter"
)

// The sentinels of this package. Drivers return them bare or wrapped.
var (
	// ErrConflict: an assertion of the batch failed. Nothing was stored.
	ErrConflict = errors.New("storage: conflict")
	// ErrTooLarge: the batch exceeds [MaxOps] or [MaxBytes], or a key exceeds [MaxKey]. Nothing
	// was stored.
	ErrTooLarge = errors.New("storage: batch too large")
	// ErrFull: the medium is full, or below the low-water mark. Nothing was stored. Reads still
	// work, and writes work again when there is space.
	ErrFull = errors.New("storage: no space")
	// ErrGap ends a Watch that cannot continue. The caller drops everything that it has cached,
	// and starts again.
	ErrGap = errors.New("storage: gap in the feed")
	// ErrClosed: the store was closed.
	ErrClosed = errors.New("storage: closed")
)

// Layout is the version of the format on the disk: the files of a driver, and the keys and values
// of all packages. A binary refuses a store with a newer layout.
const Layout = 1

// Limits of one batch, which are the same for every driver. By default, etcd refuses more than 128
// operations in one transaction.
const (
	MaxOps   = 100
	MaxBytes = 1 << 20 // keys and values together
	MaxKey   = 4096
)

// A Version numbers a commit. 0 is no commit: an entry of version 0 is absent.
type Version uint64

// An Entry is one key, its value, and its version, which a later write can assert. An absent key
// has Version 0 and a nil value. The value must not be changed.
type Entry struct {
	Key     string
	Value   []byte
	Version Version
}

// A Store is an ordered map. All methods are safe for concurrent use.
type Store interface {
	// Get returns the entry at key. An absent one has Version 0 and no error.
	Get(ctx context.Context, key string) (Entry, error)
	// Scan yields the entries with from ≤ key < to in byte order; to "" means no end. It is not a
	// snapshot: it may or may not see commits that are made meanwhile, but yields each key at most
	// once, and each unchanged key exactly once. An error ends it. To continue, scan from the last
	// key + "\x00".
	Scan(ctx context.Context, from, to string) iter.Seq2[Entry, error]
	// Commit stores all of b or nothing, and returns its number. When it returns without error,
	// the batch is durable, and every reader sees it.
	Commit(ctx context.Context, b Batch) (Version, error)
	// Watch yields the changes of keys below prefix by commits after the given version, in commit
	// order, and marks of progress (a Change without a key) at least every half second while the
	// feed is fresh. It ends with ErrGap if it would miss a change, and with ctx's error. With
	// after = 0, it starts now, and first yields a mark with the current version.
	Watch(ctx context.Context, prefix string, after Version) iter.Seq2[Change, error]
	Close() error
}

// A Change says that the commit Version put or deleted Key. With an empty key, it is a mark: all
// changes up to Version have been yielded.
type Change struct {
	Version Version
	Key     string
	Deleted bool
}

// A Batch is a set of operations on distinct keys.
type Batch struct{ Ops []Op }

// Kind says what an operation does.
type Kind uint8

// The kinds of operation.
const (
	Put    Kind = iota // store Value at Key
	Delete             // remove Key; removing an absent key succeeds
	Assert             // only check
)

// An Op is one operation of a batch. Build it with [Set], [Remove] or
// [Expect].
type Op struct {
	Kind  Kind
	Key   string
	Value []byte
	// Check, with Want: the whole batch fails unless Key's version is Want (0: absent). Always set
	// for Assert.
	Check bool
	Want  Version
	// Stamp, for a Put: the commit's number is appended to Key as 16 hexadecimal digits, so that
	// the rows of an event log are in commit order. A stamped Put cannot assert, because its key
	// is new.
	Stamp bool
}

// Set stores value at key.
func Set(key string, value []byte) Op { return Op{Kind: Put, Key: key, Value: value} }

// Remove deletes key.
func Remove(key string) Op { return Op{Kind: Delete, Key: key} }

// Expect only asserts that key has version v; 0 means absent.
func Expect(key string, v Version) Op { return Op{Kind: Assert, Key: key, Check: true, Want: v} }

// If returns the operation with the assertion that its key has version v.
func (o Op) If(v Version) Op { o.Check, o.Want = true, v; return o }

// Append stores value at prefix followed by the commit's number.
func Append(prefix string, value []byte) Op {
	return Op{Kind: Put, Key: prefix, Value: value, Stamp: true}
}

// stampLen is the length of a stamp.
const stampLen = 16

// StampedKey is the key of [Append] in commit v.
func StampedKey(prefix string, v Version) string {
	b := make([]byte, 0, 128) // stays on the stack
	b = append(b, prefix...)
	for shift := 8*8 - 4; shift >= 0; shift -= 4 {
		b = append(b, "0123456789abcdef"[uint64(v)>>shift&15])
	}
	return string(b)
}

// Validate refuses invalid batches: too many operations, too many bytes, an empty or repeated key,
// a contradiction. Every driver calls it first.
func (b Batch) Validate() error {
	if len(b.Ops) == 0 {
		return errors.New("storage: empty batch")
	}
	if len(b.Ops) > MaxOps {
		return fmt.Errorf("%w: %d operations, at most %d", ErrTooLarge, len(b.Ops), MaxOps)
	}
	size := 0
	seen := make(map[string]struct{}, len(b.Ops))
	for _, op := range b.Ops {
		if err := op.validate(); err != nil {
			return err
		}
		if _, twice := seen[op.Key]; twice {
			return fmt.Errorf("storage: key %q twice in one batch", op.Key)
		}
		seen[op.Key] = struct{}{}
		size += len(op.Key) + len(op.Value)
	}
	if size > MaxBytes {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, size, MaxBytes)
	}
	return nil
}

func (o Op) validate() error {
	size := len(o.Key)
	if o.Stamp {
		size += stampLen
	}
	switch {
	case o.Key == "":
		return errors.New("storage: empty key")
	case size > MaxKey:
		return fmt.Errorf("%w: a key of %d bytes, at most %d", ErrTooLarge, size, MaxKey)
	case o.Kind > Assert:
		return fmt.Errorf("storage: operation of unknown kind %d on %q", o.Kind, o.Key)
	case o.Kind == Assert && !o.Check:
		return fmt.Errorf("storage: an assertion on %q that asserts nothing", o.Key)
	case o.Stamp && (o.Kind != Put || o.Check):
		return fmt.Errorf("storage: only a Put without an assertion can be stamped, on %q", o.Key)
	}
	return nil
}

// PrefixEnd is the end of the range of keys that start with prefix, for Scan; "": no end.
func PrefixEnd(prefix string) string {
	b := []byte(prefix)
	for i := len(b) - 1; i >= 0; i-- {
		if b[i] < 0xff {
			b[i]++
			return string(b[:i+1])
		}
	}
	return ""
}
