package kv

import (
	"github.com/keyturn/keyturn/internal/route"
)

// A client writes a secret.
type client struct {
	name     string
	policies []string
	force    bool // write a value although its key refuses it
	warn     func(format string, args ...any)
}

func clientOf(r *route.Request) *client {
	c := &client{warn: r.Warn}
	if r.Caller != nil {
		c.name, c.policies = r.Caller.DisplayName, r.Caller.Policies
	}
	return c
}
