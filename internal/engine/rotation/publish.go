package rotation

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
)

// putting is a run's part that publishes.
type putting struct{ *run }

// pending is the new key with its secret.
func (r *run) pending() (Credential, error) {
	c, ok := r.sec.Keys[r.turn().New.id()]
	if !ok {
		return c, &Failure{Outcome: Permanent, Err: fault.New("rotation.pending", fault.Internal, "the new key's secret is not stored")}
	}
	return c, nil
}

// publish writes the new key where its readers look. From the moment that the
// intent is recorded somebody may have read it, so publishing is never given up by itself.
func publish(ctx context.Context, in *run) error {
	r := putting{in}
	if err := r.open(ctx); err != nil {
		return r.unopened(ctx, err)
	}
	t := r.turn()
	if t.Put.Asked.IsZero() {
		return r.askPut(ctx, &t.Put)
	}
	made, err := r.pending()
	if err != nil {
		return r.stumble(ctx, err)
	}
	p := r.publication(t.ID, &t.Put)
	p.Fields = map[string]secret.Value{}
	for output, field := range r.rec.Config.Fields {
		if v, ok := made.Secret[output]; ok {
			p.Fields[field] = v
		} else if text, ok := made.Public[output]; ok {
			p.Fields[field] = secret.Text(text)
		}
	}
	p.Custom = custom(t.New, t.Old, t.Put.Asked.Add(r.policy().Hold(t.Start.Leaked)))
	version, err := r.put(ctx, p, &t.Put)
	if err != nil || version == 0 {
		return err
	}
	r.rec.Current, r.rec.LastRotated, r.rec.Next = t.New, t.Put.At, t.Put.Next
	r.rec.Unproven = t.Unproven
	return r.afterPut(ctx, "published")
}

// takeBack undoes a turn: nothing was published, or the old value is published again.
func takeBack(ctx context.Context, in *run) error {
	r := putting{in}
	t := r.turn()
	if t.Put.Asked.IsZero() {
		t.End = ending{After: r.now, Now: true}
		r.to(Retiring)
		return r.commit(ctx, "backed-out", r.now)
	}
	if err := r.open(ctx); err != nil {
		return r.unopened(ctx, err)
	}
	if t.Back.Put.Asked.IsZero() {
		return r.askPut(ctx, &t.Back.Put)
	}
	p := r.publication(t.ID+"/back", &t.Back.Put)
	p.Fields = r.sec.Previous
	p.Custom = custom(t.Old, t.New, t.Back.Put.Asked.Add(r.policy().Hold(t.Back.Leaked)))
	version, err := r.put(ctx, p, &t.Back.Put)
	if err != nil || version == 0 {
		return err
	}
	r.rec.Current, r.rec.Next = t.Old, t.Back.Put.Next
	return r.afterPut(ctx, "published-back")
}

// askPut records the intent to publish, with what stands there now.
func (r putting) askPut(ctx context.Context, put *publication) error {
	there, err := r.m.Host.Published(ctx, engine.Publication{Path: r.rec.Config.Path})
	r.now = time.Now().UTC()
	if err != nil {
		return r.unpublished(ctx, err)
	}
	*put = publication{Asked: r.now, Next: r.now.Add(r.policy().Period)}
	if there != nil {
		put.CAS = there.Version
	}
	if t := r.turn(); t.Back == nil {
		r.keepPrevious(there)
	}
	return r.commit(ctx, "publishing", r.now)
}

// keepPrevious keeps what readers have now, so that it can be given back.
func (r putting) keepPrevious(there *engine.Published) {
	r.sec.Previous = map[string]secret.Value{}
	if there == nil {
		return
	}
	for _, field := range r.rec.Config.Fields {
		if v, ok := there.Fields[field]; ok {
			r.sec.Previous[field] = v
			r.redactor.Know(v)
		}
	}
}

// publication is what both directions have in common.
func (r putting) publication(id string, put *publication) engine.Publication {
	return engine.Publication{
		Turn: id, Key: r.rec.Name, Path: r.rec.Config.Path, Policies: slices.Clone(r.rec.Principal),
		Plain:  map[string]string{"rotated_at": put.Asked.Format(time.RFC3339), "next_rotation": put.Next.Format(time.RFC3339)},
		Period: r.policy().Period, Next: put.Next, ReadTTL: r.policy().ReadTTL, CAS: put.CAS,
	}
}

func custom(now, before *held, retire time.Time) map[string]string {
	out := map[string]string{"key_id": now.id(), "previous_key_id": before.id(), "retire_after": ""}
	if before != nil {
		out["retire_after"] = retire.UTC().Format(time.RFC3339)
	}
	return out
}

// put publishes. Version 0 without an error means that it has committed what
// went wrong.
func (r putting) put(ctx context.Context, p engine.Publication, put *publication) (version int, err error) {
	version, err = r.m.Host.Publish(ctx, p)
	r.now = time.Now().UTC()
	switch {
	case err == nil:
		put.At, put.Version = r.now, version
		return version, nil
	case ctx.Err() != nil:
		return 0, ctx.Err()
	case !fault.Is(err, fault.Conflict):
		return 0, r.unpublished(ctx, err)
	}
	// Somebody wrote the path meanwhile: publish over that.
	there, rerr := r.m.Host.Published(ctx, p)
	if rerr != nil {
		return 0, r.unpublished(ctx, rerr)
	}
	put.CAS = 0
	if there != nil {
		put.CAS = there.Version
	}
	if r.turn().Back == nil && (there == nil || there.Turn != p.Turn) && !r.holds(there, p.Fields) {
		r.keepPrevious(there)
	}
	return 0, r.commit(ctx, "overtaken", r.now)
}

// holds reports whether readers have any of the new values already: this turn had published them,
// and who wrote the path afterwards kept them. They are not what is to be given back.
func (r putting) holds(there *engine.Published, fields map[string]secret.Value) bool {
	if there == nil {
		return false
	}
	made, err := r.pending()
	for output, field := range r.rec.Config.Fields {
		if v, ok := there.Fields[field]; ok && err == nil && !made.Secret[output].Empty() && v.Equal(fields[field]) {
			return true
		}
	}
	return false
}

// unpublished deals with an error of publishing. What only a person can mend pauses the key.
func (r putting) unpublished(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	switch fault.KindOf(err) {
	case fault.Denied, fault.Invalid, fault.NotFound, fault.Unsupported:
		r.note(err)
		r.halt("key %q cannot be published: %s; put that right, then resume", r.rec.Name, r.rec.LastError)
		return r.commit(ctx, "paused", time.Time{})
	}
	return r.stumble(ctx, err)
}

// afterPut begins the grace of the key that readers are to leave.
func (r putting) afterPut(ctx context.Context, what string) error {
	t := r.turn()
	leaked := t.Start.Leaked
	if t.Back != nil {
		leaked = t.Back.Leaked
	}
	hold := r.policy().Hold(leaked)
	after := t.published().Add(hold)
	if t.victim() == nil {
		after = r.now
	}
	t.End = ending{After: after, Now: leaked, Hold: after.Add(r.policy().MaxHold)}
	if t.Back != nil {
		t.Unproven = nil
	}
	r.say("key_id", t.live().id())
	r.to(Grace)
	return r.commit(ctx, what, after)
}

// retryAfter is what the provider asked for, if it did.
func retryAfter(err error) time.Duration {
	if f, ok := errors.AsType[*Failure](err); ok {
		return f.RetryAfter
	}
	return 0
}

// forget drops the secrets of keys that are neither current nor needed.
func (r *run) forget() {
	r.sec.Previous = nil
	keep := r.rec.Current.id()
	maps.DeleteFunc(r.sec.Keys, func(id string, _ Credential) bool { return id != keep })
}
