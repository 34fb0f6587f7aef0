//go:build unix

package pgtest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keyturn/keyturn/test/await"
	"github.com/keyturn/keyturn/test/daemon"
	"github.com/keyturn/keyturn/test/tlstest"
)

// Superuser and Password are the credentials of every server's administrator.
const (
	Superuser = "postgres"
	Password  = "pgpass"
)

// Options of a server. The zero value is a fast server without durability.
type Options struct {
	// Settings are more lines for the configuration, such as "log_statement": "all".
	Settings map[string]string
	// Durable keeps fsync on, for measurements.
	Durable bool
	// TLS makes the server offer TLS and accept clients' certificates of the same authority.
	TLS *tlstest.Files
	// HBA are lines to put before the others of pg_hba.conf.
	HBA []string
}

// A Server is a PostgreSQL server. Its methods are safe for concurrent use.
type Server struct {
	*daemon.Daemon
	bin string
}

// ErrAbsent means that this machine has no PostgreSQL server to start.
var ErrAbsent = errors.New("no PostgreSQL server is installed: initdb and postgres are neither in PATH nor in " +
	"/usr/lib/postgresql/*/bin (Debian: apt-get install postgresql)")

// Start starts a server that ends with the test. If none is installed, the test is skipped, or
// fails if KEYTURN_TEST_REQUIRE is set, as "make test" does.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	s, err := New(o)
	return daemon.Started(t, s, err, ErrAbsent)
}

// New starts a server. The caller closes it.
func New(o Options) (*Server, error) {
	bin, err := binaries()
	if err != nil {
		return nil, err
	}
	d, err := daemon.New("kt-pg-", "postgres", "nobody")
	if err != nil {
		return nil, err
	}
	s := &Server{Daemon: d, bin: bin}
	d.EndBy, d.Log, d.Answers = syscall.SIGINT, filepath.Join(d.Dir, "log"), s.answers
	d.Command = func() *exec.Cmd { return s.command("postgres", "-D", s.data()) }
	if err = s.initialise(o); err == nil {
		err = s.Start()
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// binaries returns the folder with initdb and postgres.
func binaries() (string, error) {
	var folders []string
	if p, err := exec.LookPath("initdb"); err == nil {
		if p, err = filepath.EvalSymlinks(p); err == nil {
			folders = append(folders, filepath.Dir(p))
		}
	}
	installed, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	slices.SortFunc(installed, func(a, b string) int { return major(b) - major(a) })
	for _, f := range append(folders, installed...) {
		_, err1 := os.Stat(filepath.Join(f, "initdb"))
		_, err2 := os.Stat(filepath.Join(f, "postgres"))
		if err1 == nil && err2 == nil {
			return f, nil
		}
	}
	return "", ErrAbsent
}

func major(bin string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(bin)))
	return n
}

func (s *Server) initialise(o Options) error {
	pw := filepath.Join(s.Dir, "pw")
	if err := os.WriteFile(pw, []byte(Password+"\n"), 0o600); err != nil {
		return err
	}
	if err := s.Give(pw); err != nil {
		return err
	}
	init := s.command("initdb", "-D", s.data(), "-U", Superuser, "--pwfile="+pw, "--auth=scram-sha-256", "-E", "UTF8",
		"--locale=C", "--no-sync")
	if out, err := init.CombinedOutput(); err != nil {
		return fmt.Errorf("running initdb: %w\n%s", err, out)
	}
	settings := map[string]string{
		"port": strconv.Itoa(s.Port), "listen_addresses": s.Host, "unix_socket_directories": s.Dir,
		"max_connections": "200", "shared_buffers": "32MB", "password_encryption": "scram-sha-256",
		"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "log_min_messages": "warning",
		"autovacuum": "on", "jit": "off", "logging_collector": "off",
	}
	if o.Durable {
		for _, name := range []string{"fsync", "synchronous_commit", "full_page_writes"} {
			settings[name] = "on"
		}
	}
	if err := s.offerTLS(o.TLS, settings); err != nil {
		return err
	}
	if err := s.prepend("pg_hba.conf", o.HBA); err != nil {
		return err
	}
	for name, value := range o.Settings {
		settings[name] = value
	}
	var text strings.Builder
	for name, value := range settings {
		fmt.Fprintf(&text, "%s = '%s'\n", name, strings.ReplaceAll(value, "'", "''"))
	}
	conf, err := os.OpenFile(filepath.Join(s.data(), "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = conf.WriteString(text.String())
	return errors.Join(err, conf.Close())
}

// offerTLS gives the server its own copy of the key, because it refuses a key that others may
// read.
func (s *Server) offerTLS(f *tlstest.Files, settings map[string]string) error {
	if f == nil {
		return nil
	}
	key, err := os.ReadFile(f.Key)
	if err != nil {
		return err
	}
	own := filepath.Join(s.Dir, "server.key")
	if err := os.WriteFile(own, key, 0o600); err != nil {
		return err
	}
	settings["ssl"], settings["ssl_ca_file"] = "on", f.CA
	settings["ssl_cert_file"], settings["ssl_key_file"] = f.Cert, own
	return s.Give(own)
}

// prepend inserts lines at the beginning of a file of the server.
func (s *Server) prepend(name string, lines []string) error {
	path := filepath.Join(s.data(), name)
	rest, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(strings.Join(append(slices.Clone(lines), string(rest)), "\n"))
	return errors.Join(err, f.Close())
}

func (s *Server) data() string { return filepath.Join(s.Dir, "data") }

func (s *Server) command(name string, args ...string) *exec.Cmd {
	return s.Run(filepath.Join(s.bin, name), args...)
}

// Start starts the server on its old data and port, and waits until it answers.
//
// After a kill, processes of the last server may keep the shared memory for a moment, in which a
// new server fails.
func (s *Server) Start() error {
	for deadline := time.Now().Add(await.Patience); ; <-time.After(100 * time.Millisecond) {
		if err := s.Daemon.Start(); err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

func (s *Server) answers(ctx context.Context) error {
	c, err := pgx.Connect(ctx, s.DSN("postgres"))
	if err != nil {
		return err
	}
	return c.Close(ctx)
}

// DSN returns the superuser's URL of a database, without TLS.
func (s *Server) DSN(database string) string { return s.UserDSN(Superuser, Password, database) }

// UserDSN returns a user's URL of a database, without TLS.
func (s *Server) UserDSN(name, password, database string) string {
	u := url.URL{Scheme: "postgresql", User: url.UserPassword(name, password), Host: s.Addr(), Path: "/" + database,
		RawQuery: "sslmode=disable"}
	return u.String()
}

// Exec runs SQL as the superuser. An error fails the test.
func (s *Server) Exec(t testing.TB, database, sql string) {
	t.Helper()
	ctx := t.Context()
	c, err := pgx.Connect(ctx, s.DSN(database))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(ctx)
	if _, err := c.PgConn().Exec(ctx, sql).ReadAll(); err != nil {
		t.Fatalf("running %q: %v", sql, err)
	}
}

// Int runs SQL as the superuser and returns its one integer.
func (s *Server) Int(t testing.TB, database, sql string) (n int64) {
	t.Helper()
	ctx := t.Context()
	c, err := pgx.Connect(ctx, s.DSN(database))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(ctx)
	if err := c.QueryRow(ctx, sql).Scan(&n); err != nil {
		t.Fatalf("running %q: %v", sql, err)
	}
	return n
}

// Binary returns the path of a program of the server's version: "psql", "pgbench".
func (s *Server) Binary(name string) string { return filepath.Join(s.bin, name) }
