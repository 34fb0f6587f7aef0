//go:build unix

package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/keyturn/keyturn/test/await"
)

// A Daemon is a server that a test can stop, kill and start again. Its methods are safe for
// concurrent use.
type Daemon struct {
	Host string
	Port int
	Dir  string // all of its files
	// As is the account that runs the server; nil is our own.
	As *syscall.Credential
	// Log is the file of the server's log and output.
	Log string
	// Command returns the process to start.
	Command func() *exec.Cmd
	// Answers returns an error until the server can be used.
	Answers func(ctx context.Context) error
	// EndBy is the signal with which Stop stops the server.
	EndBy syscall.Signal

	mu     sync.Mutex // guards the process
	cmd    *exec.Cmd
	exited chan struct{}
}

// New returns a server with a folder and a port. If the test runs as root, the first of the
// accounts that exists runs the server, and owns the folder.
func New(pattern string, accounts ...string) (d *Daemon, err error) {
	d = &Daemon{Host: "127.0.0.1"}
	if d.Port, err = FreePort(); err != nil {
		return nil, err
	}
	if d.Dir, err = os.MkdirTemp("", pattern); err != nil {
		return nil, err
	}
	if os.Geteuid() != 0 || len(accounts) == 0 {
		return d, nil
	}
	for _, name := range accounts {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err1 == nil && err2 == nil && uid != 0 {
			d.As = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
			return d, d.Give(d.Dir)
		}
	}
	os.RemoveAll(d.Dir)
	return nil, fmt.Errorf("the server does not run as root, and there is none of the users %q", accounts)
}

// FreePort returns a free port of the loopback interface.
func FreePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// Give makes the account that runs the server the owner of a file.
func (d *Daemon) Give(path string) error {
	if d.As == nil {
		return nil
	}
	return os.Chown(path, int(d.As.Uid), int(d.As.Gid))
}

// Run returns a command that runs as the server's account, without the caller's environment, which
// must not configure the server.
func (d *Daemon) Run(path string, args ...string) *exec.Cmd {
	cmd := exec.Command(path, args...)
	cmd.Dir = d.Dir
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "TZ=UTC", "HOME=" + d.Dir}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: d.As, Setpgid: true}
	return cmd
}

// Started closes a started server at the end of the test. If err is absent, the test is skipped,
// or fails if KEYTURN_TEST_REQUIRE is set, as "make test" does.
func Started[S interface {
	Close()
	LogTail(bytes int) string
}](t testing.TB, s S, err, absent error) S {
	t.Helper()
	if errors.Is(err, absent) && os.Getenv("KEYTURN_TEST_REQUIRE") == "" {
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

// Start starts the server on its old files and port, and waits until it answers. Starting a
// running server does nothing.
func (d *Daemon) Start() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cmd != nil {
		return nil
	}
	log, err := os.OpenFile(d.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := d.Command()
	cmd.Stdout, cmd.Stderr = log, log
	if err := errors.Join(d.Give(d.Log), cmd.Start()); err != nil {
		return err
	}
	exited := make(chan struct{})
	go func() { _ = cmd.Wait(); close(exited) }()
	for deadline := time.Now().Add(await.Patience); ; {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		err := d.Answers(ctx)
		cancel()
		if err == nil {
			d.cmd, d.exited = cmd, exited
			return nil
		}
		select {
		case <-exited:
			return fmt.Errorf("the server ended while starting:\n%s", d.LogTail(3000))
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			_ = cmd.Process.Kill()
			<-exited
			return fmt.Errorf("the server did not answer in time: %w\n%s", err, d.LogTail(3000))
		}
	}
}

// Stop stops the server as an administrator would. Stopping a stopped server does nothing.
func (d *Daemon) Stop() { d.end(d.EndBy) }

// Kill kills the server, as a crash would.
func (d *Daemon) Kill() { d.end(syscall.SIGKILL) }

func (d *Daemon) end(sig syscall.Signal) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cmd == nil {
		return
	}
	_ = d.cmd.Process.Signal(sig)
	select {
	case <-d.exited:
	case <-time.After(await.Patience):
		_ = d.cmd.Process.Kill()
		<-d.exited
	}
	d.cmd, d.exited = nil, nil
}

// Close stops the server and removes its files.
func (d *Daemon) Close() {
	d.Stop()
	os.RemoveAll(d.Dir)
}

// Addr is host:port.
func (d *Daemon) Addr() string { return net.JoinHostPort(d.Host, strconv.Itoa(d.Port)) }

// LogTail returns the end of the server's log.
func (d *Daemon) LogTail(bytes int) string {
	b, err := os.ReadFile(d.Log)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-bytes):])
}
