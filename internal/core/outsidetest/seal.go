package outsidetest

import (
	"context"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/seal"
	"github.com/keyturn/keyturn/internal/secret"
)

// Seal needs no key shares: the root key is wrapped with a known key.
type Seal struct{}

// Name implements [seal.Seal], as do the others.
func (Seal) Name() string { return "plain" }

// Splits reports that no key shares are needed.
func (Seal) Splits() bool { return false }

// CheckSplit accepts everything.
func (Seal) CheckSplit(seal.Split) error { return nil }

// Current reports that the copy needs no renewal.
func (Seal) Current(seal.Copy) bool { return true }

// Recognise accepts no share.
func (Seal) Recognise(seal.Copy, secret.Value) (string, error) {
	return "", fault.New("plain", fault.Invalid, "")
}

// Wrap wraps the root key with the known key.
func (Seal) Wrap(_ context.Context, root secret.Value, s seal.Split) (seal.Copy, []secret.Value, error) {
	c := seal.NewCopy("plain", "", s)
	return c, nil, c.Lock(make([]byte, 32), root)
}

// Unwrap unwraps the root key.
func (Seal) Unwrap(_ context.Context, c seal.Copy, _ []secret.Value) (secret.Value, error) {
	return c.Unlock(make([]byte, 32))
}
