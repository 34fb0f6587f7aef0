// Package sys is the part of core that serves what is below sys/: mounts,
// policies, leases, wrapping, tools and audit devices. Health, seal status and
// unsealing, which work while the server is sealed, are not requests of an unsealed
// server; the HTTP layer asks core for them.
package sys

import (
	"context"
	"time"

	"github.com/keyturn/keyturn/internal/audit"
	"github.com/keyturn/keyturn/internal/core/mounts"
	"github.com/keyturn/keyturn/internal/core/policies"
	"github.com/keyturn/keyturn/internal/core/wrapping"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/lease"
	"github.com/keyturn/keyturn/internal/mount"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/token"
	"github.com/keyturn/keyturn/internal/wire"
)

// Config is what the routes work with.
type Config struct {
	Mounts   *mounts.Manager
	Policies *policies.Manager
	Tokens   *token.Store
	Leases   *lease.Manager
	Wrapping *wrapping.Store
	Devices  *audit.Devices
	// RenewLease renews within all bounds, and returns warnings.
	RenewLease func(ctx context.Context, id string, increment time.Duration) (*lease.Lease, []string, error)
	Jobs       Jobs
	// Seal ends the unsealed scope, after the answer has gone out.
	Seal    func()
	Version string // Keyturn's own
	// TrustClock takes the clock as it is, after it has jumped ahead.
	TrustClock func()
	// Metrics renders the metrics in the form that the parameter "format" or the
	// header Accept asks for, and says their content type; nil: there are none.
	Metrics func(ctx context.Context, format, accept string) ([]byte, string, error)
}

// A Job is work on many rows that is committed before it begins, done in
// batches, and goes on after a restart.
type Job struct {
	ID      string    `json:"id"`
	Kind    string    `json:"kind"` // "disable", "revoke-prefix", "move"
	Prefix  string    `json:"prefix,omitempty"`
	Mount   string    `json:"mount,omitempty"` // uuid
	From    string    `json:"from,omitempty"`
	To      string    `json:"to,omitempty"`
	Force   bool      `json:"force,omitempty"`
	Started time.Time `json:"started"`
	Done    int       `json:"done"`
	State   string    `json:"state"` // "in-progress", "success"
}

// Routes returns the routes below sys/.
func Routes(c Config) []route.Route {
	var out []route.Route
	for _, part := range [][]route.Route{
		mountRoutes(c), (&policiesAPI{c}).routes(), (&leaseAPI{c}).routes(), (&wrappingAPI{c}).routes(), toolRoutes(),
		(&auditAPI{c}).routes(), (&jobsAPI{c}).routes(), (&serverAPI{c}).routes(),
	} {
		out = append(out, part...)
	}
	return out
}

// serverAPI serves what concerns the server itself.
type serverAPI struct{ Config }

func (a *serverAPI) routes() []route.Route {
	return []route.Route{
		route.On(route.Write, "seal", a.seal).WithSudo().WithRescue().WithHelp("Seal the server."),
		route.On(route.Write, "clock/trust", a.trustClock).WithSudo().WithHelp("Confirm the clock after it has jumped ahead: what is due then is revoked and turned."),
		route.On(route.Read, "metrics", a.metrics).WithHelp("The server's metrics: JSON, or the form of Prometheus."),
	}
}

func (a *serverAPI) seal(context.Context, *route.Request, route.None) (route.None, error) {
	a.Seal()
	return route.None{}, nil
}

func (a *serverAPI) trustClock(context.Context, *route.Request, route.None) (route.None, error) {
	a.TrustClock()
	return route.None{}, nil
}

// classPath is the path of the mount that a sys/mounts or sys/auth route means.
func classPath(class, path string) string {
	if class == mount.ClassAuth {
		return "auth/" + path + "/"
	}
	return path + "/"
}

type metricsIn struct {
	Format string `json:"format" default:"JSON" doc:"The form of the metrics: prometheus. An Accept header with prometheus/telemetry or application/openmetrics-text asks for it, too."`
}

func (a *serverAPI) metrics(ctx context.Context, r *route.Request, in metricsIn) (*wire.Raw, error) {
	if a.Metrics == nil {
		return nil, fault.New("sys.metrics", fault.Unsupported, "this server keeps no metrics; ask one that `keyturn server` started")
	}
	text, contentType, err := a.Metrics(ctx, in.Format, r.Accept)
	if err != nil {
		return nil, err
	}
	r.SetShape(route.Binary)
	r.Reply().ContentType, r.Reply().NoAuditData = contentType, true
	raw := wire.RawOf(text)
	return &raw, nil
}
