// Package mysql lends users of MySQL and MariaDB.
//
// Neither has transactions for users: every CREATE USER and GRANT commits by itself. So a
// Create first looks that the name is free, and takes away what it has made when
// one of its statements fails.
//
// A create's session holds a lock of the server's (GET_LOCK) that is named after the attempt
// before it reads the server's clock, and goes on only if that is before the attempt's deadline. The
// order of the two is what makes SettleAttempt sound: whoever finds the deadline passed and
// the lock free knows that a create still on its way will refuse itself; who finds the
// lock held ends that session, and with it all that it was still to do. Each statement is
// a message of its own, sent by a client that lives, so that a message that the network holds
// meets a session that has ended.
//
// Locking: a Conn's own state is a pool, which guards itself, and the running calls,
// which guard themselves.
package mysql

import (
	"context"
	"errors"
	"log/slog"
	"math"

	"github.com/go-sql-driver/mysql"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/outbound"
	"github.com/keyturn/keyturn/internal/secret"
)

// Provider is MySQL and MariaDB. The plugin names are those of one kind of server each for
// users of Vault; here only the legacy one differs, whose user names are shorter.
var Provider = database.Provider{
	Name:      "mysql",
	Plugins:   []string{"mysql-database-plugin", "mysql-aurora-database-plugin", "mysql-rds-database-plugin", legacy},
	NameMax:   32,
	NameMaxOf: map[string]int{legacy: 16},
	// An account without password and REQUIRE is let in by its name.
	Logins: []string{"rsa_private_key", "client_certificate"}, BindsSubject: true,
	Settings: []database.Setting{
		{Name: "tls_certificate_key", Form: database.Secret, Doc: "the client's certificate and its key, in one PEM text."},
		{Name: "tls_server_name", Default: "the host of connection_url", Doc: "the name in the server's certificate."},
		{Name: "tls_skip_verify", Form: database.Flag, Default: "false", Doc: "whether the server's certificate is taken unseen."},
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

// defaultOpen is small because a server's connections are few, and shared with all who use it.
const defaultOpen = 4

// sqlMode is every session's: how our text is read must not depend on the server's settings,
// and what does not fit is refused rather than cut.
const sqlMode = "'STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION'"

// A plan is a checked configuration.
type plan struct {
	driver *mysql.Config
	open   int // sessions at most; 0: no limit
	idle   int // sessions kept; negative: none
	config database.Config
	known  []secret.Value // what no call must show
	log    *slog.Logger
}

// prepare checks a configuration without any I/O and reports all problems.
func prepare(c database.Config) (plan, error) {
	d, err1 := parseDSN(c)
	t, err2 := checkTLS(c, d)
	if err := errors.Join(err1, err2, checkLimits(c)); err != nil {
		return plan{}, fault.New("mysql.Check", fault.Invalid, "%v", err)
	}
	if t != nil {
		d.TLS, d.TLSConfig, d.AllowFallbackToPlaintext = t, "", d.AllowFallbackToPlaintext && !given(c)
	}
	d.Params = map[string]string{"sql_mode": sqlMode}
	d.Collation = "utf8mb4_general_ci" // both kinds know it; how quotes are read depends on the character set
	d.MultiStatements, d.ParseTime, d.InterpolateParams = false, false, true
	d.AllowAllFiles, d.CheckConnLiveness = false, true
	d.Logger = silent{}
	d.DialFunc = c.Dial
	if d.DialFunc == nil {
		d.DialFunc = outbound.Anywhere.DialContext
	}
	p := plan{driver: d, config: c, log: c.Log, open: defaultOpen, known: []secret.Value{
		secret.Text(d.Passwd), c.Password, c.PrivateKey, c.URL, c.Hidden["tls_certificate_key"],
	}}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	switch {
	case c.MaxOpen > 0:
		p.open = c.MaxOpen
	case c.MaxOpen < 0:
		p.open = 0
	}
	p.idle = p.open
	if c.MaxIdle != 0 {
		p.idle = c.MaxIdle
	}
	if p.idle == 0 {
		p.idle = math.MaxInt16 // neither has a limit
	}
	return p, nil
}

// silent keeps the driver from writing to the process's standard error: all that it says
// comes back as an error, too.
type silent struct{}

func (silent) Print(...any) {}

func checkLimits(c database.Config) error {
	var problems []error
	if a := c.PasswordAuthentication; a != "" && a != "password" {
		problems = append(problems, errors.New("password_authentication must be password, or be left out: MySQL takes no verifiers that it does not make itself"))
	}
	if c.ConnLifetime < 0 {
		problems = append(problems, errors.New("max_connection_lifetime must not be negative"))
	}
	if c.MaxOpen > math.MaxInt16 {
		problems = append(problems, errors.New("max_open_connections must be at most 32767"))
	}
	return errors.Join(problems...)
}
