package sys

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/lease"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/wire"
)

// leaseAPI serves sys/leases and its deprecated paths.
type leaseAPI struct{ Config }

func (a *leaseAPI) routes() []route.Route {
	out := []route.Route{
		route.On(route.Write, "leases/lookup", a.lookupLease).WithHelp("Look a lease up."),
		route.On(route.List, "leases/lookup/{prefix...}", a.listLeases).WithSudo().WithHelp("List leases by prefix."),
		route.On(route.Read, "leases", a.failingLeases).WithSudo().
			WithHelp("List the leases whose revocation has failed, and why."),
		route.On(route.Read, "leases/count", a.countLeases).WithHelp("Count leases."),
		route.On(route.Write, "leases/tidy", a.tidyLeases).WithSudo().
			WithHelp("Accepted without effect: the index cannot go stale."),
		route.On(route.Write, "leases/revoke-prefix/{prefix...}", a.revokePrefix).WithSudo().
			WithHelp("Revoke all leases below a prefix."),
		route.On(route.Write, "leases/revoke-force/{prefix...}", a.revokeForce).WithSudo().
			WithHelp("Delete leases below a prefix, even if the revocation of their credentials fails."),
		route.On(route.Write, "revoke-prefix/{prefix...}", a.revokePrefix).WithSudo().
			WithHelp("Revoke all leases below a prefix, under the old path."),
		route.On(route.Write, "revoke-force/{prefix...}", a.revokeForce).WithSudo().
			WithHelp("Forget leases below a prefix, under the old path."),
	}
	for _, base := range []string{"leases/", ""} {
		out = append(out,
			route.On(route.Write, base+"renew", a.renewLease).WithHelp("Renew a lease."),
			route.On(route.Write, base+"renew/{id...}", a.renewLease).WithParam("id", "The lease.").
				WithHelp("Renew the lease that the path names."),
			route.On(route.Write, base+"revoke", a.revokeLease).WithHelp("Revoke a lease."),
			route.On(route.Write, base+"revoke/{id...}", a.revokeLease).WithParam("id", "The lease.").
				WithHelp("Revoke the lease that the path names."),
		)
	}
	return out
}

type leaseIn struct {
	ID        string        `json:"lease_id" alias:"url_lease_id" doc:"The lease."`
	Increment time.Duration `json:"increment" default:"the lease's TTL" doc:"For renewing: how long the lease should live from now on; the server may give less."`
	Sync      bool          `json:"sync" default:"false" doc:"For revoking: whether the answer waits until the credentials are gone."`
}

// id is the lease that the path or the body names. Policies judge the path, so a body that names
// another lease is refused.
func (in *leaseIn) id(r *route.Request) (string, error) {
	id := r.Param("id")
	switch {
	case id == "":
		id = in.ID
	case in.ID != "" && in.ID != id:
		return "", fault.New("sys.lease", fault.Invalid,
			"field \"lease_id\": it differs from the lease in the path; give only one of them")
	}
	switch bare := strings.Trim(id, "/"); {
	case bare == "":
		return "", fault.New("sys.lease", fault.Invalid, "field \"lease_id\": say which lease")
	case bare != id: // parameter rules have judged only one of the two
		return "", fault.New("sys.lease", fault.Invalid,
			"field \"lease_id\": %q is not in its canonical form; write %q", id, bare)
	}
	return id, nil
}

type leaseOut struct {
	ExpireTime  time.Time  `json:"expire_time"`
	ID          string     `json:"id"`
	IssueTime   time.Time  `json:"issue_time"`
	LastRenewal *time.Time `json:"last_renewal"`
	Renewable   bool       `json:"renewable"`
	TTL         int64      `json:"ttl"`
	State       string     `json:"state,omitempty"`
	Tries       int        `json:"revoke_tries,omitempty"`
	Error       string     `json:"revoke_error,omitempty"`
	Failing     *time.Time `json:"revoke_failing_since,omitempty"`
	NextTry     *time.Time `json:"revoke_next_try,omitempty"`
	Note        string     `json:"note,omitempty"`
	TokenEnds   *time.Time `json:"token_expire_time,omitempty"` // the lease ends with its token, if that is sooner
}

func (a *leaseAPI) lookupLease(ctx context.Context, r *route.Request, in leaseIn) (*leaseOut, error) {
	id, err := in.id(r)
	if err != nil {
		return nil, err
	}
	l, err := a.Leases.Lookup(ctx, id)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	out := &leaseOut{
		ExpireTime: l.Expires, ID: l.ID, IssueTime: l.Issued, Renewable: l.Renewable && l.State == lease.Granted,
		TTL: wire.Seconds(l.TTL(now)), Note: l.Note,
	}
	if !l.Renewed.IsZero() {
		out.LastRenewal = &l.Renewed
	}
	if owner, err := a.Tokens.ByID(ctx, l.Owner); err == nil && !owner.Expires.IsZero() {
		out.TokenEnds = &owner.Expires
	}
	switch l.State {
	case lease.Reserved:
		out.State = "creating"
	case lease.Ending:
		out.State, out.TTL, out.Tries, out.Error = "revoking", 0, l.Tries, l.Error
		if !l.Failing.IsZero() {
			out.Failing, out.NextTry = &l.Failing, &l.Due
		}
	}
	return out, nil
}

type prefixIn struct {
	Prefix string `path:"prefix" doc:"The beginning of the leases' ids, a path such as database/creds/."`
	After  string `json:"after" doc:"For listing: start after this name."`
	Limit  int    `json:"limit" default:"100000" doc:"For listing: how many names to return at most."`
	Sync   bool   `json:"sync" default:"false" doc:"For revoking: whether the answer waits until the credentials are gone."`
}

func (in *prefixIn) folder() string {
	if in.Prefix == "" {
		return ""
	}
	return in.Prefix + "/"
}

func (a *leaseAPI) listLeases(ctx context.Context, r *route.Request, in prefixIn) (route.Keys, error) {
	names, err := a.Leases.List(ctx, in.folder(), in.After, in.Limit)
	if len(names) == lease.MaxNames {
		r.Warn("only the first %d names are shown; for more, list with after=%s", len(names), names[len(names)-1])
	}
	return route.Keys{Keys: names}, err
}

func (a *leaseAPI) renewLease(ctx context.Context, r *route.Request, in leaseIn) (*route.Leasing, error) {
	id, err := in.id(r)
	if err != nil {
		return nil, err
	}
	l, warnings, err := a.RenewLease(ctx, id, in.Increment)
	if err != nil {
		return nil, err
	}
	for _, w := range warnings {
		r.Warn("%s", w)
	}
	return &route.Leasing{ID: l.ID, TTL: l.Expires.Sub(l.Renewed), Renewable: l.Renewable}, nil
}

func (a *leaseAPI) revokeLease(ctx context.Context, r *route.Request, in leaseIn) (route.None, error) {
	id, err := in.id(r)
	if err != nil {
		return route.None{}, err
	}
	if in.Sync {
		return route.None{}, a.Leases.RevokeNow(ctx, id, false, time.Now())
	}
	return route.None{}, a.Leases.End(ctx, id, false, time.Now())
}

func (a *leaseAPI) revokePrefix(ctx context.Context, _ *route.Request, in prefixIn) (route.None, error) {
	_, err := a.Jobs.Start(ctx, Job{Kind: "revoke-prefix", Prefix: in.folder()}, in.Sync)
	return route.None{}, err
}

func (a *leaseAPI) revokeForce(ctx context.Context, r *route.Request, in prefixIn) (route.None, error) {
	r.Warn("what these leases created is left behind where its undo fails; find it by its name at the target")
	_, err := a.Jobs.Start(ctx, Job{Kind: "revoke-prefix", Prefix: in.folder(), Force: true}, true)
	return route.None{}, err
}

func (a *leaseAPI) tidyLeases(_ context.Context, r *route.Request, _ route.None) (route.None, error) {
	r.SetStatus(202)
	r.Warn("there is nothing to tidy: each lease and its index entries are one commit")
	return route.None{}, nil
}

type countIn struct {
	Type string `json:"type" default:"all" doc:"Which leases to count: all or irrevocable."`
}

type countOut struct {
	LeaseCount int64            `json:"lease_count"`
	Counts     map[string]int64 `json:"counts"`
}

func (a *leaseAPI) countLeases(_ context.Context, _ *route.Request, in countIn) (*countOut, error) {
	if in.Type != "" && !slices.Contains([]string{"irrevocable", "all"}, in.Type) {
		return nil, fault.New("sys.countLeases", fault.Invalid,
			"parameter \"type\" must be \"irrevocable\" or \"all\", not %q", in.Type)
	}
	if in.Type == "irrevocable" {
		return &countOut{LeaseCount: a.Leases.Stats.Waiting.Load(), Counts: map[string]int64{}}, nil
	}
	return &countOut{LeaseCount: a.Leases.Stats.Live.Load(), Counts: map[string]int64{}}, nil
}

// maxFailing is the maximum number of leases on a page of failing leases.
const maxFailing = 10_000

type failingIn struct {
	Type  string `json:"type" default:"irrevocable" doc:"Which leases to list: irrevocable, those whose revocation has failed and is retried."`
	After string `json:"after" doc:"Start after this lease."`
	Limit int    `json:"limit" default:"10000" doc:"How many leases to return at most, up to 10000."`
}

type failingOut struct {
	LeaseCount int64          `json:"lease_count"` // of all, not of this page
	Counts     map[string]int `json:"counts"`      // by the path of the mount, of this page
	Leases     []failingLease `json:"leases"`
}

// failingLease is a lease whose revocation fails. The first two names are Vault's.
type failingLease struct {
	ID      string    `json:"lease_id"`
	Error   string    `json:"error"`
	Tries   int       `json:"revoke_tries"`
	Failing time.Time `json:"revoke_failing_since"`
	NextTry time.Time `json:"revoke_next_try"`
}

func (a *leaseAPI) failingLeases(ctx context.Context, r *route.Request, in failingIn) (*failingOut, error) {
	if in.Type != "" && in.Type != "irrevocable" {
		return nil, fault.New("sys.failingLeases", fault.Invalid,
			"parameter \"type\" must be \"irrevocable\", not %q; list others by prefix, below sys/leases/lookup",
			in.Type)
	}
	limit := in.Limit
	if limit <= 0 || limit > maxFailing {
		limit = maxFailing
	}
	found, err := a.Leases.Failing(ctx, in.After, limit)
	if err != nil {
		return nil, err
	}
	if len(found) == limit {
		r.Warn("only the first %d leases are shown; for more, read with after=%s", limit, found[limit-1].ID)
	}
	out := &failingOut{LeaseCount: max(a.Leases.Stats.Waiting.Load(),
		int64(len(found))), Counts: map[string]int{}, Leases: make([]failingLease, len(found))}
	for i, l := range found {
		out.Leases[i] = failingLease{l.ID, l.Error, l.Tries, l.Failing, l.Due}
		out.Counts[a.mountOf(l)]++
	}
	return out, nil
}

// mountOf is the path of a lease's mount, or its UUID if it has been disabled.
func (a *leaseAPI) mountOf(l *lease.Lease) string {
	if o := a.Mounts.Snapshot().ByUUID(l.Mount); o != nil {
		return o.Entry().Path
	}
	return l.Mount
}
