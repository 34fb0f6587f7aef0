package aws

import (
	"context"
	"strconv"
	"time"

	"github.com/keyturn/keyturn/internal/cron"
	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/engine/aws/client"
	"github.com/keyturn/keyturn/internal/fault"
)

// automatic is when the key of config/root is rotated by itself, and how that goes.
type automatic struct {
	When   cron.When `json:"when,omitzero"`
	Last   time.Time `json:"last,omitzero"` // the last rotation, whoever asked for it
	Next   time.Time `json:"next,omitzero"`
	Failed int       `json:"failed,omitempty"` // in a row
	Why    string    `json:"why,omitempty"`
}

// automaticIn are the fields of config/root that say so.
type automaticIn struct {
	Period   *time.Duration `json:"rotation_period" default:"never" doc:"How often the key is replaced, at least one minute. Excludes rotation_schedule."`
	Schedule *string        `json:"rotation_schedule" default:"never" doc:"When it is replaced: cron, five fields, UTC. Excludes rotation_period."`
	Window   *time.Duration `json:"rotation_window" default:"none" doc:"How long after a time of rotation_schedule the rotation may still begin, at least one hour."`
	Off      *bool          `json:"disable_automated_rotation" default:"false" doc:"Whether the key is replaced by rotate-root alone."`
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

func (a *automatic) out() automaticOut {
	return automaticOut{a.When.Period, a.When.Schedule, a.When.Window, a.When.Off, a.Last, a.Next, a.Why}
}

// apply changes the times by a write. A period counts from the last rotation, or from the write.
func (a *automatic) apply(in *automaticIn) error {
	was := a.When
	a.When.Apply(cron.Change{Period: in.Period, Schedule: in.Schedule, Window: in.Window, Off: in.Off})
	if a.When == was {
		return nil
	}
	a.Failed, a.Why = 0, ""
	a.Next = a.When.Next(a.Last, time.Now().UTC())
	return a.When.Check(minPeriod)
}

// done notes a rotation that has succeeded.
func (a *automatic) done(now time.Time) {
	a.Last, a.Next, a.Failed, a.Why = now, a.When.Next(now, now), 0, ""
}

// later is when the schedule wants to be looked at; zero for never.
func (a *automatic) later(now time.Time) time.Time {
	if a.Next.IsZero() || a.Failed == 0 {
		return a.Next
	}
	at := cron.Retry(a.Failed, now)
	if at.Before(a.Next) {
		return a.Next
	}
	if a.When.Missed(a.Next, at) {
		a.Next = a.When.Next(a.Last, now)
		return a.Next
	}
	return at
}

// rotateDue is a rotation at its time. Nobody can be asked then, so that no key makes room but those that this engine made.
func (b configs) rotateDue(ctx context.Context, c *client.Client, cfg *root) error {
	now := time.Now().UTC()
	switch {
	case cfg.Auto.Next.IsZero() || cfg.Auto.Failed == 0 && cfg.Auto.Next.After(now):
		return b.saveRoot(ctx, cfg, cfg.Auto.Next)
	case cfg.Auto.When.Missed(cfg.Auto.Next, now):
		b.m.Log.Warn("the window of a rotation of the root key was missed", "was", cfg.Auto.Next)
		cfg.Auto.Next = cfg.Auto.When.Next(cfg.Auto.Last, now)
		return b.saveRoot(ctx, cfg, cfg.Auto.Next)
	}
	did := engine.Automatic{Operation: "rotate", Path: b.m.Settings().Path + "config/root", Detail: map[string]string{"key_id": cfg.KeyID}}
	noted := false
	err := b.m.Host.Audited(ctx, did, func(ctx context.Context) error {
		calls, cancel := context.WithTimeout(context.WithoutCancel(ctx), rotateWithin)
		defer cancel()
		err := b.begin(calls, c, cfg, nil)
		if err == nil {
			err = b.replace(calls, c, cfg)
		}
		if err != nil {
			noted = b.failedRoot(context.WithoutCancel(ctx), err)
		}
		return err
	})
	if noted {
		return nil // tried again at its time
	}
	return err
}

// failedRoot notes that a rotation at its time has failed, and when the next one is tried; what it has begun is settled
// before that. It reports whether it could.
func (b configs) failedRoot(ctx context.Context, why error) bool {
	cfg, err := b.config(ctx)
	if err != nil || cfg == nil {
		b.m.Log.Error("keeping why the root key was not rotated", "error", err)
		return false
	}
	a := &cfg.Auto
	a.Failed++
	a.Why = fault.Message(why)
	at := a.later(time.Now().UTC())
	if cfg.Turn != nil {
		at = time.Now().Add(resumeAfter)
	}
	b.m.Log.Warn("rotating the root key failed", "failures", a.Failed, "next_try", at, "error", why)
	event := b.m.Host.Event("aws/root-failed", engine.Details(map[string]string{"failures": strconv.Itoa(a.Failed), "path": b.m.Settings().Path + "config/root"})...)
	if err := b.saveRoot(ctx, cfg, at, event); err != nil {
		b.m.Log.Error("keeping why the root key was not rotated", "error", err)
		return false
	}
	return true
}
