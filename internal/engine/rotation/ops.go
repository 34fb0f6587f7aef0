package rotation

import (
	"context"
	"fmt"
	"time"

	"github.com/keyturn/keyturn/internal/engine/rotation/schedule"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
)

// request is a key in the hand of a request.
type request struct{ *run }

type rotateIn struct {
	Name   string `path:"name" doc:"The key's name."`
	Leaked bool   `json:"leaked" default:"false" doc:"Whether the old key is known to others: it is retired without waiting for readers."`
	// KeyID says which key leaked: the current one, or the one in grace. Not
	// given, both count as leaked.
	KeyID string `json:"key_id" default:"both" doc:"Which key leaked: the current one, or the one in grace."`
}

type rotateOut struct {
	Turn    int   `json:"turn"`
	State   State `json:"state"`
	Queued  bool  `json:"queued"`
	Asleep  int64 `json:"sleeping_readers_seconds"`
	Retires bool  `json:"retires_previous_now"`
}

// rotate turns a key now, by the same steps as a turn that fell due.
func (b *backend) rotate(ctx context.Context, req *route.Request, in rotateIn) (out *rotateOut, err error) {
	return out, b.edit(ctx, in.Name, func(key *run) error {
		r := request{key}
		if err := r.mayTurn(ctx); err != nil {
			return err
		}
		out = new(rotateOut)
		why := start{Reason: "manual", By: req.Caller.DisplayName, Leaked: in.Leaked}
		if r.rec.Turn != nil {
			err = r.hurry(in, why, out)
		} else {
			err = r.turnNow(ctx, in, why, out)
		}
		if err != nil {
			return err
		}
		out.Turn, out.State = int(r.number()), r.state()
		if in.Leaked {
			asleep := r.asleep()
			out.Asleep = int64((asleep + time.Second - 1) / time.Second)
			req.Warn("the old key is retired without waiting for readers; those that sleep may meet a dead key for up to %d seconds after the new one is published", out.Asleep)
		}
		return r.commit(ctx, "rotate-now", r.now)
	})
}

// asleep is how long readers may still hold a value that ends now.
func (r request) asleep() time.Duration {
	var published time.Time
	if r.rec.Turn != nil && r.rec.Queued == nil {
		published = r.rec.Turn.published()
	}
	return r.policy().Asleep(published, r.now)
}

func (r request) turnNow(ctx context.Context, in rotateIn, why start, out *rotateOut) error {
	if in.KeyID != "" && in.KeyID != r.rec.Current.id() {
		return fault.New("rotation.rotate", fault.Invalid, "field \"key_id\": %q is not a key that lives; the current one is %q", in.KeyID, r.rec.Current.id())
	}
	if changed, err := r.changed(ctx, r.rec); err != nil {
		return err
	} else if changed {
		return fault.New("rotation.rotate", fault.Held, "recipe %q has changed since the key was bound to it; bind it anew at keys/%s/rebind, which needs sudo", r.rec.Bind.Name, r.rec.Name)
	}
	r.begin(why)
	out.Retires = why.Leaked
	return nil
}

// hurry deals with a request for a turn while one is in flight.
func (r request) hurry(in rotateIn, why start, out *rotateOut) error {
	t := r.turn()
	if !in.Leaked {
		return fault.New("rotation.rotate", fault.Conflict, "turn %d of key %q is in flight (%s); wait for its end, roll it back, or give leaked=true", t.N, r.rec.Name, t.State)
	}
	victim := t.victim().id()
	if in.KeyID != "" && in.KeyID != victim && in.KeyID != t.New.id() && in.KeyID != t.Old.id() {
		return fault.New("rotation.rotate", fault.Invalid, "field \"key_id\": %q is none of the keys of the turn in flight; name one of %q", in.KeyID, t.ids())
	}
	out.Retires = true
	if t.Back != nil {
		t.Back.Leaked = true
	} else {
		t.Start.Leaked = true
		if t.Put.At.IsZero() {
			return nil // the turn replaces the leaked key
		}
	}
	t.End.Now = true
	t.End.After = earlier(t.End.After, r.now)
	if in.KeyID == "" || in.KeyID != victim {
		r.rec.Queued, out.Queued = &why, true
	}
	return nil
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// mayTurn refuses where no turn may begin.
func (r request) mayTurn(ctx context.Context) error {
	c, err := r.config(ctx)
	switch {
	case err != nil:
		return err
	case c.Brake:
		return fault.New("rotation.rotate", fault.Held, "the mount's brake is on; write brake=false to config first")
	case r.rec.Paused != nil:
		return fault.New("rotation.rotate", fault.Held, "key %q is paused (%s); resume it first", r.rec.Name, r.rec.Paused.Reason)
	case r.m.Host.ClockHeld != nil && r.m.Host.ClockHeld():
		return fault.New("rotation.rotate", fault.Held, "the server's clock has jumped and is held; confirm it first (sys/clock/trust)")
	}
	return nil
}

type rollbackIn struct {
	Name   string `path:"name" doc:"The key's name."`
	Reason string `json:"reason" doc:"Why, for the history."`
	Force  bool   `json:"force" default:"false" doc:"Whether a key that leaked may be published again."`
}

// rollback takes the turn in flight back.
func (b *backend) rollback(ctx context.Context, req *route.Request, in rollbackIn) (out *rotateOut, err error) {
	return out, b.edit(ctx, in.Name, func(key *run) error {
		r := request{key}
		if err := r.mayTurn(ctx); err != nil {
			return err
		}
		if err := r.unlock(ctx); err != nil {
			return err
		}
		if err := r.mayGoBack(in.Force); err != nil {
			return err
		}
		t := r.turn()
		if in.Reason == "" {
			in.Reason = "asked for"
		}
		t.Back = &back{At: r.now, Reason: in.Reason + ", by " + req.Caller.DisplayName, ByUser: true}
		r.to(RollingBack)
		out = &rotateOut{Turn: int(t.N), State: t.State}
		return r.commit(ctx, "rollback", r.now)
	})
}

func (r request) mayGoBack(force bool) error {
	refuse := func(format string, args ...any) error {
		return fault.New("rotation.rollback", fault.Conflict, format, args...)
	}
	t := r.turn()
	switch {
	case t == nil:
		return refuse("no turn of key %q is in flight: the key before %q is gone; rotate instead", r.rec.Name, r.rec.Current.id())
	case t.Back != nil:
		return refuse("turn %d of key %q is already being taken back (%s); wait for its end", t.N, r.rec.Name, t.State)
	case t.State == Retiring:
		return refuse("turn %d of key %q is already retiring the old key; rotate instead", t.N, r.rec.Name)
	case t.Put.Asked.IsZero():
		return nil
	case len(r.sec.Previous) == 0:
		return refuse("nothing was published at %q before turn %d; there is nothing to go back to", r.rec.Config.Path, t.N)
	case t.Start.Leaked && !force:
		return refuse("the old key is known to have leaked; give force=true to publish it nevertheless")
	}
	return nil
}

type pauseIn struct {
	Name   string `path:"name" doc:"The key's name."`
	Reason string `json:"reason" doc:"Why, for the history and those who ask."`
}

func (b *backend) pause(ctx context.Context, req *route.Request, in pauseIn) (route.None, error) {
	return route.None{}, b.edit(ctx, in.Name, func(r *run) error {
		if r.rec.Paused != nil {
			return nil
		}
		if in.Reason == "" {
			in.Reason = "paused by " + req.Caller.DisplayName
		}
		r.rec.Paused = &pause{At: r.now, Reason: in.Reason}
		return r.commit(ctx, "paused", time.Time{})
	})
}

func (b *backend) resume(ctx context.Context, _ *route.Request, in nameIn) (route.None, error) {
	return route.None{}, b.edit(ctx, in.Name, func(r *run) error {
		p := r.rec.Paused
		if p == nil {
			return nil
		}
		r.rec.Paused = nil
		if p.Auto {
			r.rec.Alert, r.rec.Retry = nil, time.Time{} // a person has looked
		}
		return r.commit(ctx, "resumed", request{r}.planned())
	})
}

// rebind binds a key to its recipe as it is now, in the caller's name. The
// text may want other parameters, so all of a key's configuration may come with it.
func (b *backend) rebind(ctx context.Context, req *route.Request, in keyIn) (route.None, error) {
	return route.None{}, b.edit(ctx, in.Name, func(r *run) error {
		r.rec.Alert = nil
		return b.change(ctx, &change{in: &in, r: r, req: req, again: true})
	})
}

type planIn struct {
	Name  string `path:"name" doc:"The key's name."`
	Count int    `json:"count" default:"5" doc:"How many turns ahead, at most 100."`
}

type planOut struct {
	Now    string      `json:"now"` // what the key waits for
	NextAt time.Time   `json:"next_step"`
	Turns  []plannedIn `json:"turns"`
	Steps  []string    `json:"steps"`
	Notes  []string    `json:"notes"`
}

type plannedIn struct {
	At          time.Time `json:"at"`
	RetireAfter time.Time `json:"retire_after"`
}

// plan tells what will happen to a key.
func (b *backend) plan(ctx context.Context, _ *route.Request, in planIn) (*planOut, error) {
	r, err := b.have(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	if r.def, err = r.definition(ctx, r.rec); err != nil {
		return nil, err
	}
	c, err := b.config(ctx)
	if err != nil {
		return nil, err
	}
	p := r.policy()
	out := &planOut{NextAt: r.rec.Due, Turns: []plannedIn{}, Now: fmt.Sprintf("turn %d is %s", r.number(), r.state())}
	switch {
	case c.Brake:
		out.Now = "the mount's brake is on: nothing happens"
	case r.rec.Paused != nil:
		out.Now = "paused: " + r.rec.Paused.Reason
	case r.rec.Turn == nil:
		out.Now = "waits for its next turn"
	}
	if in.Count <= 0 {
		in.Count = 5
	}
	at := schedule.Later(r.rec.Next, r.now)
	for range min(in.Count, 100) {
		out.Turns = append(out.Turns, plannedIn{at, at.Add(p.Hold(false))})
		at = at.Add(p.Period)
	}
	out.Steps, out.Notes = request{r}.willDo()
	return out, nil
}

// willDo words the steps of a turn, and what they leave unproven.
func (r request) willDo() (steps, notes []string) {
	p, s, can := r.policy(), r.settle(), r.def.Can
	label := "without a label"
	if can.Label {
		label = "labelled with the turn's marker"
	}
	steps = append(steps, fmt.Sprintf("create a key with %s, %s; if the reply is lost: %s", r.def.Name, label, can.Retry),
		fmt.Sprintf("settle: %d successes in a row, %s apart, within %s", s.Successes, s.Interval, s.Timeout),
		fmt.Sprintf("verify (proof: %s)", can.Proof),
		fmt.Sprintf("publish to %s", r.rec.Config.Path),
		fmt.Sprintf("leave the old key for %s", p.Hold(false)))
	if can.LastUsed {
		steps = append(steps, fmt.Sprintf("wait until it was idle for %s, at most %s longer, then call a person", p.Idle, p.MaxHold))
	}
	if can.Disable {
		steps = append(steps, fmt.Sprintf("disable it, wait %s", min(disableWait, p.Grace)))
	}
	steps = append(steps, "retire it, and prove that it is refused")
	notes = []string{}
	if can.Proof != ProofUse {
		notes = append(notes, fmt.Sprintf("unproven: verifying shows %q, not that the new key works", can.Proof))
	}
	if !can.List {
		notes = append(notes, "unproven: the provider has no list, so that a lost call's key could not be found")
	}
	if r.rec.Current == nil {
		notes = append(notes, "no key is recorded as ours: the next turn retires nothing")
	}
	return steps, notes
}
