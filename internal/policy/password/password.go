// Package password generates passwords by a policy: a length, and sets of
// characters with how many of each must be there at least.
//
// First, the required number of characters is drawn from each set, then the rest from the union of
// the sets; then all are shuffled. Every draw is uniform and from a cryptographic source. The
// number of draws does not depend on the policy. A length counts characters, not bytes.
package password

import (
	"crypto/rand"
	"math/big"
	"slices"

	"github.com/keyturn/keyturn/internal/secret"
)

// Limits of a policy. The shortest password is Vault's; the longest, and the
// largest set, are beyond what any system takes.
const (
	maxText    = 64 << 10
	minLength  = 4
	maxLength  = 128
	maxCharset = 1024
)

// A Policy says what passwords look like. It is immutable and safe for
// concurrent use.
type Policy struct {
	length int
	rules  []rule
	all    []rune // the union of the sets
}

// rule is one set of characters, sorted, and how many of it there must be.
type rule struct {
	charset []rune
	min     int
}

// Default is 20 letters, digits and dashes, at least one of each kind.
func Default() *Policy {
	p := &Policy{length: 20}
	for _, charset := range []string{"abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789", "-"} {
		p.rules = append(p.rules, rule{[]rune(charset), 1})
	}
	p.unite()
	return p
}

func (p *Policy) unite() {
	for _, r := range p.rules {
		p.all = append(p.all, r.charset...)
	}
	slices.Sort(p.all)
	p.all = slices.Compact(p.all)
}

// Generate makes a password.
func (p *Policy) Generate() (secret.Value, error) {
	out := make([]rune, 0, p.length)
	for _, r := range p.rules {
		for range r.min {
			out = append(out, r.charset[below(len(r.charset))])
		}
	}
	for len(out) < p.length {
		out = append(out, p.all[below(len(p.all))])
	}
	for i := len(out) - 1; i > 0; i-- {
		j := below(i + 1)
		out[i], out[j] = out[j], out[i]
	}
	return secret.Text(string(out)), nil
}

// below is a uniform random number in [0, n).
func below(n int) int {
	v, err := rand.Int(rand.Reader, big.NewInt(int64(n)))
	if err != nil { // the reader never fails
		panic("password: " + err.Error())
	}
	return int(v.Int64())
}
