package audit

import "time"

// An Actor is a part of the server that acts without a request. It is in auth.display_name,
// instead of a user's name.
type Actor string

// The actors.
const (
	ActorExpirer  Actor = "keyturn-expirer"  // revokes leases and tokens that are due
	ActorRotation Actor = "keyturn-rotation" // rotates keys
	ActorJobs     Actor = "keyturn-jobs"     // disables, moves and revokes by prefix, in batches
	ActorAudit    Actor = "keyturn-audit"    // opens devices
)

// An Action is something that the server does without a request. Like a request, it has two lines:
// one before the effect, and one with the result. Neither has a token, a remote address or policy
// results. request.operation is what is done, request.path is the object, and request.data has the
// steps, IDs and reasons in clear.
//
//	a lease falls due   keyturn-expirer   revoke   the lease's ID; response.secret.lease_id
//	a key is rotated    keyturn-rotation  rotate   rotation/keys/<name>
type Action struct {
	ID        string // the same in both lines, and in the log
	Actor     Actor
	Operation string // "revoke", "rotate", "rollback", …
	Path      string
	Mount     Mount
	Detail    Detail // no secrets
}

// Request returns the entry to write before the effect.
func (a Action) Request(at time.Time) *Entry {
	q := &Request{ID: a.ID, Operation: a.Operation, Path: a.Path, Mount: a.Mount}
	if len(a.Detail) > 0 {
		q.Data = a.Detail
	}
	return &Entry{Kind: KindRequest, Time: at, Auth: &Auth{DisplayName: string(a.Actor)}, Request: q}
}

// Expiry is the revocation of an expired lease or token; id is the lease's.
func Expiry(requestID, id string, m Mount) Action {
	return Action{ID: requestID, Actor: ActorExpirer, Operation: "revoke", Path: id, Mount: m, Detail: Detail{
		"lease_id": id, "reason": "expired",
	}}
}

// Turn is one step of a scheduled rotation: "create", "publish" or "retire".
func Turn(requestID, path, turn, step string, m Mount) Action {
	return Action{ID: requestID, Actor: ActorRotation, Operation: "rotate", Path: path, Mount: m, Detail: Detail{
		"rotation": turn, "step": step, "reason": "scheduled",
	}}
}
