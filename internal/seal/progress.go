package seal

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
)

// A Progress collects key shares until there are enough. The zero value has none. It is not safe
// for concurrent use.
type Progress struct {
	nonce  string
	salt   []byte // of the copy that the shares belong to
	ids    map[string]bool
	shares []secret.Value
}

// Nonce identifies this collection, from its first share on; "" before.
func (p *Progress) Nonce() string { return p.nonce }

// Count returns how many different shares were entered.
func (p *Progress) Count() int { return len(p.shares) }

// Reset forgets the shares.
func (p *Progress) Reset() { *p = Progress{} }

// Give adds a share, in hexadecimal or base64. With the last one that is needed, it returns the
// root key and is reset; until then, the key is empty. A share that does not belong to the record
// is fault.Invalid, and does not affect the others; one that was entered before changes nothing.
func (p *Progress) Give(ctx context.Context, s Seal, r *Record, text secret.Value) (secret.Value, error) {
	const op = "seal.Give"
	c, err := r.Copy(s.Name())
	if err != nil {
		return secret.Value{}, err
	}
	if !s.Splits() {
		return secret.Value{}, fault.New(op, fault.Invalid,
			"this server unseals itself (seal %q) and takes no key; leave it out", s.Name())
	}
	share, err := ParseShare(text)
	if err != nil {
		return secret.Value{}, err
	}
	id, err := s.Recognise(c, share)
	if err != nil {
		return secret.Value{}, err
	}
	if string(p.salt) != string(c.Salt) { // the first share, or the record was replaced meanwhile
		*p = Progress{nonce: newNonce(), salt: c.Salt, ids: map[string]bool{}}
	}
	if !p.ids[id] {
		p.ids[id] = true
		p.shares = append(p.shares, share)
	}
	if len(p.shares) < c.Threshold {
		return secret.Value{}, nil
	}
	defer p.Reset()
	return s.Unwrap(ctx, c, p.shares)
}

// A Status is the state of unsealing, for seal-status.
type Status struct {
	Type      string // the seal's name
	Shares    int    // n
	Threshold int    // t
	Progress  int
	Nonce     string
}

// Status returns the state of unsealing. A nil record means that the server is not initialized.
func (p *Progress) Status(s Seal, r *Record) Status {
	st := Status{Type: s.Name(), Progress: p.Count(), Nonce: p.Nonce()}
	if r != nil {
		if c, err := r.Copy(s.Name()); err == nil {
			st.Shares, st.Threshold = c.Shares, c.Threshold
		}
	}
	return st
}

// maxShareText is the longest text that is decoded as a share.
const maxShareText = 1024

// ParseShare decodes a share from hexadecimal or base64.
func ParseShare(text secret.Value) (secret.Value, error) {
	s := strings.TrimSpace(text.RevealString())
	if s == "" || len(s) > maxShareText {
		return secret.Value{}, fault.New("seal.ParseShare", fault.Invalid,
			"key: want one key share; it was given %d characters", len(s))
	}
	if b, err := hex.DecodeString(s); err == nil {
		return secret.New(b), nil
	}
	s = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(s, "="))
	b, err := base64.RawStdEncoding.DecodeString(s)
	if err != nil {
		return secret.Value{}, fault.New("seal.ParseShare", fault.Invalid,
			"key: neither hexadecimal nor base64; was it copied whole?")
	}
	return secret.New(b), nil
}

// Hex returns a share in hexadecimal.
func Hex(share secret.Value) secret.Value { return secret.Text(hex.EncodeToString(share.Reveal())) }

// Base64 returns a share in base64.
func Base64(share secret.Value) secret.Value {
	return secret.Text(base64.StdEncoding.EncodeToString(share.Reveal()))
}

func newNonce() string {
	var u [16]byte
	_, _ = rand.Read(u[:]) // it does not fail: it ends the process instead
	u[6], u[8] = u[6]&0x0f|0x40, u[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}
