package rotate

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/storage"
)

// An Orphan is a credential that the provider shows with a marker of this installation and that
// no record of the mount knows.
type Orphan struct {
	ID       string    `json:"key_id"`
	Label    string    `json:"label"`
	Created  time.Time `json:"created,omitzero"`
	LastUsed time.Time `json:"last_used,omitzero"`
	Disabled bool      `json:"disabled"`
	// Keep says why a request may not retire the orphan; "" if it may.
	Keep string `json:"keep,omitempty"`
}

// Orphans lists the credentials with a marker of this installation that no record of the mount
// knows.
func (c Control) Orphans(ctx context.Context) (all []Orphan, err error) {
	e := c.e
	if err := e.open(ctx); err != nil {
		return nil, err
	}
	if !e.can.List || !e.can.Label {
		return nil, fault.New("rotate.Orphans", fault.Unsupported, "the provider of %s does not list keys with "+
			"their labels, so Keyturn cannot tell which of them it created; check the provider yourself", e.name())
	}
	listed, err := list(ctx, e)
	if err != nil {
		return nil, err
	}
	known, tags, err := e.m.knownKeys(ctx)
	if err != nil {
		return nil, err
	}
	read, err := currentlyRead(ctx, e)
	if err != nil {
		return nil, err
	}
	inst := installation(e.m.cfg.Installation)
	for _, l := range listed {
		if l.Marker.Installation != inst || known[l.ID] || slices.Contains(e.Rec.ids(), l.ID) || tags[l.Marker.Key] &&
			l.Marker.Key != e.Rec.Tag {
			continue
		}
		o := Orphan{ID: l.ID, Label: l.Label, Created: l.Created, LastUsed: l.LastUsed, Disabled: l.Disabled}
		if l.Marker.Key != e.Rec.Tag {
			o.Keep = "it was created for a key that was deleted, or for one of another mount; delete it at the " +
				"provider if nobody uses it"
		} else if l.ID == read {
			o.Keep = "consumers read it now, although another key is recorded as current; rotate first"
		} else if t := e.turn(); t != nil {
			if a := t.attempt(l.Marker.String()); a != nil && a.unresolved() && mayUse(e, a) {
				o.Keep = fmt.Sprintf("rotation %d is creating a key with the call %s, and this may be that key; "+
					"list the orphans again after %s", t.N, a.Marker,
					a.Deadline.Add(clockMargin).UTC().Format(time.RFC3339))
			}
		}
		all = append(all, o)
	}
	return all, nil
}

// mayUse reports whether the call of an attempt may still return the key that it created: the
// call is under way, or will be repeated with the same marker. Otherwise nobody will ever know
// the secret of that key.
func mayUse(e *Edit, a *Attempt) bool {
	return e.turn().State == Creating &&
		(a.Outcome == "" && e.Now.Before(a.Deadline.Add(clockMargin)) || e.can.Retry == RetrySafe)
}

// Adopt records a credential that somebody else created as the current one of a record that was
// never rotated. The caller commits.
func (c Control) Adopt(ctx context.Context, given Credential) error {
	e := c.e
	if err := claim(ctx, e); err != nil {
		return err
	}
	for kind := range e.m.kinds {
		for r, err := range e.m.Records(ctx, kind) {
			if err == nil && r.Orphan == given.ID && r.CallUntil.After(time.Now()) {
				return fault.New("rotate.Adopt", fault.Conflict,
					"the key %s is being retired as an orphan at this moment; name another one", given.ID)
			}
		}
	}
	e.Rec.Current = &Ref{ID: given.ID, At: e.Now, Adopted: true}
	e.Sec.Keys = map[string]Credential{}
	if len(given.Secret) > 0 {
		e.Sec.Keys[given.ID] = given
	}
	return nil
}

// claim makes the next commit write the row that each adoption and each retirement of an orphan in
// the mount writes. If another one has written the row since claim was called, that commit fails.
// So no orphan is retired that another record adopts at the same moment.
func claim(ctx context.Context, e *Edit) error {
	row, err := e.m.cfg.Store.Get(ctx, e.kind.Claims)
	if err != nil {
		return err
	}
	e.Ops = append(e.Ops, storage.Set(e.kind.Claims, []byte(e.Rec.Name)).If(row.Version))
	return nil
}

// RetireOrphan retires a credential that Orphans lists, and commits that. The credential is
// checked again, and the commit before the call asserts the record and that no other record of the
// mount has adopted the credential, so that a credential that has become current or previous
// meanwhile is not retired.
func (c Control) RetireOrphan(ctx context.Context, id, by string) error {
	const op = "rotate.RetireOrphan"
	e := c.e
	if err := e.busy(op); err != nil {
		return err
	}
	if err := claim(ctx, e); err != nil { // before the records are read
		return err
	}
	all, err := c.Orphans(ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(all, func(o Orphan) bool { return o.ID == id })
	switch {
	case i < 0:
		return fault.New(op, fault.Invalid, "field \"confirm\": %q is not an orphan of %s: it is not listed with "+
			"Keyturn's label, or it belongs to a record; list the orphans first", id, e.name())
	case all[i].Keep != "":
		return fault.New(op, fault.Conflict, "the key %s is not retired by request: %s", id, all[i].Keep)
	}
	due := e.Rec.Due
	// A key that a lost call of the rotation in flight left is recorded in its attempt before the
	// call. If this process dies, the rotation then retires the key.
	var lost *Attempt
	if t := e.turn(); t != nil {
		if lost = t.attempt(markerOf(all[i]).String()); lost != nil {
			lost.addLeftover(id)
		}
	}
	e.addDetail("key_id", id)
	e.addDetail("by", by)
	e.Rec.Orphan = id
	failure, err := destructiveCall(ctx, e, "retiring-orphan", callTimeout,
		func(ctx context.Context) error { return e.target.(Creator).Retire(ctx, id) })
	if err != nil {
		return err
	}
	e.addDetail("key_id", id)
	e.addDetail("by", by)
	if failure != nil {
		e.addDetail("error", e.errorText(failure))
		if err := e.Commit(ctx, "orphan-not-retired", due); err != nil {
			return err
		}
		return fault.New(op, fault.Upstream, "the key %s may still be valid: %s; list the orphans again", id,
			e.errorText(failure))
	}
	if lost != nil && len(lost.IDs) == 1 {
		lost.Swept = true
	}
	return e.Commit(ctx, "retired-orphan", due)
}

// markerOf returns the marker in the label of an orphan.
func markerOf(o Orphan) Marker {
	m, _ := ParseMarker(o.Label)
	return m
}

// currentlyRead returns the ID of the credential that consumers read, if a recorded rotation made
// it, else "". The credential may no longer be recorded as ours, because the configuration was
// pointed elsewhere, or because somebody put the credential back.
func currentlyRead(ctx context.Context, e *Edit) (string, error) {
	place := e.target.Place()
	if place == nil {
		return "", nil
	}
	there, err := place.Read(ctx)
	switch {
	case fault.Is(err, fault.NotFound) || fault.Is(err, fault.Invalid):
		// there is no such place any more, and nobody reads it
		return "", nil
	case err != nil || there == nil:
		return "", err
	}
	made, err := newPlaceWrite(e, Overwrite{Fields: there.Fields}, nil).findOrigin(ctx)
	if err != nil || made == nil {
		return "", err
	}
	return made.ref.Key(), nil
}

// ids returns the IDs of the record's credentials: the current one, those of the rotation in
// flight, and those that its calls left.
func (r *Record) ids() (all []string) {
	for _, ref := range r.refs() {
		all = append(all, ref.ID)
	}
	if r.Turn != nil {
		for _, a := range r.Turn.Attempts {
			all = append(all, a.IDs...)
		}
	}
	return all
}

// knownKeys returns the IDs of the credentials in the mount's records, and the tags of their
// markers.
func (m *Manager) knownKeys(ctx context.Context) (ids, tags map[string]bool, err error) {
	ids, tags = map[string]bool{}, map[string]bool{}
	for kind := range m.kinds {
		for r, err := range m.Records(ctx, kind) {
			if err != nil {
				return nil, nil, err // a damaged record may know any of them
			}
			tags[r.Tag] = true
			for _, id := range r.ids() {
				ids[id] = true
			}
		}
	}
	return ids, tags, nil
}
