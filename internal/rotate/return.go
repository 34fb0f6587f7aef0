package rotate

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
)

// A Return says to which credential a record goes back: the one of a rotation, or the one of a
// version of its place. Without either, the record goes back to the credential before the
// rotation in flight. If no rotation is in flight and consumers do not read the current
// credential, the current one is published again.
type Return struct {
	Rotation uint32
	Version  int
	Reason   string
	By       string
	Force    bool // a credential that leaked may be published again
	Warn     func(format string, args ...any)
}

// ReturnTo goes back to a credential that still works, and commits that.
func (c Control) ReturnTo(ctx context.Context, r Return) error {
	e := c.e
	reason := r.Reason + ", by " + r.By
	if e.turn() != nil && r.Rotation == 0 && r.Version == 0 {
		return c.RollBack(ctx, reason, r.Force)
	}
	if err := mayBegin(e); err != nil {
		return err
	}
	if err := e.open(ctx); err != nil {
		return err
	}
	if place := e.target.Place(); place == nil || place.Versions == nil {
		return c.RollBack(ctx, reason, r.Force)
	}
	w := newPlaceWrite(e, Overwrite{By: r.By, Force: r.Force, Shown: true, Warn: r.Warn}, nil)
	err := w.findVersion(ctx, r)
	if r.Rotation == 0 && r.Version == 0 && (err != nil || w.isRead(ctx)) {
		return c.RollBack(ctx, reason, r.Force) // it says why there is nothing to go back to
	}
	if err != nil {
		return err
	}
	for _, v := range w.o.Fields {
		e.Redactor.Know(v)
	}
	switch t := e.turn(); {
	case t == nil:
		return w.publishAgain(ctx)
	case t.Back == nil && w.secretOf(t.Old):
		if err := checkMixed(w); err != nil {
			return err
		}
		e.Sec.Previous = w.o.Fields // consumers may have read another value when the rotation published
		return c.RollBack(ctx, reason, r.Force)
	default:
		return fault.New("rotate.ReturnTo", fault.Conflict,
			"rotation %d of %s is in flight (%s), and can only be rolled back to the key %q; to continue, %s", t.N,
			e.name(), t.State, t.Old.Key(), t.Advice())
	}
}

// isRead reports whether consumers read the version that find found, or whether that is unknown.
func (w *placeWrite) isRead(ctx context.Context) bool {
	there, err := w.e.target.Place().Read(ctx)
	return err != nil || there != nil && w.sameSecret(there.Fields, w.o.Fields)
}

// findVersion searches the versions of the place for the requested credential.
func (w *placeWrite) findVersion(ctx context.Context, r Return) error {
	all, err := w.e.target.Place().Versions(ctx)
	if err != nil {
		return err
	}
	is := func(p Published) bool { return w.sameSecret(p.Fields, w.fieldsOf(w.e.Rec.Current)) }
	what := "the current key"
	switch {
	case r.Version > 0:
		what = fmt.Sprintf("version %d", r.Version)
		is = func(p Published) bool { return p.Version == r.Version }
	case r.Rotation > 0:
		what = fmt.Sprintf("the key of rotation %d", r.Rotation)
		id := fmt.Sprintf("%s/%d", w.e.Rec.Tag, r.Rotation)
		is = func(p Published) bool { return p.ID == id || strings.HasPrefix(p.ID, id+"/again-") }
		if err := w.checkRotation(ctx, id); err != nil {
			return err
		}
	}
	for _, p := range all {
		if is(p) && len(p.Fields) > 0 {
			w.o.Fields = p.Fields
			return nil
		}
	}
	return fault.New("rotate.ReturnTo", fault.Invalid,
		"%s is not among the versions that the path of %s still has; to get another key, %s", what, w.name(),
		adviceRotate(w.e))
}

// checkRotation returns an error if the rotation's key is known to be retired.
func (w *placeWrite) checkRotation(ctx context.Context, publication string) error {
	made, err := w.past.ofPublication(ctx, publication)
	switch {
	case err != nil:
		return err
	case made == nil:
		return fault.New("rotate.ReturnTo", fault.Invalid, "%s has no such rotation on record; see \"rotate history\"",
			w.name())
	}
	return w.checkNotRetired(ctx, made)
}

func (w *placeWrite) checkNotRetired(ctx context.Context, made *origin) error {
	at, err := w.past.retiredAt(ctx, made.ref)
	switch leaked, lerr := w.past.leaked(ctx, made.ref); {
	case err != nil || lerr != nil:
		return errors.Join(err, lerr)
	case at.IsZero() && leaked && !w.o.Force && made.ref.Key() != w.e.Rec.Current.Key():
		err = fault.New("rotate.ReturnTo", fault.Conflict,
			"the key of rotation %d is known to have leaked; give force=true to publish it anyway", made.n)
	case !at.IsZero():
		err = fault.New("rotate.ReturnTo", fault.Invalid,
			"the key of rotation %d was retired on %s; it cannot be used again; %s", made.n, date(at),
			adviceRotate(w.e))
	}
	return err
}

// publishAgain publishes an earlier credential once more, while no rotation is in flight. The
// credential must still work.
func (w *placeWrite) publishAgain(ctx context.Context) error {
	const op = "rotate.ReturnTo"
	place := w.e.target.Place()
	there, err := place.Read(ctx)
	if err != nil {
		return err
	}
	cas, reads := 0, map[string]secret.Value(nil)
	if there != nil {
		cas, reads = there.Version, there.Fields
	}
	if w.sameSecret(reads, w.o.Fields) {
		return fault.New(op, fault.Conflict,
			"consumers of %s read that key already, and no rotation is in flight; rotate now to replace it", w.name())
	}
	made, err := w.findOrigin(ctx)
	if err == nil && made != nil {
		err = w.checkNotRetired(ctx, made)
	}
	if err != nil {
		return err
	}
	if err := w.verifyWorks(ctx); err != nil {
		return err
	}
	// If the process dies after the publication, this look finds it.
	w.e.Rec.Look.At, w.e.Rec.Look.By = w.e.Now.Add(firstLook), w.o.by()
	if err := w.e.Commit(ctx, "returning", w.e.Planned()); err != nil {
		return err
	}
	p := Publication{ID: fmt.Sprintf("%s/return-%d", w.e.Rec.Tag, cas), IntendedAt: w.e.Now, Next: w.e.Rec.Next,
		CAS: cas, Fields: w.o.Fields, Along: []storage.Op{expectUnchangedAbs(w.e)}}
	current := w.secretOf(w.e.Rec.Current)
	if current {
		p.NewID = w.e.Rec.Current.Key()
	}
	version, err := place.Publish(ctx, p)
	if err != nil {
		return err
	}
	w.e.Now, w.o.Version = time.Now().UTC(), version
	if w.endDoubt(); !current {
		w.e.alertPlace(aboutWrite(w), "the published secret holds a value that no rotation has published, written "+
			"back by %s; the next rotation replaces it without retiring it", w.o.By)
		w.o.Warn("no rotation of %s created that key: it is never retired automatically, and the next rotation "+
			"replaces it", w.name())
	}
	w.addWriteDetails()
	return w.e.Commit(ctx, "returned", w.e.Planned())
}

// verifyWorks asks the provider whether it accepts the credential that is about to be published.
func (w *placeWrite) verifyWorks(ctx context.Context) error {
	if err := checkMixed(w); err != nil {
		return err
	}
	c, triable := w.candidate()
	if !triable {
		w.o.Warn("whether that key works cannot be checked, because the provider of %s has no way to verify a key",
			w.name())
		return nil
	}
	err := call(ctx, func(ctx context.Context) error { return w.e.target.Verify(ctx, c) })
	w.e.Now = time.Now().UTC()
	switch {
	case err == nil:
		return nil
	case OutcomeOf(err) == Rejected:
		return fault.New("rotate.ReturnTo", fault.Invalid,
			"the provider of %s refuses that key; it cannot be published again; %s", w.name(), adviceRotate(w.e))
	}
	return fault.New("rotate.ReturnTo", fault.Unavailable,
		"whether that key still works could not be checked (%s), and nothing was published; try again",
		w.e.errorText(err))
}

// checkMixed returns an error if the version holds parts of two credentials.
func checkMixed(w *placeWrite) error {
	if why := mismatch(w); why != "" {
		return fault.New("rotate.ReturnTo", fault.Invalid,
			"that version cannot be published again: %s; roll back without a version, or rotate now", why)
	}
	return nil
}
