// Package shamir is the seal with key shares: a threshold of the shares restores the key, and
// fewer reveal nothing.
//
// The secret that is split is a random scalar of the group Ristretto255, whose
// arithmetic runs in constant time; the wrapping key is its HKDF. A share is 33
// bytes: its number, 1 to 255, and its value, a scalar in 32 bytes,
// little-endian and reduced.
package shamir

import (
	"context"
	"crypto/rand"
	"strconv"

	"github.com/cloudflare/circl/group"
	"github.com/cloudflare/circl/secretsharing"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/seal"
	"github.com/keyturn/keyturn/internal/secret"
)

// Driver is the seal "shamir". It takes no parameters.
var Driver = seal.Driver{
	Name: name,
	Open: func(map[string]string) (seal.Seal, error) { return shamir{}, nil },
}

const (
	name      = "shamir"
	maxShares = 255
	shareSize = 1 + 32
)

type shamir struct{}

// Name implements [seal.Seal].
func (shamir) Name() string { return name }

// Splits implements [seal.Seal].
func (shamir) Splits() bool { return true }

// Current implements [seal.Seal]: there is no key that could be another.
func (shamir) Current(seal.Copy) bool { return true }

// CheckSplit implements [seal.Seal]. With a threshold of one, every share is the secret itself, so
// several shares would be useless.
func (shamir) CheckSplit(s seal.Split) error {
	const op = "shamir.CheckSplit"
	switch {
	case s.Shares < 1 || s.Shares > maxShares:
		return fault.New(op, fault.Invalid, "secret_shares: want 1 to %d, not %d", maxShares, s.Shares)
	case s.Threshold < 1 || s.Threshold > s.Shares:
		return fault.New(op, fault.Invalid, "secret_threshold: want 1 to %d, the number of shares, not %d", s.Shares,
			s.Threshold)
	case s.Threshold == 1 && s.Shares > 1:
		return fault.New(op, fault.Invalid,
			"secret_threshold: want at least 2 of %d shares; with 1 each share alone would unseal, so make one",
			s.Shares)
	}
	return nil
}

// Wrap implements [seal.Seal].
func (s shamir) Wrap(_ context.Context, root secret.Value, split seal.Split) (seal.Copy, []secret.Value, error) {
	if err := s.CheckSplit(split); err != nil {
		return seal.Copy{}, nil, err
	}
	const op = "shamir.Wrap"
	c := seal.NewCopy(name, "", split)
	scalar := group.Ristretto255.RandomNonZeroScalar(rand.Reader)
	key, err := scalar.MarshalBinary()
	if err != nil {
		return seal.Copy{}, nil, fault.Wrap(op, fault.Internal, err)
	}
	defer clear(key)
	if err := c.Lock(key, root); err != nil {
		return seal.Copy{}, nil, err
	}
	sharing := secretsharing.New(rand.Reader, uint(split.Threshold-1), scalar)
	var shares []secret.Value
	for i, sh := range sharing.Share(uint(split.Shares)) {
		b, err := sh.Value.MarshalBinary()
		if err != nil {
			return seal.Copy{}, nil, fault.Wrap(op, fault.Internal, err)
		}
		share := append([]byte{byte(i + 1)}, b...)
		c.AddCheck(share)
		shares = append(shares, secret.New(share))
		clear(b)
		clear(share)
	}
	return c, shares, nil
}

// Recognise implements [seal.Seal].
func (shamir) Recognise(c seal.Copy, share secret.Value) (string, error) {
	const op = "shamir.Recognise"
	b := share.Reveal()
	defer clear(b)
	if _, err := parse(op, b); err != nil {
		return "", err
	}
	if !c.Check(int(b[0]), b) {
		return "", fault.New(op, fault.Invalid,
			"key: this is not a key share of this server, or an outdated one; give one of "+
				"its last initialization or rekeying")
	}
	return strconv.Itoa(int(b[0])), nil
}

// Unwrap implements [seal.Seal].
func (shamir) Unwrap(_ context.Context, c seal.Copy, given []secret.Value) (secret.Value, error) {
	const op = "shamir.Unwrap"
	if c.Threshold < 1 {
		return secret.Value{}, fault.New(op, fault.Invalid,
			"the seal record is damaged: it says a threshold of %d; restore the storage from a backup", c.Threshold)
	}
	var shares []secretsharing.Share
	seen := map[byte]bool{}
	for _, v := range given {
		b := v.Reveal()
		sh, err := parse(op, b)
		if err != nil {
			return secret.Value{}, err
		}
		if !seen[b[0]] {
			seen[b[0]] = true
			shares = append(shares, sh)
		}
		clear(b)
	}
	if len(shares) < c.Threshold {
		return secret.Value{}, fault.New(op, fault.Invalid,
			"%d different key shares are needed, %d were given; give the others", c.Threshold, len(shares))
	}
	scalar, err := secretsharing.Recover(uint(c.Threshold-1), shares)
	if err != nil {
		return secret.Value{}, fault.Wrap(op, fault.Invalid, err)
	}
	key, err := scalar.MarshalBinary()
	if err != nil {
		return secret.Value{}, fault.Wrap(op, fault.Internal, err)
	}
	defer clear(key)
	root, err := c.Unlock(key)
	if fault.Is(err, fault.Invalid) {
		return secret.Value{}, &fault.Error{Op: op, Kind: fault.Invalid, Err: err,
			Msg: "the key shares do not open this server's seal; were all of them made for it, and by its last " +
				"rekeying?"}
	}
	return root, err
}

// parse decodes a share.
func parse(op string, b []byte) (secretsharing.Share, error) {
	if len(b) != shareSize || b[0] == 0 {
		return secretsharing.Share{}, fault.New(op, fault.Invalid,
			"key: a key share has %d bytes; was it copied whole?", shareSize)
	}
	value := group.Ristretto255.NewScalar()
	if err := value.UnmarshalBinary(b[1:]); err != nil {
		return secretsharing.Share{}, fault.New(op, fault.Invalid, "key: not a key share; was it copied whole?")
	}
	return secretsharing.Share{ID: group.Ristretto255.NewScalar().SetUint64(uint64(b[0])), Value: value}, nil
}
