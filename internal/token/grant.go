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

// A Grant is the policies that a token is given. A token is made of one, and only
// this file makes one: whoever wants to give a token policies says by whose power.
type Grant struct{ policies []string }

// Policies are the names, sorted.
func (g Grant) Policies() []string { return g.policies }

// Root reports whether the grant is of the root policy.
func (g Grant) Root() bool { return slices.Contains(g.policies, rootPolicy) }

// A Maker is who gives a token its policies: the caller of the request, or a login
// method, which gives what its configuration says.
type Maker struct {
	Policies []string // that the caller holds
	Sudo     bool     // the caller holds sudo on the path of the request
	Login    bool     // there is no caller: somebody logs in
}

// An Ask is what a new token is to be given. Names are in their canonical form.
type Ask struct {
	Names     []string // none: what the role names, else what the maker holds
	NoDefault bool     // leave the policy "default" out
	Role      *Rules   // of the role that the token is made by; nil: none
}

// Rules are what a token role says of policies. A glob's * stands for any characters.
type Rules struct {
	Name                                             string // of the role, for errors
	Allowed, AllowedGlob, Disallowed, DisallowedGlob []string
}

// judge reports whether there are rules at all. Without, a token made by the role is
// bound by its maker's policies as any other is.
func (r *Rules) judge() bool {
	return r != nil && len(r.Allowed)+len(r.AllowedGlob)+len(r.Disallowed)+len(r.DisallowedGlob) > 0
}

// limit reports whether the rules name what is allowed.
func (r *Rules) limit() bool { return len(r.Allowed)+len(r.AllowedGlob) > 0 }

func (r *Rules) allow(name string) bool {
	return slices.Contains(r.Allowed, name) || matchAny(r.AllowedGlob, name)
}

func (r *Rules) disallow(name string) bool {
	return slices.Contains(r.Disallowed, name) || matchAny(r.DisallowedGlob, name)
}

// Give decides which policies a token is given. Every token but the first root token
// and those of wrapped answers passes here, whatever it is made by.
//
//   - The policy "root" is given by a holder of root alone, whatever a role or a login
//     method says, and stands alone.
//   - A caller gives what it holds itself, "default" included.
//   - A caller with sudo on the path gives any other policy, too.
//   - A role that names policies gives those to every caller that may use it.
func Give(m Maker, a Ask) (Grant, error) {
	if err := checkRoot(m, a); err != nil {
		return Grant{}, err
	}
	var names []string
	var err error
	switch {
	case a.Role.judge():
		names, err = a.byRole()
	case m.Login:
		names = a.withDefault(a.Names, true)
	default:
		names, err = a.byMaker(m)
	}
	if err != nil {
		return Grant{}, err
	}
	if slices.Contains(names, rootPolicy) { // by whatever way it came: checkRoot has seen the ways that are known
		if !slices.Contains(m.Policies, rootPolicy) || m.Login {
			return Grant{}, errRoot()
		}
		return Grant{[]string{rootPolicy}}, nil
	}
	names = slices.Clone(names)
	slices.Sort(names)
	if names = slices.Compact(names); len(names) > MaxPolicies {
		return Grant{}, fault.New("token.Give", fault.Invalid, "field \"policies\": the token would have %d policies, and a token has %d at most; join some in one", len(names), MaxPolicies)
	}
	return Grant{names}, nil
}

// MaxPolicies is how many policies a token has at most: all of them are compiled for its first request, and named in each line of the audit log.
const MaxPolicies = 256

func errRoot() error {
	return fault.New("token.Give", fault.Denied, "permission denied: the policy \"root\" is given by a root token only; leave it out")
}

// checkRoot refuses root to whoever may not give it, before any other rule speaks.
func checkRoot(m Maker, a Ask) error {
	if !slices.Contains(a.Names, rootPolicy) {
		return nil
	}
	if m.Login || !slices.Contains(m.Policies, rootPolicy) {
		return errRoot()
	}
	if a.Role.judge() && !slices.Contains(a.Role.Allowed, rootPolicy) { // a glob does not name it
		return fault.New("token.Give", fault.Denied, "permission denied: the role %q does not allow the policy \"root\"; leave it out", a.Role.Name)
	}
	return nil
}

// byMaker gives what the maker holds, or may give by sudo.
func (a *Ask) byMaker(m Maker) ([]string, error) {
	free := m.Sudo || slices.Contains(m.Policies, rootPolicy)
	if len(a.Names) == 0 {
		if a.NoDefault {
			return slices.DeleteFunc(slices.Clone(m.Policies), func(name string) bool { return name == defaultPolicy }), nil
		}
		return m.Policies, nil
	}
	for _, name := range a.Names {
		if !free && !slices.Contains(m.Policies, name) {
			return nil, fault.New("token.Give", fault.Denied, "permission denied: child policies must be a subset of the parent's; the caller does not hold %q", name)
		}
	}
	return a.withDefault(a.Names, free || slices.Contains(m.Policies, defaultPolicy)), nil
}

// byRole gives what the role allows.
func (a *Ask) byRole() ([]string, error) {
	ro, names := a.Role, a.Names
	if len(names) == 0 {
		names = ro.Allowed
	}
	if len(names) == 0 && !ro.limit() {
		return nil, fault.New("token.Give", fault.Invalid, "field \"policies\": the role %q names none, so the request must", ro.Name)
	}
	for _, name := range names {
		if ro.limit() && name != defaultPolicy && !ro.allow(name) {
			return nil, fault.New("token.Give", fault.Invalid, "token policies %q must be a subset of the role's allowed policies", name)
		}
		if ro.disallow(name) {
			return nil, fault.New("token.Give", fault.Invalid, "field \"policies\": the policy %q is disallowed by the role %q; leave it out", name, ro.Name)
		}
	}
	return a.withDefault(names, !ro.disallow(defaultPolicy)), nil
}

// withDefault adds the policy "default", which every token has that may have it.
func (a *Ask) withDefault(names []string, may bool) []string {
	if a.NoDefault || !may || slices.Contains(names, defaultPolicy) {
		return names
	}
	return slices.Concat(names, []string{defaultPolicy})
}

// FirstRoot is the grant of an installation's first root token. The token has no
// maker, because it is committed with the key ring.
func FirstRoot() Grant { return Grant{[]string{rootPolicy}} }

// ForWrapping is the grant of a token that can do nothing but unwrap its answer.
func ForWrapping() Grant { return Grant{[]string{"response-wrapping"}} }

func matchAny(globs []string, name string) bool {
	return slices.ContainsFunc(globs, func(g string) bool { return glob.Match(g, name) })
}
