package aws

// Keys below the mount:
//
//	root          how AWS is reached, and as whom
//	lease         TTLs for roles that have none
//	role/<name>   a role
//	static/…      see static.go
//	rk/root …     see rootkey.go
//
// Invariants:
//   - A user's name is in the reservation before AWS hears of it, so that undoing finds all
//     that was made, by that name alone.
//   - A new access key is given out once it works, or not at all.
//   - No key that may be in use is deleted unless somebody asked for that key.
const (
	rootKey    = "root"
	leaseKey   = "lease"
	rolePrefix = "role/"
)
