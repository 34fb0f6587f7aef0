// Package fault is the one error type that crosses package boundaries.
//
// An error has three readers. Programs read the [Kind]: the HTTP layer's one
// table turns it into a status, retry loops and metrics use it as a label.
// Clients read the message, which names the field, what is wrong with it and
// what to do. Operators read the cause, which goes to the log under the
// request's id and never to a client: third parties print secrets in errors.
package fault

import (
	"errors"
	"fmt"
)

// A Kind says what a caller may do about an error. The set is closed.
type Kind uint8

// The kinds of error. The HTTP status of each is chosen in one table, in
// internal/server/httpapi.
const (
	Internal    Kind = iota // our bug or a broken disk; details stay in the log
	Invalid                 // the request is wrong
	Denied                  // the caller is not allowed to
	NotFound                // it does not exist; a message is optional
	Conflict                // lost a compare-and-swap; reading again may help
	Unsupported             // the path exists, the operation does not
	TooLarge                // a size limit was exceeded
	Sealed                  // the server is sealed
	Unavailable             // the store or an audit device cannot write now; retry
	Upstream                // a database, a cloud or another third party failed
	Timeout                 // a deadline passed
	Held                    // an operator must decide first
)

var names = [...]string{
	"internal", "invalid", "denied", "not-found", "conflict", "unsupported", "too-large", "sealed", "unavailable",
	"upstream", "timeout", "held",
}

// String is the kind's label in metrics and logs.
func (k Kind) String() string {
	if int(k) < len(names) {
		return names[k]
	}
	return "internal"
}

// An Error has an operation, a kind, a message for the client, and a cause for the log.
type Error struct {
	Op   string // "lease.Renew"
	Kind Kind
	Msg  string // for the client; contains no secret and no text of a third party. May be empty.
	Err  error  // the cause, for the log
}

// New returns an error with a message for the client.
func New(op string, k Kind, format string, args ...any) *Error {
	return &Error{Op: op, Kind: k, Msg: fmt.Sprintf(format, args...)}
}

// Wrap gives err an operation and a kind and keeps it as the cause. It returns
// nil for a nil err, as an error so that the result can be returned directly.
func Wrap(op string, k Kind, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Op: op, Kind: k, Err: err}
}

// Error is the text for the log: operation, message and cause.
func (e *Error) Error() string {
	s := e.Op
	for _, part := range []string{e.Msg, causeText(e.Err)} {
		if part == "" {
			continue
		}
		if s != "" {
			s += ": "
		}
		s += part
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Redacted returns the error with scrub(cause) as its cause. The operation and the message are our
// own text and need no redacting; see [secret.Redactor].
func (e *Error) Redacted(scrub func(error) error) error {
	out := *e
	if e.Err != nil {
		out.Err = scrub(e.Err)
	}
	return &out
}

func causeText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// Is reports whether err is, or wraps, an [Error] whose outermost kind is k.
func Is(err error, k Kind) bool { return err != nil && KindOf(err) == k }

// IgnoreConflict returns err, but nil for a conflict. It is for commits that another server may
// have made unnecessary.
func IgnoreConflict(err error) error {
	if Is(err, Conflict) {
		return nil
	}
	return err
}

// KindOf returns the kind of the outermost [Error] in err's chain, or Internal if there is none.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Internal
}

// Cause returns the first error in err's chain that is not an [Error], or nil. Its text is for the
// log.
func Cause(err error) error {
	for {
		e, ok := errors.AsType[*Error](err)
		if !ok {
			return err
		}
		err = e.Err
	}
}

// Message returns the text of err for the client: the first message in its chain of [Error]s, or
// "".
func Message(err error) string {
	for err != nil {
		e, ok := errors.AsType[*Error](err)
		if !ok {
			return ""
		}
		if e.Msg != "" {
			return e.Msg
		}
		err = e.Err
	}
	return ""
}
