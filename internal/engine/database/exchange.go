package database

import (
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/secret"
)

// Steps of rotations in the history.
const (
	stepLogin = "login"
	stepSet   = "set-password"
	stepKey   = "set-key"
)

// A recorder records the calls of a target for the history.
type recorder struct {
	rotate.Recorder
	red *secret.Redactor // knows the secrets of the record
	// quotes: the calls run statements of a client. A server may quote them and cut the
	// quotation, so that the redactor does not find a part of a password.
	quotes bool
}

// record records a call that started at a time. The connection's redactor must have redacted err.
func record(r *recorder, step string, c *connection, start time.Time, err error) {
	x := rotate.Exchange{At: start.UTC(), Step: step, Connection: c.Name}.Ended()
	if err != nil {
		x.Code, x.Error = CodeOf(err), fault.Message(err)
		if cause := fault.Cause(err); cause != nil && (step == stepLogin || !r.quotes) {
			x.Reply = rotate.ShowText(r.red, cause.Error())
		}
	}
	r.RecordExchange(x)
}
