// Package password generates passwords by a policy: a length, and sets of
// characters with how many of each must be there at least.
//
// Characters are drawn from the union of the sets, uniformly and by a
// cryptographic source; those that a set demands are drawn first, and the whole is
// shuffled.
package password

import (
	"crypto/rand"
	"math/big"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/hashicorp/hcl"
	"github.com/hashicorp/hcl/hcl/ast"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
)

// Limits of a policy.
const (
	maxText    = 64 << 10
	minLength  = 4
	maxLength  = 128
	maxCharset = 1024
)

// A Policy says what passwords look like. It is immutable.
type Policy struct {
	length int
	rules  []rule
	all    []rune
}

type rule struct {
	charset []rune
	min     int
}

// Default is 20 letters, digits and dashes, at least one of each kind.
func Default() *Policy {
	p := &Policy{length: 20, rules: []rule{
		{[]rune("abcdefghijklmnopqrstuvwxyz"), 1}, {[]rune("ABCDEFGHIJKLMNOPQRSTUVWXYZ"), 1}, {[]rune("0123456789"), 1}, {[]rune("-"), 1},
	}}
	p.union()
	return p
}

func (p *Policy) union() {
	for _, r := range p.rules {
		p.all = append(p.all, r.charset...)
	}
	slices.Sort(p.all)
	p.all = slices.Compact(p.all)
}

// Parse reads a policy in Vault's form: length, and rule "charset" blocks with
// charset and min-chars.
func Parse(text string) (*Policy, error) {
	bad := func(format string, args ...any) (*Policy, error) {
		return nil, fault.New("password.Parse", fault.Invalid, "field \"policy\": "+format, args...)
	}
	if len(text) > maxText {
		return bad("longer than 64 KiB")
	}
	list, err := parseHCL(text)
	if err != nil {
		return bad("%s", err)
	}
	p := &Policy{}
	for _, item := range list.Items {
		name, _ := item.Keys[0].Token.Value().(string)
		switch name {
		case "length":
			if hcl.DecodeObject(&p.length, item.Val) != nil {
				return bad("line %d: length must be a number", item.Pos().Line)
			}
		case "rule":
			r, why := parseRule(item)
			if why != "" {
				return bad("line %d: %s", item.Pos().Line, why)
			}
			p.rules = append(p.rules, r)
		default:
			return bad("line %d: unknown key %q; there are length and rule", item.Pos().Line, name)
		}
	}
	return p.check()
}

func parseHCL(text string) (list *ast.ObjectList, err error) {
	bad := fault.New("password.Parse", fault.Invalid, "it cannot be parsed")
	defer func() {
		if r := recover(); r != nil {
			list, err = nil, bad
		}
	}()
	f, err := hcl.Parse(text)
	if err != nil {
		return nil, err
	}
	list, ok := f.Node.(*ast.ObjectList)
	if !ok {
		return nil, bad
	}
	return list, nil
}

func parseRule(item *ast.ObjectItem) (r rule, why string) {
	if len(item.Keys) != 2 {
		return r, "want rule \"charset\" { … }"
	}
	if kind, _ := item.Keys[1].Token.Value().(string); kind != "charset" {
		return r, "there is only rule \"charset\""
	}
	obj, ok := item.Val.(*ast.ObjectType)
	if !ok {
		return r, "want a block"
	}
	for _, attr := range obj.List.Items {
		name, _ := attr.Keys[0].Token.Value().(string)
		switch name {
		case "charset":
			var s string
			if hcl.DecodeObject(&s, attr.Val) != nil || s == "" || !utf8.ValidString(s) {
				return r, "charset must be a text of at least one character"
			}
			r.charset = []rune(s)
			if len(r.charset) > maxCharset || strings.ContainsFunc(s, func(c rune) bool { return c < 0x20 || c == 0x7f }) {
				return r, "charset must have at most 1024 characters, none of them control characters"
			}
			slices.Sort(r.charset)
			r.charset = slices.Compact(r.charset)
		case "min-chars", "min_chars":
			if hcl.DecodeObject(&r.min, attr.Val) != nil || r.min < 0 {
				return r, "min-chars must be a number, not negative"
			}
		default:
			return r, "unknown key " + name
		}
	}
	if len(r.charset) == 0 {
		return r, "charset is missing"
	}
	return r, ""
}

func (p *Policy) check() (*Policy, error) {
	if p.length < minLength || p.length > maxLength {
		return nil, fault.New("password.Parse", fault.Invalid, "field \"policy\": length must be from %d to %d, not %d", minLength, maxLength, p.length)
	}
	if len(p.rules) == 0 {
		return nil, fault.New("password.Parse", fault.Invalid, "field \"policy\": at least one rule \"charset\" is needed")
	}
	need := 0
	for _, r := range p.rules {
		need += r.min
	}
	if need > p.length {
		return nil, fault.New("password.Parse", fault.Invalid, "field \"policy\": the rules demand %d characters, and length is %d", need, p.length)
	}
	p.union()
	return p, nil
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
	if err != nil { // the reader does not fail; it ends the process instead
		panic("password: " + err.Error())
	}
	return int(v.Int64())
}
