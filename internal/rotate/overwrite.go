package rotate

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
)

// Overwrite judges a client's write to the place of a record. The write is stored if its
// credential works, or if that cannot be found out in time. Any other write is refused, unless it
// is forced. commit stores the write together with operations on absolute keys that update the
// record. Those operations fail if the record has changed.
//
// The record's lock is taken before the locks of the place, as in publishing.
func (m *Manager) Overwrite(ctx context.Context, kind, name string, o Overwrite, commit func(along []storage.Op) error) error {
	k := m.kinds[kind]
	short, cancel := context.WithTimeout(ctx, judgeTimeout)
	defer cancel()
	release, err := m.take(short, k, name)
	if err != nil {
		if ctx.Err() != nil {
			return err
		}
		return m.unjudged(ctx, k, name, o, commit)
	}
	defer release()
	e, err := m.load(ctx, k, name)
	switch {
	case err != nil:
		return err
	case e == nil || e.Rec.Gone:
		return commit(nil)
	case e.creating() || e.Rec.Calling.After(e.Now):
		return m.unjudged(ctx, k, name, o, commit)
	}
	if err := trim(ctx, e); err != nil {
		return err
	}
	defer remember(e)()
	j := judging(e, o, func(along []storage.Op) error {
		err := commit(along)
		if err != nil || len(along) == 0 {
			return err
		}
		e.made = nil // the commit holds them
		// The write is done, so an error is ignored here. The next walk of the census finds what
		// this visit misses.
		_ = m.visit(ctx, k, name)
		return nil
	})
	err = j.run(ctx, short)
	if j.refused {
		// Count the refusal even if the client has hung up.
		if cerr := m.countRefused(context.WithoutCancel(ctx), k, name, j.o.by(), j.asked); cerr != nil {
			m.cfg.Log.Warn("a refused write of what consumers of a rotated key read was not counted", "path", m.cfg.Mount()+k.Path(called(k, e.Rec)), "by", j.o.by(), "error", cerr)
		}
	}
	return err
}

// unjudged writes the place while the record is busy, without asking the provider. The rotation
// in flight decides what to do with the value. While a credential is being retired, a write that
// is not forced is refused, because its value may be the one that is being retired. The server
// always looks at what consumers read when the rotation ends, because a rotation that fails may
// never read the place. Without a rotation in flight, a look is planned.
//
// The commit asserts the record, so that no retirement can have begun since the record was read.
// The commit does not change a record whose rotation is in flight: see creating. Instead the
// commit writes a row of its own, which makes the server look when the rotation ends. The last
// commit of the rotation asserts that row.
func (m *Manager) unjudged(ctx context.Context, k *Kind, name string, o Overwrite, commit func([]storage.Op) error) error {
	e, err := m.load(ctx, k, name)
	switch {
	case err != nil:
		return err
	case e == nil || e.Rec.Gone && e.turn() == nil:
		return commit(nil)
	}
	j := judging(e, o, commit)
	switch t := e.turn(); {
	case o.Fields != nil && o.Force && t != nil && t.leaked() && j.e.open(ctx) == nil && j.secretOf(t.Victim()):
		return j.never("%s has leaked; %s", j.past.called(ctx, t.Victim()), rotateAgain(e))
	case o.Fields == nil || o.Force:
	case t == nil && e.Rec.Calling.After(e.Now):
		return fault.New("rotate.Overwrite", fault.Unavailable, "a key of %s is being retired at this moment, and nothing was written; try again in a minute", j.name())
	case t != nil && (t.State == Retiring || t.State == Grace && !e.Now.Before(t.End.After)):
		return fault.New("rotate.Overwrite", fault.Unavailable, "rotation %d of %s is retiring a key at this moment, and nothing was written; try again in a minute", t.N, j.name())
	}
	o.Warn("%s is at work, and a call to its provider takes long: whether the key that you wrote lives was not checked; see \"rotate status\"", j.name())
	if e.turn() == nil {
		e.Rec.Look.At, e.Rec.Look.By = e.Now.Add(firstLook), o.by()
		return j.store("unchecked", j.e.unmoved())
	}
	j.mention()
	consumed(j, "")
	b, err := encode(row(e, "unchecked", nil))
	if err != nil {
		return err
	}
	ops := []storage.Op{event(e, "unchecked")}
	for _, op := range []storage.Op{storage.Expect(k.Records+name, e.version), storage.Append(k.Journal+name+"/", b), storage.Set(k.Unjudged+name, []byte(o.by()))} {
		ops = append(ops, m.cfg.Store.Abs(op))
	}
	return commit(ops)
}

// run judges the write. Calls to the provider end with short.
func (j *judgement) run(ctx, short context.Context) error {
	for _, v := range j.o.Fields {
		j.e.Redactor.Know(v)
	}
	err := j.e.open(ctx)
	t := j.e.turn()
	switch {
	case j.o.Fields == nil:
		return j.emptied()
	case len(j.o.Lacks) > 0:
		return j.refuse("it leaves out %q, which %s publishes there; send the whole secret, or change other fields with \"kv patch\"", j.o.Lacks, j.name())
	case err != nil:
		return j.unknown(err)
	case j.same(j.e.Rec.Current), t != nil && t.offered() && t.Back == nil && j.same(t.New):
		return j.right()
	case t != nil && !t.Published().IsZero() && j.secretOf(t.Victim()):
		return j.victim(ctx, short)
	}
	return j.other(ctx, short)
}

// right stores a write of the value that consumers should read.
func (j *judgement) right() error {
	what := "restored"
	if j.e.Rec.alerts().place == nil && j.e.Rec.Look.By == "" {
		if !j.looking { // nothing of the record changes, but what is right may: a rotation may publish before this is written
			consumed(j, writtenID(j))
			return j.commit([]storage.Op{asserted(j.e)})
		}
		what = lives
	}
	j.calm()
	return j.store(what, j.e.unmoved())
}

// calm ends the alert about what consumers read, and the extra looks.
func (j *judgement) calm() {
	j.e.found()
	if t := j.e.turn(); t != nil {
		t.Astray = ""
	}
	endLooks(j.e)
}

// victim judges a write of the credential that the rotation in flight retires.
func (j *judgement) victim(ctx, short context.Context) error {
	t, which := j.e.turn(), j.past.called(ctx, j.e.turn().Victim())
	switch {
	case t.leaked():
		return j.never("%s has leaked; %s", which, rotateAgain(j.e))
	case !t.End.Disabled.IsZero():
		return j.refuse("%s is disabled since %s; enable it at the provider and write it again, or %s", which, date(t.End.Disabled), way(j))
	case t.Flips > 0 && !j.e.Now.Before(t.Hold):
		return j.refuse("two keys have replaced each other there %d times since %s, and none of them is retired meanwhile; wait for the end of rotation %d, or rotate with leaked=true", t.Flips, date(t.Put.Asked), t.N)
	case t.State == Retiring:
		return j.refuse("%s is being retired by rotation %d, and cannot come back for certain; %s", which, t.N, way(j))
	}
	if why := mismatch(j); why != "" {
		return j.refuse("%s", why)
	}
	if _, known := j.e.Sec.Keys[t.Victim().Key()]; known && j.e.can.Proof != ProofNone {
		if done, err := j.try(ctx, short, j.written(t.Victim()), which); done {
			return err
		}
	}
	j.calm()
	revert(j.e, j.o.Version, j.o.By+" has written "+which+" to its place")
	if err := leave(ctx, j.e); err != nil {
		return err
	}
	flipped(j.e)
	next := j.past.called(ctx, t.Victim())
	j.o.Warn("%s is current again; %s will be retired at %s", which, next, t.End.After.Format(time.RFC3339))
	return j.store("written", t.End.After)
}

// written returns a recorded credential with the public parts of the write, which may differ from
// the recorded ones.
func (j *judgement) written(ref *Ref) Credential {
	c := j.e.Sec.Keys[ref.Key()]
	public := map[string]string{}
	maps.Copy(public, c.Public)
	maps.Copy(public, j.e.target.Place().Credential(j.o.Fields).Public)
	c.Public = public
	return c
}

// try asks the provider to verify a credential. done is false if the provider accepts the
// credential.
func (j *judgement) try(ctx, short context.Context, c Credential, which string) (done bool, err error) {
	answer, stop, err := askFor(ctx, short, j, c)
	if stop {
		return true, err
	}
	return j.tried(answer, which)
}

// tried judges the provider's answer about a credential.
func (j *judgement) tried(err error, which string) (done bool, _ error) {
	switch {
	case err == nil:
		return false, nil
	case OutcomeOf(err) == Rejected:
		return true, j.refuse("the provider refuses %s; write one that works, or %s", which, way(j))
	}
	return true, j.unknown(err)
}

// other judges a write of a value that is neither current nor about to be retired.
func (j *judgement) other(ctx, short context.Context) error {
	made, err := j.origin(ctx)
	if err != nil {
		return j.unknown(err)
	}
	if made != nil {
		at, err := j.past.retired(ctx, made.ref)
		if err != nil {
			return j.unknown(err)
		}
		if !at.IsZero() {
			return j.refuse("the key of rotation %d was retired on %s and cannot come back; %s", made.n, date(at), way(j))
		}
		switch leaked, err := j.past.leaked(ctx, made.ref); {
		case err != nil:
			return j.unknown(err)
		case leaked && !j.secretOf(j.e.Rec.Current):
			return j.never("the key of rotation %d has leaked; %s", made.n, rotateAgain(j.e))
		}
	}
	if why := mismatch(j); why != "" {
		return j.refuse("%s", why)
	}
	c, triable := j.candidate()
	if !triable {
		j.o.Warn("whether the key that you wrote lives cannot be checked, because %s has no way to try one", j.name())
		return j.strange("it cannot be tried")
	}
	switch done, untested, err := j.tryOther(ctx, short, c); {
	case untested:
		j.o.Warn("whether the key that you wrote lives cannot be checked: %s", j.e.words(err))
		return j.strange("it cannot be tried")
	case done:
		return err
	}
	if j.secretOf(j.e.Rec.Current) {
		return j.right()
	}
	if j.e.can.Proof == ProofManagement {
		j.o.Warn("the provider knows the id that you wrote, and cannot be asked whether the secret is that of the same key; no rotation of %s has made it", j.name())
		return j.strange("the provider knows its id, and cannot be asked whether the secret belongs to it")
	}
	j.o.Warn("the provider takes the key that you wrote, but no rotation of %s has made it: it is never retired on its own, and the next rotation replaces it", j.name())
	return j.strange("the provider takes it, and the next rotation replaces it without retiring it")
}

// tryOther is try for a credential that no rotation has made. untested means that the provider
// cannot verify such a credential.
func (j *judgement) tryOther(ctx, short context.Context, c Credential) (done, untested bool, err error) {
	answer, stop, err := askFor(ctx, short, j, c)
	switch {
	case stop:
		return true, false, err
	case answer != nil && OutcomeOf(answer) == Untested:
		return false, true, answer
	}
	done, err = j.tried(answer, "the key that you wrote")
	return done, false, err
}

// mismatch says why the written fields cannot belong to one credential, as far as the record
// knows. Either the ID beside one of our secrets belongs to another credential, or a foreign
// secret stands beside one of our IDs. The second case only matters where the provider can say no
// more than whether the ID exists.
func mismatch(j *judgement) string {
	place, asked := j.e.target.Place(), j.e.can.Proof == ProofManagement
	of := "" // the key whose ID is written with another secret
	for _, id := range slices.Sorted(maps.Keys(j.e.Sec.Keys)) {
		reads := place.Fields(j.e.Sec.Keys[id])
		ours, field := j.sameSecret(reads, j.o.Fields), idField(reads, id)
		switch got := j.o.Fields[field].RevealString(); {
		case ours && asked && !agree(reads, j.o.Fields):
			return fmt.Sprintf("what stands beside the secret of the key %s is not that key's, and the provider cannot be asked whether it is right", id)
		case ours && got != "" && got != id:
			return fmt.Sprintf("the field %q is not the id of the key whose secret you wrote, which is %s", field, id)
		case !ours && asked && got == id:
			of = id
		}
	}
	if of != "" {
		return fmt.Sprintf("the secret is not that of the key %s, whose id is written beside it", of)
	}
	return ""
}

// idField returns the field in which consumers read the ID of a credential, or "".
func idField(reads map[string]secret.Value, id string) string {
	for _, field := range slices.Sorted(maps.Keys(reads)) {
		if reads[field].RevealString() == id {
			return field
		}
	}
	return ""
}

// candidate returns the credential that consumers would read, and whether the provider can verify
// it.
func (j *judgement) candidate() (c Credential, triable bool) {
	c = j.e.target.Place().Credential(j.o.Fields)
	c.ID = j.inferID()
	if j.secretOf(j.e.Rec.Current) {
		c = j.written(j.e.Rec.Current)
	}
	return c, j.e.can.Proof != ProofNone && (j.e.can.Proof != ProofManagement || c.ID != "")
}

// strange stores a value that no rotation has published, with an alert.
func (j *judgement) strange(what string) error {
	j.e.astray(aboutWrite(j), "its place holds a value that no rotation has published, written by %s: %s; write the right one, or %s", j.o.by(), what, instead(j.e))
	endLooks(j.e)
	return j.store("written", j.e.unmoved())
}

// emptied stores a write that leaves consumers nothing to read, with an alert.
func (j *judgement) emptied() error {
	remedy := rotateAgain(j.e)
	switch {
	case j.o.Remedy != "" && j.e.turn() == nil:
		remedy = j.o.Remedy + "; or " + remedy
	case j.o.Remedy != "":
		remedy = j.o.Remedy
	}
	j.e.astray(aboutWrite(j), "its place holds nothing, because %s has deleted it: %s", j.o.by(), remedy)
	j.o.Warn("%s publishes what you deleted, and its consumers find nothing: %s", j.name(), remedy)
	endLooks(j.e)
	return j.store("emptied", j.e.unmoved())
}

// inferID returns the ID in the written fields, if consumers read the ID too.
func (j *judgement) inferID() string {
	made, known := j.e.Sec.Keys[j.e.Rec.Current.Key()]
	if !known {
		return ""
	}
	return j.o.Fields[idField(j.e.target.Place().Fields(made), made.ID)].RevealString()
}

// origin returns the rotation that published the written value, or nil.
func (j *judgement) origin(ctx context.Context) (*making, error) {
	place := j.e.target.Place()
	if place.Versions == nil {
		return nil, nil
	}
	all, err := place.Versions(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range all {
		if p.ID == "" || !j.sameSecret(p.Fields, j.o.Fields) {
			continue
		}
		if made, err := j.past.published(ctx, p.ID); made != nil || err != nil {
			return made, err // else it was put back there: an older version says who made it
		}
	}
	return nil, nil
}
