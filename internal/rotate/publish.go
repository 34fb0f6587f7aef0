package rotate

import (
	"context"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
)

// pending returns the new credential with its secret.
func pending(e *Edit) (Credential, error) {
	c, ok := e.Sec.Keys[e.turn().New.Key()]
	if !ok {
		return c, &Failure{Outcome: Permanent,
			Err: fault.New("rotate.pending", fault.Internal, "the new key's secret is not stored")}
	}
	return c, nil
}

// publish writes the new credential to the place that its readers read. Once the intent is
// recorded, somebody may have read the credential, so publishing never gives up on its own.
func publish(ctx context.Context, e *Edit) error {
	if err := e.open(ctx); err != nil {
		return openFailed(ctx, e, err)
	}
	t := e.turn()
	if e.target.Place() == nil {
		t.Put = Put{IntendedAt: e.Now, At: e.Now, Next: e.timing().When.Next(e.Now, e.Now)}
	}
	if t.Put.IntendedAt.IsZero() {
		return recordIntent(ctx, e, &t.Put)
	}
	if e.target.Place() != nil {
		made, err := pending(e)
		if err != nil {
			return e.retry(ctx, err)
		}
		p := basePublication(e, t.publicationID(), &t.Put)
		p.Fields = e.target.Place().Fields(made)
		p.NewID, p.OldID = t.New.Key(), t.Old.Key()
		p.RetireAfter = retireAfter(e, t.Old, t.Put.IntendedAt, t.Start.Leaked)
		if done, err := publishOnce(ctx, e, p, &t.Put); !done || err != nil {
			return err
		}
	}
	e.Rec.Current, e.Rec.LastRotated, e.Rec.Next = t.New, t.Put.At, t.Put.Next
	e.Rec.Unproven = t.Unproven
	return commitPublished(ctx, e, "published")
}

// rollBack undoes a rotation. If the new credential may have been read, rollBack publishes the
// old value again.
func rollBack(ctx context.Context, e *Edit) error {
	t := e.turn()
	if !t.mayBeRead() {
		t.End = Ending{After: e.Now, Now: true}
		e.moveTo(Retiring)
		return e.Commit(ctx, "backed-out", e.Now)
	}
	if err := e.open(ctx); err != nil {
		return openFailed(ctx, e, err)
	}
	back := &t.Back.Put
	if e.target.Place() == nil {
		*back = Put{IntendedAt: e.Now, At: e.Now, Next: e.timing().When.Next(e.Now, e.Now)}
	}
	if back.IntendedAt.IsZero() {
		untouched, version, err := unchanged(ctx, e)
		switch {
		case err != nil:
			return publishFailed(ctx, e, err)
		case !untouched:
			return recordIntent(ctx, e, back)
		}
		// There is nothing to publish. The new credential still gets its grace period, because a
		// delayed server may yet publish it.
		*back = Put{IntendedAt: e.Now, At: e.Now, Next: e.timing().When.Next(e.Now, e.Now), Version: version}
	}
	if e.target.Place() != nil && back.At.IsZero() {
		p := basePublication(e, t.rollbackPublicationID(), back)
		p.Fields = oldFields(e)
		p.NewID, p.OldID = t.Old.Key(), t.New.Key()
		p.RetireAfter = retireAfter(e, t.New, back.IntendedAt, t.Back.Leaked)
		if done, err := publishOnce(ctx, e, p, back); !done || err != nil {
			return err
		}
	}
	e.Rec.Current, e.Rec.Next = t.Old, back.Next
	return commitPublished(ctx, e, "published-back")
}

// unchanged reports whether consumers still read what they read when the rotation was about to
// publish. unchanged also returns the version that they read.
func unchanged(ctx context.Context, e *Edit) (same bool, version int, err error) {
	t := e.turn()
	if t.Put.IntendedAt.IsZero() || !t.Put.At.IsZero() || t.Put.Again > 0 {
		return false, 0, nil
	}
	there, err := e.target.Place().Read(ctx)
	e.Now = time.Now().UTC()
	if there != nil {
		version = there.Version
	}
	return err == nil && version == t.Put.CAS, version, err
}

// recordIntent records the intent to publish, together with what consumers read now.
func recordIntent(ctx context.Context, e *Edit, to *Put) error {
	there, err := e.target.Place().Read(ctx)
	e.Now = time.Now().UTC()
	if err != nil {
		return publishFailed(ctx, e, err)
	}
	*to = Put{IntendedAt: e.Now, Next: e.timing().When.Next(e.Now, e.Now), Again: to.Again}
	if there != nil {
		to.CAS = there.Version
	}
	if e.turn().Back == nil && to.Again == 0 {
		keepPrevious(e, there)
	}
	return e.Commit(ctx, "publishing", e.Now)
}

// keepPrevious stores what consumers read now, so that a rollback can publish it again.
func keepPrevious(e *Edit, there *Published) {
	e.Sec.Previous = map[string]secret.Value{}
	if there == nil {
		return
	}
	for field, v := range there.Fields {
		e.Sec.Previous[field] = v
		e.Redactor.Know(v)
	}
}

// basePublication returns the fields that publishing and rolling back have in common.
func basePublication(e *Edit, id string, to *Put) Publication {
	return Publication{ID: id, IntendedAt: to.IntendedAt, Next: to.Next, CAS: to.CAS}
}

// retireAfter returns when the credential that consumers stop reading is retired; zero if there
// is none.
func retireAfter(e *Edit, old *Ref, asked time.Time, leaked bool) time.Time {
	if old == nil {
		return time.Time{}
	}
	return asked.Add(e.timing().Hold(leaked))
}

// publishOnce publishes. If done is false, publishOnce has committed what went wrong or returns an
// error.
func publishOnce(ctx context.Context, e *Edit, p Publication, to *Put) (done bool, err error) {
	p.Along = append(p.Along, expectUnchangedAbs(e))
	version, err := e.target.Place().Publish(ctx, p)
	e.Now = time.Now().UTC()
	switch {
	case err == nil:
		to.At, to.Version = e.Now, version
		return true, nil
	case ctx.Err() != nil:
		return false, ctx.Err()
	case !fault.Is(err, fault.Conflict):
		return false, publishFailed(ctx, e, err)
	}
	// Somebody has written the place meanwhile. Publish over that version.
	there, rerr := e.target.Place().Read(ctx)
	if rerr != nil {
		return false, publishFailed(ctx, e, rerr)
	}
	to.CAS = 0
	if there != nil {
		to.CAS = there.Version
	}
	// A rollback must not publish values of the new credential. If the place holds such values,
	// this rotation published them, and a later writer kept them.
	made, known := e.Sec.Keys[e.turn().New.Key()]
	if e.turn().Back == nil && e.turn().Put.Again == 0 &&
		(there == nil || there.ID != p.ID && !(known && readsSecretOf(e, there, made))) {
		keepPrevious(e, there)
	}
	return false, e.Commit(ctx, "overtaken", e.Now)
}

// publishFailed handles an error of publishing. An error that only a person can correct pauses the
// record.
func publishFailed(ctx context.Context, e *Edit, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	switch fault.KindOf(err) {
	case fault.Denied, fault.Invalid, fault.NotFound, fault.Unsupported:
		e.recordError(err)
		e.pauseWithAlert("%s cannot be published: %s; correct the cause, then resume", e.name(), e.Rec.LastError)
		return e.Commit(ctx, "paused", time.Time{})
	}
	return e.retry(ctx, err)
}

// commitPublished begins the grace period of the credential that readers stop using, and commits
// that.
func commitPublished(ctx context.Context, e *Edit, what string) error {
	if err := enterGrace(ctx, e); err != nil {
		return err
	}
	return e.Commit(ctx, what, e.turn().End.After)
}
