// Package mysql creates and drops users of MySQL and MariaDB.
//
// Neither has transactions for users: every CREATE USER and GRANT commits on its own. Therefore a
// Create first checks that the name is free, and removes what it has created if one of its
// statements fails.
//
// The session of a create takes a lock of the server (GET_LOCK) that is named after the attempt.
// Then it reads the server's clock, and continues only before the attempt's deadline.
// SettleAttempt relies on this order: if the deadline has passed and the lock is free, a create
// that is still on its way will fail; if the lock is taken, SettleAttempt kills that session. Each
// statement is a message of its own, so that a message that the network delays finds its session
// ended.
//
// Locking: the state of a Conn is a pool and the running calls, which are safe for concurrent use.
package mysql

import (
	"context"

	"github.com/keyturn/keyturn/internal/engine/database"
)

// Provider is MySQL and MariaDB. In Vault each plugin name is for one kind of server; here only
// the legacy one differs, whose user names are shorter.
var Provider = database.Provider{
	Name:      "mysql",
	Plugins:   []string{"mysql-database-plugin", "mysql-aurora-database-plugin", "mysql-rds-database-plugin", legacy},
	NameMax:   32,
	NameMaxOf: map[string]int{legacy: 16},
	// An account with neither password nor REQUIRE can log in by its name alone.
	Logins: []string{"rsa_private_key", "client_certificate"}, BindsSubject: true,
	Settings: []database.Setting{
		{Name: "tls_certificate_key", Form: database.Secret,
			Doc: "the client's certificate and its key, in one PEM text."},
		{Name: "tls_server_name", Default: "the host of connection_url", Doc: "the name in the server's certificate."},
		{Name: "tls_skip_verify", Form: database.Flag, Default: "false",
			Doc: "whether the server's certificate is taken unseen."},
	},
	Check: func(c database.Config) error {
		_, err := prepare(c)
		return err
	},
	CheckStatements: inspect,
	Display:         display,
	Destination:     destination,
	Connect: func(_ context.Context, c database.Config) (database.Conn, error) {
		p, err := prepare(c)
		if err != nil {
			return nil, err
		}
		return open(p)
	},
}

const legacy = "mysql-legacy-database-plugin"
