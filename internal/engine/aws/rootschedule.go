package aws

import (
	"context"
	"strconv"
	"time"

	"github.com/keyturn/keyturn/internal/cron"
	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/engine/aws/client"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/storage"
)

// automatic is when the key of config/root is rotated by itself, and how that goes.
type automatic struct {
	When   cron.When `json:"when,omitzero"`
	Last   time.Time `json:"last,omitzero"` // the last rotation, whoever asked for it
	Next   time.Time `json:"next,omitzero"`
	Failed int       `json:"failed,omitempty"` // in a row, since Next
	Again  time.Time `json:"again,omitzero"`   // when what has failed is tried again
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
	was.Window = a.When.Window
	now := time.Now().UTC()
	if a.When != was || !a.Next.Before(now) || a.When.Missed(a.Next, now) { // else it is overdue, and may still be done
		a.Next = a.When.Next(a.Last, now)
	}
	return a.When.Check(minPeriod)
}

// done notes a rotation that has succeeded.
func (a *automatic) done(now time.Time) {
	a.Last, a.Next, a.Failed, a.Why = now, a.When.Next(now, now), 0, ""
}

// failed notes a failure, and when it is tried again. A window is for when a key may be replaced: what was begun
// is ended outside of it, too.
func (a *automatic) failed(why string, begun bool, now time.Time) {
	a.Failed++
	a.Why = why
	if begun {
		a.Again = cron.Retry(a.Failed, now)
		return
	}
	at, over := a.When.Again(a.Next, a.Last, a.Failed, now)
	if over {
		a.Next, a.Failed = at, 0
	}
	a.Again = at
}

// later is when the schedule wants to be looked at; zero for never.
func (a *automatic) later() time.Time {
	if a.Failed > 0 && a.Again.After(a.Next) && !a.Next.IsZero() {
		return a.Again
	}
	return a.Next
}

// rotateDue is a rotation at its time. Nobody can be asked then, so that no other key makes room.
func (b configs) rotateDue(ctx context.Context, c *client.Client, cfg *root) error {
	now := time.Now().UTC()
	switch at := cfg.Auto.later(); {
	case at.IsZero() || at.After(now):
		return b.saveRoot(ctx, cfg, at)
	case cfg.Auto.When.Missed(cfg.Auto.Next, now):
		b.m.Log.Warn("the window of a rotation of the root key was missed", "was", cfg.Auto.Next)
		if cfg.Auto.Failed == 0 { // else it says what failed
			cfg.Auto.Why = missedWindow(cfg.Auto.Next)
		}
		cfg.Auto.Next, cfg.Auto.Failed = cfg.Auto.When.Next(cfg.Auto.Last, now), 0
		return b.saveRoot(ctx, cfg, cfg.Auto.Next, b.rootFailed(cfg))
	}
	did := engine.Automatic{Operation: "rotate", Path: b.m.Settings().Path + "config/root", Detail: map[string]string{"key_id": cfg.KeyID}}
	return b.noting(ctx, did, func(ctx context.Context) error {
		calls, cancel := context.WithTimeout(ctx, rotateWithin)
		defer cancel()
		if err := b.begin(calls, c, cfg, nil); err != nil {
			return err
		}
		return b.replace(calls, c, cfg)
	})
}

// noting does what was due, and notes in config/root if it has failed.
func (b configs) noting(ctx context.Context, did engine.Automatic, act func(ctx context.Context) error) error {
	noted := false
	err := b.m.Host.Audited(ctx, did, func(ctx context.Context) error {
		err := act(ctx)
		if err != nil {
			noted = b.failedRoot(context.WithoutCancel(ctx), did.Detail["key_id"], err)
		}
		return err
	})
	if noted {
		return nil // tried again at its time
	}
	return err
}

// failedRoot notes what has failed in a rotation from a key on, and when it is tried again; what was begun is settled before
// another one begins. It reports whether it could.
func (b configs) failedRoot(ctx context.Context, from string, why error) bool {
	cfg, err := b.config(ctx)
	if err != nil || cfg == nil {
		b.m.Log.Error("keeping why the root key was not rotated", "error", err)
		return false
	}
	if cfg.KeyID != from { // the new key is in use, and what is left to do is due
		b.m.Log.Warn("the root key was rotated, and the one before lives until it could be deleted", "error", why)
		return true
	}
	now := time.Now().UTC()
	cfg.Auto.failed(fault.Message(why), cfg.Turn != nil, now)
	at := cfg.Auto.later()
	if t := cfg.Turn; t != nil {
		at = cfg.Auto.Again
		if soon := now.Add(resumeAfter); at.Before(soon) {
			at = soon
		}
		if known := t.At.Add(landing); t.New == "" && t.Old == "" && now.Before(known) && at.After(known) {
			at = known
		}
	}
	b.m.Log.Warn("rotating the root key failed", "failures", cfg.Auto.Failed, "next_try", at, "error", why)
	if err := b.saveRoot(ctx, cfg, at, b.rootFailed(cfg)); err != nil {
		b.m.Log.Error("keeping why the root key was not rotated", "error", err)
		return false
	}
	return true
}

func (b configs) rootFailed(cfg *root) storage.Op {
	return b.m.Host.Event("aws/root-failed", engine.Details(map[string]string{"failures": strconv.Itoa(cfg.Auto.Failed), "path": b.m.Settings().Path + "config/root"})...)
}

// settled commits the end of a rotation of which nothing is left to do. One that made no new key and was due is tried again at its time.
func (b configs) settled(ctx context.Context, cfg *root) error {
	if a := &cfg.Auto; cfg.Turn.Old != "" || !a.Next.Before(time.Now()) || a.Next.IsZero() {
		a.Failed, a.Why = 0, ""
	}
	cfg.Turn = nil
	return b.saveRoot(ctx, cfg, cfg.Auto.later())
}
