// Package postgres lends users of PostgreSQL.
//
// A Create is one simple-protocol message and so one round trip and one
// transaction: it names the session after its attempt, refuses itself if the server's clock
// is past the attempt's deadline, and then runs the role's statements. The order
// of the first two is what makes SettleAttempt sound: whoever finds the deadline passed and no
// session of that name knows that a message still on its way will refuse itself.
//
// A Drop is one message, too, as long as the role's statements suffice. Where
// PostgreSQL objects that the user still has privileges or objects (2BP01), or that we
// may not (42501), dissolve takes them away and the statements run again.
//
// Locking: a Conn's own state is a pool, which guards itself, and turns, which
// guards the cancel functions of running calls and the end.
package postgres

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/outbound"
	"github.com/keyturn/keyturn/internal/secret"
)

// Provider is PostgreSQL.
var Provider = database.Provider{
	Name:    "postgresql",
	Plugins: []string{"postgresql-database-plugin"},
	NameMax: 63,
	// A role without password is let in by nothing but what pg_hba.conf says.
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

const (
	// appName is what sessions are called that run no create.
	appName = "keyturn"
	// lastWords is how long a canceled call waits for the server to tell how it ended.
	lastWords = 500 * time.Millisecond
	// longestMessage bounds a row, an error or whatever else the server sends at once. What we ask for is far smaller.
	longestMessage = 4 << 20
	// defaultOpen is small because a server's connections are few: with the default
	// of 100, a handful of nodes with several connections each already matter.
	defaultOpen = 4
)

// A plan is a checked configuration.
type plan struct {
	pool  *pgxpool.Config
	idle  int32 // sessions kept
	scram bool
	admin *secret.Redactor // knows what every call must not show
	known []secret.Value   // the same, for redactors of single calls
	log   *slog.Logger
}

// prepare checks a configuration without any I/O and reports all problems.
func prepare(c database.Config) (plan, error) {
	const op = "postgres.Check"
	s, err1 := parseDSN(c)
	err2 := s.inline(&c)
	m, err3 := checkTLS(c, s["sslmode"])
	if err := errors.Join(err1, err2, err3, checkLimits(c)); err != nil {
		f := fault.New(op, fault.Invalid, "%v", err)
		if file, ok := errors.AsType[*fileError](err); ok {
			f.Err = file.cause
		}
		return plan{}, f
	}
	if m.mode != "" {
		s["sslmode"] = m.mode
	}
	p := plan{scram: c.PasswordAuthentication == "scram-sha-256", admin: new(secret.Redactor), log: c.Log}
	p.known = append(append(s.secrets(), c.Password, c.PrivateKey, c.URL), strays(c.URL)...)
	p.admin.Know(p.known...)
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	var err error
	p.pool, err = pgxpool.ParseConfig(s.text())
	if err != nil {
		return plan{}, &fault.Error{Op: op, Kind: fault.Invalid, Err: p.admin.Error(err),
			Msg: "field \"connection_url\": it has a parameter that is not accepted; check connect_timeout, target_session_attrs, sslrootcert and the number of ports"}
	}
	p.connection(s, m, c)
	p.limits(c)
	return p, nil
}

func checkLimits(c database.Config) error {
	var problems []error
	if a := c.PasswordAuthentication; a != "" && a != "password" && a != "scram-sha-256" {
		problems = append(problems, errors.New("password_authentication must be password or scram-sha-256"))
	}
	if c.ConnLifetime < 0 {
		problems = append(problems, errors.New("max_connection_lifetime must not be negative"))
	}
	if c.MaxOpen > math.MaxInt16 {
		problems = append(problems, errors.New("max_open_connections must be at most 32767"))
	}
	return errors.Join(problems...)
}

// connection completes how each connection is made.
func (p *plan) connection(s settings, m material, c database.Config) {
	pg := &p.pool.ConnConfig.Config
	pg.Password = s["password"]
	for _, name := range []string{"timezone", "options"} {
		if _, asked := s[name]; !asked {
			delete(pg.RuntimeParams, name)
		}
	}
	// How our text is read must not depend on the server's settings.
	pg.RuntimeParams["standard_conforming_strings"] = "on"
	pg.RuntimeParams["client_encoding"] = "UTF8"
	pg.OnNotice = onNotice
	if pg.DialFunc = c.Dial; c.Dial == nil {
		pg.DialFunc = outbound.Anywhere.DialContext
	}
	pg.MaxProtocolMessageBodyLen = longestMessage
	m.apply(pg)
	pg.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: conn, DeadlineDelay: lastWords}
	}
}

func (p *plan) limits(c database.Config) {
	p.pool.MaxConns = defaultOpen
	switch {
	case c.MaxOpen > 0:
		p.pool.MaxConns = int32(c.MaxOpen)
	case c.MaxOpen < 0:
		p.pool.MaxConns = math.MaxInt16
	}
	p.idle = p.pool.MaxConns
	switch {
	case c.MaxIdle > 0:
		p.idle = min(int32(min(c.MaxIdle, math.MaxInt16)), p.pool.MaxConns)
	case c.MaxIdle < 0:
		p.idle = 0
	}
	p.pool.MinConns = 0
	p.pool.MinIdleConns = 0
	p.pool.MaxConnLifetime = c.ConnLifetime
	p.pool.MaxConnLifetimeJitter = c.ConnLifetime / 10
}
