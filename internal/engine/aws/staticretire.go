package aws

import (
	"context"
	"slices"
	"time"

	"github.com/keyturn/keyturn/internal/engine/aws/client"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
)

// lookAgain is the shortest time between two looks at a key that is still used.
const lookAgain = time.Minute

// A retirement ends the lives of keys that were replaced.
type retirement struct{ statics }

// retire takes the next step with the key before: it waits while the key is used, sets it
// inactive, and deletes it once AWS refuses it.
func (b retirement) retire(ctx context.Context, name string, s *static) error {
	c, done, err := b.client(ctx, s)
	if err != nil {
		return b.failed(ctx, name, s, mine("aws.retire", err))
	}
	defer done()
	keys, err := c.Keys(ctx, s.User)
	if err != nil {
		return b.failed(ctx, name, s, mine("aws.retire", err))
	}
	i := slices.IndexFunc(keys, func(k client.Key) bool { return k.ID == s.Old.ID })
	switch {
	case i < 0:
		return b.retired(ctx, name, s) // somebody has deleted it
	case s.Old.Inactive.IsZero():
		err = b.disable(ctx, c, name, s)
	case keys[i].Active:
		now := time.Now().UTC()
		s.Old.Inactive, s.Old.Revived = time.Time{}, now // it is needed: its end begins anew
		err = b.hold(ctx, name, s, now)
	default:
		err = b.destroy(ctx, c, name, s)
	}
	if err != nil {
		return b.failed(ctx, name, s, mine("aws.retire", err))
	}
	return nil
}

// disable sets the key before inactive, if nobody has used it for long enough.
func (b retirement) disable(ctx context.Context, c *client.Client, name string, s *static) error {
	used, err := c.LastUsed(ctx, s.Old.ID)
	if err != nil {
		return err
	}
	now := time.Now().UTC()
	s.Old.Used = used.UTC()
	if idle := s.idle(now); s.Old.needed().Add(idle).After(now) {
		return b.hold(ctx, name, s, now)
	}
	if err := c.SetActive(ctx, s.User, s.Old.ID, false); err != nil {
		return err
	}
	s.Old.Inactive, s.Old.At = now, now.Add(s.rest(now))
	s.Failed, s.Why = 0, ""
	return b.save(ctx, name, s, s.later(now), commit{})
}

// hold keeps the key before, because somebody uses it. That is told once.
func (b retirement) hold(ctx context.Context, name string, s *static, now time.Time) error {
	o := s.Old
	o.At = now.Add(max(o.needed().Add(s.idle(now)).Sub(now), min(lookAgain, s.grace(now))))
	s.Failed, s.Why = 0, ""
	if o.Told {
		return b.save(ctx, name, s, s.later(now), commit{})
	}
	o.Told = true
	return b.save(ctx, name, s, s.later(now), b.event("aws/static-role-held", name, s, map[string]string{"key_id": o.ID, "last_used": o.needed().Format(time.RFC3339)}))
}

// destroy deletes the key before. If its secret is known, AWS must have refused it by then.
func (b retirement) destroy(ctx context.Context, c *client.Client, name string, s *static) error {
	if !s.OldSecret.Empty() {
		its, err := c.As(ctx, s.Old.ID, s.OldSecret, secret.Value{})
		if err != nil {
			return err
		}
		defer its.Close()
		_, err = its.WhoAmI(ctx)
		switch code := client.CodeOf(err); {
		case err == nil:
			return fault.New("aws.retire", fault.Upstream, "the inactive key %s is still let in by AWS; it is deleted once it is refused, which is tried again", s.Old.ID)
		case code != "InvalidClientTokenId":
			return err
		}
	}
	if err := c.DeleteKey(ctx, s.User, s.Old.ID); err != nil {
		return err
	}
	return b.retired(ctx, name, s)
}

// retired ends the life of the key before.
func (b retirement) retired(ctx context.Context, name string, s *static) error {
	event := b.event("aws/static-role-retired", name, s, map[string]string{"key_id": s.Old.ID})
	s.Dropped.add(s.Old.ID)
	s.Old, s.OldSecret, s.Failed, s.Why = nil, secret.Value{}, 0, ""
	return b.save(ctx, name, s, s.later(time.Now().UTC()), event)
}

// staticOut is a static role as it is shown.
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

	KeyID    string    `json:"access_key,omitempty"`
	OldID    string    `json:"previous_access_key,omitempty"`
	OldUsed  time.Time `json:"previous_last_used,omitempty"`
	RetireAt time.Time `json:"previous_retire_after,omitempty"`
	Last     time.Time `json:"last_vault_rotation,omitempty"`
	NextAt   time.Time `json:"next_rotation,omitempty"`
	Failures int       `json:"failures,omitempty"`
	Why      string    `json:"last_error,omitempty"`
}

// timing is how roles and their credentials show when they are rotated.
type timing struct {
	Period   time.Duration `json:"rotation_period,omitempty"`
	Schedule string        `json:"rotation_schedule,omitempty"`
	Window   time.Duration `json:"rotation_window,omitempty"`
}

func (s *static) timing() timing { return timing{s.When.Period, s.When.Schedule, s.When.Window} }

func (b statics) read(ctx context.Context, r *route.Request, in nameIn) (*staticOut, error) {
	s, err := b.static(ctx, in.Name)
	if err != nil || s == nil || s.Gone {
		return nil, err
	}
	out := &staticOut{
		Name: in.Name, User: s.User, As: s.As.ARN, SessionName: s.As.Session, ExternalID: s.As.ExternalID, Off: s.When.Off, timing: s.timing(),
		Grace: s.Grace, Idle: s.Idle, Rest: s.Inactive, Checks: s.Settle.Checks, KeyID: s.Current, Last: s.Last, NextAt: s.Next, Failures: s.Failed, Why: s.Why,
	}
	out.Pause = s.Settle.Pause
	if s.Old != nil {
		out.OldID, out.OldUsed, out.RetireAt = s.Old.ID, s.Old.Used, s.Old.At
	}
	if now := time.Now(); s.Old != nil && s.Old.Told && s.Old.Inactive.IsZero() {
		r.Warn("the key before, %s, is kept, since it was used, or set active again, at %s; find who uses it, or write rotate-role/%s with replace_key=%s", s.Old.ID, s.Old.needed().Format(time.RFC3339), in.Name, s.Old.ID)
		if !s.Next.IsZero() && s.Next.Before(now) {
			r.Warn("the rotation that was due at %s waits for it, since AWS allows two keys", s.Next.Format(time.RFC3339))
		}
	}
	if s.Why != "" {
		r.Warn("the role is looked at again at %s: %s", s.Due.Format(time.RFC3339), s.Why)
	}
	return out, nil
}

// staticCredsOut is what the readers of a static role are given. But for ttl, it is the same until the key changes.
type staticCredsOut struct {
	KeyID  string        `json:"access_key"`
	Secret secret.Value  `json:"secret_key"`
	Ends   time.Time     `json:"expiration,omitempty"` // no sooner than the next rotation
	TTL    time.Duration `json:"ttl"`

	timing
}

// creds gives out the key that a role has now.
func (b statics) creds(ctx context.Context, _ *route.Request, in nameIn) (*staticCredsOut, error) {
	s, err := b.live(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	if s.Current == "" {
		return nil, fault.New("aws.static", fault.Unavailable, "the first key of user %s is not known to work yet; try again after %s", s.User, s.Due.Format(time.RFC3339))
	}
	now := time.Now().UTC()
	out := &staticCredsOut{KeyID: s.Current, Secret: s.Secret, Ends: s.Next, TTL: s.readWithin(now), timing: s.timing()}
	if left := s.Next.Sub(now); left > 0 {
		out.TTL = max(min(out.TTL, left.Truncate(time.Second)), time.Second)
	}
	if out.Period == 0 { // those who sleep by ttl want both
		out.Period = max(out.TTL, s.When.Shortest(now))
	}
	return out, nil
}
