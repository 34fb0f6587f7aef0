package databasetest

import (
	"context"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/engine/database"
)

// A Target is a running database server and how to inspect it.
type Target struct {
	Provider database.Provider
	Config   database.Config // of the administrator; without TLS if Network is set

	// Creation creates a user that can log in until it expires; Revocation drops it.
	Creation, Revocation []string
	// Slow returns statements that create the user after d. It is nil if the database has none;
	// then the suite delays the network.
	Slow func(d time.Duration) []string
	// Broken creates the user and then fails with a statement that contains the password. If a
	// create is one command, it only fails.
	Broken []string
	// Password changes a user's password; BadPassword fails. They are nil if there are no such
	// statements.
	Password, BadPassword []string

	// Keyed creates a user that logs in with a key; Rekeyed changes the key. Both contain
	// {{subject}} or {{public_key}}. They are nil if users can only have passwords.
	Keyed, Rekeyed []string

	// Shut are ways to prevent an existing user from logging in from here with any password.
	// Bring, by the same name, allows it again.
	Shut, Bring map[string]func(t *testing.T, name string)

	// Effect recognizes the message that creates, changes or drops a user. It is nil if each call
	// is one message.
	Effect func(message []byte) bool

	// Login logs in as a user, and Exists looks for one, both without the provider.
	Login  func(ctx context.Context, name, password string) error
	Exists func(ctx context.Context, name string) (bool, error)

	// Stop and Start stop and start the server. They are nil if that is not possible.
	Stop, Start func() error

	Network bool // connections use Config.Dial, so that the suite can disturb them
	Expires bool // the server itself refuses users that have expired
	Crowd   int  // number of concurrent users; 500 by default
}
