package aws

import (
	"time"

	"github.com/keyturn/keyturn/internal/cron"
	"github.com/keyturn/keyturn/internal/rotate"
)

// scheduleIn are the fields of config/root that schedule the rotation of its key.
type scheduleIn struct {
	Period   *time.Duration `json:"rotation_period" default:"never" doc:"How often the key is replaced, at least one minute. Excludes rotation_schedule."`
	Schedule *string        `json:"rotation_schedule" default:"never" doc:"When it is replaced: cron, five fields, UTC. Excludes rotation_period."`
	Window   *time.Duration `json:"rotation_window" default:"none" doc:"How long after a time of rotation_schedule the rotation may still begin, at least one hour."`
	Off      *bool          `json:"disable_automated_rotation" default:"false" doc:"Whether the key is replaced only by rotate-root."`
}

// scheduleOut has these fields and the results of rotations in an answer.
type scheduleOut struct {
	Period    time.Duration `json:"rotation_period,omitempty"`
	Schedule  string        `json:"rotation_schedule,omitempty"`
	Window    time.Duration `json:"rotation_window,omitempty"`
	Off       bool          `json:"disable_automated_rotation,omitempty"`
	Last      time.Time     `json:"last_root_rotation,omitempty"`
	Next      time.Time     `json:"next_root_rotation,omitempty"`
	LastError string        `json:"last_root_error,omitempty"`
}

// scheduleOf returns the scheduleOut of the record of config/root's key.
func scheduleOf(r *rotate.Record) scheduleOut {
	if r == nil {
		return scheduleOut{}
	}
	w := rootDataOf(r).When
	return scheduleOut{
		Period: w.Period, Schedule: w.Schedule, Window: w.Window, Off: w.Off, Last: r.LastRotated, Next: r.Next,
		LastError: r.LastError,
	}
}

// apply changes the schedule by a write. A period counts from the last rotation, or from the
// write.
func (in *scheduleIn) apply(w *cron.When) error {
	w.Apply(cron.Change{Period: in.Period, Schedule: in.Schedule, Window: in.Window, Off: in.Off})
	return w.Check(minPeriod)
}
