package mysql

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-sql-driver/mysql"

	"github.com/keyturn/keyturn/internal/engine/database"
)

// connectError is an error of opening a session.
type connectError struct{ err error }

func (e *connectError) Error() string { return e.err.Error() }
func (e *connectError) Unwrap() error { return e.err }

// lost reports whether the session failed, and not the statement.
func lost(err error) bool {
	_, connecting := errors.AsType[*connectError](err)
	said := slices.ContainsFunc(verdicts, func(v error) bool { return errors.Is(err, v) })
	_, kept := errors.AsType[*definerError](err)
	return !connecting && !said && !kept && (number(err) == 0 || dying(err))
}

// readOnly reports whether the server of the session refuses changes, because it became a replica
// after a fail-over, or is a node of a cluster without a quorum. A new session may reach another
// server.
func readOnly(err error) bool { return slices.Contains([]uint16{1047, 1290, 1792, 1836}, number(err)) }

// untouched reports whether no statement ran before the one that was refused.
func untouched(err error) bool {
	at, many := errors.AsType[*statementError](err)
	return !many || at.at == 0
}

// dying reports whether the server shuts down or has ended the session.
func dying(err error) bool {
	n := number(err)
	return n == 1053 || n == 1927 || n == 3169 || n == 4031
}

// number returns the number of the error that the server answered, or 0.
func number(err error) uint16 {
	if my, ok := errors.AsType[*mysql.MySQLError](err); ok {
		return my.Number
	}
	return 0
}

// statementError is an error of one of several statements.
type statementError struct {
	err  error
	at   int       // which, from 0
	of   int       // how many
	what statement // the one that failed
}

func (e *statementError) Error() string { return e.err.Error() }
func (e *statementError) Unwrap() error { return e.err }

// verdicts are errors that this package concludes from answers of the server.
var verdicts = []error{database.ErrClosed, errTooLate, errTaken, errAbsent, errTracked}

var (
	errTooLate = errors.New("the create came after its deadline")
	errTaken   = errors.New("there is such a user already")
	errAbsent  = errors.New("there is no such user")
	errBlind   = errors.New("the administrator does not see the list of users")
	errTracked = errors.New("another session holds the attempt's lock")
)

// definerError lists the objects of which a user is the DEFINER.
type definerError struct{ objects []string }

const namedObjects = 5

func (e *definerError) Error() string { return e.says(func(names string) string { return names }) }

// says is the text of the error, in which redact redacts the names of objects.
func (e *definerError) says(redact func(names string) string) string {
	shown := e.objects[:min(len(e.objects), namedObjects)]
	text := "the user is the DEFINER of " + redact(strings.Join(shown, ", "))
	if more := len(e.objects) - len(shown); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// foreign are the driver's errors for accounts that it cannot log in.
var foreign = []error{mysql.ErrUnknownPlugin, mysql.ErrCleartextPassword, mysql.ErrNativePassword,
	mysql.ErrOldPassword}
