package core

import (
	"time"

	"github.com/keyturn/keyturn/internal/audit"
	"github.com/keyturn/keyturn/internal/core/mounts"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/token"
)

// An Answer is what goes to the client.
type Answer struct {
	Status      int
	Body        []byte // nil: none
	ContentType string // "": application/json
	// Stream sends the body; nil: Body is all of it. It ends, too, when the token may no longer
	// be used, and when the server is sealed.
	Stream route.Stream
}

// exchange is one request on its way: what the rooms have found out so far.
type exchange struct {
	r      *route.Request
	open   *mounts.Open
	route  *route.Route
	entry  *token.Entry // nil for a public route
	denied string       // why the policy refused, for the audit log
	wraps  bool         // the policy demands that the answer is wrapped
	line   *audit.Entry // the request line, once it was made
	// headers are those that the operator chose to audit.
	headers []audit.Header
}

// result is what a handler came back with.
type result struct {
	data  any
	lease *answeredLease
	err   error
	both  bool // the request line is still to be written
}

// answeredLease is the lease part of an answer.
type answeredLease struct {
	existing  bool // it was there before, and stays whatever becomes of the answer
	id        string
	ttl       time.Duration
	renewable bool
}
