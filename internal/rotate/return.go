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
	if err := mayBegin(ctx, e); err != nil {
		return err
	}
	if err := e.open(ctx); err != nil {
		return err
	}
	if place := e.target.Place(); place == nil || place.Versions == nil {
		return c.RollBack(ctx, reason, r.Force)
	}
	j := judging(e, Overwrite{By: r.By, Force: r.Force, Shown: true, Warn: r.Warn}, nil)
	err := j.find(ctx, r)
	if r.Rotation == 0 && r.Version == 0 && (err != nil || j.read(ctx)) {
		return c.RollBack(ctx, reason, r.Force) // it says why there is nothing to go back to
	}
	if err != nil {
		return err
	}
	for _, v := range j.o.Fields {
		e.Redactor.Know(v)
	}
	switch t := e.turn(); {
	case t == nil:
		return j.putBack(ctx)
	case t.Back == nil && j.secretOf(t.Old):
		if err := mixed(j); err != nil {
			return err
		}
		e.Sec.Previous = j.o.Fields // consumers may have read another value when the rotation published
		return c.RollBack(ctx, reason, r.Force)
	default:
		return fault.New("rotate.ReturnTo", fault.Conflict, "rotation %d of %s is in flight (%s), and can only be rolled back to the key %q; to go on, %s", t.N, e.name(), t.State, t.Old.Key(), t.Unless())
	}
}

// read reports whether consumers read the version that find found, or whether that is unknown.
func (j *judgement) read(ctx context.Context) bool {
	there, err := j.e.target.Place().Read(ctx)
	return err != nil || there != nil && j.sameSecret(there.Fields, j.o.Fields)
}

// find searches the versions of the place for the requested credential.
func (j *judgement) find(ctx context.Context, r Return) error {
	all, err := j.e.target.Place().Versions(ctx)
	if err != nil {
		return err
	}
	is := func(p Published) bool { return j.sameSecret(p.Fields, j.reads(j.e.Rec.Current)) }
	what := "the current key"
	switch {
	case r.Version > 0:
		what = fmt.Sprintf("version %d", r.Version)
		is = func(p Published) bool { return p.Version == r.Version }
	case r.Rotation > 0:
		what = fmt.Sprintf("the key of rotation %d", r.Rotation)
		id := fmt.Sprintf("%s/%d", j.e.Rec.Tag, r.Rotation)
		is = func(p Published) bool { return p.ID == id || strings.HasPrefix(p.ID, id+"/again-") }
		if err := j.mayReturn(ctx, id); err != nil {
			return err
		}
	}
	for _, p := range all {
		if is(p) && len(p.Fields) > 0 {
			j.o.Fields = p.Fields
			return nil
		}
	}
	return fault.New("rotate.ReturnTo", fault.Invalid, "%s is not among the versions that the path of %s still has; to get another key, %s", what, j.name(), rotateAgain(j.e))
}

// mayReturn returns an error if the rotation's key is known to be retired.
func (j *judgement) mayReturn(ctx context.Context, publication string) error {
	made, err := j.past.published(ctx, publication)
	switch {
	case err != nil:
		return err
	case made == nil:
		return fault.New("rotate.ReturnTo", fault.Invalid, "%s has no such rotation on record; see \"rotate history\"", j.name())
	}
	return j.notRetired(ctx, made)
}

func (j *judgement) notRetired(ctx context.Context, made *making) error {
	at, err := j.past.retired(ctx, made.ref)
	switch leaked, lerr := j.past.leaked(ctx, made.ref); {
	case err != nil || lerr != nil:
		return errors.Join(err, lerr)
	case at.IsZero() && leaked && !j.o.Force && made.ref.Key() != j.e.Rec.Current.Key():
		err = fault.New("rotate.ReturnTo", fault.Conflict, "the key of rotation %d is known to have leaked; give force=true to publish it nevertheless", made.n)
	case !at.IsZero():
		err = fault.New("rotate.ReturnTo", fault.Invalid, "the key of rotation %d was retired on %s; it cannot come back; %s", made.n, date(at), rotateAgain(j.e))
	}
	return err
}

// putBack publishes an earlier credential once more, while no rotation is in flight. The
// credential must still work.
func (j *judgement) putBack(ctx context.Context) error {
	const op = "rotate.ReturnTo"
	place := j.e.target.Place()
	there, err := place.Read(ctx)
	if err != nil {
		return err
	}
	cas, reads := 0, map[string]secret.Value(nil)
	if there != nil {
		cas, reads = there.Version, there.Fields
	}
	if j.sameSecret(reads, j.o.Fields) {
		return fault.New(op, fault.Conflict, "consumers of %s read that key already, and no rotation is in flight; rotate now to replace it", j.name())
	}
	made, err := j.origin(ctx)
	if err == nil && made != nil {
		err = j.notRetired(ctx, made)
	}
	if err != nil {
		return err
	}
	if err := j.lives(ctx); err != nil {
		return err
	}
	// If the process dies after the publication, this look finds it.
	j.e.Rec.Look.At, j.e.Rec.Look.By = j.e.Now.Add(firstLook), j.o.by()
	if err := j.e.Commit(ctx, "returning", j.e.Planned()); err != nil {
		return err
	}
	p := Publication{ID: fmt.Sprintf("%s/return-%d", j.e.Rec.Tag, cas), Asked: j.e.Now, Next: j.e.Rec.Next, CAS: cas, Fields: j.o.Fields, Along: []storage.Op{asserted(j.e)}}
	current := j.secretOf(j.e.Rec.Current)
	if current {
		p.NewID = j.e.Rec.Current.Key()
	}
	version, err := place.Publish(ctx, p)
	if err != nil {
		return err
	}
	j.e.Now, j.o.Version = time.Now().UTC(), version
	if j.calm(); !current {
		j.e.astray(aboutWrite(j), "its place holds a value that no rotation has published, put back by %s; the next rotation replaces it without retiring it", j.o.By)
		j.o.Warn("no rotation of %s has made that key: it is never retired on its own, and the next rotation replaces it", j.name())
	}
	j.mention()
	return j.e.Commit(ctx, "returned", j.e.Planned())
}

// lives asks the provider whether it accepts the credential that is about to be published.
func (j *judgement) lives(ctx context.Context) error {
	if err := mixed(j); err != nil {
		return err
	}
	c, triable := j.candidate()
	if !triable {
		j.o.Warn("whether that key works cannot be checked, because %s has no way to try one", j.name())
		return nil
	}
	err := call(ctx, func(ctx context.Context) error { return j.e.target.Verify(ctx, c) })
	j.e.Now = time.Now().UTC()
	switch {
	case err == nil:
		return nil
	case OutcomeOf(err) == Rejected:
		return fault.New("rotate.ReturnTo", fault.Invalid, "the provider of %s refuses that key; it cannot come back; %s", j.name(), rotateAgain(j.e))
	}
	return fault.New("rotate.ReturnTo", fault.Unavailable, "whether that key still works could not be checked (%s), and nothing was published; try again", j.e.words(err))
}

// mixed returns an error if the version holds parts of two credentials.
func mixed(j *judgement) error {
	if why := mismatch(j); why != "" {
		return fault.New("rotate.ReturnTo", fault.Invalid, "that version cannot come back: %s; roll back without a version, or rotate now", why)
	}
	return nil
}
