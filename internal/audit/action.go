package audit

import "time"

// An Actor is a part of the server that acts by itself. It stands in
// auth.display_name, where a user's name would stand.
type Actor string

// The actors.
const (
	ActorExpirer  Actor = "keyturn-expirer"  // ends leases and tokens that have fallen due
	ActorRotation Actor = "keyturn-rotation" // turns keys
	ActorJobs     Actor = "keyturn-jobs"     // disabling, moving and revoking by prefix, in batches
	ActorAudit    Actor = "keyturn-audit"    // opens devices
)

// An Action is something that the server does by itself. It has two lines, as
// a request has: one before the effect, one with the result. Neither has a
// token, a remote address or policy results. What it does is in request.operation, what it does
// it to is request.path, and the steps, ids and reasons are in request.data, readable.
//
//	a lease falls due   keyturn-expirer   revoke   the lease's id; response.secret.lease_id
//	a key is turned     keyturn-rotation  rotate   rotation/keys/<name>
type Action struct {
	ID        string // ties the two lines; also in the log
	Actor     Actor
	Operation string // "revoke", "rotate", "rollback", …
	Path      string
	Mount     Mount
	Detail    Detail // no secrets
}

// Request returns the line to be written before the effect.
func (a Action) Request(at time.Time) *Entry {
	q := &Request{ID: a.ID, Operation: a.Operation, Path: a.Path, Mount: a.Mount}
	if len(a.Detail) > 0 {
		q.Data = a.Detail
	}
	return &Entry{Kind: KindRequest, Time: at, Auth: &Auth{DisplayName: string(a.Actor)}, Request: q}
}

// Expiry is a lease or token that falls due and is revoked; id is the lease's.
func Expiry(requestID, id string, m Mount) Action {
	return Action{ID: requestID, Actor: ActorExpirer, Operation: "revoke", Path: id, Mount: m, Detail: Detail{"lease_id": id, "reason": "expired"}}
}

// Turn is a key that is turned because its time has come; step is what is
// about to happen: "create", "publish", "retire".
func Turn(requestID, path, turn, step string, m Mount) Action {
	return Action{ID: requestID, Actor: ActorRotation, Operation: "rotate", Path: path, Mount: m, Detail: Detail{"turn": turn, "step": step, "reason": "scheduled"}}
}
