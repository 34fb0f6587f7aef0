package database

import (
	"slices"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/locks"
	"github.com/keyturn/keyturn/internal/rotate"
)

// backend is the engine of one mount.
type backend struct {
	m         *engine.Mount
	providers []Provider
	pools     *pools
	locks     locks.Named
	never     engine.Attempts // whose create surely had no effect
	hanging   slowRevocations
	rotations *rotate.Manager
}

// provider finds the kind of database of a plugin name.
func (b *backend) provider(plugin string) (*Provider, error) {
	var known []string
	for i := range b.providers {
		if slices.Contains(b.providers[i].Plugins, plugin) {
			return &b.providers[i], nil
		}
		known = append(known, b.providers[i].Plugins...)
	}
	return nil, fault.New("database.provider", fault.Invalid, "field \"plugin_name\": there is no %q; there are %q", plugin, known)
}

// Keys below the mount:
//
//	config/<name>  the id of the configuration that the name means now
//	conn/<id>      a configuration, secrets and all; without a name it is a tombstone
//	role/<name>    a role
//	static/, owned/  see staticrecord.go
//	again/<role>/<token>  see reuse.go
//	note/<name>    what revoking a user of the role last needed beyond its statements
//
// Invariants:
//   - A user's name, the attempt and all that revoking needs are in the reservation before
//     the database hears of it.
//   - A lease names the configuration's id. A name that is used again gets another id, so
//     old users are never looked for in a new database. A tombstone serves revoking
//     alone, and goes after the last lease that names it.
//   - What a database's driver says is redacted of every secret involved before it
//     reaches an answer, the log or a lease's record.
//
// Locking: locks hold one name over a write of its configuration or role. Pools guard
// themselves; nothing waits for a database while it holds their lock.
const (
	namePrefix = "config/"
	connPrefix = "conn/"
	rolePrefix = "role/"
	notePrefix = "note/"
)
