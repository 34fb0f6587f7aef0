package core

import (
	"time"

	"github.com/keyturn/keyturn/internal/audit"
	"github.com/keyturn/keyturn/internal/core/mounts"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/token"
)

// An Answer is a successful response to a client.
type Answer struct {
	Status      int
	Body        []byte // nil: none
	ContentType string // "": application/json
	// Stream sends the body; nil: Body is all of it. It also ends when the token becomes unusable,
	// or the server is sealed.
	Stream route.Stream
}

// exchange is one request with everything that has been found out about it so far.
type exchange struct {
	r        *route.Request
	mount    *mounts.Open
	route    *route.Route
	entry    *token.Entry   // nil for a public route
	denied   string         // why the policy refused it, for the audit log
	mustWrap bool           // the policy demands that the answer is wrapped
	line     *audit.Entry   // the request's audit entry, once it exists
	headers  []audit.Header // those that the operator chose to audit
}

// result is what a handler returned.
type result struct {
	data           any
	lease          *answeredLease
	err            error
	requestPending bool // the request line is still to be written
}

// answeredLease is the lease of an answer.
type answeredLease struct {
	reused    bool // it was there before, and stays whatever becomes of the answer
	id        string
	ttl       time.Duration
	renewable bool
}
