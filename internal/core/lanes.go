package core

import (
	"time"

	"github.com/keyturn/keyturn/internal/due"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/token"
)

// workKind is the kind of the due items that engines schedule. Their ID is <kind>/<id>, and their
// lane contains the mount.
const workKind = "work"

// workLane is followed by the UUID of the mount.
const workLane = "work-"

// dueToken returns the operations that move the due item of a token.
func dueToken(id string, from, to time.Time) []storage.Op {
	return due.Move(due.Item{Lane: "token", Kind: token.DueKind, ID: id}, from, to)
}
