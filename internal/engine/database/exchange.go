package database

import (
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/secret"
)

// Steps of rotations, as the history names them.
const (
	stepLogin = "login"
	stepSet   = "set-password"
	stepKey   = "set-key"
)

// A recorder keeps what a target's calls came to, for the history.
type recorder struct {
	rotate.Recorder
	red *secret.Redactor // knows the secrets of the record
	// quotes: the calls carry statements that a client wrote. A server may quote them, and cuts its quotes: a part of a password is
	// not found by redacting.
	quotes bool
}

// said notes a call that began at a time. err, if any, has passed the redactor of the connection.
func said(r *recorder, step string, c *connection, at time.Time, err error) {
	x := rotate.Exchange{At: at.UTC(), Step: step, Connection: c.Name}.Ended()
	if err != nil {
		x.Code, x.Error = CodeOf(err), fault.Message(err)
		if cause := fault.Cause(err); cause != nil && (step == stepLogin || !r.quotes) {
			x.Reply = rotate.ShowWords(r.red, cause.Error())
		}
	}
	r.Tell(x)
}
