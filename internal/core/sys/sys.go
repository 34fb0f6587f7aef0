// Package sys is the part of core that serves the paths below sys/: mounts, policies, leases,
// wrapping, tools and audit devices. Health, seal status and unsealing also work while the server
// is sealed, so the HTTP layer calls core for them.
package sys

import (
	"context"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/wire"
)

// Routes returns the routes below sys/.
func Routes(c Config) []route.Route {
	var out []route.Route
	for _, part := range [][]route.Route{
		mountRoutes(c), (&viewAPI{c}).routes(), (&policiesAPI{c}).routes(), (&leaseAPI{c}).routes(),
		(&wrappingAPI{c}).routes(), toolRoutes(), (&auditAPI{c}).routes(), (&jobsAPI{c}).routes(),
		(&serverAPI{c}).routes(),
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
		route.On(route.Write, "clock/trust", a.trustClock).WithSudo().
			WithHelp("Confirms the clock after a jump forward: due leases are revoked, and due rotations start."),
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

type metricsIn struct {
	Format string `json:"format" default:"JSON" doc:"The form of the metrics: prometheus. An Accept header with prometheus/telemetry or application/openmetrics-text asks for it, too."`
}

func (a *serverAPI) metrics(ctx context.Context, r *route.Request, in metricsIn) (*wire.Raw, error) {
	if a.Metrics == nil {
		return nil, fault.New("sys.metrics", fault.Unsupported,
			"this server keeps no metrics; ask one that `keyturn server` started")
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
