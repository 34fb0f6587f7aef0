package rotate

import (
	"cmp"
	"context"
	"time"

	"github.com/keyturn/keyturn/internal/storage"
)

// tryCurrent asks the provider to verify the current credential, which consumers read. An alert
// is raised if the provider refuses the credential twice in a row. No rotation begins
// automatically, because a provider that refuses one key for a while may refuse all keys.
func tryCurrent(ctx context.Context, j *judgement) error {
	e, rec := j.e, j.e.Rec
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
	if rec.Look.Failed >= sureLooks {
		e.astray(aboutWrite(j), "the provider refuses the key %s, which its consumers read: somebody has deleted or disabled it there (%s); %s", rec.Current.Key(), e.words(err), instead(e))
		e.m.cfg.Log.Warn("the provider refuses what consumers of a rotated key read", "path", e.m.cfg.Mount()+e.kind.Path(called(e.kind, rec)), "key_id", rec.Current.Key(), "next_look", rec.Look.At)
	}
	return e.Commit(ctx, "refused", e.Planned())
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
	o := Overwrite{By: cmp.Or(e.Rec.Look.By, "somebody"), Force: true, Shown: true, Warn: func(string, ...any) {}}
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

// lookAgain plans another look after a look without an answer: the next day, or soon if there is
// a doubt.
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
