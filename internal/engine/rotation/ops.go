package rotation

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/cron"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/route"
)

type rotateIn struct {
	Name   string `path:"name" doc:"The key's name."`
	Leaked bool   `json:"leaked" default:"false" doc:"Whether the old key has leaked. It is then retired without waiting for readers."`
	// KeyID selects the leaked key: the current one, or the one in its grace period. If KeyID is
	// not given, both count as leaked.
	KeyID string `json:"key_id" default:"both" doc:"Which key leaked: the current one, or the one in its grace period."`
}

type rotateOut struct {
	Rotation        int          `json:"rotation"`
	State           rotate.State `json:"state"`
	Queued          bool         `json:"queued"`
	SleepingReaders int64        `json:"sleeping_readers_seconds"`
	Retires         bool         `json:"retires_previous_now"`
}

// rotate rotates a key now, with the same steps as a scheduled rotation.
func (ks *keys) rotate(ctx context.Context, req *route.Request, in rotateIn) (out *rotateOut, err error) {
	return out, ks.change(ctx, in.Name, func(k *key) error {
		if !in.Leaked {
			if err := ks.warnBlackout(ctx, req, k); err != nil {
				return err
			}
		}
		got, err := k.Control().RotateNow(ctx,
			rotate.RotateRequest{By: req.Caller.DisplayName, Leaked: in.Leaked, KeyID: in.KeyID})
		if err != nil {
			return err
		}
		out = &rotateOut{Rotation: int(k.Rec.Number()), State: k.Rec.State(), Queued: got.Queued, Retires: got.Retires}
		if in.Leaked {
			out.SleepingReaders = int64((got.Asleep + time.Second - 1) / time.Second)
			req.Warn("the old key is retired without waiting for readers; a reader may use the dead key for up to "+
				"%d seconds after the new one is published, until it reads the secret again", out.SleepingReaders)
		}
		return nil
	})
}

// warnBlackout warns of a requested rotation on a black-out date.
func (ks *keys) warnBlackout(ctx context.Context, req *route.Request, k *key) error {
	c, err := ks.config.load(ctx)
	if err != nil {
		return err
	}
	if end := withBlackout(k.data.Config.Policy, c.Blackout).Blackout.After(k.Now); !end.Equal(k.Now) {
		req.Warn("today is a black-out date, on which no scheduled rotation begins (until %s); this rotation was "+
			"requested, and begins now", rfc3339(end))
	}
	return nil
}

type rollbackIn struct {
	Name   string `path:"name" doc:"The key's name."`
	Reason string `json:"reason" doc:"The reason, recorded in the history."`
	Force  bool   `json:"force" default:"false" doc:"Whether a key that leaked, or that the provider refuses, may be published again."`

	To      uint32 `json:"to" default:"the previous key" doc:"The number of the rotation whose key is published again, if it is still valid."`
	Version int    `json:"version" default:"the previous key" doc:"The version of the path whose key is published again, if it is still valid."`
}

// rollback rolls back the rotation in flight, or publishes another key again that is still valid.
func (ks *keys) rollback(ctx context.Context, req *route.Request, in rollbackIn) (out *rotateOut, err error) {
	return out, ks.change(ctx, in.Name, func(k *key) error {
		if in.Reason == "" {
			in.Reason = "requested"
		}
		if in.Version < 0 || in.Version > 0 && in.To > 0 {
			return invalid(
				`fields "to" and "version": give only one of them, the number of a rotation or of a version of the path`)
		}
		r := rotate.Return{Rotation: in.To, Version: in.Version, Reason: in.Reason, By: req.Caller.DisplayName,
			Force: in.Force, Warn: req.Warn}
		if err := k.Control().ReturnTo(ctx, r); err != nil {
			return err
		}
		out = &rotateOut{Rotation: int(k.Rec.Number()), State: k.Rec.State()}
		return nil
	})
}

type pauseIn struct {
	Name   string `path:"name" doc:"The key's name."`
	Reason string `json:"reason" doc:"The reason, recorded in the history and shown in the status."`
}

func (ks *keys) pause(ctx context.Context, req *route.Request, in pauseIn) (route.None, error) {
	return route.None{}, ks.change(ctx, in.Name, func(k *key) error {
		if in.Reason == "" {
			in.Reason = "paused by " + req.Caller.DisplayName
		}
		return k.Control().Pause(ctx, in.Reason)
	})
}

func (ks *keys) resume(ctx context.Context, _ *route.Request, in nameIn) (route.None, error) {
	return route.None{}, ks.change(ctx, in.Name, func(k *key) error { return k.Control().Resume(ctx) })
}

// rebind binds a key to the present text of its recipe, with the caller as the principal. The
// request may change the whole configuration, because the new text may need other parameters.
func (ks *keys) rebind(ctx context.Context, req *route.Request, in keyIn) (route.None, error) {
	return route.None{}, ks.change(ctx, in.Name, func(k *key) error {
		k.Rec.Reviewed()
		return (&change{keys: ks, k: k, in: &in, req: req, rebind: true}).run(ctx)
	})
}

type planIn struct {
	Name  string `path:"name" doc:"The key's name."`
	Count int    `json:"count" default:"5" doc:"How many rotations ahead to show; at most 100."`
}

type planOut struct {
	Waiting   string            `json:"now"` // what the key waits for
	NextAt    time.Time         `json:"next_step"`
	Rotations []plannedRotation `json:"rotations"`
	Steps     []string          `json:"steps"`
	Notes     []string          `json:"notes"`
}

type plannedRotation struct {
	At          time.Time `json:"at"`
	RetireAfter time.Time `json:"retire_after"`
}

// plan returns the coming rotations of a key, with their steps.
func (ks *keys) plan(ctx context.Context, _ *route.Request, in planIn) (*planOut, error) {
	k, err := ks.viewExisting(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	d, err := ks.catalog.definition(ctx, in.Name, k.data.Bind)
	if err != nil {
		return nil, err
	}
	c, err := ks.config.load(ctx)
	if err != nil {
		return nil, err
	}
	p, rec := k.data.Config.Policy, k.Rec
	out := &planOut{NextAt: rec.NextStep(), Rotations: []plannedRotation{},
		Waiting: fmt.Sprintf("rotation %d is in the state %s", rec.Number(), rec.State())}
	switch {
	case c.Brake:
		out.Waiting = "rotation is stopped for this mount; to start it again, write brake=false to config"
	case rec.Paused != nil:
		out.Waiting = "paused: " + rec.Paused.Reason
	case rec.Turn == nil:
		out.Waiting = "waiting for the next rotation"
	}
	if in.Count <= 0 {
		in.Count = 5
	}
	when := withBlackout(p, c.Blackout)
	for _, at := range rec.Upcoming(when, k.Now, min(in.Count, 100)) {
		out.Rotations = append(out.Rotations, plannedRotation{at, at.Add(p.Timing().Hold(false))})
	}
	out.Steps, out.Notes = k.describeSteps(d)
	out.Notes = append(out.Notes, describeWhen(when)...)
	return out, nil
}

// describeWhen says what the times of the plan do not show.
func describeWhen(w cron.When) (notes []string) {
	switch {
	case w.Off:
		return []string{"the key is rotated on request only (manual=true)"}
	case w.Window > 0:
		notes = append(notes,
			fmt.Sprintf("a rotation begins within %s of its scheduled time, or waits for the next one", w.Window))
	}
	if w.Blackout != "" {
		notes = append(notes,
			"no scheduled rotation begins on these days, in UTC: "+strings.Join(w.Blackout.Dates(), ", "))
	}
	if w.Jitter > 0 {
		notes = append(notes, fmt.Sprintf("each rotation after the next is delayed by up to %s at random (jitter)",
			w.Jitter))
	}
	return notes
}

// describeSteps describes the steps of a rotation, and what they do not prove.
func (k *key) describeSteps(d Definition) (steps, notes []string) {
	p, s, can := k.data.Config.Policy, k.data.Config.settle(d), d.Can
	label := "without a label"
	if can.Label {
		label = "labelled with the rotation's marker"
	}
	switch d.Style {
	case rotate.Manual:
		steps = append(steps, fmt.Sprintf("wait for a person to create a key with %s and to supply it: %s", d.Name,
			d.Instructions))
	case rotate.Slots:
		steps = append(steps,
			fmt.Sprintf("regenerate the slot of %q that readers do not use, with %s", d.Slots, d.Name))
	default:
		steps = append(steps,
			fmt.Sprintf("create a key with %s, %s; if the reply is lost: %s", d.Name, label, can.Retry))
	}
	steps = append(steps,
		fmt.Sprintf("settle: %d successes in a row, %s apart, within %s", s.Successes, s.Interval, s.Timeout),
		fmt.Sprintf("verify (proof: %s)", can.Proof),
		fmt.Sprintf("publish to %s", k.data.Config.Path),
		fmt.Sprintf("keep the old key for %s", p.Timing().Hold(false)))
	if can.LastUsed {
		steps = append(steps,
			fmt.Sprintf("wait until it has been idle for %s; if it is still in use %s later, raise an alert", p.Idle,
				p.MaxHold))
	}
	if can.Disable {
		steps = append(steps, fmt.Sprintf("disable it, wait %s", p.Timing().DisabledWait))
	}
	switch {
	case can.RetiredByHand:
		steps = append(steps, "wait for a person to delete it, and verify that it is refused")
	case can.Slots:
		steps = append(steps, "regenerate its slot, and verify that it is refused")
	default:
		steps = append(steps, "retire it, and verify that it is refused")
	}
	notes = []string{}
	if can.Proof != rotate.ProofUse {
		notes = append(notes,
			fmt.Sprintf("unproven: the proof is %q, which does not show that the new key works", can.Proof))
	}
	if !can.List && d.Style == rotate.TwoKey {
		notes = append(notes,
			"unproven: the provider has no list, so a key whose create reply was lost could not be found")
	}
	if k.Rec.Current == nil {
		notes = append(notes, "no current key is recorded: the next rotation retires nothing")
	}
	return steps, notes
}
