package token

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/barrier"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/policy"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/token"
	"github.com/keyturn/keyturn/internal/wire"
)

// roleRows are the roles, by name.
const roleRows barrier.Rows[role] = "role/"

// role limits the tokens that are created with it.
type role struct {
	Name              string        `json:"-"`
	Allowed           []string      `json:"allowed_policies"`
	AllowedGlob       []string      `json:"allowed_policies_glob"`
	Disallowed        []string      `json:"disallowed_policies"`
	DisallowedGlob    []string      `json:"disallowed_policies_glob"`
	Orphan            bool          `json:"orphan"`
	NotRenewable      bool          `json:"not_renewable,omitempty"`
	PathSuffix        string        `json:"path_suffix"`
	Period            time.Duration `json:"token_period"`
	ExplicitMax       time.Duration `json:"token_explicit_max_ttl"`
	NumUses           int           `json:"token_num_uses"`
	NoDefault         bool          `json:"token_no_default_policy"`
	Type              string        `json:"token_type"`
	BoundCIDRs        []string      `json:"token_bound_cidrs"`
	AllowedEntityTags []string      `json:"allowed_entity_aliases"`
}

// rules returns the policy rules of the role; nil: there is no role.
func (ro *role) rules() *token.Rules {
	if ro.Name == "" {
		return nil
	}
	return &token.Rules{
		Name: ro.Name, Allowed: ro.Allowed, AllowedGlob: ro.AllowedGlob, Disallowed: ro.Disallowed,
		DisallowedGlob: ro.DisallowedGlob,
	}
}

// kind is the type of a token of the role.
func (ro *role) kind(requested string) string {
	switch ro.Type {
	case "service", "batch":
		return ro.Type
	case "default-batch":
		if requested == "" {
			return "batch"
		}
	}
	return requested
}

// roleName is the canonical form of a role's name.
func roleName(s string) (string, error) { return strings.ToLower(s), nil }

// loadRole reads the role with a canonical name; nil: there is none.
func (t *method) loadRole(ctx context.Context, name string) (*role, error) {
	ro, _, err := roleRows.Get(ctx, t.m.Store, name)
	if ro != nil {
		ro.Name = name
	}
	return ro, err
}

// roleOut is a role in answers. It has the deprecated names of fields, too. A list that was never
// written is null.
type roleOut struct {
	Allowed        []string      `json:"allowed_policies"`
	AllowedGlob    []string      `json:"allowed_policies_glob"`
	Disallowed     []string      `json:"disallowed_policies"`
	DisallowedGlob []string      `json:"disallowed_policies_glob"`
	Aliases        []string      `json:"allowed_entity_aliases"`
	ExplicitMax    time.Duration `json:"explicit_max_ttl"`
	Name           string        `json:"name"`
	Orphan         bool          `json:"orphan"`
	PathSuffix     string        `json:"path_suffix"`
	Period         time.Duration `json:"period"`
	Renewable      bool          `json:"renewable"`
	CIDRs          []string      `json:"token_bound_cidrs"`
	TokenMax       time.Duration `json:"token_explicit_max_ttl"`
	NoDefault      bool          `json:"token_no_default_policy"`
	TokenPeriod    time.Duration `json:"token_period"`
	NumUses        int           `json:"token_num_uses"`
	Type           string        `json:"token_type"`
}

func (t *method) readRole(ctx context.Context, r *route.Request, _ route.None) (*roleOut, error) {
	ro, err := t.loadRole(ctx, r.Param("role"))
	if err != nil || ro == nil {
		return nil, err
	}
	kind := ro.Type
	if kind == "" {
		kind = "default-service"
	}
	return &roleOut{
		Allowed: ro.Allowed, AllowedGlob: ro.AllowedGlob, Disallowed: ro.Disallowed, DisallowedGlob: ro.DisallowedGlob,
		Aliases: ro.AllowedEntityTags, ExplicitMax: ro.ExplicitMax, Name: ro.Name, Orphan: ro.Orphan,
		PathSuffix: ro.PathSuffix,
		Period:     ro.Period, Renewable: !ro.NotRenewable, CIDRs: ro.BoundCIDRs, TokenMax: ro.ExplicitMax,
		NoDefault:   ro.NoDefault,
		TokenPeriod: ro.Period, NumUses: ro.NumUses, Type: kind,
	}, nil
}

// roleIn is the request that writes a role. Absent fields keep their values.
type roleIn struct {
	Allowed        *[]policy.Ref  `json:"allowed_policies" default:"the caller's" doc:"The policies that tokens of the role may have. Only a root token may name root."`
	AllowedGlob    *[]policy.Ref  `json:"allowed_policies_glob" doc:"The same, with * as a wildcard. It does not allow root."`
	Disallowed     *[]policy.Ref  `json:"disallowed_policies" doc:"The policies that tokens of the role may not have."`
	DisallowedGlob *[]policy.Ref  `json:"disallowed_policies_glob" doc:"The same, with * as a wildcard."`
	Aliases        *[]string      `json:"allowed_entity_aliases" doc:"Stored without effect until entities are implemented."`
	Orphan         *bool          `json:"orphan" default:"false" doc:"Whether tokens outlive the caller's."`
	Renewable      **bool         `json:"renewable" default:"true" doc:"Whether tokens may be renewed."`
	PathSuffix     *string        `json:"path_suffix" doc:"Appended to the role's name in the path that lookups of its tokens show. Leases are revoked by token, not by this path."`
	Period         *time.Duration `json:"token_period" alias:"period" default:"0s" doc:"For periodic tokens, which live as long as they are renewed within this time."`
	ExplicitMax    *time.Duration `json:"token_explicit_max_ttl" alias:"explicit_max_ttl" default:"0s" doc:"How long tokens live at most, however often they are renewed; 0s: as the mount says."`
	NumUses        *int           `json:"token_num_uses" default:"0" doc:"How many requests a token may be used for; 0: any number."`
	NoDefault      *bool          `json:"token_no_default_policy" default:"false" doc:"Whether the policy default is left out."`
	Type           *string        `json:"token_type" default:"default-service" doc:"The tokens' type: service, batch, default-service or default-batch."`
	CIDRs          *[]string      `json:"token_bound_cidrs" alias:"bound_cidrs" default:"any" doc:"The addresses and networks that tokens may be used from."`
}

func (t *method) writeRole(ctx context.Context, r *route.Request, in roleIn) (route.None, error) {
	name := r.Param("role")
	ro, err := t.loadRole(ctx, name)
	if err != nil {
		return route.None{}, err
	}
	if ro == nil {
		ro = &role{Name: name}
	}
	if in.Allowed != nil && slices.Contains(*in.Allowed, policy.Root) && !r.Caller.Root {
		return route.None{}, fault.New("token.writeRole", fault.Denied,
			"permission denied: field \"allowed_policies\": only a root token may name the policy \"root\"; leave "+
				"it out")
	}
	if err := in.apply(ro); err != nil {
		return route.None{}, err
	}
	return route.None{}, roleRows.Put(ctx, t.m.Store, name, *ro)
}

func (in *roleIn) apply(ro *role) error {
	for _, list := range []struct {
		to   *[]string
		from *[]policy.Ref
		glob bool
	}{
		{&ro.Allowed, in.Allowed, false}, {&ro.AllowedGlob, in.AllowedGlob, true},
		{&ro.Disallowed, in.Disallowed, false}, {&ro.DisallowedGlob, in.DisallowedGlob, true},
	} {
		if list.from == nil {
			continue
		}
		if *list.to = policy.Refs(*list.from); list.glob {
			if err := checkGlobs(*list.to); err != nil {
				return err
			}
			continue
		}
		for _, name := range *list.to {
			if err := policy.Canonical(name); err != nil {
				return err
			}
		}
	}
	set(&ro.AllowedEntityTags, in.Aliases)
	set(&ro.Orphan, in.Orphan)
	set(&ro.PathSuffix, in.PathSuffix)
	set(&ro.Period, in.Period)
	set(&ro.ExplicitMax, in.ExplicitMax)
	set(&ro.NumUses, in.NumUses)
	set(&ro.NoDefault, in.NoDefault)
	set(&ro.Type, in.Type)
	set(&ro.BoundCIDRs, in.CIDRs)
	renewable := !ro.NotRenewable
	wire.Default(&renewable, in.Renewable, true)
	ro.NotRenewable = !renewable
	return ro.check()
}

// checkGlobs refuses globs that can match no policy name.
func checkGlobs(globs []string) error {
	for _, g := range globs {
		if policy.Canonical(strings.ReplaceAll(g, "*", "x")) != nil {
			return fault.New("token.writeRole", fault.Invalid,
				"the glob %.140q matches no policy name; * matches any text, and the rest must be "+
					"valid in a policy name",
				g)
		}
	}
	return nil
}

func (ro *role) check() error {
	if _, err := parseCIDRs("token_bound_cidrs", ro.BoundCIDRs); err != nil {
		return err
	}
	if ro.NumUses < 0 {
		return fault.New("token.writeRole", fault.Invalid, "field \"token_num_uses\" must not be negative")
	}
	if p, err := route.ParsePath(strings.ReplaceAll(ro.PathSuffix, "%", "%25"), false); err != nil ||
		string(p) != ro.PathSuffix {
		return fault.New("token.writeRole", fault.Invalid,
			"field \"path_suffix\": %.140q cannot stand at the end of a path; write names with single slashes "+
				"between them",
			ro.PathSuffix)
	}
	if !slices.Contains([]string{"", "service", "batch", "default", "default-service", "default-batch"}, ro.Type) {
		return fault.New("token.writeRole", fault.Invalid,
			"field \"token_type\" must be \"service\", \"batch\", \"default-service\" or \"default-batch\", not %q",
			ro.Type)
	}
	return nil
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

func (t *method) deleteRole(ctx context.Context, r *route.Request, _ route.None) (route.None, error) {
	return route.None{}, t.m.Store.Delete(ctx, roleRows.Key(r.Param("role")))
}

func (t *method) listRoles(ctx context.Context, _ *route.Request, _ route.None) (route.Keys, error) {
	names, err := t.m.Store.Names(ctx, string(roleRows))
	return route.Keys{Keys: names}, err
}
