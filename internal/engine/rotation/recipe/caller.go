package recipe

import (
	"net/http"

	"github.com/keyturn/keyturn/internal/rotate"
)

// A caller makes the calls of one source, and judges the replies.
type caller struct {
	recipe string // its name, for errors
	eval   *evaluator
	client *http.Client
	told   func(rotate.Exchange) // nil: nobody wants to know
}

// A reply is what a provider answered, read whole.
type reply struct {
	status int
	header http.Header
	vars   scope // the request's, and "response"
}
