package node

import (
	"bytes"
	"context"
	"os"
	"runtime/pprof"
	"runtime/trace"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/cron"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/wire"
)

// profileAPI serves the profiles of the Go runtime, like net/http/pprof. They contain names of
// functions and addresses, but no values. They need sudo because they cost processor time and
// reveal how the server works.
type profileAPI struct{}

// The default and maximum duration of a profile, which must end before the request times out.
const (
	profileSeconds    = 30
	maxProfileSeconds = 60
)

func (a *profileAPI) routes() []route.Route {
	return []route.Route{
		route.On(route.Read, "pprof", a.index).WithSudo().WithHelp("List the profiles."),
		route.On(route.Read, "pprof/{name}", a.profile).WithSudo().
			WithHelp("A profile of the server's process, for go tool pprof or go tool trace."),
	}
}

type profilesOut struct {
	Profiles []string `json:"profiles"`
}

func (a *profileAPI) index(context.Context, *route.Request, route.None) (*profilesOut, error) {
	names := []string{"cmdline", "profile", "trace"}
	for _, p := range pprof.Profiles() {
		names = append(names, p.Name())
	}
	slices.Sort(names)
	return &profilesOut{names}, nil
}

type profileIn struct {
	Name    string `path:"name" doc:"The profile: allocs, block, cmdline, goroutine, heap, mutex, profile, threadcreate or trace."`
	Debug   int    `json:"debug" default:"0" doc:"1 or 2 for text instead of the binary form."`
	Seconds int    `json:"seconds" default:"30" doc:"How many seconds profile and trace record, at most 60."`
}

func (a *profileAPI) profile(ctx context.Context, r *route.Request, in profileIn) (*wire.Raw, error) {
	if in.Seconds == 0 {
		in.Seconds = profileSeconds
	}
	if in.Seconds < 0 || in.Seconds > maxProfileSeconds || in.Debug < 0 || in.Debug > 2 {
		return nil, fault.New("node.profile", fault.Invalid, "parameter \"seconds\": want 1 to %d; \"debug\": 0 to 2",
			maxProfileSeconds)
	}
	var b bytes.Buffer
	kind, err := "application/octet-stream", error(nil)
	switch in.Name {
	case "cmdline":
		// The arguments may contain a secret, such as the root token of a development server.
		kind = "text/plain; charset=utf-8"
		b.WriteString(os.Args[0])
	case "profile":
		if err = pprof.StartCPUProfile(&b); err == nil {
			cron.Pause(ctx, time.Duration(in.Seconds)*time.Second)
			pprof.StopCPUProfile()
		}
	case "trace":
		if err = trace.Start(&b); err == nil {
			cron.Pause(ctx, time.Duration(in.Seconds)*time.Second)
			trace.Stop()
		}
	default:
		p := pprof.Lookup(in.Name)
		if p == nil {
			return nil, fault.New("node.profile", fault.NotFound, "there is no profile %q; sys/pprof lists them",
				in.Name)
		}
		if in.Debug > 0 {
			kind = "text/plain; charset=utf-8"
		}
		err = p.WriteTo(&b, in.Debug)
	}
	if err != nil { // another profile is being taken
		return nil, fault.New("node.profile", fault.Unavailable,
			"the profile cannot be taken now: %s; try again when no other is being taken",
			strings.TrimPrefix(err.Error(), "cpu profiling "))
	}
	r.SetShape(route.Binary)
	r.Reply().ContentType, r.Reply().NoAuditData = kind, true
	raw := wire.RawOf(b.Bytes())
	return &raw, nil
}
