package sys

import (
	"context"
	"encoding/base64"
	"strings"
	"unicode/utf8"

	"github.com/keyturn/keyturn/internal/core/policies"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
)

// policiesAPI serves policies of both kinds, and capabilities.
type policiesAPI struct{ Config }

func (a *policiesAPI) routes() []route.Route {
	out := []route.Route{
		route.On(route.List, "policies/acl", a.listPolicies).WithHelp("List policies."),
		route.On(route.List, "policy", a.listPolicies).WithHelp("List policies, under the old path."),
		route.On(route.Read, "policy", a.listOldPolicies).WithHelp("List policies, under the old path."),
		route.On(route.List, "policies/password", a.listPasswordPolicies).WithHelp("List password policies."),
		named(route.On(route.Read, "policies/password/{name}", a.readPasswordPolicy).
			WithHelp("Read a password policy.")),
		named(route.On(route.Write, "policies/password/{name}", a.writePasswordPolicy).
			WithHelp("Write a password policy.")),
		named(route.On(route.Delete, "policies/password/{name}", a.deletePasswordPolicy).
			WithHelp("Delete a password policy.")),
		named(route.On(route.Read, "policies/password/{name}/generate", a.generatePassword).
			WithHelp("Generate a password by a policy.")),
		route.On(route.Write, "capabilities", a.capabilities).WithHelp("What a token may do on paths."),
		route.On(route.Write, "capabilities-self", a.capabilitiesSelf).WithHelp("What the caller may do on paths."),
		route.On(route.Write, "capabilities-accessor", a.capabilitiesAccessor).
			WithHelp("What the token of an accessor may do on paths."),
	}
	for _, base := range []string{"policies/acl/{name...}", "policy/{name...}"} {
		p := policyAPI{a.Config, base == "policy/{name...}"}
		out = append(out,
			named(route.On(route.Read, base, p.read).WithHelp("Read a policy.")),
			named(route.On(route.Write, base, p.write).WithHelp("Write a policy.")),
			named(route.On(route.Delete, base, p.remove).WithHelp("Delete a policy.")),
		)
	}
	return out
}

// named is a route whose path names a policy.
func named(r route.Route) route.Route { return r.WithName("name", policies.Name) }

// policyAPI serves policies at their path and at the deprecated one, which has another name for
// the policy's text.
type policyAPI struct {
	Config
	old bool
}

type nameIn struct {
	Name string `path:"name" doc:"The policy's name."`
}

func (a *policiesAPI) listPolicies(ctx context.Context, _ *route.Request, _ route.None) (route.Keys, error) {
	names, err := a.Policies.List(ctx)
	return route.Keys{Keys: names}, err
}

type oldList struct {
	Keys     []string `json:"keys"`
	Policies []string `json:"policies"`
}

func (a *policiesAPI) listOldPolicies(ctx context.Context, r *route.Request, _ route.None) (*oldList, error) {
	names, err := a.Policies.List(ctx)
	r.SetShape(route.Merged)
	return &oldList{names, names}, err
}

// policyOut has only the documented fields, because some clients refuse others.
type policyOut struct {
	Name   string `json:"name"`
	Policy string `json:"policy"`
}

type oldPolicyOut struct {
	Name  string `json:"name"`
	Rules string `json:"rules"`
}

func (p policyAPI) read(ctx context.Context, r *route.Request, in nameIn) (any, error) {
	rec, err := p.Policies.Read(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	if rec == nil {
		return nil, fault.New("sys.readPolicy", fault.NotFound, "")
	}
	if p.old {
		r.SetShape(route.Merged)
		return oldPolicyOut{Name: rec.Name, Rules: rec.Text}, nil
	}
	return policyOut{Name: rec.Name, Policy: rec.Text}, nil
}

type policyIn struct {
	Name   string `path:"name" doc:"The policy's name."`
	Policy string `json:"policy" alias:"rules" max:"2097152" doc:"The policy, HCL or JSON, as it is or in base64."`
}

func (p policyAPI) write(ctx context.Context, _ *route.Request, in policyIn) (route.None, error) {
	if in.Policy == "" {
		return route.None{}, fault.New("sys.writePolicy", fault.Invalid,
			"field \"policy\": the policy's text is missing; send HCL or JSON such as path \"secret/*\" { "+
				"capabilities = [\"read\"] }")
	}
	return route.None{}, p.Policies.Write(ctx, in.Name, policyText(in.Policy))
}

// policyText returns a policy's text, which may be encoded in base64. No policy text is valid
// base64.
func policyText(text string) string {
	if b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text)); err == nil && utf8.Valid(b) {
		return string(b)
	}
	return text
}

func (p policyAPI) remove(ctx context.Context, _ *route.Request, in nameIn) (route.None, error) {
	return route.None{}, p.Policies.Delete(ctx, in.Name)
}

func (a *policiesAPI) listPasswordPolicies(ctx context.Context, _ *route.Request, _ route.None) (route.Keys, error) {
	names, err := a.Policies.ListPassword(ctx)
	return route.Keys{Keys: names}, err
}

type passwordPolicyOut struct {
	Policy string `json:"policy"`
}

func (a *policiesAPI) readPasswordPolicy(
	ctx context.Context, _ *route.Request, in nameIn,
) (*passwordPolicyOut, error) {
	text, err := a.Policies.ReadPassword(ctx, in.Name)
	if err != nil || text == "" {
		return nil, err
	}
	return &passwordPolicyOut{text}, nil
}

type passwordPolicyIn struct {
	Name          string `path:"name" doc:"The policy's name."`
	Policy        string `json:"policy" max:"2097152" doc:"The policy, HCL or JSON, as it is or in base64: a length and rules."`
	EntropySource string `json:"entropy_source" default:"platform" doc:"Where random numbers come from: platform."`
}

func (a *policiesAPI) writePasswordPolicy(
	ctx context.Context, _ *route.Request, in passwordPolicyIn,
) (route.None, error) {
	if in.EntropySource != "" && in.EntropySource != "platform" {
		return route.None{}, fault.New("sys.writePasswordPolicy", fault.Invalid,
			"field \"entropy_source\" can only be \"platform\"")
	}
	return route.None{}, a.Policies.WritePassword(ctx, in.Name, policyText(in.Policy))
}

func (a *policiesAPI) deletePasswordPolicy(ctx context.Context, _ *route.Request, in nameIn) (route.None, error) {
	return route.None{}, a.Policies.DeletePassword(ctx, in.Name)
}

type passwordOut struct {
	Password secret.Value `json:"password"`
}

func (a *policiesAPI) generatePassword(ctx context.Context, _ *route.Request, in nameIn) (*passwordOut, error) {
	v, err := a.Policies.Password(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	return &passwordOut{v}, nil
}

type capabilitiesIn struct {
	Token    secret.Value `json:"token" doc:"The token whose capabilities are returned; capabilities-self uses the caller's."`
	Accessor string       `json:"accessor" doc:"For capabilities-accessor: the accessor of that token."`
	Paths    []string     `json:"paths" alias:"path" doc:"The paths to check; at most 1000."`
}

func (a *policiesAPI) capabilities(
	ctx context.Context, r *route.Request, in capabilitiesIn,
) (map[string][]string, error) {
	e, err := a.Tokens.Lookup(ctx, in.Token)
	if err != nil {
		return nil, fault.New("sys.capabilities", fault.Invalid,
			"field \"token\": invalid token: it is not known, has expired or was revoked; name a valid one")
	}
	return a.capabilitiesOf(ctx, r, e.Policies(), in)
}

func (a *policiesAPI) capabilitiesSelf(
	ctx context.Context, r *route.Request, in capabilitiesIn,
) (map[string][]string, error) {
	return a.capabilitiesOf(ctx, r, r.Caller.Policies, in)
}

func (a *policiesAPI) capabilitiesAccessor(
	ctx context.Context, r *route.Request, in capabilitiesIn,
) (map[string][]string, error) {
	e, err := a.Tokens.ByAccessor(ctx, in.Accessor)
	if err != nil {
		return nil, err
	}
	return a.capabilitiesOf(ctx, r, e.Policies(), in)
}

func (a *policiesAPI) capabilitiesOf(
	ctx context.Context, r *route.Request, names []string, in capabilitiesIn,
) (map[string][]string, error) {
	paths := in.Paths
	if len(paths) == 0 || len(paths) > 1000 {
		return nil, fault.New("sys.capabilities", fault.Invalid, "field \"paths\": name 1 to 1000 paths")
	}
	set, err := a.Policies.Set(ctx, names)
	if err != nil {
		return nil, err
	}
	out, audited := map[string][]string{}, map[string][]string{}
	for _, p := range paths {
		out[p] = set.Capabilities(trimLeadingSlash(p))
		audited[route.Redact(p)] = out[p]
	}
	if len(paths) == 1 {
		out["capabilities"] = out[paths[0]]
		audited["capabilities"] = out[paths[0]]
	}
	r.Reply().Audited = audited
	r.SetShape(route.Merged)
	return out, nil
}

func trimLeadingSlash(p string) string {
	if p != "" && p[0] == '/' {
		return p[1:]
	}
	return p
}
