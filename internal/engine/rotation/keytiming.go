package rotation

import (
	"fmt"
	"time"

	"github.com/keyturn/keyturn/internal/cron"
	"github.com/keyturn/keyturn/internal/engine/rotation/schedule"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
)

// timingIn is the part of a request that says when a key is rotated, and how long an old key stays
// valid.
type timingIn struct {
	Class    *string        `json:"class" default:"standard" doc:"How sensitive the key is: financial, standard or low-risk; sets the default rotation period."`
	Period   *time.Duration `json:"rotation_period" default:"30, 60 or 90 days, by class" doc:"How often the key is rotated; at least 1m. Replaces rotation_schedule."`
	Schedule *string        `json:"rotation_schedule" doc:"When the key is rotated: five fields as in crontab(5), in UTC, such as 0 3 * * SAT. Replaces rotation_period."`
	Window   *time.Duration `json:"rotation_window" default:"none" doc:"How long after the time of rotation_schedule the rotation may still begin; at least 1h. A rotation that misses its window waits for the next one."`
	Jitter   *time.Duration `json:"jitter" default:"0" doc:"The longest random delay of a rotation, drawn once for each; at most half of rotation_window or of the shortest time between two rotations."`
	Manual   *bool          `json:"manual" default:"false" doc:"Whether the key is rotated on request only."`
	Blackout *[]string      `json:"blackout" doc:"Days, in UTC, on which no scheduled rotation begins: a list of dates (2026-12-24), ranges (2026-12-24/2027-01-02) and yearly ranges (12-24/01-02)."`

	Grace   *time.Duration `json:"grace_period" default:"48h, at most half the period" doc:"How long the old key stays valid after the new one is published."`
	ReadTTL *time.Duration `json:"read_ttl" default:"60s, or less" doc:"After how long readers read the secret again: at most 300s, and at most a quarter of the grace period."`
	Idle    *time.Duration `json:"idle_period" default:"1h, or less" doc:"How long the old key must be unused before it is retired, if the provider shows when a key was last used."`
	MaxHold *time.Duration `json:"max_hold" default:"168h" doc:"How long an old key that is still in use is kept before an alert asks a person to decide."`
}

// apply changes a policy by a request. Defaults are not filled in.
func (in *timingIn) apply(p *schedule.Policy) error {
	blackout, err := parseBlackout(in.Blackout)
	if err != nil {
		return err
	}
	if in.Class != nil {
		p.Class = schedule.Class(*in.Class)
		if in.Period == nil {
			p.Period = 0 // the class's
		}
	}
	p.Apply(cron.Change{Period: in.Period, Schedule: in.Schedule, Window: in.Window, Jitter: in.Jitter,
		Off: in.Manual, Blackout: blackout})
	set(&p.Grace, in.Grace)
	set(&p.ReadTTL, in.ReadTTL)
	set(&p.Idle, in.Idle)
	set(&p.MaxHold, in.MaxHold)
	return nil
}

// parseBlackout parses the field "blackout". nil stays nil.
func parseBlackout(given *[]string) (*cron.Blackout, error) {
	if given == nil {
		return nil, nil
	}
	b, err := cron.ParseBlackout(*given)
	if err != nil {
		return nil, invalid("field \"blackout\": %s", fault.Message(err))
	}
	return &b, nil
}

// dropped describes the schedule that a request which does not mention it has replaced by the
// default; "" if it has not.
func (in *timingIn) dropped(was, is cron.When) string {
	switch {
	case in.Period != nil, in.Schedule != nil, was.Period == is.Period && was.Schedule == is.Schedule:
		return ""
	case was.Schedule != "":
		return fmt.Sprintf("rotation_schedule was %q, and rotation_period", was.Schedule)
	}
	return fmt.Sprintf("rotation_period was %s and", was.Period)
}

// withBlackout returns the schedule of a policy, joined with the black-out dates of the mount.
func withBlackout(p schedule.Policy, ofMount cron.Blackout) cron.When {
	p.Blackout = p.Blackout.Join(ofMount)
	return p.When
}

// planFirst plans the first rotation of a new key. It is due at once, unless it is skipped.
func planFirst(k *key, when cron.When, skip bool) {
	if skip || when.Off {
		k.Rec.Next = when.Next(k.Now, k.Now)
	} else {
		k.Rec.Next = when.Allowed(k.Now)
	}
}

// planNext plans the next rotation again if the schedule has changed. A rotation that is due stays
// due, unless it is due by another schedule or has missed its window. A first rotation that is due
// stays due in any case.
func planNext(k *key, was, is cron.When) {
	rec := k.Rec
	due := !rec.Next.IsZero() && !rec.Next.After(k.Now)
	same := is
	same.Window, same.Jitter, same.Blackout = was.Window, was.Jitter, was.Blackout
	stays := due && (rec.LastRotated.IsZero() || same == was && !is.Missed(rec.Next, k.Now))
	dates := is
	dates.Blackout = was.Blackout
	switch {
	case is == was, stays && !is.Off:
	case dates == was && !is.Off:
		moveForDates(k, was, is)
	default:
		rec.Next = is.Next(lastOf(rec), k.Now)
	}
	if is.Off {
		rec.Retry = time.Time{}
	}
}

// moveForDates moves the next rotation if it is planned on a new black-out date, or was planned
// later because of an old one. Otherwise the planned time stays.
func moveForDates(k *key, was, is cron.When) (moved bool) {
	rec := k.Rec
	switch at := is.Next(lastOf(rec), k.Now); {
	case is.Blackout.Has(rec.Next):
		rec.Next = is.Allowed(rec.Next)
	case at.Before(rec.Next) && was.Blackout.Has(at):
		rec.Next = at
	default:
		return false
	}
	return true
}

// lastOf is the time from which the period until the next rotation counts.
func lastOf(r *rotate.Record) time.Time {
	if r.LastRotated.IsZero() {
		return r.Created
	}
	return r.LastRotated
}
