package sys

import (
	"context"
	"slices"
	"strings"

	"github.com/keyturn/keyturn/internal/audit"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/wire"
)

func (a *api) auditRoutes() []route.Route {
	return []route.Route{
		route.On(route.Read, "audit", a.listAudit).WithSudo().WithHelp("List the audit devices."),
		route.On(route.Write, "audit/{path...}", a.enableAudit).WithSudo().WithHelp("Enable an audit device."),
		route.On(route.Delete, "audit/{path...}", a.disableAudit).WithSudo().WithHelp("Disable an audit device."),
		route.On(route.Write, "audit-hash/{path...}", a.auditHash).WithHelp("The hash of an input, as a device shows it."),
	}
}

func (a *api) listAudit(_ context.Context, r *route.Request, _ route.None) (map[string]Device, error) {
	r.SetShape(route.Merged)
	out := map[string]Device{}
	for _, d := range a.Devices.List() {
		out[d.Path] = d
	}
	return out, nil
}

type auditIn struct {
	Path        string            `path:"path"`
	Type        string            `json:"type"`
	Description string            `json:"description"`
	Options     map[string]string `json:"options"`
	Local       bool              `json:"local"`
}

func (a *api) enableAudit(ctx context.Context, _ *route.Request, in auditIn) (route.None, error) {
	if !slices.ContainsFunc(a.Devices.Types(), func(t audit.Type) bool { return t.Name == in.Type }) {
		return route.None{}, fault.New("sys.enableAudit", fault.Invalid, "field \"type\": there is no audit device %q; there is \"file\"", in.Type)
	}
	return route.None{}, a.Devices.Enable(ctx, strings.Trim(in.Path, "/")+"/", in.Type, in.Description, in.Options)
}

func (a *api) disableAudit(ctx context.Context, _ *route.Request, in auditIn) (route.None, error) {
	return route.None{}, a.Devices.Disable(ctx, strings.Trim(in.Path, "/")+"/")
}

type auditHashIn struct {
	Path  string       `path:"path"`
	Input secret.Value `json:"input"`
}

type auditHashOut struct {
	Hash string `json:"hash"`
}

func (a *api) auditHash(_ context.Context, _ *route.Request, in auditHashIn) (*auditHashOut, error) {
	h, err := a.Devices.Hash(strings.Trim(in.Path, "/")+"/", in.Input)
	if err != nil {
		return nil, err
	}
	return &auditHashOut{h}, nil
}

type metricsIn struct {
	Format string `json:"format"`
}

func (a *api) metrics(ctx context.Context, r *route.Request, in metricsIn) (*wire.Raw, error) {
	if in.Format != "prometheus" {
		return nil, fault.New("sys.metrics", fault.Invalid, "parameter \"format\": only \"prometheus\" is built")
	}
	if a.Metrics == nil {
		return nil, fault.New("sys.metrics", fault.Unsupported, "this server keeps no metrics")
	}
	text, contentType, err := a.Metrics(ctx)
	if err != nil {
		return nil, err
	}
	r.SetShape(route.Binary)
	r.Reply().ContentType, r.Reply().NoAuditData = contentType, true
	raw := wire.RawOf(text)
	return &raw, nil
}
