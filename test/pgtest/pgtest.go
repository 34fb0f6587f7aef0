//go:build unix

package pgtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keyturn/keyturn/test/await"
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
	Host      string
	Port      int
	SocketDir string
	dir       string // all of its files
	bin       string
	as        *syscall.Credential

	mu     sync.Mutex // guards the process
	cmd    *exec.Cmd
	exited chan struct{}
}

// ErrAbsent means that this machine has no PostgreSQL server to start.
var ErrAbsent = errors.New("no PostgreSQL server is installed: initdb and postgres are neither in PATH nor in /usr/lib/postgresql/*/bin (Debian: apt-get install postgresql)")

// Start starts a server that ends with the test. If none is installed, the test is skipped, or
// fails if KEYTURN_TEST_REQUIRE is set, as "make test" does.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	s, err := New(o)
	if errors.Is(err, ErrAbsent) && os.Getenv("KEYTURN_TEST_REQUIRE") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the end of the server's log:\n%s", s.LogTail(4000))
		}
		s.Close()
	})
	return s
}

// New starts a server. The caller closes it.
func New(o Options) (*Server, error) {
	bin, err := binaries()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "kt-pg-")
	if err != nil {
		return nil, err
	}
	s := &Server{Host: "127.0.0.1", SocketDir: dir, dir: dir, bin: bin}
	if err := s.initialise(o); err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	if err := s.Start(); err != nil {
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

// unprivileged returns the account that runs the server; nil is our own.
func unprivileged() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err1 == nil && err2 == nil && uid != 0 {
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
		}
	}
	return nil, errors.New("PostgreSQL does not run as root, and there is neither a user postgres nor nobody")
}

func (s *Server) initialise(o Options) error {
	var err error
	if s.as, err = unprivileged(); err != nil {
		return err
	}
	if s.Port, err = freePort(); err != nil {
		return err
	}
	pw := filepath.Join(s.dir, "pw")
	if err := os.WriteFile(pw, []byte(Password+"\n"), 0o600); err != nil {
		return err
	}
	if s.as != nil {
		for _, path := range []string{s.dir, pw} {
			if err := os.Chown(path, int(s.as.Uid), int(s.as.Gid)); err != nil {
				return err
			}
		}
	}
	init := s.command("initdb", "-D", s.data(), "-U", Superuser, "--pwfile="+pw, "--auth=scram-sha-256", "-E", "UTF8", "--locale=C", "--no-sync")
	if out, err := init.CombinedOutput(); err != nil {
		return fmt.Errorf("running initdb: %w\n%s", err, out)
	}
	settings := map[string]string{
		"port": strconv.Itoa(s.Port), "listen_addresses": s.Host, "unix_socket_directories": s.dir,
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
	own := filepath.Join(s.dir, "server.key")
	if err := os.WriteFile(own, key, 0o600); err != nil {
		return err
	}
	settings["ssl"], settings["ssl_ca_file"], settings["ssl_cert_file"], settings["ssl_key_file"] = "on", f.CA, f.Cert, own
	if s.as == nil {
		return nil
	}
	return os.Chown(own, int(s.as.Uid), int(s.as.Gid))
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

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

func (s *Server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, name), args...)
	cmd.Dir = s.dir
	// The environment of the caller must not configure the server.
	cmd.Env = []string{"PATH=" + s.bin + ":/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.as, Setpgid: true}
	return cmd
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// Start starts the server on its old data and port, and waits until it answers.
// Starting a running server does nothing.
func (s *Server) Start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd != nil {
		return nil
	}
	// After a kill, processes of the last server may keep the shared memory for a moment, in which
	// a new server fails.
	deadline := time.Now().Add(await.Patience)
	for {
		err := s.startLocked(deadline)
		if err == nil || time.Now().After(deadline) {
			return err
		}
		<-time.After(100 * time.Millisecond)
	}
}

func (s *Server) startLocked(deadline time.Time) error {
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := s.command("postgres", "-D", s.data())
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	exited := make(chan struct{})
	go func() { _ = cmd.Wait(); close(exited) }()
	for {
		if s.answers() == nil {
			s.cmd, s.exited = cmd, exited
			return nil
		}
		select {
		case <-exited:
			return fmt.Errorf("PostgreSQL ended while starting:\n%s", s.LogTail(2000))
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			_ = cmd.Process.Kill()
			<-exited
			return fmt.Errorf("PostgreSQL did not answer in time:\n%s", s.LogTail(2000))
		}
	}
}

func (s *Server) answers() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	c, err := pgx.Connect(ctx, s.DSN("postgres"))
	if err != nil {
		return err
	}
	return c.Close(ctx)
}

// Stop stops the server as an administrator in a hurry would: it cuts the sessions and saves the
// data. Stopping a stopped server does nothing.
func (s *Server) Stop() { s.end(syscall.SIGINT) }

// Kill kills the server, as a crash would.
func (s *Server) Kill() { s.end(syscall.SIGKILL) }

func (s *Server) end(sig syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Signal(sig)
	select {
	case <-s.exited:
	case <-time.After(await.Patience):
		_ = s.cmd.Process.Kill()
		<-s.exited
	}
	s.cmd, s.exited = nil, nil
}

// Close stops the server and removes its files.
func (s *Server) Close() {
	s.end(syscall.SIGQUIT)
	os.RemoveAll(s.dir)
}

// Addr is host:port.
func (s *Server) Addr() string { return net.JoinHostPort(s.Host, strconv.Itoa(s.Port)) }

// DSN returns the superuser's URL of a database, without TLS.
func (s *Server) DSN(database string) string { return s.UserDSN(Superuser, Password, database) }

// UserDSN returns a user's URL of a database, without TLS.
func (s *Server) UserDSN(name, password, database string) string {
	u := url.URL{Scheme: "postgresql", User: url.UserPassword(name, password), Host: s.Addr(), Path: "/" + database, RawQuery: "sslmode=disable"}
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

// LogTail returns the end of the server's log.
func (s *Server) LogTail(bytes int) string {
	b, err := os.ReadFile(filepath.Join(s.dir, "log"))
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-bytes):])
}
