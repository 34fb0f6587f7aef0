package sys

import (
	"context"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
)

// jobsAPI serves the jobs that continue after a request has been answered.
type jobsAPI struct{ Config }

func (a *jobsAPI) routes() []route.Route {
	return []route.Route{
		route.On(route.List, "jobs", a.list).WithSudo().
			WithHelp("List the unfinished jobs: disabled mounts whose leases are still being revoked, and the like."),
		route.On(route.Read, "jobs/{id}", a.read).WithSudo().
			WithParam("id", "The job, as a warning or the list names it.").
			WithHelp("The state of a job. A finished job is not found."),
	}
}

func (a *jobsAPI) list(ctx context.Context, _ *route.Request, _ route.None) (route.Keys, error) {
	jobs, err := a.Jobs.List(ctx)
	out := route.Keys{Info: map[string]any{}}
	for _, j := range jobs {
		out.Keys = append(out.Keys, j.ID)
		out.Info[j.ID] = jobInfo{Kind: j.Kind, Path: j.Prefix, Started: j.Started}
	}
	return out, err
}

type jobInfo struct {
	Kind    string    `json:"kind"`
	Path    string    `json:"path"`
	Started time.Time `json:"start_time"`
}

type jobOut struct {
	ID      string    `json:"id"`
	Kind    string    `json:"kind"`
	Path    string    `json:"path"`
	Started time.Time `json:"start_time"`
	State   string    `json:"state"`
	Leases  int       `json:"leases_left"`
	Failing int       `json:"leases_failing"`
	Error   string    `json:"revoke_error,omitempty"`
}

func (a *jobsAPI) read(ctx context.Context, _ *route.Request, in idIn) (*jobOut, error) {
	j, err := a.Jobs.Status(ctx, in.ID)
	if err != nil || j == nil {
		return nil, err
	}
	left, err := a.Jobs.LeasesLeft(ctx, j)
	if err != nil {
		return nil, err
	}
	return &jobOut{j.ID, j.Kind, j.Prefix, j.Started, j.State, left.Leases, left.Failing, left.Error}, nil
}

// warnOfUnrevoked warns about leases of a disabled mount that are not revoked yet. Their
// credentials still work, although the mount is no longer listed.
func (a *jobsAPI) warnOfUnrevoked(ctx context.Context, r *route.Request, path, id string) {
	left, err := a.Jobs.RunNow(ctx, id)
	many := ""
	if left.Leases >= MaxLeft {
		many = " or more"
	}
	switch {
	case err != nil: // the mount is disabled nevertheless, and the job continues
		r.Warn("%q is disabled; it is not known yet whether its leases are revoked (%s); read sys/jobs/%s", path,
			fault.Message(err), id)
	case left.Failing > 0:
		r.Warn(
			"%q is disabled, but %d%s of its leases could not be revoked: %s. Their credentials may still work. The "+
				"server retries: sys/jobs/%s shows the progress, sys/leases shows which leases fail, and "+
				"sys/leases/revoke-force/%s forgets them",
			path, left.Leases, many, left.Error, id, path)
	case left.Leases > 0:
		r.Warn("%q is disabled, and %d%s of its leases are still being revoked; sys/jobs/%s shows the progress", path,
			left.Leases, many, id)
	}
}

type idIn struct {
	ID string `path:"id" doc:"The id that the move's answer gave."`
}
