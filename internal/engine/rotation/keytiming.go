package rotation

import (
	"fmt"
	"time"

	"github.com/keyturn/keyturn/internal/cron"
	"github.com/keyturn/keyturn/internal/engine/rotation/schedule"
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

	Grace   *time.Duration `json:"grace_period" default:"48h, at most half the period" doc:"How long the old key stays valid after the new one is published."`
	ReadTTL *time.Duration `json:"read_ttl" default:"60s, or less" doc:"After how long readers read the secret again: at most 300s, and at most a quarter of the grace period."`
	Idle    *time.Duration `json:"idle_period" default:"1h, or less" doc:"How long the old key must be unused before it is retired, if the provider shows when a key was last used."`
	MaxHold *time.Duration `json:"max_hold" default:"168h" doc:"How long an old key that is still in use is kept before an alert asks a person to decide."`
}

// apply changes a policy by a request. Defaults are not filled in.
func (in *timingIn) apply(p *schedule.Policy) {
	if in.Class != nil {
		p.Class = schedule.Class(*in.Class)
		if in.Period == nil {
			p.Period = 0 // the class's
		}
	}
	p.Apply(cron.Change{Period: in.Period, Schedule: in.Schedule, Window: in.Window, Jitter: in.Jitter,
		Off: in.Manual})
	set(&p.Grace, in.Grace)
	set(&p.ReadTTL, in.ReadTTL)
	set(&p.Idle, in.Idle)
	set(&p.MaxHold, in.MaxHold)
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

// planFirst plans the first rotation of a new key. It is due at once, unless it is skipped.
func planFirst(k *key, skip bool) {
	when := k.data.Config.Policy.When
	if k.Rec.Next = k.Now; skip || when.Off {
		k.Rec.Next = when.Next(k.Now, k.Now)
	}
}

// planNext plans the next rotation again if the schedule has changed. A first rotation that is due
// stays due.
func planNext(k *key, was cron.When) {
	rec, is := k.Rec, k.data.Config.Policy.When
	firstDue := rec.LastRotated.IsZero() && !rec.Next.IsZero() && !rec.Next.After(k.Now)
	if is != was && (is.Off || !firstDue) {
		last := rec.LastRotated
		if last.IsZero() {
			last = rec.Created
		}
		rec.Next = is.Next(last, k.Now)
	}
	if is.Off {
		rec.Retry = time.Time{}
	}
}
