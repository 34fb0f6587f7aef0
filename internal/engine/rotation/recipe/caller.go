package recipe

import (
	"net/http"

	"github.com/keyturn/keyturn/internal/rotate"
)

// A caller sends the requests of one source and judges the replies.
type caller struct {
	recipe string // its name, for errors
	eval   *evaluator
	client *http.Client
	told   func(rotate.Exchange) // nil: nobody wants to know
}

// A reply is a provider's reply, read completely.
type reply struct {
	status int
	header http.Header
	vars   scope // the request's, and "response"
}
