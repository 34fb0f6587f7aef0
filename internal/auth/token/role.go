package token

import (
	"context"
	"encoding/json"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/wire"
)

// rolePrefix is where roles are kept, below the mount's folder.
const rolePrefix = "role/"

// role bounds the tokens that are made by it.
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

func matchAny(globs []string, name string) bool {
	return slices.ContainsFunc(globs, func(g string) bool { ok, err := path.Match(g, name); return err == nil && ok })
}

// judges reports whether the role says which policies its tokens may have. If it
// does not, they may have no more than their creator.
func (ro *role) judges() bool {
	return len(ro.Allowed) > 0 || len(ro.AllowedGlob) > 0 || len(ro.Disallowed) > 0 || len(ro.DisallowedGlob) > 0
}

// bind is what the addresses that were asked for have in common with the role's.
func (ro *role) bind(asked []netip.Prefix) ([]netip.Prefix, error) {
	own, err := parseCIDRs(ro.BoundCIDRs)
	switch {
	case err != nil, len(own) == 0:
		return asked, err
	case len(asked) == 0:
		return own, nil
	}
	var both []netip.Prefix
	for _, a := range asked {
		for _, o := range own {
			if !a.Overlaps(o) {
				continue
			}
			if a.Bits() < o.Bits() {
				both = append(both, o)
			} else {
				both = append(both, a)
			}
		}
	}
	if len(both) == 0 {
		return nil, fault.New("token.create", fault.Invalid, "field \"bound_cidrs\": none of these addresses is among those of the role %q; leave the field out", ro.Name)
	}
	return both, nil
}

// choose decides the policies of a token made by a role that judges them.
func (ro *role) choose(asked []string, noDefault bool) ([]string, error) {
	limited := len(ro.Allowed) > 0 || len(ro.AllowedGlob) > 0
	if len(asked) == 0 {
		asked = slices.Clone(ro.Allowed)
	}
	if len(asked) == 0 && !limited {
		return nil, fault.New("token.create", fault.Invalid, "field \"policies\": the role %q names none, so the request must", ro.Name)
	}
	for _, p := range asked {
		if p == "root" && !slices.Contains(ro.Allowed, "root") {
			return nil, fault.New("token.create", fault.Denied, "permission denied: the role %q does not allow the policy \"root\"; name it in the role's allowed_policies, or leave it out", ro.Name)
		}
		if limited && p != "default" && !slices.Contains(ro.Allowed, p) && !matchAny(ro.AllowedGlob, p) {
			return nil, fault.New("token.create", fault.Invalid, "token policies %q must be a subset of the role's allowed policies", p)
		}
		if slices.Contains(ro.Disallowed, p) || matchAny(ro.DisallowedGlob, p) {
			return nil, fault.New("token.create", fault.Invalid, "field \"policies\": the policy %q is disallowed by the role %q; leave it out", p, ro.Name)
		}
	}
	without := noDefault || ro.NoDefault || slices.Contains(ro.Disallowed, "default") || matchAny(ro.DisallowedGlob, "default")
	return withDefault(asked, without), nil
}

// kind is the type of a token made by the role.
func (ro *role) kind(asked string) string {
	switch ro.Type {
	case "service", "batch":
		return ro.Type
	case "default-batch":
		if asked == "" {
			return "batch"
		}
	}
	return asked
}

func (t *method) loadRole(ctx context.Context, name string) (*role, error) {
	e, err := t.m.Store.Get(ctx, rolePrefix+strings.ToLower(name))
	if err != nil || e.Version == 0 {
		return nil, err
	}
	ro := &role{Name: strings.ToLower(name)}
	if err := json.Unmarshal(e.Value, ro); err != nil {
		return nil, fault.Wrap("token.loadRole", fault.Internal, err)
	}
	for _, names := range [][]string{ro.Allowed, ro.AllowedGlob, ro.Disallowed, ro.DisallowedGlob} {
		for i, name := range names { // as policies are named, or "Admin" would not disallow "admin"
			names[i] = strings.ToLower(strings.TrimSpace(name))
		}
	}
	return ro, nil
}

// roleOut is a role in answers; the old names of fields stand beside the new.
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

func list(in []string) []string {
	if in == nil {
		return []string{}
	}
	return in
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
		Allowed: list(ro.Allowed), AllowedGlob: list(ro.AllowedGlob), Disallowed: list(ro.Disallowed), DisallowedGlob: list(ro.DisallowedGlob),
		Aliases: list(ro.AllowedEntityTags), ExplicitMax: ro.ExplicitMax, Name: ro.Name, Orphan: ro.Orphan, PathSuffix: ro.PathSuffix,
		Period: ro.Period, Renewable: !ro.NotRenewable, CIDRs: list(ro.BoundCIDRs), TokenMax: ro.ExplicitMax, NoDefault: ro.NoDefault,
		TokenPeriod: ro.Period, NumUses: ro.NumUses, Type: kind,
	}, nil
}

// roleIn is what a role is written with; what is absent stays as it is.
type roleIn struct {
	Allowed        *[]string      `json:"allowed_policies" default:"the caller's" doc:"The policies that tokens of the role may have."`
	AllowedGlob    *[]string      `json:"allowed_policies_glob" doc:"The same, with * for any letters."`
	Disallowed     *[]string      `json:"disallowed_policies" doc:"The policies that they may not have."`
	DisallowedGlob *[]string      `json:"disallowed_policies_glob" doc:"The same, with * for any letters."`
	Aliases        *[]string      `json:"allowed_entity_aliases" doc:"Kept, and without effect until entities are built."`
	Orphan         *bool          `json:"orphan" default:"false" doc:"Whether tokens outlive the caller's."`
	Renewable      **bool         `json:"renewable" default:"true" doc:"Whether tokens may be renewed."`
	PathSuffix     *string        `json:"path_suffix" doc:"Kept and shown, and without effect: leases are revoked by token, not by such a path."`
	Period         *time.Duration `json:"token_period" default:"0s" doc:"For periodic tokens, which live as long as they are renewed within this time."`
	OldPeriod      *time.Duration `json:"period" doc:"token_period, under its old name."`
	ExplicitMax    *time.Duration `json:"token_explicit_max_ttl" default:"0s" doc:"How long tokens live at most, however often they are renewed; 0s: as the mount says."`
	OldExplicitMax *time.Duration `json:"explicit_max_ttl" doc:"token_explicit_max_ttl, under its old name."`
	NumUses        *int           `json:"token_num_uses" default:"0" doc:"How many requests tokens are good for; 0: any number."`
	NoDefault      *bool          `json:"token_no_default_policy" default:"false" doc:"Whether the policy default is left out."`
	Type           *string        `json:"token_type" default:"default-service" doc:"The tokens' type: service, batch, default-service or default-batch."`
	CIDRs          *[]string      `json:"token_bound_cidrs" default:"any" doc:"The addresses and networks that tokens may be used from."`
	OldCIDRs       *[]string      `json:"bound_cidrs" doc:"token_bound_cidrs, under its old name."`
}

func (t *method) writeRole(ctx context.Context, r *route.Request, in roleIn) (route.None, error) {
	name := strings.ToLower(r.Param("role"))
	ro, err := t.loadRole(ctx, name)
	if err != nil {
		return route.None{}, err
	}
	if ro == nil {
		ro = &role{Name: name}
	}
	if err := in.apply(ro); err != nil {
		return route.None{}, err
	}
	b, err := json.Marshal(ro)
	if err != nil {
		return route.None{}, fault.Wrap("token.writeRole", fault.Internal, err)
	}
	_, err = t.m.Store.Commit(ctx, storage.Set(rolePrefix+name, b))
	return route.None{}, err
}

func (in *roleIn) apply(ro *role) error {
	set(&ro.Allowed, in.Allowed)
	set(&ro.AllowedGlob, in.AllowedGlob)
	set(&ro.Disallowed, in.Disallowed)
	set(&ro.DisallowedGlob, in.DisallowedGlob)
	set(&ro.AllowedEntityTags, in.Aliases)
	set(&ro.Orphan, in.Orphan)
	set(&ro.PathSuffix, in.PathSuffix)
	set(&ro.Period, in.OldPeriod)
	set(&ro.Period, in.Period)
	set(&ro.ExplicitMax, in.OldExplicitMax)
	set(&ro.ExplicitMax, in.ExplicitMax)
	set(&ro.NumUses, in.NumUses)
	set(&ro.NoDefault, in.NoDefault)
	set(&ro.Type, in.Type)
	set(&ro.BoundCIDRs, in.OldCIDRs)
	set(&ro.BoundCIDRs, in.CIDRs)
	renewable := !ro.NotRenewable
	wire.Default(&renewable, in.Renewable, true)
	ro.NotRenewable = !renewable
	if _, err := parseCIDRs(ro.BoundCIDRs); err != nil {
		return err
	}
	if !slices.Contains([]string{"", "service", "batch", "default", "default-service", "default-batch"}, ro.Type) {
		return fault.New("token.writeRole", fault.Invalid, "field \"token_type\" must be \"service\", \"batch\", \"default-service\" or \"default-batch\", not %q", ro.Type)
	}
	return nil
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

func (t *method) deleteRole(ctx context.Context, r *route.Request, _ route.None) (route.None, error) {
	_, err := t.m.Store.Commit(ctx, storage.Remove(rolePrefix+strings.ToLower(r.Param("role"))))
	return route.None{}, err
}

func (t *method) listRoles(ctx context.Context, _ *route.Request, _ route.None) (route.Keys, error) {
	var names []string
	for e, err := range t.m.Store.Scan(ctx, rolePrefix, storage.PrefixEnd(rolePrefix)) {
		if err != nil {
			return route.Keys{}, err
		}
		names = append(names, strings.TrimPrefix(e.Key, rolePrefix))
	}
	return route.Keys{Keys: names}, nil
}
