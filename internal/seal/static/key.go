package static

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"strings"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/seal"
	"github.com/keyturn/keyturn/internal/secret"
)

const (
	keySize = 32
	maxFile = 1024 // no form of a key is longer; anything else is another file
)

// readKey reads the key that a parameter names; the id's parameter has the
// same name with "_id".
func readKey(param string, params map[string]string) (key, error) {
	const op = "static.Open"
	from := params[param]
	text, err := fetch(param, from)
	if err != nil {
		return key{}, err
	}
	defer clear(text)
	b, err := parseKey(text)
	if err != nil {
		return key{}, fault.New(op, fault.Invalid, "seal \"static\": %s from %s: %s", param, from, err)
	}
	defer clear(b)
	k := key{id: params[param+"_id"], from: from, bytes: secret.New(b)}
	if k.id == "" {
		k.id = fingerprint(b)
	}
	return k, nil
}

// fetch reads the file or the variable.
func fetch(param, from string) ([]byte, error) {
	const op = "static.Open"
	if v, ok := strings.CutPrefix(from, "env://"); ok {
		text := os.Getenv(v)
		if text == "" {
			return nil, fault.New(op, fault.Invalid,
				"seal \"static\": %s: the environment has no variable %q, or it is empty; set it for the server",
				param, v)
		}
		return []byte(text), nil
	}
	path, ok := strings.CutPrefix(from, "file://")
	if !ok && !strings.HasPrefix(from, "/") { // the error does not repeat it, because it may be a key
		return nil, fault.New(op, fault.Invalid,
			"seal \"static\": %s: want file:///path or env://NAME; the configuration itself cannot contain a key",
			param)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fault.New(op, fault.Invalid, "seal \"static\": %s: opening the file: %s", param, err)
	}
	defer func() { _ = f.Close() }() // it was only read
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fault.New(op, fault.Invalid, "seal \"static\": %s: reading the file: %s", param, err)
	}
	return text, nil
}

// parseKey reads 32 bytes, raw, in hexadecimal or in base64. Text may have space around it.
func parseKey(text []byte) ([]byte, error) {
	trimmed := bytes.TrimSpace(text)
	half, err := hex.DecodeString(string(trimmed))
	if err == nil && len(half) == keySize {
		return half, nil
	}
	clear(half)
	if err == nil && len(text) == keySize {
		return nil, errors.New(
			"32 hexadecimal digits are only 16 bytes; make a key of 32, for example with: openssl rand -hex 32")
	}
	if len(text) == keySize {
		return bytes.Clone(text), nil
	}
	if b, ok := decodeBase64(trimmed); ok {
		return b, nil
	}
	if len(text) > maxFile {
		return nil, errors.New("too long to be a key; want 32 bytes as they are, in hexadecimal or in base64")
	}
	return nil,
		errors.New("want 32 bytes as they are, in hexadecimal or in base64, for example from: openssl rand -hex 32")
}

func decodeBase64(text []byte) ([]byte, bool) {
	s := strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(string(text), "="))
	b, err := base64.RawStdEncoding.DecodeString(s)
	return b, err == nil && len(b) == keySize
}

// A key is one wrapping key.
type key struct {
	id    string
	from  string // where it was read, for messages
	bytes secret.Value
}

func (k key) unwrap(c seal.Copy) (secret.Value, error) {
	b := k.bytes.Reveal()
	defer clear(b)
	return c.Unlock(b)
}

// fingerprint is the ID of a key without a configured one.
func fingerprint(b []byte) string {
	sum := sha256.Sum256(append([]byte("keyturn/seal/static/id\x00"), b...))
	return hex.EncodeToString(sum[:6])
}
