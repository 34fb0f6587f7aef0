package postgres

import (
	"context"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/secret"
)

// A call describes one call of the contract: the texts of its errors, and the secrets that they
// must not show.
type call struct {
	op       string    // "postgres.Create"
	doing    string    // "creating the user"
	at       *prepared // the configuration, for errors of connecting
	texts    []string  // the statements as they were written; errors may quote names in them
	field    string    // the field with the statements, if they are the role's
	steps    bool      // sends several messages, so that a failure proves nothing about the earlier ones
	preamble int       // number of results before those of the role's statements
	secrets  []secret.Value
}

// call returns a call whose secrets are those of the connection and the given ones.
func (p *prepared) call(op, doing string, secrets ...secret.Value) call {
	return call{op: "postgres." + op, doing: doing, at: p, secrets: append(secrets, p.known...)}
}

// scrub removes the secrets of the call from text.
func (k call) scrub(text string) string {
	var r secret.Redactor
	r.Know(k.secrets...)
	return r.Scrub(text)
}

// warn reports warnings to the caller of a call.
func (k call) warn(ctx context.Context, warnings []string) {
	for _, text := range warnings {
		database.Warn(ctx, k.scrub(text))
	}
}
