package outsidetest

import (
	"context"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/seal"
	"github.com/keyturn/keyturn/internal/secret"
)

// Seal opens by itself: the root key lies in the copy.
type Seal struct{}

// Name implements [seal.Seal], as do the others.
func (Seal) Name() string { return "plain" }

// Splits: nobody is needed.
func (Seal) Splits() bool { return false }

// CheckSplit takes any.
func (Seal) CheckSplit(seal.Split) error { return nil }

// Current says that the copy needs no renewal.
func (Seal) Current(seal.Copy) bool { return true }

// Recognise takes no shares.
func (Seal) Recognise(seal.Copy, secret.Value) (string, error) {
	return "", fault.New("plain", fault.Invalid, "")
}

// Wrap keeps the root key under a known one.
func (Seal) Wrap(_ context.Context, root secret.Value, s seal.Split) (seal.Copy, []secret.Value, error) {
	c := seal.NewCopy("plain", "", s)
	return c, nil, c.Lock(make([]byte, 32), root)
}

// Unwrap opens it.
func (Seal) Unwrap(_ context.Context, c seal.Copy, _ []secret.Value) (secret.Value, error) {
	return c.Unlock(make([]byte, 32))
}
