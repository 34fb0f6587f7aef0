package rotate

import (
	"fmt"
	"strings"
	"time"
)

// The advice of a refusal or an alert must work in the record's present state. A rotation on
// request is refused while another one is in flight, and while the record is paused.

// versionID precedes the version of the place in the ID of an external credential.
const versionID = "version-"

// adviceWorking says how to give consumers a credential that works.
func adviceWorking(e *Edit) string {
	t := e.turn()
	if e.kind.Style == External && e.Rec.Current != nil {
		version := strings.TrimPrefix(e.Rec.Current.ID, versionID)
		return fmt.Sprintf("write the last working key again with \"kv rollback -version=%s %s\"", version,
			e.kind.Place(e.Rec))
	}
	if t == nil || e.kind.Place == nil {
		return adviceRotate(e)
	}
	version := t.Put.Version
	if t.Back != nil {
		version = t.Back.Put.Version
	}
	if version == 0 || t.Published().IsZero() {
		return adviceRotate(e)
	}
	return fmt.Sprintf("publish the current key %s again with \"kv rollback -version=%d %s\"", t.Live().Key(), version,
		e.kind.Place(e.Rec))
}

// adviceRotate says how to get another credential if there is none to go back to.
func adviceRotate(e *Edit) string {
	t := e.turn()
	switch {
	case e.kind.Style == External:
		return fmt.Sprintf("write another key to %q", e.kind.Place(e.Rec))
	case t == nil && e.Rec.Paused != nil:
		return "resume it, and rotate now"
	case t == nil:
		return "rotate now"
	case e.Rec.Paused != nil:
		return fmt.Sprintf("resume it, and rotate once rotation %d has ended", t.N)
	case t.Published().IsZero() && t.Back == nil:
		return fmt.Sprintf("wait for rotation %d, which is about to publish another one", t.N)
	case t.State == Grace && !t.End.Now:
		return fmt.Sprintf("rotate once rotation %d has ended (the old key's grace ends at %s), or rotate now with "+
			"leaked=true, which retires the old key at once", t.N, t.End.After.UTC().Format(time.RFC3339))
	}
	return fmt.Sprintf("rotate once rotation %d has ended", t.N)
}

// Advice says what a person can do about a rotation that blocks a request.
func (t *Turn) Advice() string {
	if t.Back != nil || t.State == Retiring {
		return "wait until it has ended"
	}
	return "wait until it has ended, or roll it back"
}
