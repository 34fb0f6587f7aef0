//go:build unix

package redistest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/keyturn/keyturn/test/await"
)

// Admin and Password are the administrator's of every server.
const (
	Admin    = "admin"
	Password = "redis-admin-password"
)

// Options of a server.
type Options struct {
	// ConfigFile keeps the access control list in the configuration file, for CONFIG REWRITE,
	// instead of one of its own.
	ConfigFile bool
	// Args are more of the command line: "--tls-port", "6380".
	Args []string

	sentinel string // the configuration of a Sentinel, which this is then
}

// A Server is one Redis. Its methods are safe for concurrent use.
type Server struct {
	Host string
	Port int
	Dir  string // all of its files; the access control list is users.acl, or in redis.conf
	args []string
	path string

	mu     sync.Mutex // guards the process
	cmd    *exec.Cmd
	exited chan struct{}
}

// ErrAbsent means that this machine has no server to start.
var ErrAbsent = errors.New("no Redis server is installed: neither redis-server nor valkey-server is in PATH (Debian: apt-get install redis-server)")

// Start starts a server that ends with the test. Where none is installed the
// test is skipped, or fails if KEYTURN_TEST_REQUIRE is set, as "make test" does.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	s, err := New(o)
	if errors.Is(err, ErrAbsent) && os.Getenv("KEYTURN_TEST_REQUIRE") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// New starts a server. The caller closes it.
func New(o Options) (*Server, error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		if path, err = exec.LookPath("valkey-server"); err != nil {
			return nil, ErrAbsent
		}
	}
	dir, err := os.MkdirTemp("", "kt-redis-")
	if err != nil {
		return nil, err
	}
	s := &Server{Host: "127.0.0.1", Dir: dir, path: path}
	if s.Port, err = freePort(); err != nil {
		return nil, err
	}
	s.args = []string{
		"--port", strconv.Itoa(s.Port), "--bind", s.Host, "--dir", dir, "--save", "", "--appendonly", "no", "--daemonize", "no",
		"--logfile", filepath.Join(dir, "log"), "--pidfile", filepath.Join(dir, "pid"),
	}
	users := filepath.Join(dir, "users.acl")
	if o.ConfigFile || o.sentinel != "" {
		users = filepath.Join(dir, "redis.conf")
		s.args = append([]string{users}, s.args...)
	} else {
		s.args = append(s.args, "--aclfile", users)
	}
	s.args = append(s.args, o.Args...)
	list := fmt.Sprintf("user default off\nuser %s on >%s ~* &* +@all\n%s", Admin, Password, o.sentinel)
	if o.sentinel != "" {
		s.args = []string{users, "--port", strconv.Itoa(s.Port), "--bind", s.Host, "--dir", dir, "--logfile", filepath.Join(dir, "log"), "--sentinel"}
	}
	if err := os.WriteFile(users, []byte(list), 0o600); err != nil {
		return nil, err
	}
	if err := s.Start(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// Start starts the server on its old files and port, and waits until it answers.
// Starting a running server does nothing.
func (s *Server) Start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.exited != nil {
		return nil
	}
	cmd := exec.Command(s.path, s.args...)
	cmd.Dir = s.Dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	exited := make(chan struct{})
	go func() { _ = cmd.Wait(); close(exited) }()
	for deadline := time.Now().Add(await.Patience); ; {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		_, err := s.Do(ctx, "PING")
		cancel()
		if err == nil {
			s.cmd, s.exited = cmd, exited
			return nil
		}
		select {
		case <-exited:
			return fmt.Errorf("the server ended while starting:\n%s", s.LogTail(2000))
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			_ = cmd.Process.Kill()
			<-exited
			return fmt.Errorf("the server did not answer in time: %w\n%s", err, s.LogTail(2000))
		}
	}
}

// Stop ends the server. Stopping a stopped server does nothing. What is not in a file is
// forgotten.
func (s *Server) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.exited == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	<-s.exited
	s.exited = nil
}

// Close ends the server and removes its files.
func (s *Server) Close() {
	s.Stop()
	os.RemoveAll(s.Dir)
}

// Addr is host:port.
func (s *Server) Addr() string { return net.JoinHostPort(s.Host, strconv.Itoa(s.Port)) }

// Do runs a command as the administrator. It returns the reply's text: of a list, its elements in
// lines, and "(nil)" for null.
func (s *Server) Do(ctx context.Context, words ...string) (string, error) {
	return s.DoAs(ctx, Admin, Password, words...)
}

// DoAs runs a command as a user.
func (s *Server) DoAs(ctx context.Context, name, password string, words ...string) (string, error) {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", s.Addr())
	if err != nil {
		return "", err
	}
	defer c.Close()
	if deadline, ok := ctx.Deadline(); ok {
		_ = c.SetDeadline(deadline)
	}
	r := bufio.NewReader(c)
	var text string
	for _, command := range [][]string{{"AUTH", name, password}, words} {
		if _, err := fmt.Fprintf(c, "*%d\r\n", len(command)); err != nil {
			return "", err
		}
		for _, w := range command {
			if _, err := fmt.Fprintf(c, "$%d\r\n%s\r\n", len(w), w); err != nil {
				return "", err
			}
		}
		if text, err = read(r); err != nil {
			return "", err
		}
	}
	return text, nil
}

func read(r *bufio.Reader) (string, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimSpace(line)
	n, _ := strconv.Atoi(line[1:])
	switch {
	case line[0] == '-':
		return "", errors.New(line[1:])
	case line[0] != '$' && line[0] != '*':
		return line[1:], nil
	case n < 0:
		return "(nil)", nil
	case line[0] == '$':
		b := make([]byte, n+2)
		_, err := io.ReadFull(r, b)
		return string(b[:n]), err
	}
	var all []string
	for range n {
		one, err := read(r)
		if err != nil {
			return "", err
		}
		all = append(all, one)
	}
	return strings.Join(all, "\n"), nil
}

// Login logs in as a user.
func (s *Server) Login(ctx context.Context, name, password string) error {
	_, err := s.DoAs(ctx, name, password, "GET", "x")
	return err
}

// Exists reports whether there is a user.
func (s *Server) Exists(ctx context.Context, name string) (bool, error) {
	text, err := s.Do(ctx, "ACL", "GETUSER", name)
	return text != "(nil)", err
}

// LogTail returns the end of the server's log.
func (s *Server) LogTail(bytes int) string {
	b, err := os.ReadFile(filepath.Join(s.Dir, "log"))
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-bytes):])
}
