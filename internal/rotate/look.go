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
func tryCurrent(ctx context.Context, w *placeWrite) error {
	e, rec := w.e, w.e.Rec
	made, known := e.Sec.Keys[rec.Current.Key()]
	if !known || e.can.Proof == ProofNone {
		w.endDoubt()
		return e.Commit(ctx, "restored", e.Planned())
	}
	err := call(ctx, func(ctx context.Context) error { return e.target.Verify(ctx, made) })
	e.Now = time.Now().UTC()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err == nil:
		what := nothingWrong
		if !onlyLooks(e) || rec.alerts().place != nil {
			what = "restored"
		}
		w.endDoubt()
		return e.Commit(ctx, what, e.Planned())
	case OutcomeOf(err) != Rejected:
		return e.lookAgain(ctx, err)
	}
	rec.planLook(e.Now)
	e.addDetail("error", e.errorText(err))
	if rec.Look.Failed >= refusalsBeforeAlert {
		e.alertPlace(aboutWrite(w), "the provider refuses the key %s, which its consumers read: somebody has "+
			"deleted or disabled it there (%s); %s", rec.Current.Key(), e.errorText(err), adviceWorking(e))
		e.m.cfg.Log.Warn("the provider refuses the published key", "path",
			e.m.cfg.Mount()+e.kind.Path(requestName(e.kind, rec)), "key_id", rec.Current.Key(), "next_look",
			rec.Look.At)
	}
	return e.Commit(ctx, "refused", e.Planned())
}

// look checks what consumers read.
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
	w := newPlaceWrite(e, o, func(abs []storage.Op) error {
		v, err := e.m.cfg.Store.CommitWith(ctx, nil, abs)
		if err == nil {
			e.committed(v)
		}
		return err
	})
	w.alreadyWritten = true
	short, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	switch {
	case w.isValueOf(e.Rec.Current):
		return tryCurrent(ctx, w)
	case onlyLooks(e) && alertedAbout(e, about(there)):
		// the alert names the writer and the remedy
		endLooks(e)
		return e.Commit(ctx, nothingWrong, e.Planned())
	}
	return w.check(ctx, short)
}

// lookAgain plans another look after a look without an answer: the next day, or soon if there is
// a doubt.
func (e *Edit) lookAgain(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	e.addDetail("error", e.errorText(err))
	if onlyLooks(e) {
		endLooks(e)
	} else {
		e.Rec.planLook(e.Now)
	}
	return e.Commit(ctx, "unchecked", e.Planned())
}
