package token

import (
	"slices"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/glob"
)

// The two policies that have a meaning of their own.
const (
	rootPolicy    = "root"
	defaultPolicy = "default"
)

// A Grant is the policies of a new token. Only this file creates grants, so that nobody can assign
// policies without saying on whose behalf.
type Grant struct{ policies []string }

// Policies returns the sorted names.
func (g Grant) Policies() []string { return g.policies }

// Root reports whether the grant includes the root policy.
func (g Grant) Root() bool { return slices.Contains(g.policies, rootPolicy) }

// A Creator says on whose behalf a token gets its policies: the caller of the request, or a login
// method, which assigns the policies in its configuration.
type Creator struct {
	Policies []string // the caller's
	Sudo     bool     // the caller has sudo on the path of the request
	Login    bool     // there is no caller, because this is a login
}

// A Request says which policies a new token should have. Names are canonical.
type Request struct {
	Names     []string // none: those of the role or, without a role, of the creator
	NoDefault bool     // without the policy "default"
	Role      *Rules   // of the role that creates the token; nil: none
}

// Rules are the policy rules of a token role. A * in a glob matches any text.
type Rules struct {
	Name                                             string // of the role, for errors
	Allowed, AllowedGlob, Disallowed, DisallowedGlob []string
}

// any reports whether there are rules. Without rules, a token of the role is limited by its
// creator's policies, like any other.
func (r *Rules) any() bool {
	return r != nil && len(r.Allowed)+len(r.AllowedGlob)+len(r.Disallowed)+len(r.DisallowedGlob) > 0
}

// limits reports whether the rules list the allowed policies.
func (r *Rules) limits() bool { return len(r.Allowed)+len(r.AllowedGlob) > 0 }

func (r *Rules) allow(name string) bool {
	return slices.Contains(r.Allowed, name) || matchAny(r.AllowedGlob, name)
}

func (r *Rules) disallow(name string) bool {
	return slices.Contains(r.Disallowed, name) || matchAny(r.DisallowedGlob, name)
}

// Assign decides which policies a token gets. It is called for every token except the first root
// token and wrapping tokens.
//
//   - Only a root token can assign the policy "root", whatever a role or a login method says, and
//     only as the single policy.
//   - A caller can assign its own policies, and "default".
//   - A caller with sudo on the path can also assign any other policy.
//   - A role with rules assigns the policies that they allow to every caller that may use it.
func Assign(m Creator, a Request) (Grant, error) {
	if err := checkRoot(m, a); err != nil {
		return Grant{}, err
	}
	var names []string
	var err error
	switch {
	case a.Role.any():
		names, err = a.fromRole()
	case m.Login:
		names = a.withDefault(a.Names, true)
	default:
		names, err = a.fromCreator(m)
	}
	if err != nil {
		return Grant{}, err
	}
	if slices.Contains(names, rootPolicy) { // in case that checkRoot missed a way to get it
		if !slices.Contains(m.Policies, rootPolicy) || m.Login {
			return Grant{}, errRoot()
		}
		return Grant{[]string{rootPolicy}}, nil
	}
	names = slices.Clone(names)
	slices.Sort(names)
	if names = slices.Compact(names); len(names) > MaxPolicies {
		return Grant{}, fault.New("token.Assign", fault.Invalid,
			"field \"policies\": the token would have %d policies, and a token has %d at most; join some in one",
			len(names), MaxPolicies)
	}
	return Grant{names}, nil
}

// MaxPolicies limits the policies of a token, because all of them are compiled for its first
// request, and listed in each of its audit entries.
const MaxPolicies = 256

func errRoot() error {
	return fault.New("token.Assign", fault.Denied,
		"permission denied: the policy \"root\" is given by a root token only; leave it out")
}

// checkRoot refuses the policy "root" unless the creator may assign it, before other rules apply.
func checkRoot(m Creator, a Request) error {
	if !slices.Contains(a.Names, rootPolicy) {
		return nil
	}
	if m.Login || !slices.Contains(m.Policies, rootPolicy) {
		return errRoot()
	}
	if a.Role.any() && !slices.Contains(a.Role.Allowed, rootPolicy) { // a glob does not allow it
		return fault.New("token.Assign", fault.Denied,
			"permission denied: the role %q does not allow the policy \"root\"; leave it out", a.Role.Name)
	}
	return nil
}

// fromCreator returns the policies that the creator may assign: its own or, with sudo, any.
func (a *Request) fromCreator(m Creator) ([]string, error) {
	free := m.Sudo || slices.Contains(m.Policies, rootPolicy)
	if len(a.Names) == 0 {
		if a.NoDefault {
			return slices.DeleteFunc(slices.Clone(m.Policies),
				func(name string) bool { return name == defaultPolicy }), nil
		}
		return m.Policies, nil
	}
	for _, name := range a.Names {
		if !free && !slices.Contains(m.Policies, name) {
			return nil, fault.New("token.Assign", fault.Denied,
				"permission denied: child policies must be a subset of the parent's; the caller does not hold %q",
				name)
		}
	}
	return a.withDefault(a.Names, free || slices.Contains(m.Policies, defaultPolicy)), nil
}

// fromRole returns the policies that the role allows.
func (a *Request) fromRole() ([]string, error) {
	ro, names := a.Role, a.Names
	if len(names) == 0 {
		names = ro.Allowed
	}
	if len(names) == 0 && !ro.limits() {
		return nil, fault.New("token.Assign", fault.Invalid,
			"field \"policies\": the role %q names none, so the request must", ro.Name)
	}
	for _, name := range names {
		if ro.limits() && name != defaultPolicy && !ro.allow(name) {
			return nil, fault.New("token.Assign", fault.Invalid,
				"token policies %q must be a subset of the role's allowed policies", name)
		}
		if ro.disallow(name) {
			return nil, fault.New("token.Assign", fault.Invalid,
				"field \"policies\": the policy %q is disallowed by the role %q; leave it out", name, ro.Name)
		}
	}
	return a.withDefault(names, !ro.disallow(defaultPolicy)), nil
}

// withDefault adds the policy "default", unless the request or the role excludes it.
func (a *Request) withDefault(names []string, may bool) []string {
	if a.NoDefault || !may || slices.Contains(names, defaultPolicy) {
		return names
	}
	return slices.Concat(names, []string{defaultPolicy})
}

// FirstRoot is the grant of an installation's first root token, which has no creator, because it
// is committed with the key ring.
func FirstRoot() Grant { return Grant{[]string{rootPolicy}} }

// ForWrapping is the grant of a wrapping token, which can only unwrap its answer.
func ForWrapping() Grant { return Grant{[]string{"response-wrapping"}} }

func matchAny(globs []string, name string) bool {
	return slices.ContainsFunc(globs, func(g string) bool { return glob.Match(g, name) })
}
