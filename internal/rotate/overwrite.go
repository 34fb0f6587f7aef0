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

// Overwrite checks a client's write to the place of a record. The write is stored if its
// credential works, or if that cannot be found out in time. Any other write is refused, unless it
// is forced. commit stores the write together with operations on absolute keys that update the
// record. Those operations fail if the record has changed.
//
// The record's lock is taken before the locks of the place, as in publishing.
func (m *Manager) Overwrite(ctx context.Context, kind, name string, o Overwrite,
	commit func(along []storage.Op) error) error {
	k := m.kinds[kind]
	short, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	release, err := m.lock(short, k, name)
	if err != nil {
		if ctx.Err() != nil {
			return err
		}
		return m.storeUnchecked(ctx, k, name, o, commit)
	}
	defer release()
	e, err := m.load(ctx, k, name)
	switch {
	case err != nil:
		return err
	case e == nil || e.Rec.Gone:
		return commit(nil)
	case e.creatingElsewhere() || e.Rec.CallUntil.After(e.Now):
		return m.storeUnchecked(ctx, k, name, o, commit)
	}
	if err := trim(ctx, e); err != nil {
		return err
	}
	if len(e.Ops) > 0 { // the write itself may fill a commit
		if _, err := m.cfg.Store.Commit(ctx, e.Ops...); err != nil {
			return err
		}
		e.Ops = nil
	}
	defer recoverExchanges(e)()
	w := newPlaceWrite(e, o, func(along []storage.Op) error {
		err := commit(along)
		if err != nil || len(along) == 0 {
			return err
		}
		e.exchanges = nil // the commit holds them
		// The write is done, so an error is ignored here. The next walk of the census finds what
		// this visit misses.
		_ = m.visit(ctx, k, name)
		return nil
	})
	err = w.check(ctx, short)
	if w.refused {
		// Count the refusal even if the client has hung up.
		if cerr := m.countRefused(context.WithoutCancel(ctx), k, name, w.o.by(), w.calledProvider); cerr != nil {
			m.cfg.Log.Warn("a refused write of a published secret was not counted", "path",
				m.cfg.Mount()+k.Path(requestName(k, e.Rec)), "by", w.o.by(), "error", cerr)
		}
	}
	return err
}

// storeUnchecked writes the place while the record is busy, without asking the provider. The
// rotation in flight decides what to do with the value. While a credential is being retired, a
// write that is not forced is refused, because its value may be the one that is being retired. The
// server always looks at what consumers read when the rotation ends, because a rotation that fails
// may never read the place. Without a rotation in flight, a look is planned.
//
// The commit asserts the record, so that no retirement can have begun since the record was read.
// The commit does not change a record whose rotation is in flight: see creatingElsewhere. Instead
// the commit writes a row of its own, which makes the server look when the rotation ends. The last
// commit of the rotation asserts that row.
func (m *Manager) storeUnchecked(ctx context.Context, k *Kind, name string, o Overwrite,
	commit func([]storage.Op) error) error {
	e, err := m.load(ctx, k, name)
	switch {
	case err != nil:
		return err
	case e == nil || e.Rec.Gone && e.turn() == nil:
		return commit(nil)
	}
	w := newPlaceWrite(e, o, commit)
	switch t := e.turn(); {
	case o.Fields != nil && o.Force && t != nil && t.leaked() && w.e.open(ctx) == nil && w.secretOf(t.Victim()):
		return w.refuseAlways("%s has leaked; %s", w.past.describe(ctx, t.Victim()), adviceRotate(e))
	case o.Fields == nil || o.Force:
	case k.Style == External && w.e.open(ctx) == nil && wrong(w) != "":
		return w.refuse("%s, or %s", wrong(w), adviceFor(w))
	case t == nil && e.Rec.CallUntil.After(e.Now):
		return fault.New("rotate.Overwrite", fault.Unavailable,
			"a key of %s is being retired at this moment, and nothing was written; try again in a minute", w.name())
	case t != nil && (t.State == Retiring || t.State == Grace && !e.Now.Before(t.End.After)):
		return fault.New("rotate.Overwrite", fault.Unavailable,
			"rotation %d of %s is retiring a key at this moment, and nothing was written; try again in a minute", t.N,
			w.name())
	}
	o.Warn("%s is busy with a slow call to its provider, so the key that you wrote was not checked; see \"rotate "+
		"status\"", w.name())
	if e.turn() == nil {
		e.Rec.Look.At, e.Rec.Look.By = e.Now.Add(firstLook), o.by()
		return w.store("unchecked", w.e.unchangedDue())
	}
	w.addWriteDetails()
	reportReads(w, "")
	b, err := encode(journalRow(e, "unchecked", nil))
	if err != nil {
		return err
	}
	ops := []storage.Op{event(e, "unchecked")}
	for _, op := range []storage.Op{storage.Expect(k.Records+name, e.version), storage.Append(k.Journal+name+"/", b),
		storage.Set(k.Unchecked+name, []byte(o.by()))} {
		ops = append(ops, m.cfg.Store.Abs(op))
	}
	return commit(ops)
}

// check checks the write, and stores or refuses it. Calls to the provider end with short.
func (w *placeWrite) check(ctx, short context.Context) error {
	for _, v := range w.o.Fields {
		w.e.Redactor.Know(v)
	}
	err := w.e.open(ctx)
	t := w.e.turn()
	switch {
	case w.o.Fields == nil:
		return w.storeEmptied()
	case len(w.o.Lacks) > 0:
		return w.refuse("it leaves out %q, which %s publishes there; send the whole secret, or change other fields "+
			"with \"kv patch\"", w.o.Lacks, w.name())
	case wrong(w) != "":
		return w.refuse("%s, or %s", wrong(w), adviceFor(w))
	case err != nil:
		return w.storeUnchecked(err)
	case w.isValueOf(w.e.Rec.Current), t != nil && t.mayBeRead() && t.Back == nil && w.isValueOf(t.New):
		return w.storeRight()
	case t != nil && !t.Published().IsZero() && w.secretOf(t.Victim()):
		return w.checkVictim(ctx, short)
	}
	return w.checkOther(ctx, short)
}

// storeRight stores a write of the value that consumers should read.
func (w *placeWrite) storeRight() error {
	what := "restored"
	if w.e.Rec.alerts().place == nil && w.e.Rec.Look.By == "" {
		// Nothing of the record changes, but what is right may: a rotation may publish before
		// this is written.
		if !w.alreadyWritten {
			reportReads(w, writtenID(w))
			return w.commit([]storage.Op{expectUnchangedAbs(w.e)})
		}
		what = nothingWrong
	}
	w.endDoubt()
	return w.store(what, w.e.unchangedDue())
}

// endDoubt ends the alert about what consumers read, and the extra looks.
func (w *placeWrite) endDoubt() {
	w.e.endPlaceAlert()
	if t := w.e.turn(); t != nil {
		t.PlaceProblem = ""
	}
	endLooks(w.e)
}

// checkVictim checks a write of the credential that the rotation in flight retires.
func (w *placeWrite) checkVictim(ctx, short context.Context) error {
	t, which := w.e.turn(), w.past.describe(ctx, w.e.turn().Victim())
	if t.leaked() {
		return w.refuseAlways("%s has leaked; %s", which, adviceRotate(w.e))
	}
	if w.o.Force { // it is stored in any case; once the right value is back, its readers read again first
		t.End.Held = w.e.Now
	}
	switch {
	case !t.End.Disabled.IsZero():
		return w.refuse("%s has been disabled since %s; enable it at the provider and write it again, or %s", which,
			date(t.End.Disabled), adviceFor(w))
	case t.Swaps > 0 && !w.e.Now.Before(t.Hold):
		return w.refuse("two keys have replaced each other there %d times since %s, so neither is retired; wait for "+
			"the end of rotation %d, or rotate with leaked=true", t.Swaps, date(t.Put.IntendedAt),
			t.N)
	case t.State == Retiring:
		return w.refuse("%s is being retired by rotation %d, and may stop working at any moment; %s", which, t.N,
			adviceFor(w))
	}
	if why := mismatch(w); why != "" {
		return w.refuse("%s", why)
	}
	if _, known := w.e.Sec.Keys[t.Victim().Key()]; known && w.e.can.Proof != ProofNone {
		if done, err := w.try(ctx, short, w.asWritten(t.Victim()), which); done {
			return err
		}
	}
	w.endDoubt()
	swapVictim(w.e, w.o.Version, w.o.By+" wrote "+which+" to the published secret")
	if err := enterGrace(ctx, w.e); err != nil {
		return err
	}
	alertSwaps(w.e)
	next := w.past.describe(ctx, t.Victim())
	w.o.Warn("%s is current again; %s will be retired at %s", which, next, t.End.After.Format(time.RFC3339))
	return w.store("written", t.End.After)
}

// asWritten returns a recorded credential with the public parts of the write, which may differ
// from the recorded ones.
func (w *placeWrite) asWritten(ref *Ref) Credential {
	c := w.e.Sec.Keys[ref.Key()]
	public := map[string]string{}
	maps.Copy(public, c.Public)
	maps.Copy(public, w.e.target.Place().Credential(w.o.Fields).Public)
	c.Public = public
	return c
}

// try asks the provider to verify a credential. done is false if the provider accepts the
// credential.
func (w *placeWrite) try(ctx, short context.Context, c Credential, which string) (done bool, err error) {
	answer, stop, err := verifyCounted(ctx, short, w, c)
	if stop {
		return true, err
	}
	return w.checkAnswer(answer, which)
}

// checkAnswer handles the provider's answer about a credential.
func (w *placeWrite) checkAnswer(err error, which string) (done bool, _ error) {
	switch {
	case err == nil:
		return false, nil
	case OutcomeOf(err) == Rejected:
		return true, w.refuse("the provider refuses %s; write one that works, or %s", which, adviceFor(w))
	}
	return true, w.storeUnchecked(err)
}

// checkOther checks a write of a value that is neither current nor about to be retired.
func (w *placeWrite) checkOther(ctx, short context.Context) error {
	if w.e.kind.Style == External {
		return checkExternal(ctx, short, w)
	}
	made, err := w.findOrigin(ctx)
	if err != nil {
		return w.storeUnchecked(err)
	}
	if made != nil {
		at, err := w.past.retiredAt(ctx, made.ref)
		if err != nil {
			return w.storeUnchecked(err)
		}
		if !at.IsZero() {
			return w.refuse("the key of rotation %d was retired on %s and cannot be used again; %s", made.n, date(at),
				adviceFor(w))
		}
		switch leaked, err := w.past.leaked(ctx, made.ref); {
		case err != nil:
			return w.storeUnchecked(err)
		case leaked && !w.secretOf(w.e.Rec.Current):
			return w.refuseAlways("the key of rotation %d has leaked; %s", made.n, adviceRotate(w.e))
		}
	}
	if why := mismatch(w); why != "" {
		return w.refuse("%s", why)
	}
	c, triable := w.candidate()
	if !triable {
		w.o.Warn("whether the key that you wrote works cannot be checked, because the provider of %s has no way to "+
			"verify a key", w.name())
		return w.storeForeign("it cannot be tested")
	}
	switch done, untested, err := w.tryOther(ctx, short, c); {
	case untested:
		w.o.Warn("whether the key that you wrote works cannot be checked: %s", w.e.errorText(err))
		return w.storeForeign("it cannot be tested")
	case done:
		return err
	}
	if w.secretOf(w.e.Rec.Current) {
		return w.storeRight()
	}
	if w.e.can.Proof == ProofManagement {
		w.o.Warn("the provider knows the ID that you wrote, but cannot say whether the secret belongs to it; no "+
			"rotation of %s created this key", w.name())
		return w.storeForeign("the provider knows its ID, but cannot say whether the secret belongs to it")
	}
	if w.e.can.Slots && !w.o.Force {
		return w.refuse(
			"the key is in a slot that the next rotation regenerates, because no rotation of %s created it; "+
				"%s", w.name(), adviceRotate(w.e))
	}
	w.o.Warn("the provider accepts the key that you wrote, but no rotation of %s created it: it is never retired "+
		"automatically, and the next rotation replaces it", w.name())
	return w.storeForeign("the provider accepts it, and the next rotation replaces it without retiring it")
}

// checkExternal checks a write of the credential of an external record. A working credential, or
// one that nothing can verify, becomes the current one.
func checkExternal(ctx, short context.Context, w *placeWrite) error {
	if w.e.can.Proof != ProofNone {
		switch done, untested, err := w.tryOther(ctx, short, w.e.target.Place().Credential(w.o.Fields)); {
		case untested:
			w.o.Warn("whether the key that you wrote works cannot be checked: %s", w.e.errorText(err))
		case done:
			return err
		}
	}
	since, err := firstWritten(ctx, w)
	if err != nil {
		return w.storeUnchecked(err)
	}
	if err := adoptWritten(w, since); err != nil {
		return err
	}
	return w.store("rotated", w.e.unchangedDue())
}

// tryOther is try for a credential that no rotation has made. untested means that the provider
// cannot verify such a credential.
func (w *placeWrite) tryOther(ctx, short context.Context, c Credential) (done, untested bool, err error) {
	answer, stop, err := verifyCounted(ctx, short, w, c)
	switch {
	case stop:
		return true, false, err
	case answer != nil && OutcomeOf(answer) == Untested:
		return false, true, answer
	}
	done, err = w.checkAnswer(answer, "the key that you wrote")
	return done, false, err
}

// mismatch says why the written fields cannot belong to one credential, as far as the record
// knows. Either the ID beside one of our secrets belongs to another credential, or a foreign
// secret stands beside one of our IDs. The second case only matters where the provider can say no
// more than whether the ID exists.
func mismatch(w *placeWrite) string {
	place, asked := w.e.target.Place(), w.e.can.Proof == ProofManagement
	of := "" // the key whose ID is written with another secret
	for _, id := range slices.Sorted(maps.Keys(w.e.Sec.Keys)) {
		reads := place.Fields(w.e.Sec.Keys[id])
		ours, field := w.sameSecret(reads, w.o.Fields), idField(reads, id)
		switch got := w.o.Fields[field].RevealString(); {
		case ours && asked && !agree(reads, w.o.Fields):
			return fmt.Sprintf("the fields beside the secret of the key %s are not those of that key, and the "+
				"provider cannot say whether they are right", id)
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
func (w *placeWrite) candidate() (c Credential, triable bool) {
	c = w.e.target.Place().Credential(w.o.Fields)
	c.ID = w.inferID()
	if w.secretOf(w.e.Rec.Current) {
		c = w.asWritten(w.e.Rec.Current)
	}
	return c, w.e.can.Proof != ProofNone && (w.e.can.Proof != ProofManagement || c.ID != "")
}

// storeForeign stores a value that no rotation has published, with an alert.
func (w *placeWrite) storeForeign(what string) error {
	w.e.alertPlace(aboutWrite(w), "the published secret holds a value that no rotation has published, written by "+
		"%s: %s; write the right value, or %s", w.o.by(), what, adviceWorking(w.e))
	endLooks(w.e)
	return w.store("written", w.e.unchangedDue())
}

// storeEmptied stores a write that leaves consumers nothing to read, with an alert.
func (w *placeWrite) storeEmptied() error {
	remedy := adviceRotate(w.e)
	switch {
	case w.o.Remedy != "" && w.e.turn() == nil:
		remedy = w.o.Remedy + "; or " + remedy
	case w.o.Remedy != "":
		remedy = w.o.Remedy
	}
	w.e.alertPlace(aboutWrite(w), "the published secret is gone, because %s deleted it: %s", w.o.by(), remedy)
	w.o.Warn("%s publishes the secret that you deleted, and its consumers now find nothing: %s", w.name(), remedy)
	endLooks(w.e)
	return w.store("emptied", w.e.unchangedDue())
}

// inferID returns the ID in the written fields, if consumers read the ID too.
func (w *placeWrite) inferID() string {
	made, known := w.e.Sec.Keys[w.e.Rec.Current.Key()]
	if !known {
		return ""
	}
	return w.o.Fields[idField(w.e.target.Place().Fields(made), made.ID)].RevealString()
}

// findOrigin returns the rotation that published the written value, or nil.
func (w *placeWrite) findOrigin(ctx context.Context) (*origin, error) {
	place := w.e.target.Place()
	if place.Versions == nil {
		return nil, nil
	}
	all, err := place.Versions(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range all {
		if p.ID == "" || !w.sameSecret(p.Fields, w.o.Fields) {
			continue
		}
		if made, err := w.past.ofPublication(ctx, p.ID); made != nil || err != nil {
			return made, err // else somebody put it back: an older version names its rotation
		}
	}
	return nil, nil
}
