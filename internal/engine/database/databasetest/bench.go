package databasetest

import (
	"testing"

	"github.com/keyturn/keyturn/internal/engine/database"
)

// A bench is a target, a connection to it, and one test.
type bench struct {
	Target
	t    *testing.T
	conn database.Conn
}
