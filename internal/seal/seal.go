// Package seal is the contract of seals, which wrap the root key. The root key encrypts the
// barrier's key ring. Each implementation is a subfolder, and passes sealtest.
//
// The root key is random, and never stored in clear. The seal record contains wrapped copies of
// it, one for each seal that can unwrap it: usually one, and two while a server migrates to
// another seal. A seal with key shares ([Seal.Splits]) wraps it with a secret that is split into
// shares, one for each person; the others unseal the server automatically at its start.
//
// Invariants: a wrong share or key never yields a wrong root key, because every copy is
// authenticated, and each share is checked when it is entered. The record does not help to find
// the root key without the seal.
//
// # Layout of the record, version 1
//
// JSON at [RecordKey], outside the barrier:
//
//	{"version":1,"copies":[{"seal":"shamir","shares":5,"threshold":3,
//	  "salt":"…","checks":["…"],"wrapped":"…","created":"…"}]}
package seal

import (
	"context"
	"crypto/rand"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
)

// A Driver is a kind of seal that a configuration can name.
type Driver struct {
	// Name is the label of the stanza: seal "static" { … }.
	Name string
	// Params are the parameters of the stanza. The configuration refuses others, and the reference
	// is generated from them.
	Params []Param
	// Open returns a seal with the stanza's parameters. It may read files and the environment, but
	// not the storage.
	Open func(params map[string]string) (Seal, error)
}

// A Param is one parameter of a driver.
type Param struct{ Name, Takes, Default, Doc string }

// NewRootKey returns a random root key.
func NewRootKey() secret.Value {
	key := make([]byte, RootKeySize)
	_, _ = rand.Read(key) // it does not fail: it ends the process instead
	defer clear(key)
	return secret.New(key)
}

// Initialize creates a root key and its record. The record must be stored in the commit that
// creates the barrier; the shares are shown once.
func Initialize(
	ctx context.Context, s Seal, split Split,
) (root secret.Value, shares []secret.Value, r *Record, err error) {
	root = NewRootKey()
	r, shares, err = (&Record{}).Rewrap(ctx, s, root, split)
	return root, shares, r, err
}

// Unseal returns the root key of a seal without shares. If the copy is not wrapped with the
// current key, renewed is a record with which to replace r; otherwise it is nil. If renewed is not
// stored, the server still needs the previous key at its next start.
func Unseal(ctx context.Context, s Seal, r *Record) (root secret.Value, renewed *Record, err error) {
	const op = "seal.Unseal"
	c, err := r.Copy(s.Name())
	if err != nil {
		return secret.Value{}, nil, err
	}
	if s.Splits() {
		return secret.Value{}, nil, fault.New(op, fault.Invalid,
			"this server is unsealed with key shares; give them with `keyturn operator unseal`")
	}
	if root, err = s.Unwrap(ctx, c, nil); err != nil {
		return secret.Value{}, nil, err
	}
	if s.Current(c) {
		return root, nil, nil
	}
	renewed, _, err = r.Rewrap(ctx, s, root, Split{})
	return root, renewed, err
}

// A Seal wraps the root key. All methods are safe for concurrent use. Methods that call another
// service return when ctx ends.
type Seal interface {
	// Name is its driver's, and the type that seal-status shows.
	Name() string
	// Splits reports whether unsealing needs key shares.
	Splits() bool
	// CheckSplit returns fault.Invalid, with the field's name, for a split that the seal does not
	// support.
	CheckSplit(s Split) error
	// Wrap returns a new copy of the root key, and its shares. No two calls return the same.
	Wrap(ctx context.Context, root secret.Value, s Split) (Copy, []secret.Value, error)
	// Recognise returns the identity of a share, by which equal shares are detected. If it is not
	// a share of the copy, the error is fault.Invalid.
	Recognise(c Copy, share secret.Value) (id string, err error)
	// Unwrap returns the root key of a copy that this seal made. It needs as many different shares
	// as the copy's threshold, or none if the seal does not split. Wrong shares, a wrong key or a
	// changed copy are fault.Invalid; a service that does not answer is fault.Upstream.
	Unwrap(ctx context.Context, c Copy, shares []secret.Value) (secret.Value, error)
	// Current reports whether the copy is wrapped with the key that Wrap uses now. If not, it is
	// replaced when the root key is known.
	Current(c Copy) bool
}

// Rewrap returns a record with a new copy for the seal s, and its new shares. It is used to create
// a record, to replace the shares, and to add a seal.
func (r *Record) Rewrap(ctx context.Context, s Seal, root secret.Value, split Split) (*Record, []secret.Value, error) {
	if err := s.CheckSplit(split); err != nil {
		return nil, nil, err
	}
	c, shares, err := s.Wrap(ctx, root, split)
	if err != nil {
		return nil, nil, err
	}
	next := r.Without(s.Name())
	next.Copies = append(next.Copies, c)
	return next, shares, nil
}
