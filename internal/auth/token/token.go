// Package token is the login method at auth/token/: tokens that make, look up,
// renew and revoke tokens, and the roles by which others may make them.
package token

import (
	"context"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/auth"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/token"
	"github.com/keyturn/keyturn/internal/wire"
)

// Type is the token method. Core mounts it once, at auth/token/.
var Type = auth.Type{Name: "token", Single: true, Open: func(_ context.Context, m *auth.Mount) (auth.Method, error) {
	return &method{m}, nil
}}

type method struct{ m *auth.Mount }

// Close has nothing to close.
func (t *method) Close() error { return nil }

// Routes of the method.
func (t *method) Routes() []route.Route {
	return []route.Route{
		route.On(route.Write, "create", t.create).WithHelp("Make a token, a child of the caller's."),
		route.On(route.Write, "create-orphan", t.createOrphan).WithSudo().WithHelp("Make a token without a parent."),
		route.On(route.Write, "create/{role}", t.createByRole).WithParam("role", "The role's name.").WithHelp("Make a token by a role."),
		route.On(route.Read, "lookup-self", t.lookupSelf).WithHelp("Look the caller's token up."),
		route.On(route.Write, "lookup-self", t.lookupSelf).WithHelp("Look the caller's token up."),
		route.On(route.Write, "lookup", t.lookup).WithHelp("Look a token up."),
		route.On(route.Read, "lookup", t.lookup).WithHelp("Look the caller's token up."),
		route.On(route.Write, "lookup-accessor", t.lookupAccessor).WithHelp("Look a token up by its accessor."),
		route.On(route.Write, "renew-self", t.renewSelf).WithHelp("Renew the caller's token."),
		route.On(route.Write, "renew", t.renew).WithHelp("Renew a token."),
		route.On(route.Write, "renew-accessor", t.renewAccessor).WithHelp("Renew a token by its accessor."),
		route.On(route.Write, "revoke-self", t.revokeSelf).WithHelp("Revoke the caller's token, with its children and leases."),
		route.On(route.Write, "revoke", t.revoke).WithHelp("Revoke a token, with its children and leases."),
		route.On(route.Write, "revoke-orphan", t.revokeOrphan).WithSudo().WithHelp("Revoke a token and leave its children."),
		route.On(route.Write, "revoke-accessor", t.revokeAccessor).WithHelp("Revoke a token by its accessor."),
		route.On(route.List, "accessors", t.accessors).WithSudo().WithHelp("List all accessors."),
		route.On(route.Write, "tidy", t.tidy).WithSudo().WithHelp("Accepted, and needless: the index cannot go stale."),
		route.On(route.List, "roles", t.listRoles).WithHelp("List the roles."),
		route.On(route.Read, "roles/{role}", t.readRole).WithParam("role", "The role's name.").WithHelp("Read a role."),
		route.On(route.Write, "roles/{role}", t.writeRole).WithParam("role", "The role's name.").WithHelp("Write a role."),
		route.On(route.Delete, "roles/{role}", t.deleteRole).WithParam("role", "The role's name.").WithHelp("Delete a role; its tokens stay."),
	}
}

type createIn struct {
	ID              secret.Value      `json:"id" doc:"The token itself, chosen by a holder of root."`
	Policies        []string          `json:"policies" default:"the caller's" doc:"The token's policies."`
	Meta            map[string]string `json:"meta" doc:"Notes on the token, in audit entries and lookups."`
	NoParent        bool              `json:"no_parent" default:"false" doc:"Whether the token outlives the caller's; needs sudo."`
	NoDefault       bool              `json:"no_default_policy" default:"false" doc:"Whether the policy default is left out."`
	Renewable       **bool            `json:"renewable" default:"true" doc:"Whether it may be renewed."`
	Lease           time.Duration     `json:"lease" doc:"The TTL, under the name that old clients send."`
	TTL             time.Duration     `json:"ttl" default:"the mount's" doc:"How long the token lives."`
	Type            string            `json:"type" default:"service" doc:"The token's type: service or batch."`
	ExplicitMax     time.Duration     `json:"explicit_max_ttl" default:"0s" doc:"How long it lives at most, however often it is renewed; 0s: as the mount says."`
	DisplayName     string            `json:"display_name" default:"token" doc:"The name in audit entries and lookups."`
	NumUses         int               `json:"num_uses" default:"0" doc:"How many requests it is good for; 0: any number."`
	Period          time.Duration     `json:"period" default:"0s" doc:"For a periodic token, which lives as long as it is renewed within this time."`
	EntityAlias     string            `json:"entity_alias" doc:"Without effect until entities are built."`
	BoundCIDRs      []string          `json:"bound_cidrs" default:"any" doc:"The addresses and networks that it may be used from."`
	RequestedPolicy []string          `json:"policy" doc:"The policies, under a name that is also sent."`
}

func (t *method) create(ctx context.Context, r *route.Request, in createIn) (route.None, error) {
	return route.None{}, t.make(ctx, r, in, nil, false)
}

func (t *method) createOrphan(ctx context.Context, r *route.Request, in createIn) (route.None, error) {
	return route.None{}, t.make(ctx, r, in, nil, true)
}

func (t *method) createByRole(ctx context.Context, r *route.Request, in createIn) (route.None, error) {
	ro, err := t.loadRole(ctx, r.Param("role"))
	if err != nil {
		return route.None{}, err
	}
	if ro == nil {
		return route.None{}, fault.New("token.create", fault.Invalid, "unknown role %q; list auth/token/roles, or write it there first", r.Param("role"))
	}
	return route.None{}, t.make(ctx, r, in, ro, ro.Orphan)
}

// make checks what was asked for against the caller and the role, and makes it.
func (t *method) make(ctx context.Context, r *route.Request, in createIn, ro *role, orphan bool) error {
	caller, err := t.m.Tokens.Lookup(ctx, r.Token)
	if err != nil {
		return err
	}
	if caller.Batch {
		return fault.New("token.create", fault.Invalid, "batch tokens cannot create more tokens; use a service token")
	}
	if caller.Uses != 0 {
		return fault.New("token.create", fault.Invalid, "a token with a limited number of uses cannot create tokens; use one without num_uses")
	}
	if in.NoParent && !caller.Root() && !orphan {
		return fault.New("token.create", fault.Invalid, "field \"no_parent\": root or sudo privileges required to create an orphan token; use auth/token/create-orphan")
	}
	if !in.ID.Empty() && !caller.Root() {
		return fault.New("token.create", fault.Invalid, "field \"id\": root privileges required to choose a token")
	}
	if err := checkChosen(in.ID); err != nil {
		return err
	}
	e := token.Entry{Meta: in.Meta, Uses: in.NumUses, TTL: max(in.TTL, in.Lease), ExplicitMax: in.ExplicitMax, Period: in.Period, Chosen: in.ID}
	if e.Policies, err = t.choosePolicies(in, caller, ro); err != nil {
		return err
	}
	if err := fillEntry(&e, in, caller, ro); err != nil {
		return err
	}
	if !orphan && !in.NoParent {
		e.Parent = caller.ID
	}
	a, err := t.m.Issue(ctx, r, e, caller)
	if err != nil {
		return err
	}
	r.SetAuth(a)
	return nil
}

// checkChosen refuses a text that cannot be told from tokens of our own making, or
// that a header cannot carry.
func checkChosen(id secret.Value) error {
	text := id.RevealString()
	odd := func(r rune) bool { return r <= ' ' || r > '~' || r == '.' }
	if len(text) > 128 || strings.ContainsFunc(text, odd) {
		return fault.New("token.create", fault.Invalid, "field \"id\": a chosen token must have at most 128 printable ASCII characters, without spaces and dots")
	}
	return nil
}

// choosePolicies decides what the new token may: no more than its creator, or
// what the role allows.
func (t *method) choosePolicies(in createIn, caller *token.Entry, ro *role) ([]string, error) {
	asked, err := t.m.CheckPolicies(append(slices.Clone(in.Policies), in.RequestedPolicy...))
	if err != nil {
		return nil, err
	}
	if ro != nil && ro.judges() {
		return ro.choose(asked, in.NoDefault)
	}
	if len(asked) == 0 {
		asked = slices.Clone(caller.Policies)
	} else if !caller.Root() {
		for _, p := range asked {
			if p != "default" && !slices.Contains(caller.Policies, p) {
				return nil, fault.New("token.create", fault.Denied, "permission denied: child policies must be a subset of the parent's; the caller does not hold %q", p)
			}
		}
	}
	return withDefault(asked, in.NoDefault || ro != nil && ro.NoDefault), nil
}

func withDefault(policies []string, without bool) []string {
	if slices.Contains(policies, "root") {
		return []string{"root"}
	}
	if !without && !slices.Contains(policies, "default") {
		policies = append(policies, "default")
	}
	slices.Sort(policies)
	return slices.Compact(policies)
}

// notInNames is what display names cannot hold: they are shown in audit entries, and become parts of the names
// of users that engines create.
var notInNames = regexp.MustCompile(`[^a-zA-Z0-9-]`)

// fillEntry checks and fills what does not concern policies.
func fillEntry(e *token.Entry, in createIn, caller *token.Entry, ro *role) error {
	if in.NumUses < 0 {
		return fault.New("token.create", fault.Invalid, "field \"num_uses\" must not be negative")
	}
	e.Renewable = true
	wire.Default(&e.Renewable, in.Renewable, true)
	e.DisplayName = "token"
	if in.DisplayName != "" {
		e.DisplayName = strings.TrimSuffix(notInNames.ReplaceAllString("token-"+in.DisplayName, "-"), "-")
	}
	if in.Period > 0 && !caller.Root() && (ro == nil || ro.Period == 0) {
		return fault.New("token.create", fault.Invalid, "field \"period\": root or sudo privileges required to create a periodic token; use a role that has a period")
	}
	kind := in.Type
	if ro != nil {
		kind = ro.kind(in.Type)
		if ro.Period > 0 {
			e.Period = ro.Period
		}
		if ro.ExplicitMax > 0 && (e.ExplicitMax == 0 || ro.ExplicitMax < e.ExplicitMax) {
			e.ExplicitMax = ro.ExplicitMax
		}
		e.Renewable = e.Renewable && !ro.NotRenewable
		e.Role = ro.Name
		if ro.NumUses > 0 && (e.Uses == 0 || ro.NumUses < e.Uses) {
			e.Uses = ro.NumUses
		}
		if ro.PathSuffix != "" {
			e.Path = "auth/token/create/" + ro.Name + "/" + ro.PathSuffix
		}
	}
	var err error
	if e.BoundCIDRs, err = parseCIDRs(in.BoundCIDRs); err != nil {
		return err
	}
	if ro != nil {
		if e.BoundCIDRs, err = ro.bind(e.BoundCIDRs); err != nil {
			return err
		}
	}
	switch kind {
	case "", "service", "default", "default-service":
	case "batch", "default-batch":
		return fillBatch(e)
	default:
		return fault.New("token.create", fault.Invalid, "field \"type\" must be \"service\" or \"batch\", not %q", kind)
	}
	return nil
}

func fillBatch(e *token.Entry) error {
	switch {
	case e.Period > 0:
		return fault.New("token.create", fault.Invalid, "batch tokens cannot be periodic; leave \"period\" out, or make a service token")
	case e.Uses > 0:
		return fault.New("token.create", fault.Invalid, "batch tokens cannot have a limited number of uses; leave \"num_uses\" out, or make a service token")
	case e.ExplicitMax > 0:
		return fault.New("token.create", fault.Invalid, "batch tokens cannot have an explicit maximum TTL, for they are never renewed; leave \"explicit_max_ttl\" out")
	case slices.Contains(e.Policies, "root"):
		return fault.New("token.create", fault.Invalid, "batch tokens cannot be root tokens; leave the policy \"root\" out, or make a service token")
	}
	e.Batch, e.Renewable = true, false
	return nil
}

func parseCIDRs(texts []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, s := range texts {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			a, aerr := netip.ParseAddr(s)
			if aerr != nil {
				return nil, fault.New("token.create", fault.Invalid, "field \"bound_cidrs\": want addresses or ranges such as 10.0.0.0/8, not %q", s)
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

// lookupOut is a token in answers.
type lookupOut struct {
	Accessor       string            `json:"accessor"`
	CreationTime   int64             `json:"creation_time"`
	CreationTTL    time.Duration     `json:"creation_ttl"`
	DisplayName    string            `json:"display_name"`
	EntityID       string            `json:"entity_id"`
	ExpireTime     *time.Time        `json:"expire_time"`
	ExplicitMax    time.Duration     `json:"explicit_max_ttl"`
	ID             secret.Value      `json:"id"`
	IssueTime      time.Time         `json:"issue_time"`
	LastRenewal    *time.Time        `json:"last_renewal,omitempty"`
	LastRenewalSec int64             `json:"last_renewal_time,omitempty"`
	Meta           map[string]string `json:"meta"`
	NumUses        int               `json:"num_uses"`
	Orphan         bool              `json:"orphan"`
	Path           string            `json:"path"`
	Period         time.Duration     `json:"period,omitempty"`
	Policies       []string          `json:"policies"`
	Renewable      bool              `json:"renewable"`
	Role           string            `json:"role,omitempty"`
	TTL            int64             `json:"ttl"`
	Type           string            `json:"type"`
	BoundCIDRs     []netip.Prefix    `json:"bound_cidrs,omitempty"`
}

func show(e *token.Entry, tok secret.Value, now time.Time) *lookupOut {
	out := &lookupOut{
		Accessor: e.Accessor, CreationTime: e.Created.Unix(), CreationTTL: e.TTL, DisplayName: e.DisplayName, EntityID: e.EntityID,
		ExplicitMax: e.ExplicitMax, ID: tok, IssueTime: e.Created, Meta: e.Meta, NumUses: e.Uses, Orphan: e.Orphan(), Path: e.Path,
		Period: e.Period, Policies: e.Policies, Renewable: e.Renewable, Role: e.Role, Type: "service", BoundCIDRs: e.BoundCIDRs,
	}
	if e.Batch {
		out.Type = "batch"
	}
	if !e.Expires.IsZero() {
		// The last moment at which the token works. Clients take the whole seconds between issue_time and
		// expire_time for its TTL, and the reference's are a moment closer than the TTL, too.
		last := e.Expires.Add(-time.Millisecond)
		out.ExpireTime = &last
		out.TTL = wire.Seconds(max(e.Expires.Sub(now), 0))
	}
	if !e.Renewed.IsZero() {
		out.LastRenewal, out.LastRenewalSec = &e.Renewed, e.Renewed.Unix()
	}
	return out
}

type tokenIn struct {
	Token     secret.Value  `json:"token" default:"the caller's own" doc:"The token that is meant."`
	Accessor  string        `json:"accessor" doc:"For the routes by accessor: the token's accessor."`
	Increment time.Duration `json:"increment" default:"the token's TTL" doc:"For renewing: how long it should live from now on; the server may give less."`
}

func (t *method) lookupSelf(ctx context.Context, r *route.Request, _ tokenIn) (*lookupOut, error) {
	e, err := t.m.Tokens.Lookup(ctx, r.Token)
	if err != nil {
		return nil, err
	}
	return show(e, r.Token, r.Time), nil
}

func (t *method) lookup(ctx context.Context, r *route.Request, in tokenIn) (*lookupOut, error) {
	if in.Token.Empty() {
		in.Token = r.Token
	}
	e, err := t.usable(ctx, in.Token, r.Time)
	if err != nil {
		return nil, err
	}
	return show(e, in.Token, r.Time), nil
}

// usable finds a token that is neither revoked nor expired.
func (t *method) usable(ctx context.Context, tok secret.Value, now time.Time) (*token.Entry, error) {
	e, err := t.m.Tokens.Lookup(ctx, tok)
	if err != nil {
		if fault.Is(err, fault.Denied) {
			return nil, fault.New("token.lookup", fault.Denied, "bad token: it is not known, has expired or was revoked; log in again")
		}
		return nil, err
	}
	if e.Revoking || !e.Expires.IsZero() && !now.Before(e.Expires) {
		return nil, fault.New("token.lookup", fault.Denied, "bad token: it is not known, has expired or was revoked; log in again")
	}
	return e, nil
}

func (t *method) byAccessor(ctx context.Context, in tokenIn, now time.Time) (*token.Entry, error) {
	e, err := t.m.Tokens.ByAccessor(ctx, in.Accessor)
	if err != nil {
		return nil, err
	}
	if e.Revoking || !e.Expires.IsZero() && !now.Before(e.Expires) {
		return nil, fault.New("token.byAccessor", fault.Invalid, "invalid accessor: its token has ended; list auth/token/accessors for those that live")
	}
	return e, nil
}

func (t *method) lookupAccessor(ctx context.Context, r *route.Request, in tokenIn) (*lookupOut, error) {
	e, err := t.byAccessor(ctx, in, r.Time)
	if err != nil {
		return nil, err
	}
	return show(e, secret.Value{}, r.Time), nil
}

func (t *method) renewSelf(ctx context.Context, r *route.Request, in tokenIn) (route.None, error) {
	in.Token = r.Token
	return t.renew(ctx, r, in)
}

func (t *method) renew(ctx context.Context, r *route.Request, in tokenIn) (route.None, error) {
	if in.Token.Empty() {
		return route.None{}, fault.New("token.renew", fault.Invalid, "field \"token\": say which token to renew")
	}
	e, err := t.usable(ctx, in.Token, r.Time)
	if err != nil {
		return route.None{}, err
	}
	return route.None{}, t.extend(ctx, r, e, in.Token, in.Increment)
}

func (t *method) renewAccessor(ctx context.Context, r *route.Request, in tokenIn) (route.None, error) {
	e, err := t.byAccessor(ctx, in, r.Time)
	if err != nil {
		return route.None{}, err
	}
	return route.None{}, t.extend(ctx, r, e, secret.Value{}, in.Increment)
}

// extend moves the end of a token: by its period, or by what is asked for
// within the explicit and the mount's maximum since its creation.
func (t *method) extend(ctx context.Context, r *route.Request, e *token.Entry, tok secret.Value, increment time.Duration) error {
	if e.Batch {
		return fault.New("token.renew", fault.Invalid, "batch tokens cannot be renewed; make a new one before it ends")
	}
	if !e.Renewable || e.Expires.IsZero() {
		return fault.New("token.renew", fault.Invalid, "the token is not renewable; make a new one before it ends")
	}
	s := t.m.Settings()
	now := r.Time.UTC().Truncate(time.Millisecond) // as exact as what is stored, so that the answer says what was asked for
	updated, err := t.m.Tokens.Update(ctx, e.ID, func(e *token.Entry) error {
		if e.Revoking || !now.Before(e.Expires) {
			return fault.New("token.renew", fault.Denied, "bad token: it has ended; log in again")
		}
		ttl := increment
		if e.Period > 0 {
			ttl = e.Period
		} else if ttl <= 0 {
			ttl = e.TTL
		}
		end := now.Add(ttl)
		limits := []time.Duration{e.ExplicitMax}
		if e.Period == 0 {
			limits = append(limits, s.MaxTTL)
		}
		for _, most := range limits {
			if limit := e.Created.Add(most); most > 0 && end.After(limit) {
				r.Warn("the token cannot live past %s, its maximum; it was renewed until then", limit.Format(time.RFC3339))
				end = limit
			}
		}
		if !end.After(now) {
			return fault.New("token.renew", fault.Invalid, "the token has reached its maximum lifetime; make a new one")
		}
		e.Expires, e.Renewed = end, now
		// A later renewal without an increment asks for the same again.
		if e.Period == 0 && increment > 0 {
			e.TTL = end.Sub(now)
		}
		return nil
	})
	if err != nil {
		return err
	}
	a := &route.Auth{
		ClientToken: tok, Accessor: updated.Accessor, Policies: updated.Policies, TokenPolicies: updated.Policies,
		Metadata: updated.Meta, LeaseDuration: updated.Expires.Sub(now), Renewable: updated.Renewable,
		EntityID: updated.EntityID, TokenType: "service", Orphan: updated.Orphan(), NumUses: max(updated.Uses, 0),
	}
	r.SetAuth(a)
	return nil
}

func (t *method) revokeSelf(ctx context.Context, r *route.Request, _ route.None) (route.None, error) {
	return t.end(ctx, r.Token)
}

func (t *method) revoke(ctx context.Context, _ *route.Request, in tokenIn) (route.None, error) {
	if in.Token.Empty() {
		return route.None{}, fault.New("token.revoke", fault.Invalid, "field \"token\": say which token to revoke")
	}
	return t.end(ctx, in.Token)
}

func (t *method) end(ctx context.Context, tok secret.Value) (route.None, error) {
	if err := notBatch(tok); err != nil {
		return route.None{}, err
	}
	return route.None{}, t.endID(ctx, t.m.Tokens.ID(tok))
}

// notBatch refuses to say that a token was revoked of which nothing is stored.
func notBatch(tok secret.Value) error {
	if strings.HasPrefix(tok.RevealString(), token.BatchPrefix) {
		return fault.New("token.revoke", fault.Invalid, "batch tokens cannot be revoked; they end with their parent or their TTL")
	}
	return nil
}

func (t *method) endID(ctx context.Context, id string) error {
	if err := t.m.Tokens.Revoke(ctx, id); err != nil {
		return err
	}
	t.m.RevokeWait(ctx, id)
	return nil
}

func (t *method) revokeOrphan(ctx context.Context, _ *route.Request, in tokenIn) (route.None, error) {
	if in.Token.Empty() {
		return route.None{}, fault.New("token.revokeOrphan", fault.Invalid, "field \"token\": say which token to revoke")
	}
	if err := notBatch(in.Token); err != nil {
		return route.None{}, err
	}
	return route.None{}, t.m.Tokens.RevokeOrphan(ctx, t.m.Tokens.ID(in.Token))
}

func (t *method) revokeAccessor(ctx context.Context, _ *route.Request, in tokenIn) (route.None, error) {
	e, err := t.m.Tokens.ByAccessor(ctx, in.Accessor)
	if err != nil {
		return route.None{}, err
	}
	return route.None{}, t.endID(ctx, e.ID)
}

type pageIn struct {
	After string `json:"after" doc:"Begin behind this name."`
	Limit int    `json:"limit" default:"100000" doc:"How many at most."`
}

func (t *method) accessors(ctx context.Context, r *route.Request, in pageIn) (route.Keys, error) {
	names, err := t.m.Tokens.Accessors(ctx, in.After, in.Limit)
	if len(names) == token.MaxAccessors {
		r.Warn("only the first %d accessors are shown; for more, list with after=%s", len(names), names[len(names)-1])
	}
	return route.Keys{Keys: names}, err
}

func (t *method) tidy(_ context.Context, r *route.Request, _ route.None) (route.None, error) {
	r.SetStatus(202)
	r.Warn("there is nothing to tidy: a token and its index entries are one commit")
	return route.None{}, nil
}
