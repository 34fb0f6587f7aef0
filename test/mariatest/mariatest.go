//go:build unix

package mariatest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/keyturn/keyturn/test/await"
)

// Admin and Password are the credentials of every server's administrator.
const (
	Admin    = "admin"
	Password = "mariapass"
)

// A Server is a MariaDB server. Its methods are safe for concurrent use.
type Server struct {
	Host string
	Port int
	dir  string // all of its files
	as   *syscall.Credential

	mu     sync.Mutex // guards the process
	cmd    *exec.Cmd
	exited chan struct{}
}

// ErrAbsent means that this machine has no MariaDB server to start.
var ErrAbsent = errors.New("no MariaDB server is installed: mariadbd and mariadb-install-db are not to be found (Debian: apt-get install mariadb-server)")

// Start starts a server that ends with the test. If none is installed, the test is skipped, or
// fails if KEYTURN_TEST_REQUIRE is set, as "make test" does. Options are more arguments of the
// server, such as "--general-log".
func Start(t testing.TB, options ...string) *Server {
	t.Helper()
	s, err := New(options...)
	if errors.Is(err, ErrAbsent) && os.Getenv("KEYTURN_TEST_REQUIRE") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the end of the server's log:\n%s", s.LogTail(3000))
		}
		s.Close()
	})
	return s
}

// New starts a server. The caller closes it.
func New(options ...string) (*Server, error) {
	install, err1 := program("mariadb-install-db")
	daemon, err2 := program("mariadbd")
	if err1 != nil || err2 != nil {
		return nil, ErrAbsent
	}
	dir, err := os.MkdirTemp("", "kt-maria-")
	if err != nil {
		return nil, err
	}
	s := &Server{Host: "127.0.0.1", dir: dir}
	if err := s.initialise(install, daemon, options); err != nil {
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

func (s *Server) initialise(install, daemon string, options []string) (err error) {
	if s.Port, err = freePort(); err != nil {
		return err
	}
	accounts := fmt.Sprintf("CREATE USER IF NOT EXISTS '%[1]s'@'%%' IDENTIFIED BY '%[2]s';\nGRANT ALL PRIVILEGES ON *.* TO '%[1]s'@'%%' WITH GRANT OPTION;\n", Admin, Password)
	if err := os.WriteFile(s.file("init.sql"), []byte(accounts), 0o644); err != nil {
		return err
	}
	if err := s.unprivileged(); err != nil {
		return err
	}
	out, err := s.command(install, "--no-defaults", "--datadir="+s.file("data"), "--skip-test-db", "--auth-root-authentication-method=normal", "--innodb-log-file-size=8M").CombinedOutput()
	if err != nil {
		return fmt.Errorf("running mariadb-install-db: %w\n%s", err, out)
	}
	s.cmd = s.command(daemon, append([]string{
		"--no-defaults", "--datadir=" + s.file("data"), "--socket=" + s.file("sock"), "--pid-file=" + s.file("pid"), "--log-error=" + s.file("log.err"),
		"--bind-address=" + s.Host, "--port=" + strconv.Itoa(s.Port), "--init-file=" + s.file("init.sql"), "--skip-name-resolve",
		"--innodb-buffer-pool-size=32M", "--innodb-log-file-size=8M", "--innodb-flush-log-at-trx-commit=0", "--max-connections=200", "--plugin-maturity=unknown",
	}, options...)...)
	return s.Start()
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

func (s *Server) file(name string) string { return filepath.Join(s.dir, name) }

// unprivileged gives the folder to the account that runs the server, which refuses to run as root.
func (s *Server) unprivileged() error {
	if os.Geteuid() != 0 {
		return nil
	}
	for _, name := range []string{"mysql", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.Atoi(u.Uid)
		gid, err2 := strconv.Atoi(u.Gid)
		if err1 == nil && err2 == nil && uid != 0 {
			s.as = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
			return os.Chown(s.dir, uid, gid)
		}
	}
	return errors.New("MariaDB does not run as root, and there is neither a user mysql nor nobody")
}

func (s *Server) command(path string, args ...string) *exec.Cmd {
	cmd := exec.Command(path, args...)
	cmd.Dir = s.dir
	// The environment of the caller must not configure the server.
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "TZ=UTC", "HOME=" + s.dir}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.as, Setpgid: true}
	return cmd
}

// Start starts the server on its old data and port, and waits until it answers.
// Starting a running server does nothing.
func (s *Server) Start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.exited != nil {
		return nil
	}
	cmd := s.command(s.cmd.Path, s.cmd.Args[1:]...)
	if err := cmd.Start(); err != nil {
		return err
	}
	exited := make(chan struct{})
	go func() { _ = cmd.Wait(); close(exited) }()
	for deadline := time.Now().Add(await.Patience); ; {
		if s.answers() == nil {
			s.cmd, s.exited = cmd, exited
			return nil
		}
		select {
		case <-exited:
			return fmt.Errorf("MariaDB ended while starting:\n%s", s.LogTail(3000))
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			_ = cmd.Process.Kill()
			<-exited
			return fmt.Errorf("MariaDB did not answer in time:\n%s", s.LogTail(3000))
		}
	}
}

func (s *Server) answers() error {
	db, err := s.Open(Admin, Password)
	if err != nil {
		return err
	}
	defer db.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	return db.PingContext(ctx)
}

// Stop stops the server as an administrator would. Stopping a stopped server does nothing.
func (s *Server) Stop() { s.end(syscall.SIGTERM) }

// Kill kills the server, as a crash would.
func (s *Server) Kill() { s.end(syscall.SIGKILL) }

func (s *Server) end(sig syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.exited == nil {
		return
	}
	_ = s.cmd.Process.Signal(sig)
	select {
	case <-s.exited:
	case <-time.After(await.Patience):
		_ = s.cmd.Process.Kill()
		<-s.exited
	}
	s.exited = nil
}

// Close stops the server and removes its files.
func (s *Server) Close() {
	s.end(syscall.SIGKILL)
	os.RemoveAll(s.dir)
}

// Addr is host:port.
func (s *Server) Addr() string { return net.JoinHostPort(s.Host, strconv.Itoa(s.Port)) }

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

// LogTail returns the end of the server's log.
func (s *Server) LogTail(bytes int) string {
	b, err := os.ReadFile(s.file("log.err"))
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-bytes):])
}
