package database

import "github.com/keyturn/keyturn/internal/engine"

// Keys below the mount:
//
//	config/<name>  the id of the current connection of a name
//	conn/<id>      a connection, secrets and all; without a name it is a tombstone
//	role/<name>    a role
//	static/, owned/  see staticrecord.go
//	again/<role>/<token>  see reuse.go
//	note/<name>    what the last revocation of a user of the role needed beyond its statements
//
// Invariants:
//   - A user's name, the attempt and all that revoking needs are in the reservation before
//     the create is sent to the database.
//   - A lease names the connection's id. A name that is deleted and written again gets another id,
//     so old users are never looked for in a new database. A tombstone serves only revocations,
//     and is removed after the last lease that names it.
//   - Texts of a database's driver are redacted of every secret involved before they reach an
//     answer, the log or a lease's record.
//
// Locking: writeLocks serialize writes of one connection or role. Pools have their own lock, and
// nothing waits for a database while it holds that.
const (
	namePrefix                               = "config/"
	connRows   engine.Rows[storedConnection] = "conn/"
	roleRows   engine.Rows[storedRole]       = "role/"
	noteRows   engine.Rows[note]             = "note/"
)
