package redis

import (
	"github.com/keyturn/keyturn/internal/engine/database"
)

// How connections are guarded, the strictest last.
const (
	unguarded = iota
	encrypted
	verified
)

// destination implements [database.Provider].Destination.
func destination(c database.Config) (database.Destination, bool) {
	to, err := address(c)
	if err != nil {
		return database.Destination{}, false
	}
	switch {
	case c.Extra["tls"] != "true":
		return database.Destination{Place: to, Guard: unguarded}, true
	case c.Extra["insecure_tls"] == "true":
		return database.Destination{Place: to, Guard: encrypted}, true
	}
	return database.Destination{Place: to + database.PEM(c.Extra["ca_cert"]), Guard: verified}, true
}
