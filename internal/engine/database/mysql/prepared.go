package mysql

import (
	"errors"
	"log/slog"
	"math"

	"github.com/go-sql-driver/mysql"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/outbound"
	"github.com/keyturn/keyturn/internal/secret"
)

// defaultOpen is small because a server has few connections, which it shares with other clients.
const defaultOpen = 4

// sqlMode is set in every session, so that the server parses our text in the same way whatever its
// settings are, and refuses values that are too long instead of cutting them.
const sqlMode = "'STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION'"

// prepared is a checked configuration.
type prepared struct {
	driver *mysql.Config
	open   int // maximum of sessions; 0 is no limit
	idle   int // idle sessions to keep; negative is none
	config database.Config
	known  []secret.Value // secrets that no error may show
	log    *slog.Logger
}

// prepare checks a configuration without network I/O and reports all problems.
func prepare(c database.Config) (prepared, error) {
	d, err1 := parseDSN(c)
	t, err2 := checkTLS(c, d)
	if err := errors.Join(err1, err2, checkLimits(c)); err != nil {
		return prepared{}, fault.New("mysql.Check", fault.Invalid, "%v", err)
	}
	if t != nil {
		d.TLS, d.TLSConfig, d.AllowFallbackToPlaintext = t, "", d.AllowFallbackToPlaintext && !requiresTLS(c)
	}
	d.Params = map[string]string{"sql_mode": sqlMode}
	d.Collation = "utf8mb4_general_ci" // MySQL and MariaDB have it; the character set decides how quotes are parsed
	d.MultiStatements, d.ParseTime, d.InterpolateParams = false, false, true
	d.AllowAllFiles, d.CheckConnLiveness = false, true
	d.Logger = silent{}
	d.DialFunc = c.Dial
	if d.DialFunc == nil {
		d.DialFunc = outbound.Anywhere.DialContext
	}
	p := prepared{driver: d, config: c, log: c.Log, open: defaultOpen, known: []secret.Value{
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
		p.idle = math.MaxInt16 // no limit
	}
	return p, nil
}

// silent prevents the driver from writing to standard error. Its messages are also in the errors.
type silent struct{}

func (silent) Print(...any) {}

func checkLimits(c database.Config) error {
	var problems []error
	if a := c.PasswordAuthentication; a != "" && a != "password" {
		problems = append(problems, errors.New("password_authentication must be password, or be left out: MySQL "+
			"takes no verifiers that it does not make itself"))
	}
	if c.ConnLifetime < 0 {
		problems = append(problems, errors.New("max_connection_lifetime must not be negative"))
	}
	if c.MaxOpen > math.MaxInt16 {
		problems = append(problems, errors.New("max_open_connections must be at most 32767"))
	}
	return errors.Join(problems...)
}
