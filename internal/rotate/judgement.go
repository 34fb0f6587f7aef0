package rotate

import (
	"fmt"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
)

// A judgement is one overwrite together with the record that it concerns.
type judgement struct {
	e      *Edit
	o      Overwrite
	commit func(along []storage.Op) error
	past   lineage

	looking bool // at what is written already
	asked   bool // the provider was
	refused bool // nothing is written
}

// judging returns the judgement of an overwrite. If commit is nil, store must not be called.
func judging(e *Edit, o Overwrite, commit func(along []storage.Op) error) *judgement {
	return &judgement{e: e, o: o, commit: commit, past: lineage{e: e}}
}

// name returns the record's name for messages to the client. The name is hidden unless the client
// may know it, because a client that may write a secret need not know what is stored below
// another mount.
func (j *judgement) name() string {
	if !j.o.Shown {
		return "the rotated key"
	}
	return j.e.name()
}

// An Overwrite is a client's pending write to the place where consumers read a credential.
type Overwrite struct {
	By      string
	Version int                     // of the place, once it is written
	Fields  map[string]secret.Value // of the credential, as consumers will read them; nil: they will read nothing
	Lacks   []string                // fields with a secret that consumers will not find any more
	Remedy  string                  // without Fields: the command by which consumers read something again, if there is one
	Force   bool                    // what is refused is written nevertheless
	Shown   bool                    // the client may know which record publishes there
	Warn    func(format string, args ...any)
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

// judgeTimeout bounds how long a client that writes a place waits for the judgement.
const judgeTimeout = 4 * time.Second

// store commits the write and the record together.
func (j *judgement) store(what string, due time.Time) error {
	j.mention()
	if j.o.Fields != nil {
		consumed(j, writtenID(j))
	}
	ops, abs, err := j.e.batch(what, due)
	if err != nil {
		return err
	}
	for _, op := range ops {
		abs = append(abs, j.e.m.cfg.Store.Abs(op))
	}
	if err := j.commit(abs); err != nil {
		return err
	}
	if what == lives { // nothing was written
		return nil
	}
	m, k := j.e.m, j.e.kind
	log := m.cfg.Log.Info
	if j.e.Rec.Alert != nil && j.e.Rec.Alert.Place {
		log = m.cfg.Log.Warn
	}
	log("what consumers of a rotated key read was changed by hand", "path", m.cfg.Mount()+k.Path(called(k, j.e.Rec)), "what", what, "by", j.o.By, "version", j.o.Version)
	return nil
}

// unmoved returns when the record is due after a commit that is not one of its steps. While a
// rotation is in flight, the due time stays as it is.
func (e *Edit) unmoved() time.Time {
	if e.turn() != nil {
		return e.Rec.Due
	}
	return e.Planned()
}

// creating reports whether another server may be in a creating call. A commit here would make
// that server's next commit fail, and with it the secret of the new credential would be lost: it
// is stored nowhere else.
func (e *Edit) creating() bool {
	t := e.turn()
	if t == nil || t.State != Creating || t.last() == nil {
		return false
	}
	a := t.last()
	return a.Outcome == "" && e.Now.Before(a.Deadline.Add(clockMargin))
}

// aboutWrite describes what the place holds once the write is done.
func aboutWrite(j *judgement) string {
	return about(&Published{Version: j.o.Version, Fields: j.o.Fields})
}

// writtenID returns the ID of the recorded credential that is written, or "" if none of them is.
func writtenID(j *judgement) string {
	refs := []*Ref{j.e.Rec.Current}
	if t := j.e.turn(); t != nil {
		refs = append(refs, t.New, t.Old)
	}
	for _, ref := range refs {
		if j.e.target != nil && ref != nil && j.secretOf(ref) {
			return ref.ID
		}
	}
	return ""
}

// consumed reports to Reads what consumers read after the write.
func consumed(j *judgement, id string) {
	r := Reads{ID: id}
	if t := j.e.turn(); t != nil && !t.Published().IsZero() && t.Victim() != nil {
		r.OldID, r.RetireAfter = t.Victim().ID, t.End.After
	}
	if j.o.Reads != nil {
		j.o.Reads(r)
	}
}

// mention adds the writer and the version to the event and the journal.
func (j *judgement) mention() {
	if j.o.By != "" {
		j.e.Say("by", j.o.By)
	}
	j.e.Say("version", fmt.Sprint(j.o.Version))
}

// unknown stores a write whose credential could not be tried. The write is not refused, because
// consumers' secrets must stay writable while a provider is down.
func (j *judgement) unknown(err error) error {
	j.o.Warn("it was written, but whether that key works could not be checked (%s); %s checks it again, and raises an alert if it does not work", j.e.words(err), j.name())
	j.e.Say("error", j.e.words(err))
	j.e.Rec.Look.By = j.o.by()
	j.e.Rec.planLook(j.e.Now) // while a rotation is in flight, the look comes at its end
	if j.e.Rec.Look.Failed > quietLooks {
		j.e.astray(aboutWrite(j), "its place holds a value that could not be tried again and again: %s; see whether it is a key as the provider makes them, or %s", j.e.words(err), instead(j.e))
	}
	return j.store("unchecked", j.e.unmoved())
}

// title returns the record's name as refusals begin with it.
func title(j *judgement) string {
	if !j.o.Shown {
		return "the rotation of this secret"
	}
	return j.e.m.cfg.Mount() + j.e.kind.Path(called(j.e.kind, j.e.Rec))
}

// never refuses the write even if it is forced. A client that may only write the place must not
// undo what somebody with rights on the record has decided.
func (j *judgement) never(format string, args ...any) error {
	if j.looking {
		return j.refuse(format, args...)
	}
	j.refused = true
	return fault.New("rotate.Overwrite", fault.Invalid, "%s refuses the write, also with options.force: %s", title(j), fmt.Sprintf(format, args...))
}

// refuse refuses the write. A forced write is stored with an alert instead.
func (j *judgement) refuse(format string, args ...any) error {
	why := fmt.Sprintf(format, args...)
	if !j.o.Force {
		j.refused = true
		return fault.New("rotate.Overwrite", fault.Invalid, "%s refuses the write: %s, or write it nevertheless with -force (options.force in the API)", title(j), why)
	}
	j.e.astray(aboutWrite(j), "%s has made consumers read what is no key that works: %s", j.o.by(), why)
	j.o.Warn("it was written nevertheless: %s", why)
	endLooks(j.e)
	return j.store("forced", j.e.unmoved())
}

// way returns advice: what to do instead of a refused write, or after a forced one.
func way(j *judgement) string {
	if j.o.Force {
		return instead(j.e)
	}
	return rotateAgain(j.e)
}

// secretOf reports whether the written value has the secret of a recorded credential.
func (j *judgement) secretOf(c *Ref) bool { return j.sameSecret(j.reads(c), j.o.Fields) }

func (j *judgement) sameSecret(a, b map[string]secret.Value) bool {
	place := j.e.target.Place()
	return agree(place.Credential(a).Secret, place.Credential(b).Secret)
}

// reads returns the fields of a recorded credential, as consumers read them.
func (j *judgement) reads(c *Ref) map[string]secret.Value {
	if made, known := j.e.Sec.Keys[c.Key()]; known {
		return j.e.target.Place().Fields(made)
	}
	if t := j.e.turn(); c != nil && t != nil && c.Key() == t.Old.Key() {
		return j.e.Sec.Previous
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

// same reports whether the written value is a recorded credential: no field differs, and the
// secret matches, not only the public fields.
func (j *judgement) same(c *Ref) bool {
	reads := j.reads(c)
	return agree(reads, j.o.Fields) && (len(j.e.target.Place().Credential(reads).Secret) == 0 || j.secretOf(c))
}
