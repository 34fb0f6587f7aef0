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

// A Progress gathers shares until there are enough. Its zero value has none.
// It is not safe for concurrent use.
type Progress struct {
	nonce string
	made  []byte // salt of the copy that the shares are of
	ids   map[string]bool
	given []secret.Value
}

// Nonce names this gathering, from its first share on; "" before.
func (p *Progress) Nonce() string { return p.nonce }

// Count is how many different shares were given.
func (p *Progress) Count() int { return len(p.given) }

// Reset forgets the shares.
func (p *Progress) Reset() { *p = Progress{} }

// Give adds a share in the text form in which it was handed out, hexadecimal
// or base64. With the last one that is needed it returns the root key and is
// reset; until then the key is empty. A share that is not one of the record's
// is fault.Invalid and leaves the others as they are; one that was given
// before changes nothing.
func (p *Progress) Give(ctx context.Context, s Seal, r *Record, text secret.Value) (secret.Value, error) {
	const op = "seal.Give"
	c, err := r.Copy(s.Name())
	if err != nil {
		return secret.Value{}, err
	}
	if !s.Splits() {
		return secret.Value{}, fault.New(op, fault.Invalid, "this server unseals itself (seal %q) and takes no key; leave it out", s.Name())
	}
	share, err := ParseShare(text)
	if err != nil {
		return secret.Value{}, err
	}
	id, err := s.Recognise(c, share)
	if err != nil {
		return secret.Value{}, err
	}
	if string(p.made) != string(c.Salt) { // the first share, or the record was replaced meanwhile
		*p = Progress{nonce: newNonce(), made: c.Salt, ids: map[string]bool{}}
	}
	if !p.ids[id] {
		p.ids[id] = true
		p.given = append(p.given, share)
	}
	if len(p.given) < c.Threshold {
		return secret.Value{}, nil
	}
	defer p.Reset()
	return s.Unwrap(ctx, c, p.given)
}

// A Status is what seal-status tells of a record and its unsealing.
type Status struct {
	Type      string // the seal's name
	Shares    int    // n
	Threshold int    // t
	Progress  int
	Nonce     string
}

// Status returns the state of unsealing. A nil record is of a server that is
// not initialized.
func (p *Progress) Status(s Seal, r *Record) Status {
	st := Status{Type: s.Name(), Progress: p.Count(), Nonce: p.Nonce()}
	if r != nil {
		if c, err := r.Copy(s.Name()); err == nil {
			st.Shares, st.Threshold = c.Shares, c.Threshold
		}
	}
	return st
}

// maxShareText bounds what is decoded as a share.
const maxShareText = 1024

// ParseShare decodes a share from hexadecimal or base64.
func ParseShare(text secret.Value) (secret.Value, error) {
	s := strings.TrimSpace(text.RevealString())
	if s == "" || len(s) > maxShareText {
		return secret.Value{}, fault.New("seal.ParseShare", fault.Invalid, "key: want one key share; it was given %d characters", len(s))
	}
	if b, err := hex.DecodeString(s); err == nil {
		return secret.New(b), nil
	}
	s = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(s, "="))
	b, err := base64.RawStdEncoding.DecodeString(s)
	if err != nil {
		return secret.Value{}, fault.New("seal.ParseShare", fault.Invalid, "key: neither hexadecimal nor base64; was it copied whole?")
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
