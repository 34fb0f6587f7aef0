// Package static is the seal that unseals the server automatically, with a key from a file or the
// environment:
//
//	seal "static" {
//	  current_key_id = "2025-06"                    # optional: else the key's fingerprint
//	  current_key    = "file:///run/credentials/keyturn.service/seal-key"
//	  previous_key   = "env://OLD_SEAL_KEY"         # optional, while the key is being replaced
//	}
//
// A key is 32 bytes, raw, in hexadecimal or in base64. To replace it, make the old one
// previous_key and restart the server: it unwraps the root key with the old key, and wraps it with
// the new one. After that, the old one is no longer needed.
package static

import (
	"context"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/seal"
	"github.com/keyturn/keyturn/internal/secret"
)

// Driver is the seal "static".
var Driver = seal.Driver{
	Name: name, Open: open,
	Params: []seal.Param{
		{
			Name: "current_key", Takes: "file:///path or env://NAME",
			Doc: "Where the key is: 32 random bytes that unseal the server.",
		},
		{Name: "current_key_id", Takes: "text", Doc: "What the key is called, so that it is known after a change."},
		{
			Name: "previous_key", Takes: "file:///path or env://NAME",
			Doc: "Where the previous key is, while the seal still uses it.",
		},
		{Name: "previous_key_id", Takes: "text", Doc: "The name of the previous key."},
	},
}

const name = "static"

// A static has the configured keys.
type static struct {
	current  key
	previous []key // none or one
}

func open(params map[string]string) (seal.Seal, error) {
	const op = "static.Open"
	if params["current_key"] == "" {
		return nil, fault.New(op, fault.Invalid,
			"seal \"static\": current_key is missing; name a file (file:///path) or a variable (env://NAME) that "+
				"holds 32 random bytes")
	}
	if params["previous_key"] == "" && params["previous_key_id"] != "" {
		return nil, fault.New(op, fault.Invalid,
			"seal \"static\": previous_key_id is set, but previous_key is not; give both or neither")
	}
	current, err := readKey("current_key", params)
	if err != nil {
		return nil, err
	}
	s := &static{current: current}
	if params["previous_key"] == "" {
		return s, nil
	}
	previous, err := readKey("previous_key", params)
	if err != nil {
		return nil, err
	}
	switch same := previous.bytes.Equal(current.bytes); {
	case same && previous.id != current.id:
		return nil, fault.New(op, fault.Invalid,
			"seal \"static\": current_key and previous_key are the same key with two ids; give one of them "+
				"another key")
	case !same && previous.id == current.id:
		return nil, fault.New(op, fault.Invalid,
			"seal \"static\": current_key_id and previous_key_id are both %q for two keys; name them differently",
			current.id)
	}
	s.previous = []key{previous}
	return s, nil
}

// Name implements [seal.Seal].
func (*static) Name() string { return name }

// Splits implements [seal.Seal].
func (*static) Splits() bool { return false }

// Current implements [seal.Seal].
func (s *static) Current(c seal.Copy) bool {
	if c.KeyID != s.current.id {
		return false
	}
	_, err := s.current.unwrap(c)
	return err == nil
}

// CheckSplit implements [seal.Seal].
func (*static) CheckSplit(s seal.Split) error {
	if s != (seal.Split{}) {
		return fault.New("static.CheckSplit", fault.Invalid,
			"secret_shares, secret_threshold: this server unseals itself (seal \"static\") and has no key shares; "+
				"leave both out")
	}
	return nil
}

// Recognise implements [seal.Seal]: there are no shares.
func (*static) Recognise(seal.Copy, secret.Value) (string, error) {
	return "", fault.New("static.Recognise", fault.Invalid,
		"this server unseals itself (seal \"static\") and takes no key; leave it out")
}

// Wrap implements [seal.Seal].
func (s *static) Wrap(_ context.Context, root secret.Value, split seal.Split) (seal.Copy, []secret.Value, error) {
	if err := s.CheckSplit(split); err != nil {
		return seal.Copy{}, nil, err
	}
	c := seal.NewCopy(name, s.current.id, split)
	k := s.current.bytes.Reveal()
	defer clear(k)
	if err := c.Lock(k, root); err != nil {
		return seal.Copy{}, nil, err
	}
	return c, nil, nil
}

// Unwrap implements [seal.Seal]. It tries every key, because IDs are only informative.
func (s *static) Unwrap(_ context.Context, c seal.Copy, _ []secret.Value) (secret.Value, error) {
	const op = "static.Unwrap"
	keys := append([]key{s.current}, s.previous...)
	for _, k := range keys {
		if root, err := k.unwrap(c); err == nil {
			return root, nil
		}
	}
	for _, k := range keys {
		if k.id == c.KeyID {
			return secret.Value{}, fault.New(op, fault.Invalid,
				"seal \"static\": the key %q from %s does not open the seal, though the seal was made with a key of "+
					"that id; was the key replaced?",
				k.id,
				k.from)
		}
	}
	return secret.Value{}, fault.New(op, fault.Invalid,
		"seal \"static\": the seal was made with the key %q, and the configuration has %s; put that key into "+
			"previous_key",
		c.KeyID,
		ids(keys))
}

func ids(keys []key) string {
	text := ""
	for i, k := range keys {
		if i > 0 {
			text += " and "
		}
		text += `"` + k.id + `" from ` + k.from
	}
	return text
}
