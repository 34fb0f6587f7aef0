package database

import (
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
)

// outside makes an error of a database's one of this mount's: no word of it shows a
// secret that r knows, and its kind means the same to a client as elsewhere. That the call
// surely had no effect, or that the server answers, stays known.
func outside(op string, err error, r *secret.Redactor) *fault.Error {
	f := &fault.Error{Op: op, Kind: fault.KindOf(err), Msg: fault.Message(err), Err: r.Error(fault.Cause(err))}
	switch f.Kind {
	case fault.Invalid, fault.Upstream, fault.Timeout, fault.Unavailable:
	default:
		// Denied is of the rules for what may be dialed and no matter of policies; NotFound
		// and Conflict are about the user, and not about what the request names.
		f.Kind = fault.Upstream
	}
	if f.Msg == "" {
		f.Msg = "the database did not do it; the server's log has the reason"
	}
	if Unchanged(err) {
		f = mark(f, errUnchanged)
	}
	if Refused(err) {
		f = mark(f, errRefused)
	}
	return f
}
