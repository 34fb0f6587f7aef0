package sys

import (
	"context"
	"encoding/json"

	"github.com/keyturn/keyturn/internal/core/mounts"
	"github.com/keyturn/keyturn/internal/core/policies"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/mount"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/wire"
)

// viewAPI serves what a user interface needs to know about mounts: those that the caller may see,
// and what the caller may do there.
type viewAPI struct{ Config }

func (a *viewAPI) routes() []route.Route {
	return []route.Route{
		route.On(route.Read, "internal/ui/mounts", a.uiMounts).WithOwn().
			WithHelp("The mounts that the caller may see."),
		route.On(route.Read, "internal/ui/mounts/{path...}", a.uiMount).WithOwn().WithRequestPath("path").
			WithHelp("The mount that serves a path."),
		route.On(route.Read, "internal/specs/openapi", a.openapi).WithOwn().
			WithHelp("The routes that the caller may see, as an OpenAPI document."),
		route.On(route.Read, "internal/ui/resultant-acl", a.resultantACL).WithHelp("What the caller may do."),
	}
}

type uiOut struct {
	Auth   map[string]mountOut `json:"auth"`
	Secret map[string]mountOut `json:"secret"`
}

func (a *viewAPI) uiMounts(ctx context.Context, r *route.Request, _ route.None) (*uiOut, error) {
	set, err := a.Policies.Set(ctx, r.Caller.Policies)
	if err != nil {
		return nil, err
	}
	keep := func(e *mount.Entry) bool { return e.Tune.ListingVisibility == "unauth" || set.Touches(e.Path) }
	return &uiOut{Auth: mountAPI{a.Config, mount.ClassAuth}.matching(keep), Secret: mountAPI{
		a.Config, mount.ClassSecret,
	}.matching(keep)}, nil
}

func (a *viewAPI) uiMount(ctx context.Context, r *route.Request, in mountPath) (*mountOut, error) {
	set, err := a.Policies.Set(ctx, r.Caller.Policies)
	if err != nil {
		return nil, err
	}
	var o *mounts.Open
	if o = a.Mounts.Snapshot().Route(in.Path); o == nil {
		o = a.Mounts.Snapshot().Route(in.Path + "/")
	}
	if o == nil || !set.Touches(o.Entry().Path) {
		return nil, fault.New("sys.uiMount", fault.Denied,
			"permission denied: preflight capability check returned 403: the token may see nothing at %q",
			route.Redact(in.Path))
	}
	out := outOf(o.Entry())
	out.Path = o.Entry().Path
	out.Config.DefaultTTL, out.Config.MaxTTL = o.DefaultTTL(), o.MaxTTL()
	return &out, nil
}

func (a *viewAPI) openapi(ctx context.Context, r *route.Request, _ route.None) (*wire.Raw, error) {
	set, err := a.Policies.Set(ctx, r.Caller.Policies)
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(openAPIOf(a.Mounts.Snapshot(), set.Touches, a.Version))
	if err != nil {
		return nil, fault.Wrap("sys.openapi", fault.Internal, err)
	}
	r.SetShape(route.Bare)
	r.Reply().NoAuditData = true
	raw := wire.RawOf(b)
	return &raw, nil
}

func (a *viewAPI) resultantACL(ctx context.Context, r *route.Request, _ route.None) (policies.Resultant, error) {
	set, err := a.Policies.Set(ctx, r.Caller.Policies)
	if err != nil {
		return policies.Resultant{}, err
	}
	return set.Resultant(), nil
}
