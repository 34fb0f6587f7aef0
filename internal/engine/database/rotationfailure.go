package database

import (
	"fmt"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
)

// rotationFailure classifies the error of a change of a password.
func rotationFailure(err error) error {
	f := &rotate.Failure{Outcome: rotate.Unknown, Err: err}
	switch {
	case !Unchanged(err):
	case Refused(err) || fault.Is(err, fault.Invalid):
		f.Outcome = rotate.Permanent
	default:
		f.Outcome = rotate.Transient
	}
	return f
}

var errNoProof = &rotate.Failure{Outcome: rotate.Permanent,
	Err: fault.New("database.rotate", fault.Internal, "a password that was replaced is dead")}

// credentialID is the ID of the next secret of a user: svc#3, or svc#3.2 for the second attempt of
// a rotation.
func credentialID(user string, r *rotate.Record) string {
	n := 1
	if t := r.Turn; t != nil && len(t.Attempts) > 0 {
		n = int(t.Attempts[len(t.Attempts)-1].N) + 1
	}
	if n == 1 {
		return fmt.Sprintf("%s#%d", user, r.Number())
	}
	return fmt.Sprintf("%s#%d.%d", user, r.Number(), n)
}
