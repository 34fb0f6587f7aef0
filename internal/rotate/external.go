package rotate

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
)

// firstWritten returns when the written secret came to the place. It is not new if somebody rolls
// the place back to it.
func firstWritten(ctx context.Context, w *placeWrite) (time.Time, error) {
	since := w.e.Now
	versions, err := w.e.target.Place().Versions(ctx)
	for _, v := range versions {
		if sameFields(w, v.Fields, w.o.Fields) && v.At.Before(since) && !v.At.IsZero() {
			since = v.At
		}
	}
	return since, err
}

// sameFields reports whether two versions hold the same credential, in all of its fields. One
// field alone, such as a user name, stays the same from one key to the next.
func sameFields(w *placeWrite, a, b map[string]secret.Value) bool {
	place := w.e.target.Place()
	x, y := place.Credential(a), place.Credential(b)
	return len(x.Secret) > 0 && maps.EqualFunc(x.Secret, y.Secret, secret.Value.Equal)
}

// adoptWritten records the written credential as the current one, and its rotation in the history.
func adoptWritten(w *placeWrite, since time.Time) error {
	e, rec := w.e, w.e.Rec
	c := e.target.Place().Credential(w.o.Fields)
	c.ID = versionID + fmt.Sprint(w.o.Version)
	old := rec.Current
	rec.Turns++
	rec.Current = &Ref{ID: c.ID, At: since, Adopted: true}
	rec.LastRotated, rec.Retry, rec.Failures, rec.LastError = since, time.Time{}, 0, ""
	rec.Next = e.timing().When.Next(since, since)
	rec.Alert = nil
	e.Sec.Keys = map[string]Credential{c.ID: c}
	endLooks(e)
	e.addDetail("key_id", c.ID)
	t := Turn{N: rec.Turns, ID: NewTag(rec.Name), Start: Start{Reason: "external", By: w.o.By}, Started: since,
		State: Done, New: rec.Current, Old: old, Proof: e.can.Proof, Ended: e.Now,
		Put: Put{IntendedAt: since, At: since, Next: rec.Next, Version: w.o.Version}}
	row, err := encode(t)
	if err != nil {
		return err
	}
	e.Ops = append(e.Ops, storage.Set(e.kind.past(rec.Name, t.N), row))
	if t.N > MaxHistory {
		e.Ops = append(e.Ops, storage.Remove(e.kind.past(rec.Name, t.N-MaxHistory)))
	}
	return nil
}

// wrong says why a written value cannot be a credential of the record; "": it can.
func wrong(w *placeWrite) string {
	if w.e.target == nil || w.e.target.Place().Wrong == nil || w.o.Fields == nil {
		return ""
	}
	return w.e.target.Place().Wrong(w.o.Fields)
}

// Watch plans what follows from the configuration of an external record: when its credential is
// overdue, and, if consumers can read something, an immediate check of it. there is what they
// read; nil: nothing. moved means that they read another place than before. changed means that
// other fields or another call decide whether a value is right.
func Watch(e *Edit, there *Published, moved, changed bool) {
	rec := e.Rec
	if moved {
		rec.LastRotated, rec.Alert = time.Time{}, nil
	}
	if moved || changed {
		rec.Current, e.Sec.Keys = nil, map[string]Credential{}
	}
	since := rec.LastRotated
	if since.IsZero() && there != nil {
		since = there.At
	}
	if since.IsZero() {
		since = rec.Created
	}
	rec.Next, rec.Retry = e.timing().When.Next(since, since), time.Time{}
	rec.setAlerts(alerts{place: rec.alerts().place})
	if there != nil {
		rec.Look = Look{At: e.Now, By: "somebody"} // who wrote it is not known
	}
}
