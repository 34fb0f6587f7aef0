package rotate

import (
	"cmp"
	"context"
	"math/rand/v2"
	"time"

	"github.com/keyturn/keyturn/internal/cron"
	"github.com/keyturn/keyturn/internal/storage"
)

// Looks at what consumers read: once a day, and more often while it is not known whether it lives.
const (
	dailyLook   = 24 * time.Hour
	firstLook   = time.Minute
	longestLook = time.Hour
	quietLooks  = 4 // after so many that have failed, an alert stands: the value may be one that can never be tried
	// sureLooks is how often in a row the provider refuses the current credential until that is an alert.
	sureLooks = 2
)

// lives is a look that has found nothing wrong. It is neither journaled nor told.
const lives = "lives"

// planLook plans the next look, ever later.
func (r *Record) planLook(now time.Time) {
	r.Looks++
	r.Look = now.Add(cron.Backoff(r.Looks, firstLook, longestLook))
}

// endLooks ends the looks that a doubt has caused: it is known what consumers read. The next one is that of another day: somebody may
// delete at the provider the credential that they read. Each record has its own time, so that they never come at once.
func endLooks(e *Edit) {
	r := e.Rec
	r.Look, r.Looks, r.Wrote = time.Time{}, 0, ""
	if e.kind.Place != nil && r.Current != nil && (e.target == nil || e.can.Proof != ProofNone) {
		r.Look = e.Now.Add(dailyLook + rand.N(dailyLook/4))
	}
}

// doubted reports whether it is not known what consumers read, or whether that lives.
func (r *Record) doubted() bool {
	return r.Turn == nil && !r.Look.IsZero() && (r.Looks > 0 || r.Wrote != "")
}

// onlyLooks reports whether nothing else is due than the look of the day.
func onlyLooks(e *Edit) bool {
	r := e.Rec
	at := later(r.Next, r.Retry)
	return r.Turn == nil && r.Queued == nil && !r.Look.IsZero() && r.Looks == 0 && r.Wrote == "" && (at.IsZero() || at.After(e.Now))
}

// NextStep is when the record is due for more than the look of the day.
func (r *Record) NextStep() time.Time {
	if r.Turn == nil && r.Queued == nil && r.Looks == 0 && r.Wrote == "" && !r.Look.IsZero() && r.Due.Sub(r.Look).Abs() < time.Second {
		return later(r.Next, r.Retry)
	}
	return r.Due
}

// look judges what consumers read.
func look(ctx context.Context, e *Edit) error {
	if err := e.open(ctx); err != nil {
		return e.lookAgain(ctx, err)
	}
	there, err := e.target.Place().Read(ctx)
	if err != nil {
		return e.lookAgain(ctx, err)
	}
	o := Overwrite{By: cmp.Or(e.Rec.Wrote, "somebody"), Force: true, Shown: true, Warn: func(string, ...any) {}}
	if there != nil {
		o.Version = there.Version
		if len(there.Fields) > 0 {
			o.Fields = there.Fields
		}
	}
	j := judging(e, o, func(abs []storage.Op) error {
		v, err := e.m.cfg.Store.CommitWith(ctx, nil, abs)
		if err == nil {
			e.committed(v)
		}
		return err
	})
	j.looking = true
	short, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	switch {
	case j.same(e.Rec.Current):
		return tryCurrent(ctx, j)
	case onlyLooks(e) && told(e, about(there)): // who has written that, and what there is to do about it, is known
		endLooks(e)
		return e.Commit(ctx, lives, e.Planned())
	}
	return j.run(ctx, short)
}

// tryCurrent asks the provider for the current credential, which is what consumers read. One that the provider refuses twice is an alert;
// nothing is rotated by itself, because a provider that refuses one key for a while may refuse all.
func tryCurrent(ctx context.Context, j *judgement) error {
	e, rec := j.Edit, j.Rec
	made, known := e.Sec.Keys[rec.Current.Key()]
	if !known || e.can.Proof == ProofNone {
		j.calm()
		return e.Commit(ctx, "restored", e.Planned())
	}
	err := call(ctx, func(ctx context.Context) error { return e.target.Verify(ctx, made) })
	e.Now = time.Now().UTC()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err == nil:
		what := lives
		if !onlyLooks(e) || rec.alerts().place != nil {
			what = "restored"
		}
		j.calm()
		return e.Commit(ctx, what, e.Planned())
	case OutcomeOf(err) != Rejected:
		return e.lookAgain(ctx, err)
	}
	rec.planLook(e.Now)
	e.Say("error", e.words(err))
	if rec.Looks >= sureLooks {
		e.astray(aboutWrite(j), "the provider refuses the key %s, which its consumers read: somebody has deleted or disabled it there (%s); %s", rec.Current.Key(), e.words(err), instead(e))
		e.m.cfg.Log.Warn("the provider refuses what consumers of a rotated key read", "path", e.m.cfg.Mount()+e.kind.Path(called(e.kind, rec)), "key_id", rec.Current.Key(), "next_look", rec.Look)
	}
	return e.Commit(ctx, "refused", e.Planned())
}

// lookAgain plans another look after one that has found out nothing: on another day, unless there is a doubt.
func (e *Edit) lookAgain(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	e.Say("error", e.words(err))
	if onlyLooks(e) {
		endLooks(e)
	} else {
		e.Rec.planLook(e.Now)
	}
	return e.Commit(ctx, "unchecked", e.Planned())
}

// unlooked has a rotation that ends look at what was written while it was at work and that nobody
// has judged. The operations assert that there is nothing more of that.
func unlooked(ctx context.Context, e *Edit) ([]storage.Op, error) {
	if e.kind.Unjudged == "" {
		return nil, nil
	}
	key := e.kind.Unjudged + e.Rec.Name
	mark, err := e.m.cfg.Store.Get(ctx, key)
	switch {
	case err != nil:
		return nil, err
	case mark.Version == 0:
		return []storage.Op{storage.Expect(key, 0)}, nil
	}
	e.Rec.Look, e.Rec.Wrote = e.Now, string(mark.Value)
	return []storage.Op{storage.Remove(key).If(mark.Version)}, nil
}
