package kv

import (
	"github.com/keyturn/keyturn/internal/route"
)

// A hand is the client that changes a secret.
type hand struct {
	name  string
	of    []string // policies
	force bool     // a value that its key's holder refuses is written nevertheless
	warn  func(format string, args ...any)
}

func handOf(r *route.Request) *hand {
	h := &hand{warn: r.Warn}
	if r.Caller != nil {
		h.name, h.of = r.Caller.DisplayName, r.Caller.Policies
	}
	return h
}
