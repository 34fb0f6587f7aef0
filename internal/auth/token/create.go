package token

import (
	"context"
	"net/netip"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/policy"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/token"
	"github.com/keyturn/keyturn/internal/wire"
)

type createIn struct {
	ID          secret.Value      `json:"id" doc:"The token itself, chosen by a holder of root."`
	Policies    []policy.Ref      `json:"policies" alias:"policy" default:"the caller's" doc:"The token's policies: some of the caller's, or any but root for a caller with sudo on the path. Root is given by root alone."`
	Meta        map[string]string `json:"meta" doc:"Notes on the token, in audit entries and lookups."`
	NoParent    bool              `json:"no_parent" default:"false" doc:"Whether the token outlives the caller's; needs sudo."`
	NoDefault   bool              `json:"no_default_policy" default:"false" doc:"Whether the policy default is left out."`
	Renewable   **bool            `json:"renewable" default:"true" doc:"Whether it may be renewed."`
	TTL         time.Duration     `json:"ttl" alias:"lease" default:"the mount's" doc:"How long the token lives."`
	Type        string            `json:"type" default:"service" doc:"The token's type: service or batch."`
	ExplicitMax time.Duration     `json:"explicit_max_ttl" default:"0s" doc:"How long it lives at most, however often it is renewed; 0s: as the mount says."`
	DisplayName displayName       `json:"display_name" default:"token" doc:"The name in audit entries and lookups."`
	NumUses     int               `json:"num_uses" default:"0" doc:"How many requests the token may be used for; 0: any number."`
	Period      time.Duration     `json:"period" default:"0s" doc:"For a periodic token, which lives as long as it is renewed within this time; needs sudo, or a role that has one."`
	EntityAlias string            `json:"entity_alias" doc:"Without effect: entities are not implemented yet."`
	BoundCIDRs  []string          `json:"bound_cidrs" default:"the caller's" doc:"The addresses and networks that it may be used from. Of a caller that is bound itself, and has no sudo on the path, only what they have in common."`
}

func (t *method) create(ctx context.Context, r *route.Request, in createIn) (route.None, error) {
	return route.None{}, t.make(ctx, r, in, nil)
}

func (t *method) createOrphan(ctx context.Context, r *route.Request, in createIn) (route.None, error) {
	return route.None{}, t.make(ctx, r, in, &role{Orphan: true})
}

func (t *method) createByRole(ctx context.Context, r *route.Request, in createIn) (route.None, error) {
	ro, err := t.loadRole(ctx, r.Param("role"))
	if err != nil {
		return route.None{}, err
	}
	if ro == nil {
		return route.None{}, fault.New("token.create", fault.Invalid,
			"unknown role %q; list auth/token/roles, or write it there first", r.Param("role"))
	}
	return route.None{}, t.make(ctx, r, in, ro)
}

// make checks the request against the caller and the role, and creates the token. [token.Assign]
// checks the policies.
func (t *method) make(ctx context.Context, r *route.Request, in createIn, ro *role) error {
	caller, err := t.m.Tokens.Lookup(ctx, r.Token)
	if err != nil {
		return err
	}
	if ro == nil {
		ro = &role{}
	}
	if err := mayCreate(r, in, caller, ro); err != nil {
		return err
	}
	if err := checkChosen(in.ID); err != nil {
		return err
	}
	e := token.Entry{
		Meta: in.Meta, Uses: in.NumUses, TTL: in.TTL, ExplicitMax: in.ExplicitMax, Period: in.Period, Chosen: in.ID,
	}
	if err := fillEntry(&e, in, ro); err != nil {
		return err
	}
	if e.BoundCIDRs, err = allowedCIDRs(in.BoundCIDRs, caller, ro, r.Sudo); err != nil {
		return err
	}
	if !ro.Orphan && !in.NoParent {
		e.Parent = caller.ID
	}
	if ro.PathSuffix != "" {
		e.Path = string(r.Path) + "/" + ro.PathSuffix
	}
	want := token.Request{Names: policy.Refs(in.Policies), NoDefault: in.NoDefault || ro.NoDefault, Role: ro.rules()}
	a, err := t.m.Issue(ctx, r, e, want, caller)
	if err != nil {
		return err
	}
	r.SetAuth(a)
	return nil
}

// mayCreate refuses what the caller may not request, whatever its policies say about the path.
func mayCreate(r *route.Request, in createIn, caller *token.Entry, ro *role) error {
	switch {
	case caller.Batch:
		return fault.New("token.create", fault.Invalid, "batch tokens cannot create more tokens; use a service token")
	case caller.Uses != 0:
		return fault.New("token.create", fault.Invalid,
			"a token with a limited number of uses cannot create tokens; use one without num_uses")
	case in.NoParent && !r.Sudo && !ro.Orphan:
		return fault.New("token.create", fault.Invalid,
			"field \"no_parent\": root or sudo privileges required to create an orphan token; use "+
				"auth/token/create-orphan")
	case in.Period > 0 && !r.Sudo && ro.Period == 0:
		return fault.New("token.create", fault.Invalid,
			"field \"period\": root or sudo privileges required to create a periodic token; use a role that has a "+
				"period")
	case !in.ID.Empty() && !caller.Root():
		return fault.New("token.create", fault.Invalid, "field \"id\": root privileges required to choose a token")
	}
	return nil
}

// checkChosen refuses a chosen token that looks like a generated one, or that a header cannot
// contain.
func checkChosen(id secret.Value) error {
	text := id.RevealString()
	odd := func(r rune) bool { return r <= ' ' || r > '~' || r == '.' }
	if len(text) > 128 || strings.ContainsFunc(text, odd) {
		return fault.New("token.create", fault.Invalid,
			"field \"id\": a chosen token must have at most 128 printable ASCII characters, without spaces and dots")
	}
	return nil
}

// displayRune replaces a character that display names must not contain, because they are shown in
// audit entries, and become parts of the names of users that engines create.
func displayRune(r rune) rune {
	if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
		return r
	}
	return '-'
}

// A displayName is canonicalized before parameter rules see it.
type displayName string

// Canonical returns the name in its stored form. A single dash stays, because otherwise the name
// would be empty.
func (n displayName) Canonical() string {
	clean := strings.Map(displayRune, string(n))
	if short := strings.TrimSuffix(clean, "-"); short != "" {
		return short
	}
	return clean
}

// fillEntry checks and fills all fields except policies and addresses.
func fillEntry(e *token.Entry, in createIn, ro *role) error {
	if in.NumUses < 0 {
		return fault.New("token.create", fault.Invalid, "field \"num_uses\" must not be negative")
	}
	e.Renewable = true
	wire.Default(&e.Renewable, in.Renewable, true)
	e.Renewable = e.Renewable && !ro.NotRenewable
	switch in.DisplayName {
	case "":
		e.DisplayName = "token"
	case "-":
		e.DisplayName = "token-"
	default:
		e.DisplayName = "token-" + string(in.DisplayName)
	}
	e.Role = ro.Name
	if ro.Period > 0 {
		e.Period = ro.Period
	}
	e.ExplicitMax = lower(e.ExplicitMax, ro.ExplicitMax)
	e.Uses = lower(e.Uses, ro.NumUses)
	switch kind := ro.kind(in.Type); kind {
	case "", "service":
	case "batch":
		return fillBatch(e)
	default:
		return fault.New("token.create", fault.Invalid, "field \"type\" must be \"service\" or \"batch\", not %q",
			kind)
	}
	return nil
}

// lower returns the lower of two limits; zero means no limit.
func lower[T int | time.Duration](a, b T) T {
	if a == 0 || b > 0 && b < a {
		return b
	}
	return a
}

func fillBatch(e *token.Entry) error {
	switch {
	case e.Period > 0:
		return fault.New("token.create", fault.Invalid,
			"batch tokens cannot be periodic; leave \"period\" out, or make a service token")
	case e.Uses > 0:
		return fault.New("token.create", fault.Invalid,
			"batch tokens cannot have a limited number of uses; leave \"num_uses\" out, or make a service token")
	case e.ExplicitMax > 0:
		return fault.New("token.create", fault.Invalid,
			"batch tokens cannot have an explicit maximum TTL, because they are never renewed; leave "+
				"\"explicit_max_ttl\" out")
	}
	e.Batch, e.Renewable = true, false
	return nil
}

// allowedCIDRs returns from where a new token may be used: the requested networks, as far as they
// are within those of the role or, if the role has none, of the creator's token. A creator with
// sudo is not limited by its own networks.
func allowedCIDRs(requested []string, caller *token.Entry, ro *role, sudo bool) ([]netip.Prefix, error) {
	want, err := parseCIDRs("bound_cidrs", requested)
	if err != nil {
		return nil, err
	}
	within, err := parseCIDRs("token_bound_cidrs", ro.BoundCIDRs)
	if err != nil {
		return nil, err
	}
	limitedBy := "the role " + ro.Name
	if len(within) == 0 && !sudo {
		within, limitedBy = caller.BoundCIDRs, "the caller's token"
	}
	if len(within) == 0 || len(want) == 0 {
		return append(want, within...), nil // one of them is empty
	}
	var overlap []netip.Prefix
	for _, a := range want {
		for _, b := range within {
			switch {
			case !a.Overlaps(b):
			case a.Bits() < b.Bits():
				overlap = append(overlap, b)
			default:
				overlap = append(overlap, a)
			}
		}
	}
	if len(overlap) == 0 {
		return nil, fault.New("token.create", fault.Invalid,
			"field \"bound_cidrs\": none of these addresses is within the bound addresses of %s; choose addresses "+
				"within them, or leave the field out",
			limitedBy)
	}
	return overlap, nil
}
