package redis

import (
	"errors"

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
	all, err := seeds(c)
	if err = errors.Join(err, checkTopology(c)); err != nil {
		return database.Destination{}, false
	}
	to := all[0].address
	for _, s := range all[1:] {
		to += "," + s.address
	}
	switch name := c.Extra["sentinel_master_name"]; {
	case c.Extra["cluster"] == "true":
		to = "cluster " + to
	case name != "":
		to = "sentinel " + name + " " + to
	}
	switch {
	case c.Extra["tls"] != "true":
		return database.Destination{Place: to, Guard: unguarded}, true
	case c.Extra["insecure_tls"] == "true":
		return database.Destination{Place: to, Guard: encrypted}, true
	}
	return database.Destination{Place: to + database.PEM(c.Extra["ca_cert"]), Guard: verified}, true
}
