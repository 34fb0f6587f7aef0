package aws

import "github.com/keyturn/keyturn/internal/engine"

// Keys below the mount:
//
//	root          config/root: how AWS is reached, and with which key
//	lease         config/lease: TTLs for roles that have none
//	role/<name>   a role
//	static/…      see static.go
//	rk/root …     see rootkey.go
//
// Invariants:
//   - A user's name is in the reservation before it is sent to AWS, so that undo finds by that
//     name all that was created.
//   - A new access key is issued or published once it works, or not at all.
//   - A key that may be in use is deleted only if a request names it.
const (
	rootRow  engine.Rows[storedRoot] = "root"
	leaseRow engine.Rows[leaseTTLs]  = "lease"
	roleRows engine.Rows[role]       = "role/"
)
