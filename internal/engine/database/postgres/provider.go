// Package postgres creates and drops users of PostgreSQL.
//
// A Create is one message of the simple protocol, and so one round trip and one transaction. It
// names the session after its attempt, fails if the server's clock is past the attempt's deadline,
// and then runs the role's statements. SettleAttempt relies on this order: if the deadline has
// passed and no session has the name of the attempt, a message that is still on its way will fail.
//
// A Drop is also one message if the role's statements suffice. If PostgreSQL answers that the user
// still has privileges or objects (2BP01), or that the administrator may not drop it (42501),
// dissolve removes them, and the statements run again.
//
// Locking: the state of a Conn is a pool, which is safe for concurrent use, and a runner, which
// guards the running calls.
package postgres

import (
	"context"

	"github.com/keyturn/keyturn/internal/engine/database"
)

// Provider is PostgreSQL.
var Provider = database.Provider{
	Name:    "postgresql",
	Plugins: []string{"postgresql-database-plugin"},
	NameMax: 63,
	// pg_hba.conf alone decides about a role without password.
	Logins: []string{"rsa_private_key", "client_certificate"},
	Check: func(c database.Config) error {
		_, err := prepare(c)
		return err
	},
	CheckStatements: inspect,
	Display:         display,
	Destination:     destination,
	Connect: func(ctx context.Context, c database.Config) (database.Conn, error) {
		p, err := prepare(c)
		if err != nil {
			return nil, err
		}
		return open(ctx, p)
	},
}
