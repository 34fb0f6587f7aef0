package mysql

import "github.com/keyturn/keyturn/internal/secret"

// A call describes one call of the contract: the texts of its errors, and the secrets that they
// must not show.
type call struct {
	op      string // "mysql.Create"
	doing   string // "creating the user"
	field   string // the field with the statements, if they are the role's
	user    string // the user of the call
	secrets []secret.Value
}

// call returns a call whose secrets are those of the connection and the given ones.
func (p *prepared) call(op, doing string, secrets ...secret.Value) call {
	return call{op: "mysql." + op, doing: doing, secrets: append(secrets, p.known...)}
}

// scrub removes the secrets of the call from text.
func (k call) scrub(text string) string {
	var r secret.Redactor
	r.Know(k.secrets...)
	return r.Scrub(text)
}
