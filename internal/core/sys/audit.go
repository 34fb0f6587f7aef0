package sys

import (
	"context"

	"github.com/keyturn/keyturn/internal/audit"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
)

// auditAPI serves sys/audit.
type auditAPI struct{ Config }

func (a *auditAPI) routes() []route.Route {
	return []route.Route{
		route.On(route.Read, "audit", a.listAudit).WithSudo().WithHelp("List the audit devices."),
		route.On(route.Write, "audit/{path...}", a.enableAudit).WithSudo().WithHelp("Enable an audit device."),
		route.On(route.Delete, "audit/{path...}", a.disableAudit).WithSudo().WithRescue().
			WithHelp("Disable an audit device."),
		route.On(route.Write, "audit-hash/{path...}", a.auditHash).
			WithHelp("The hash of an input, as a device shows it."),
	}
}

func (a *auditAPI) listAudit(_ context.Context, r *route.Request, _ route.None) (map[string]audit.Enabled, error) {
	r.SetShape(route.Merged)
	out := map[string]audit.Enabled{}
	for _, d := range a.Devices.List() {
		out[d.Path] = d
	}
	return out, nil
}

type auditIn struct {
	Path        string            `path:"path" doc:"Where the device is enabled, one name such as file."`
	Type        string            `json:"type" doc:"The kind of device: file."`
	Description string            `json:"description" doc:"A description, shown in the list of devices."`
	Options     map[string]string `json:"options" doc:"The device's options: file_path, mode, log_raw, hmac_accessor, elide_list_responses."`
	Local       bool              `json:"local" doc:"Stored and shown, without effect: there is no replication."`
}

func (a *auditAPI) enableAudit(ctx context.Context, _ *route.Request, in auditIn) (route.None, error) {
	return route.None{}, a.Devices.Enable(ctx, audit.Enabled{
		Path: in.Path + "/", Type: in.Type, Description: in.Description, Local: in.Local, Options: in.Options,
	})
}

func (a *auditAPI) disableAudit(ctx context.Context, _ *route.Request, in auditIn) (route.None, error) {
	return route.None{}, a.Devices.Disable(ctx, in.Path+"/")
}

type auditHashIn struct {
	Path  string       `path:"path" doc:"Where the device is enabled."`
	Input secret.Value `json:"input" doc:"The text to hash."`
}

type auditHashOut struct {
	Hash string `json:"hash"`
}

func (a *auditAPI) auditHash(_ context.Context, _ *route.Request, in auditHashIn) (*auditHashOut, error) {
	h, err := a.Devices.Hash(in.Path+"/", in.Input)
	if err != nil {
		return nil, err
	}
	return &auditHashOut{h}, nil
}
