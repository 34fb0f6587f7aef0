package aws

import (
	"context"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
)

// staticOut is a static role in an answer.
type staticOut struct {
	Name        string `json:"name"`
	User        string `json:"username"`
	As          string `json:"assume_role_arn,omitempty"`
	SessionName string `json:"assume_role_session_name,omitempty"`
	ExternalID  string `json:"external_id,omitempty"`
	Off         bool   `json:"disable_automated_rotation,omitempty"`

	timing

	Grace  time.Duration  `json:"grace_period,omitempty"`
	Idle   time.Duration  `json:"idle_period,omitempty"`
	Rest   time.Duration  `json:"inactive_period,omitempty"`
	Checks *int           `json:"propagation_checks,omitempty"`
	Pause  *time.Duration `json:"propagation_settle,omitempty"`

	KeyID     string    `json:"access_key,omitempty"`
	OldID     string    `json:"previous_access_key,omitempty"`
	OldUsed   time.Time `json:"previous_last_used,omitempty"`
	RetireAt  time.Time `json:"previous_retire_after,omitempty"`
	Last      time.Time `json:"last_vault_rotation,omitempty"`
	NextAt    time.Time `json:"next_rotation,omitempty"`
	Failures  int       `json:"failures,omitempty"`
	LastError string    `json:"last_error,omitempty"`
}

// timing has the rotation times in answers.
type timing struct {
	Period   time.Duration `json:"rotation_period,omitempty"`
	Schedule string        `json:"rotation_schedule,omitempty"`
	Window   time.Duration `json:"rotation_window,omitempty"`
}

func (s *staticData) timing() timing {
	return timing{Period: s.When.Period, Schedule: s.When.Schedule, Window: s.When.Window}
}

func (s *staticRoutes) read(ctx context.Context, r *route.Request, in nameIn) (*staticOut, error) {
	rec, sec, err := s.records.Read(ctx, staticKind, in.Name)
	if err != nil || rec == nil || rec.Gone {
		return nil, err
	}
	d := staticDataOf(rec)
	out := &staticOut{
		Name: in.Name, User: d.User, As: d.AssumedRole.ARN, SessionName: d.AssumedRole.Session,
		ExternalID: d.AssumedRole.ExternalID,
		Off:        d.When.Off, timing: d.timing(),
		Grace: d.Grace, Idle: d.Idle, Rest: d.Inactive, Checks: d.Propagation.Checks, Pause: d.Propagation.Pause,
		Last: rec.LastRotated, NextAt: rec.Next, Failures: rec.Failures, LastError: rec.LastError,
	}
	old, t := rec.Current, rec.Turn
	if hasKey(rec, sec) {
		out.KeyID, old = rec.Current.ID, nil
	}
	if t != nil {
		out.Failures += t.Tries
	}
	if t != nil && t.Replaced() {
		old = t.Old
		out.OldUsed, out.RetireAt = t.End.Used, rec.Due
	}
	out.OldID = old.Key()
	if now := time.Now(); old != nil && keptInUse(t, now) {
		r.Warn("the previous key, %s, is kept, because it was used, or activated again, at %s; find who uses it, or "+
			"write rotate-role/%s with replace_key=%s", old.ID, t.Needed().Format(time.RFC3339), in.Name, old.ID)
		if !rec.Next.IsZero() && rec.Next.Before(now) {
			r.Warn("the rotation that was due at %s waits for it, since AWS allows two keys",
				rec.Next.Format(time.RFC3339))
		}
	}
	if rec.LastError != "" {
		r.Warn("the next attempt for this role is at %s: %s", rec.Due.Format(time.RFC3339), rec.LastError)
	}
	return out, nil
}

// keptInUse reports whether the previous key is kept after its grace period because it is in use.
func keptInUse(t *rotate.Turn, now time.Time) bool {
	return t != nil && t.Replaced() && t.State == rotate.Grace && !t.Needed().IsZero() &&
		(!t.End.Revived.IsZero() || !t.End.After.After(now))
}

// staticCredsOut is the answer to a read of static credentials. Except for ttl, it is the same
// until the key changes.
type staticCredsOut struct {
	KeyID  string        `json:"access_key"`
	Secret secret.Value  `json:"secret_key"`
	Ends   time.Time     `json:"expiration,omitempty"` // no sooner than the next rotation
	TTL    time.Duration `json:"ttl"`

	timing
}

// creds returns the published key of a role.
func (s *staticRoutes) creds(ctx context.Context, _ *route.Request, in nameIn) (*staticCredsOut, error) {
	rec, sec, err := s.records.Read(ctx, staticKind, in.Name)
	switch {
	case err != nil:
		return nil, err
	case rec == nil || rec.Gone:
		return nil, unknownStatic(in.Name)
	}
	d := staticDataOf(rec)
	if !hasKey(rec, sec) {
		return nil, fault.New("aws.static", fault.Unavailable,
			"the first key of user %s is not known to work yet; try again after %s", d.User,
			rec.Due.Format(time.RFC3339))
	}
	now := time.Now().UTC()
	out := &staticCredsOut{
		KeyID: rec.Current.ID, Secret: sec.Keys[rec.Current.ID].Secret[secretField], Ends: rec.Next,
		TTL: d.readWithin(now), timing: d.timing(),
	}
	if left := rec.Next.Sub(now); left > 0 {
		out.TTL = max(min(out.TTL, left.Truncate(time.Second)), time.Second)
	}
	if out.Period == 0 { // clients that sleep for ttl need both
		out.Period = max(out.TTL, d.When.Shortest(now))
	}
	return out, nil
}

func (s *staticRoutes) exists(ctx context.Context, r *route.Request) (bool, error) {
	e, err := s.records.View(ctx, staticKind, r.Param("name"))
	return e != nil && !e.Rec.Gone, err
}

func (s *staticRoutes) list(ctx context.Context, _ *route.Request, _ route.None) (out route.Keys, err error) {
	for r, err := range s.records.Records(ctx, staticKind) {
		switch {
		case err != nil:
			return route.Keys{}, err
		case !r.Gone:
			out.Keys = append(out.Keys, r.Name)
		}
	}
	return out, nil
}
