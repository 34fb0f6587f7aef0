package database

import (
	"regexp"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
)

// upstreamError turns an error of a database into one of this mount. It redacts the secrets that r
// knows, and changes kinds that mean something else in an answer. [Unchanged], [Refused] and
// [CodeOf] say the same of both errors.
func upstreamError(op string, err error, r *secret.Redactor) *fault.Error {
	f := &fault.Error{Op: op, Kind: fault.KindOf(err), Msg: fault.Message(err), Err: r.Error(fault.Cause(err))}
	switch f.Kind {
	case fault.Invalid, fault.Upstream, fault.Timeout, fault.Unavailable:
	default:
		// Denied is from the outbound rules, not from policies. NotFound and Conflict are about
		// the user, not about what the request names.
		f.Kind = fault.Upstream
	}
	if f.Msg == "" {
		f.Msg = "the database did not do it; the server's log has the reason"
	}
	f = MarkCode(f, CodeOf(err))
	if Unchanged(err) {
		f = mark(f, errUnchanged)
	}
	if Refused(err) {
		f = mark(f, errRefused)
	}
	return f
}

func invalid(format string, args ...any) error {
	return fault.New("database.config", fault.Invalid, format, args...)
}

// set changes a field to the sent value, if one was sent.
func set[T any](to *T, given *T) {
	if given != nil {
		*to = *given
	}
}

var objectForm = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.@-]{0,127}$`)

func checkObjectName(what, name string) error {
	if objectForm.MatchString(name) {
		return nil
	}
	return invalid(
		"the %s's name %q is refused: it must be 1 to 128 of A-Z a-z 0-9 _ . @ - and begin with none of the last "+
			"three", what, name)
}

func unfinishedError(what string) error {
	return fault.New("database.disable", fault.Conflict, "a change of the password of %s is under way, and nobody "+
		"would find out whether it took place once the mount is gone; wait for its end, or disable it with "+
		"force=true and set the password by hand", what)
}
