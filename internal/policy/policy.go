// Package policy evaluates policies. It is pure: text in, decisions out, no store and no clock.
// Its results are immutable and safe for concurrent use.
//
// A policy's rules each name a path and what is allowed there. Of all rules
// that match a request's path exactly one decides, the most specific; rules of
// one or several policies for the same path are merged first. The order is the one
// that Vault documents (https://developer.hashicorp.com/vault/docs/concepts/policies):
// an exact path wins over patterns; of two patterns the one whose first "+" or "*"
// comes later wins, then the one without a "*" at its end, then the one with fewer "+",
// then the longer, then the greater. "+" stands for one segment that is not empty.
//
// If that is ambiguous, the stricter meaning is used:
//
//   - A deny also matches paths that differ in case only. It counts as
//     specific as it is written; the same path in another case is the same path.
//   - A listing is judged with and without its last slash, and the more
//     specific rule of both decides. A deny wins over a rule that differs from it in
//     the last slash only.
//   - Denied values match in any case, and each element of a list and each
//     part between commas; allowed ones must hold for every element. Values are compared
//     as texts, and true and false as what engines read as them.
//   - Amounts are compared by value, too: the number 5 is also "05" and 5.0, and the duration "1h"
//     is also "60m" and 3600. A denied amount is denied in every form, also in a parameter of
//     which nothing is known or that is a text: who denies "7" denies the password "007". An
//     allowed amount is allowed in other forms only where the parameter is known to be a number or
//     a duration. A pattern, such as "6*", is compared with the text alone.
//   - A required parameter must be spelled as the rule spells it.
//   - What can never match, such as an empty segment or a "*" in the middle, is an error.
package policy

import (
	"strings"

	"github.com/keyturn/keyturn/internal/fault"
)

// Root is the name of the policy that allows everything.
const Root = "root"

// maxText is the longest policy text in bytes.
const maxText = 1 << 20

// capabilities by name, in the order in which they are shown.
var capabilities = []struct {
	name string
	op   Operation
}{
	{"create", Create}, {"delete", Delete}, {"deny", deny}, {"list", List}, {"patch", Patch}, {"read", Read},
	{"recover", recovery}, {"subscribe", subscribe}, {"sudo", sudo}, {"update", Update},
}

func capability(name string) Operation {
	for _, c := range capabilities {
		if c.name == name {
			return c.op
		}
	}
	return 0
}

// names lists capabilities as they are shown: sorted, and "deny" for none.
func names(caps Operation) []string {
	if caps == 0 || caps&deny != 0 {
		return []string{"deny"}
	}
	var out []string
	for _, c := range capabilities {
		if caps&c.op != 0 {
			out = append(out, c.name)
		}
	}
	return out
}

// A Policy is a parsed text. It is immutable.
type Policy struct {
	Name  string
	root  bool
	rules []rule
}

// RootPolicy allows everything.
func RootPolicy() *Policy { return &Policy{Name: Root, root: true} }

// maxName is the longest name of a policy in bytes.
const maxName = 128

// Name returns the canonical form of a policy's name, in which names are stored, judged and
// compared: in lower case, without surrounding spaces. A name has ASCII letters, digits, spaces
// and . _ : @ - /, so that it cannot be mistaken for a list of names or, after a path is cleaned,
// for another name. The caller decides what is allowed with [Root].
func Name(s string) (string, error) {
	name := canonicalSpelling(s)
	bad := func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || strings.ContainsRune("._:@-/ ", r))
	}
	if len(name) > maxName || strings.ContainsFunc(name, bad) || hasEmptySegment(name) {
		return "", fault.New("policy.Name", fault.Invalid,
			"the policy name %.40q must have 1 to %d ASCII letters, digits, spaces or . _ : @ - /, with something "+
				"between slashes",
			s,
			maxName)
	}
	return name, nil
}

// hasEmptySegment reports whether a name has nothing between two slashes, or before or after one.
func hasEmptySegment(name string) bool {
	for seg := range strings.SplitSeq(name, "/") {
		if strings.Trim(seg, ". ") == "" {
			return true
		}
	}
	return false
}

// canonicalSpelling is the form of what may be no name: what else is odd about it is left for Name
// to refuse.
func canonicalSpelling(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, strings.Trim(s, " "))
}

// Canonical refuses a name that is not canonical, and says what the canonical form is.
func Canonical(s string) error {
	name, err := Name(s)
	if err == nil && name != s {
		err = fault.New("policy.Canonical", fault.Invalid,
			"the policy name %.140q is not in its canonical form; write %q", s, name)
	}
	return err
}

// A Ref is a policy's name in the body of a request. Decoding makes it canonical, and parameter
// rules see the canonical form, too.
type Ref string

// Canonical returns the canonical form of a text that may not be a valid name.
func (r Ref) Canonical() string { return canonicalSpelling(string(r)) }

// Refs are the names as texts.
func Refs(refs []Ref) []string {
	if refs == nil {
		return nil
	}
	names := make([]string, len(refs))
	for i, r := range refs {
		names[i] = string(r)
	}
	return names
}
