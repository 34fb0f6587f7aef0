package aws

import (
	"time"

	"github.com/keyturn/keyturn/internal/cron"
	"github.com/keyturn/keyturn/internal/rotate"
)

// automaticIn are the fields of config/root that say so.
type automaticIn struct {
	Period   *time.Duration `json:"rotation_period" default:"never" doc:"How often the key is replaced, at least one minute. Excludes rotation_schedule."`
	Schedule *string        `json:"rotation_schedule" default:"never" doc:"When it is replaced: cron, five fields, UTC. Excludes rotation_period."`
	Window   *time.Duration `json:"rotation_window" default:"none" doc:"How long after a time of rotation_schedule the rotation may still begin, at least one hour."`
	Off      *bool          `json:"disable_automated_rotation" default:"false" doc:"Whether the key is replaced only by rotate-root."`
}

// automaticOut is how they are shown.
type automaticOut struct {
	Period   time.Duration `json:"rotation_period,omitempty"`
	Schedule string        `json:"rotation_schedule,omitempty"`
	Window   time.Duration `json:"rotation_window,omitempty"`
	Off      bool          `json:"disable_automated_rotation,omitempty"`
	Last     time.Time     `json:"last_root_rotation,omitempty"`
	Next     time.Time     `json:"next_root_rotation,omitempty"`
	LastFail string        `json:"last_root_error,omitempty"`
}

// automaticOf is what is shown of the record of config/root's key.
func automaticOf(r *rotate.Record) automaticOut {
	if r == nil {
		return automaticOut{}
	}
	w := rootOf(r).When
	return automaticOut{w.Period, w.Schedule, w.Window, w.Off, r.LastRotated, r.Next, r.LastError}
}

// apply changes the times by a write. A period counts from the last rotation, or from the write.
func (in *automaticIn) apply(w *cron.When) error {
	w.Apply(cron.Change{Period: in.Period, Schedule: in.Schedule, Window: in.Window, Off: in.Off})
	return w.Check(minPeriod)
}
