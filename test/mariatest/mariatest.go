//go:build unix

package mariatest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/go-sql-driver/mysql"

	"github.com/keyturn/keyturn/test/daemon"
)

// Admin and Password are the credentials of every server's administrator.
const (
	Admin    = "admin"
	Password = "mariapass"
)

// A Server is a MariaDB server. Its methods are safe for concurrent use.
type Server struct{ *daemon.Daemon }

// ErrAbsent means that this machine has no MariaDB server to start.
var ErrAbsent = errors.New("no MariaDB server is installed: mariadbd and mariadb-install-db are not to be found " +
	"(Debian: apt-get install mariadb-server)")

// Start starts a server that ends with the test. If none is installed, the test is skipped, or
// fails if KEYTURN_TEST_REQUIRE is set, as "make test" does. Options are more arguments of the
// server, such as "--general-log".
func Start(t testing.TB, options ...string) *Server {
	t.Helper()
	s, err := New(options...)
	return daemon.Started(t, s, err, ErrAbsent)
}

// New starts a server. The caller closes it.
func New(options ...string) (*Server, error) {
	install, err1 := program("mariadb-install-db")
	server, err2 := program("mariadbd")
	if err1 != nil || err2 != nil {
		return nil, ErrAbsent
	}
	d, err := daemon.New("kt-maria-", "mysql", "nobody")
	if err != nil {
		return nil, err
	}
	s := &Server{d}
	d.EndBy, d.Log = syscall.SIGTERM, s.file("log.err")
	d.Answers = func(ctx context.Context) error { return s.Login(ctx, Admin, Password) }
	d.Command = func() *exec.Cmd { return s.Run(server, s.arguments(options)...) }
	if err = s.initialise(install); err == nil {
		err = s.Start()
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// program returns a program's path. Debian installs some outside of PATH.
func program(name string) (string, error) {
	if p, err := exec.LookPath(name); err == nil {
		return p, nil
	}
	return exec.LookPath("/usr/sbin/" + name)
}

func (s *Server) initialise(install string) error {
	accounts := fmt.Sprintf("CREATE USER IF NOT EXISTS '%[1]s'@'%%' IDENTIFIED BY '%[2]s';\nGRANT ALL PRIVILEGES ON "+
		"*.* TO '%[1]s'@'%%' WITH GRANT OPTION;\n", Admin, Password)
	if err := os.WriteFile(s.file("init.sql"), []byte(accounts), 0o644); err != nil {
		return err
	}
	// A server deletes the temporary tables that it finds in tmpdir, those of another server, too.
	out, err := s.Run(install, "--no-defaults", "--datadir="+s.file("data"), "--tmpdir="+s.Dir, "--skip-test-db",
		"--auth-root-authentication-method=normal", "--innodb-log-file-size=8M").CombinedOutput()
	if err != nil {
		return fmt.Errorf("running mariadb-install-db: %w\n%s", err, out)
	}
	return nil
}

func (s *Server) arguments(options []string) []string {
	return append([]string{
		"--no-defaults", "--datadir=" + s.file("data"), "--socket=" + s.file("sock"), "--pid-file=" + s.file("pid"),
		"--tmpdir=" + s.Dir,
		"--log-error=" + s.Log,
		"--bind-address=" + s.Host, "--port=" + strconv.Itoa(s.Port), "--init-file=" + s.file("init.sql"),
		"--skip-name-resolve",
		"--innodb-buffer-pool-size=32M", "--innodb-log-file-size=8M", "--innodb-flush-log-at-trx-commit=0",
		"--max-connections=200", "--plugin-maturity=unknown",
	}, options...)
}

func (s *Server) file(name string) string { return filepath.Join(s.Dir, name) }

// Open returns a pool of connections of a user. It opens none yet.
func (s *Server) Open(name, password string) (*sql.DB, error) {
	c := mysql.NewConfig()
	c.User, c.Passwd, c.Net, c.Addr, c.MultiStatements, c.Logger = name, password, "tcp", s.Addr(), true, silent{}
	d, err := mysql.NewConnector(c)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(d), nil
}

type silent struct{}

func (silent) Print(...any) {}

// Login logs in as a user.
func (s *Server) Login(ctx context.Context, name, password string) error {
	db, err := s.Open(name, password)
	if err != nil {
		return err
	}
	defer db.Close()
	return db.PingContext(ctx)
}

// Exec runs SQL as the administrator. An error fails the test.
func (s *Server) Exec(t testing.TB, query string) {
	t.Helper()
	db, err := s.Open(Admin, Password)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), query); err != nil {
		t.Fatalf("running %q: %v", query, err)
	}
}

// Int runs SQL as the administrator and returns its one integer.
func (s *Server) Int(ctx context.Context, query string, args ...any) (n int64, err error) {
	db, err := s.Open(Admin, Password)
	if err != nil {
		return 0, err
	}
	defer db.Close()
	return n, db.QueryRowContext(ctx, query, args...).Scan(&n)
}
