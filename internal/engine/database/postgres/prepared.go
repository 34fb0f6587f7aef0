package postgres

import (
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

const (
	// cancelGrace limits how long a canceled call waits for the server's answer.
	cancelGrace = 500 * time.Millisecond
	// maxMessage limits one message of the server. The answers to our queries are far smaller.
	maxMessage = 4 << 20
	// defaultOpen is small because a server has few connections: by default 100, of which several
	// nodes with several connections each are a large part.
	defaultOpen = 4
)

// prepared is a checked configuration.
type prepared struct {
	pool  *pgxpool.Config
	idle  int32 // number of idle sessions to keep
	scram bool
	admin *secret.Redactor // removes the secrets of the connection
	known []secret.Value   // the same secrets, for the redactor of each call
	log   *slog.Logger
}

// prepare checks a configuration without network I/O and reports all problems.
func prepare(c database.Config) (prepared, error) {
	const op = "postgres.Check"
	s, err1 := parseDSN(c)
	err2 := s.inline(&c)
	m, err3 := checkTLS(c, s["sslmode"])
	if err := errors.Join(err1, err2, err3, checkLimits(c)); err != nil {
		f := fault.New(op, fault.Invalid, "%v", err)
		if file, ok := errors.AsType[*fileError](err); ok {
			f.Err = file.cause
		}
		return prepared{}, f
	}
	if m.mode != "" {
		s["sslmode"] = m.mode
	}
	p := prepared{scram: c.PasswordAuthentication == "scram-sha-256", admin: new(secret.Redactor), log: c.Log}
	p.known = append(append(s.secrets(), c.Password, c.PrivateKey, c.URL), strays(c.URL)...)
	p.admin.Know(p.known...)
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	var err error
	p.pool, err = pgxpool.ParseConfig(s.text())
	if err != nil {
		return prepared{}, &fault.Error{
			Op: op, Kind: fault.Invalid, Err: p.admin.Error(err),
			Msg: "field \"connection_url\": it has a parameter that is not accepted; check connect_timeout, " +
				"target_session_attrs, sslrootcert and the number of ports",
		}
	}
	complete(&p.pool.ConnConfig.Config, s, m, c)
	p.idle = setLimits(p.pool, c)
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

// complete completes the settings of each connection.
func complete(pg *pgconn.Config, s settings, m material, c database.Config) {
	pg.Password = s["password"]
	for _, name := range []string{"timezone", "options"} {
		if _, asked := s[name]; !asked {
			delete(pg.RuntimeParams, name)
		}
	}
	// The server must parse our text in the same way whatever its settings are.
	pg.RuntimeParams["standard_conforming_strings"] = "on"
	pg.RuntimeParams["client_encoding"] = "UTF8"
	pg.OnNotice = onNotice
	if pg.DialFunc = c.Dial; c.Dial == nil {
		pg.DialFunc = outbound.Anywhere.DialContext
	}
	pg.MaxProtocolMessageBodyLen = maxMessage
	m.apply(pg)
	pg.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: conn, DeadlineDelay: cancelGrace}
	}
}

// setLimits sets the limits of the pool, and returns the number of idle sessions to keep.
func setLimits(pool *pgxpool.Config, c database.Config) (idle int32) {
	pool.MaxConns = defaultOpen
	switch {
	case c.MaxOpen > 0:
		pool.MaxConns = int32(c.MaxOpen)
	case c.MaxOpen < 0:
		pool.MaxConns = math.MaxInt16
	}
	idle = pool.MaxConns
	switch {
	case c.MaxIdle > 0:
		idle = min(int32(min(c.MaxIdle, math.MaxInt16)), pool.MaxConns)
	case c.MaxIdle < 0:
		idle = 0
	}
	pool.MinConns = 0
	pool.MinIdleConns = 0
	pool.MaxConnLifetime = c.ConnLifetime
	pool.MaxConnLifetimeJitter = c.ConnLifetime / 10
	return idle
}
