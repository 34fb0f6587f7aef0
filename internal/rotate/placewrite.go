package rotate

import (
	"fmt"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
)

// A placeWrite is one overwrite together with the record that it concerns.
type placeWrite struct {
	e      *Edit
	o      Overwrite
	commit func(along []storage.Op) error
	past   pastRotations

	alreadyWritten bool // the value is stored already: the write is a look
	calledProvider bool // the provider was asked about the value
	refused        bool // nothing is written
}

// newPlaceWrite returns the placeWrite of an overwrite. If commit is nil, store must not be
// called.
func newPlaceWrite(e *Edit, o Overwrite, commit func(along []storage.Op) error) *placeWrite {
	return &placeWrite{e: e, o: o, commit: commit, past: pastRotations{e: e}}
}

// name returns the record's name for messages to the client. The name is hidden unless the client
// may know it, because a client that may write a secret need not know what is stored below
// another mount.
func (w *placeWrite) name() string {
	if !w.o.Shown {
		return "the rotated key"
	}
	return w.e.name()
}

// An Overwrite is a client's pending write to the place where consumers read a credential.
type Overwrite struct {
	By      string
	Version int                     // of the place, once it is written
	Fields  map[string]secret.Value // of the credential, as consumers will read them; nil: they will read nothing
	Lacks   []string                // fields with a secret that consumers will not find any more
	// without Fields: the command by which consumers read something again, if there is one
	Remedy string
	Force  bool // what is refused is written anyway
	Shown  bool // the client may know which record publishes there
	Warn   func(format string, args ...any)
	// Reads is called before the write with what consumers will read after it. nil means that the
	// caller does not need to know.
	Reads func(r Reads)
}

// Reads describes what consumers read.
type Reads struct {
	ID          string    // "": it is not known which credential that is
	OldID       string    // of the one in its grace; "": none
	RetireAfter time.Time // of that one
}

// by returns the writer's name, or "somebody".
func (o *Overwrite) by() string {
	if o.By == "" {
		return "somebody"
	}
	return o.By
}

// checkTimeout bounds how long a client that writes a place waits for the check.
const checkTimeout = 4 * time.Second

// store commits the write and the record together.
func (w *placeWrite) store(what string, due time.Time) error {
	w.addWriteDetails()
	if w.o.Fields != nil {
		reportReads(w, writtenID(w))
	}
	ops, abs, err := w.e.batch(what, due)
	if err != nil {
		return err
	}
	for _, op := range ops {
		abs = append(abs, w.e.m.cfg.Store.Abs(op))
	}
	if err := w.commit(abs); err != nil {
		return err
	}
	if what == nothingWrong { // nothing was written
		return nil
	}
	m, k := w.e.m, w.e.kind
	log := m.cfg.Log.Info
	if w.e.Rec.Alert != nil && w.e.Rec.Alert.Place {
		log = m.cfg.Log.Warn
	}
	log("a published secret was changed by hand", "path", m.cfg.Mount()+k.Path(requestName(k, w.e.Rec)), "what", what,
		"by", w.o.By, "version", w.o.Version)
	return nil
}

// unchangedDue returns when the record is due after a commit that is not one of its steps. While a
// rotation is in flight, the due time stays as it is.
func (e *Edit) unchangedDue() time.Time {
	if e.turn() != nil {
		return e.Rec.Due
	}
	return e.Planned()
}

// creatingElsewhere reports whether another server may be in a creating call. A commit here would
// make that server's next commit fail, and with it the secret of the new credential would be lost:
// it is stored nowhere else.
func (e *Edit) creatingElsewhere() bool {
	t := e.turn()
	if t == nil || t.State != Creating || t.last() == nil {
		return false
	}
	a := t.last()
	return a.Outcome == "" && e.Now.Before(a.Deadline.Add(clockMargin))
}

// aboutWrite describes what the place holds once the write is done.
func aboutWrite(w *placeWrite) string {
	return about(&Published{Version: w.o.Version, Fields: w.o.Fields})
}

// writtenID returns the ID of the recorded credential that is written, or "" if none of them is.
func writtenID(w *placeWrite) string {
	refs := []*Ref{w.e.Rec.Current}
	if t := w.e.turn(); t != nil {
		refs = append(refs, t.New, t.Old)
	}
	for _, ref := range refs {
		if w.e.target != nil && ref != nil && w.secretOf(ref) {
			return ref.ID
		}
	}
	return ""
}

// reportReads reports to Reads what consumers read after the write.
func reportReads(w *placeWrite, id string) {
	r := Reads{ID: id}
	if t := w.e.turn(); t != nil && !t.Published().IsZero() && t.Victim() != nil {
		r.OldID, r.RetireAfter = t.Victim().ID, t.End.After
	}
	if w.o.Reads != nil {
		w.o.Reads(r)
	}
}

// addWriteDetails adds the writer and the version to the event and the journal.
func (w *placeWrite) addWriteDetails() {
	if w.o.By != "" {
		w.e.addDetail("by", w.o.By)
	}
	w.e.addDetail("version", fmt.Sprint(w.o.Version))
}

// storeUnchecked stores a write whose credential could not be tried. The write is not refused,
// because consumers' secrets must stay writable while a provider is down.
func (w *placeWrite) storeUnchecked(err error) error {
	w.o.Warn("it was written, but whether that key works could not be checked (%s); %s checks it again, and raises "+
		"an alert if it does not work", w.e.errorText(err), w.name())
	w.e.addDetail("error", w.e.errorText(err))
	w.e.Rec.Look.By = w.o.by()
	w.e.Rec.planLook(w.e.Now) // while a rotation is in flight, the look comes at its end
	if w.e.Rec.Look.Failed > looksBeforeAlert {
		w.e.alertPlace(aboutWrite(w), "the value of the published secret could not be tested in several attempts: "+
			"%s; check whether it is a key of this provider, or %s", w.e.errorText(err), adviceWorking(w.e))
	}
	return w.store("unchecked", w.e.unchangedDue())
}

// title returns the record's name as refusals begin with it.
func title(w *placeWrite) string {
	if !w.o.Shown {
		return "the rotation of this secret"
	}
	return w.e.m.cfg.Mount() + w.e.kind.Path(requestName(w.e.kind, w.e.Rec))
}

// refuseAlways refuses the write even if it is forced. A client that may only write the place must
// not undo what somebody with rights on the record has decided.
func (w *placeWrite) refuseAlways(format string, args ...any) error {
	if w.alreadyWritten {
		return w.refuse(format, args...)
	}
	w.refused = true
	return fault.New("rotate.Overwrite", fault.Invalid, "%s refuses the write, even with options.force: %s", title(w),
		fmt.Sprintf(format, args...))
}

// refuse refuses the write. A forced write is stored with an alert instead.
func (w *placeWrite) refuse(format string, args ...any) error {
	why := fmt.Sprintf(format, args...)
	if !w.o.Force {
		w.refused = true
		return fault.New("rotate.Overwrite", fault.Invalid,
			"%s refuses the write: %s, or write it anyway with -force (options.force in the API)", title(w), why)
	}
	w.e.alertPlace(aboutWrite(w), "%s wrote a value to the published secret that is not a working key: %s", w.o.by(),
		why)
	w.o.Warn("it was written anyway: %s", why)
	endLooks(w.e)
	return w.store("forced", w.e.unchangedDue())
}

// adviceFor returns advice: what to do instead of a refused write, or after a forced one.
func adviceFor(w *placeWrite) string {
	if w.o.Force {
		return adviceWorking(w.e)
	}
	return adviceRotate(w.e)
}

// secretOf reports whether the written value has the secret of a recorded credential.
func (w *placeWrite) secretOf(c *Ref) bool { return w.sameSecret(w.fieldsOf(c), w.o.Fields) }

func (w *placeWrite) sameSecret(a, b map[string]secret.Value) bool {
	place := w.e.target.Place()
	return agree(place.Credential(a).Secret, place.Credential(b).Secret)
}

// fieldsOf returns the fields of a recorded credential, as consumers read them.
func (w *placeWrite) fieldsOf(c *Ref) map[string]secret.Value {
	if made, known := w.e.Sec.Keys[c.Key()]; known {
		return w.e.target.Place().Fields(made)
	}
	if t := w.e.turn(); c != nil && t != nil && c.Key() == t.Old.Key() {
		return w.e.Sec.Previous
	}
	return nil
}

// agree reports whether two readings have some field in common and no field that differs.
func agree(a, b map[string]secret.Value) bool {
	some := false
	for field, v := range a {
		got, ok := b[field]
		switch {
		case !ok || v.Empty():
		case !got.Equal(v):
			return false
		default:
			some = true
		}
	}
	return some
}

// isValueOf reports whether the written value is a recorded credential: no field differs, and the
// secret matches, not only the public fields.
func (w *placeWrite) isValueOf(c *Ref) bool {
	reads := w.fieldsOf(c)
	return agree(reads, w.o.Fields) && (len(w.e.target.Place().Credential(reads).Secret) == 0 || w.secretOf(c))
}
