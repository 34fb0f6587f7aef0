// Package seal is the contract of what wraps the root key, the key under which
// the barrier's key ring lies. Implementations are subfolders; each passes
// sealtest.
//
// The root key is random and never stored as it is. The seal record holds it
// in wrapped copies, one for each seal that may open it: one as a rule, two
// while a server moves from one seal to another. A seal that people open
// ([Seal.Splits]) wraps under a secret that is split into shares, one for each
// person; the others open by themselves when the server starts.
//
// Invariants: a wrong share or key never yields a wrong root key – every copy
// is authenticated, and a share is recognised on its own when it is given.
// Nothing in the record helps to find the root key without the seal.
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
	// Params are what the stanza may hold. The configuration refuses others, and
	// writes the reference from them.
	Params []Param
	// Open makes a seal from the stanza's parameters. It reads
	// files and the environment; it does not touch the storage.
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

// Initialize makes a root key and its record. The record's bytes belong into
// the commit that creates the barrier; the shares are shown once.
func Initialize(ctx context.Context, s Seal, split Split) (root secret.Value, shares []secret.Value, r *Record, err error) {
	root = NewRootKey()
	r, shares, err = (&Record{}).Rewrap(ctx, s, root, split)
	return root, shares, r, err
}

// Unseal returns the root key of a seal that opens by itself. Renewed is the
// record to be committed in place of r, because its copy is not wrapped with
// the current key, or nil. Without it the server runs as well; it only still
// needs the previous key at its next start.
func Unseal(ctx context.Context, s Seal, r *Record) (root secret.Value, renewed *Record, err error) {
	const op = "seal.Unseal"
	c, err := r.Copy(s.Name())
	if err != nil {
		return secret.Value{}, nil, err
	}
	if s.Splits() {
		return secret.Value{}, nil, fault.New(op, fault.Invalid, "this server is unsealed with key shares; give them with `keyturn operator unseal`")
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

// A Seal wraps the root key. All methods are safe for concurrent use. Those
// that ask somebody outside are bounded by ctx.
type Seal interface {
	// Name is its driver's, and the type that seal-status shows.
	Name() string
	// Splits reports whether people open the seal with shares. If not, it
	// opens by itself.
	Splits() bool
	// CheckSplit refuses, as fault.Invalid and with the field's name, a split
	// that the seal cannot make.
	CheckSplit(s Split) error
	// Wrap returns a new copy of the root key, and the shares that open it, as
	// many as were asked for. Two calls never give the same.
	Wrap(ctx context.Context, root secret.Value, s Split) (Copy, []secret.Value, error)
	// Recognise returns the identity of a share of the copy: two shares with
	// the same one are the same. Anything else is fault.Invalid.
	Recognise(c Copy, share secret.Value) (id string, err error)
	// Unwrap returns the root key of a copy that this seal made. It needs as
	// many different shares as the copy's threshold says, and none where the
	// seal does not split. Wrong shares, a wrong key, a changed copy:
	// fault.Invalid. A seal outside that does not answer: fault.Upstream.
	Unwrap(ctx context.Context, c Copy, shares []secret.Value) (secret.Value, error)
	// Current reports whether Wrap would use the same key as for this copy. One
	// that is not current is wrapped anew once the root key is known.
	Current(c Copy) bool
}

// Rewrap returns a record in which the copy of s is a new one, made for the
// split, with its new shares. It is how a record begins, how shares are
// replaced, and how a seal is added.
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
