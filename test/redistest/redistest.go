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
	"syscall"
	"testing"

	"github.com/keyturn/keyturn/test/daemon"
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

// A Server is one Redis. Its methods are safe for concurrent use. The access control list is
// users.acl, or in redis.conf. What is not in a file is lost when it stops.
type Server struct{ *daemon.Daemon }

// ErrAbsent means that this machine has no server to start.
var ErrAbsent = errors.New("no Redis server is installed: neither redis-server nor valkey-server is in PATH " +
	"(Debian: apt-get install redis-server)")

// Start starts a server that ends with the test. Where none is installed the
// test is skipped, or fails if KEYTURN_TEST_REQUIRE is set, as "make test" does.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	s, err := New(o)
	return daemon.Started(t, s, err, ErrAbsent)
}

// New starts a server. The caller closes it.
func New(o Options) (*Server, error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		if path, err = exec.LookPath("valkey-server"); err != nil {
			return nil, ErrAbsent
		}
	}
	d, err := daemon.New("kt-redis-")
	if err != nil {
		return nil, err
	}
	s := &Server{d}
	d.EndBy, d.Log = syscall.SIGKILL, filepath.Join(d.Dir, "log")
	d.Answers = func(ctx context.Context) error { _, err := s.Do(ctx, "PING"); return err }
	args := []string{"--port", strconv.Itoa(s.Port), "--bind", s.Host, "--dir", d.Dir, "--logfile", d.Log}
	users := filepath.Join(d.Dir, "users.acl")
	if o.ConfigFile || o.sentinel != "" {
		users = filepath.Join(d.Dir, "redis.conf")
		args = append([]string{users}, args...)
	} else {
		args = append(args, "--aclfile", users)
	}
	if o.sentinel != "" {
		args = append(args, "--sentinel")
	} else {
		args = append(args, "--save", "", "--appendonly", "no", "--daemonize", "no", "--pidfile",
			filepath.Join(d.Dir, "pid"))
	}
	args = append(args, o.Args...)
	d.Command = func() *exec.Cmd { return s.Run(path, args...) }
	list := fmt.Sprintf("user default off\nuser %s on >%s ~* &* +@all\n%s", Admin, Password, o.sentinel)
	if err := os.WriteFile(users, []byte(list), 0o600); err != nil {
		return nil, err
	}
	if err := s.Start(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

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
