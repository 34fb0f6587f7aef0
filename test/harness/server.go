package harness

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keyturn/keyturn/test/await"
)

// Options of a server. The zero value unseals itself, with the seal "static".
type Options struct {
	// Shamir makes the server wait for unseal keys.
	Shamir bool
	// Level is the log level; info by default.
	Level string
	// Data is the storage folder; by default one below the server's own.
	Data string
	// Listener and Config are more lines for the listener, and for the top level of the
	// configuration.
	Listener, Config string
}

// A Server is one installation: its files, its address, and its process, if it runs. Its methods
// are not safe for concurrent use.
type Server struct {
	Dir     string // configuration, seal key, output
	Data    string // the storage folder
	Address string // host:port
	Keys    []string
	Root    string // the root token, after Init

	args   []string // arguments of the process
	cmd    *exec.Cmd
	exited chan struct{} // closed when the process has ended
	err    error         // how it ended
}

// ErrEnded means that the process ended on its own.
var ErrEnded = errors.New("the server ended")

// New creates the files of a server and does not start it. At the end of the test, a running
// process is killed.
func New(t testing.TB, o Options) *Server {
	t.Helper()
	s := &Server{Dir: t.TempDir(), Data: o.Data, Address: FreeAddress(t)}
	if s.Data == "" {
		s.Data = filepath.Join(s.Dir, "data")
	}
	s.NewSealKey(t)
	s.Configure(t, o)
	s.args = []string{"server", "-config", s.Config()}
	s.endWith(t)
	return s
}

// Dev starts a development server, which is unsealed and has the root token "root", and waits
// until it serves.
func Dev(t testing.TB, flags ...string) *Server {
	t.Helper()
	s := &Server{Dir: t.TempDir(), Address: FreeAddress(t), Root: "root"}
	s.args = append([]string{"server", "-dev", "-dev-root-token-id=root", "-dev-listen-address=" + s.Address},
		flags...)
	s.endWith(t)
	s.StartServing(t)
	return s
}

// endWith kills a running process at the end of the test.
func (s *Server) endWith(t testing.TB) {
	t.Cleanup(func() {
		s.Kill()
		if t.Failed() {
			t.Logf("the end of the server's log:\n%s", tail(s.Stderr(t), 6000))
		}
	})
}

// Configure rewrites the configuration file.
func (s *Server) Configure(t testing.TB, o Options) {
	t.Helper()
	seal := fmt.Sprintf("seal \"static\" { current_key = \"file://%s\" }\n", s.SealKey())
	if o.Shamir {
		seal = ""
	}
	level := o.Level
	if level == "" {
		level = "info"
	}
	text := fmt.Sprintf(`
listener "tcp" {
  address     = %q
  tls_disable = true
  %s
}
storage "pebble" { path = %q }
%slog_level     = %q
disable_mlock = true
%s
`, s.Address, o.Listener, s.Data, seal, level, o.Config)
	if err := os.WriteFile(s.Config(), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Config returns the path of the configuration file.
func (s *Server) Config() string { return filepath.Join(s.Dir, "keyturn.hcl") }

// SealKey returns the path of the key of the seal "static".
func (s *Server) SealKey() string { return filepath.Join(s.Dir, "seal.key") }

// NewSealKey writes a new seal key.
func (s *Server) NewSealKey(t testing.TB) {
	t.Helper()
	key := make([]byte, 32)
	rand.Read(key)
	if err := os.WriteFile(s.SealKey(), []byte(hex.EncodeToString(key)), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Stdout returns the standard output of all runs.
func (s *Server) Stdout(t testing.TB) string { return s.output(t, "stdout") }

// Stderr returns the log of all runs.
func (s *Server) Stderr(t testing.TB) string { return s.output(t, "stderr") }

func (s *Server) output(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(s.Dir, name))
	if err != nil && !os.IsNotExist(err) {
		t.Error(err)
	}
	return string(b)
}

func (s *Server) appendTo(name string) (*os.File, error) {
	return os.OpenFile(filepath.Join(s.Dir, name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
}

// Launch starts the process and does not wait for it to answer.
func (s *Server) Launch() error {
	if s.cmd != nil {
		return errors.New("it runs already")
	}
	cmd := exec.Command(Binary(), s.args...)
	cmd.Dir = s.Dir
	cmd.Env = []string{"HOME=" + s.Dir, "PATH=" + os.Getenv("PATH"), "TMPDIR=" + s.Dir}
	stdout, err := s.appendTo("stdout")
	if err != nil {
		return err
	}
	defer stdout.Close() // the process has its own handle
	stderr, err := s.appendTo("stderr")
	if err != nil {
		return err
	}
	defer stderr.Close()
	cmd.Stdout, cmd.Stderr = stdout, stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	s.cmd, s.exited = cmd, make(chan struct{})
	go func(exited chan struct{}) {
		s.err = cmd.Wait()
		close(exited)
	}(s.exited)
	return nil
}

// Answers waits until the server answers, sealed or not.
func (s *Server) Answers() error { return s.await("sealedcode=200&uninitcode=200") }

// Serves waits until the server is unsealed.
func (s *Server) Serves() error { return s.await("uninitcode=503") }

func (s *Server) await(query string) error {
	client := http.Client{Timeout: 5 * time.Second}
	defer client.CloseIdleConnections()
	deadline := time.Now().Add(await.Patience)
	for {
		res, err := client.Get("http://" + s.Address + "/v1/sys/health?" + query)
		if err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
			err = fmt.Errorf("it answers %s", res.Status)
		}
		select {
		case <-s.exited:
			return fmt.Errorf("%w: %w", ErrEnded, s.err)
		case <-time.After(3 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return err
		}
	}
}

// Start starts the server and waits until it answers.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	if err := errors.Join(s.Launch(), s.Answers()); err != nil {
		t.Fatalf("starting the server: %v", err)
	}
}

// StartServing starts the server and waits until it is unsealed.
func (s *Server) StartServing(t testing.TB) {
	t.Helper()
	if err := errors.Join(s.Launch(), s.Serves()); err != nil {
		t.Fatalf("starting the server: %v", err)
	}
}

// Kill kills the process, if it runs.
func (s *Server) Kill() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill() // it may have ended already
	<-s.exited
	s.cmd = nil
}

// Stop stops the server as a supervisor would. An error at the end fails the test.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := s.Ends(); err != nil {
		t.Fatalf("stopping the server: %v", err)
	}
}

// Ends waits for the end of the process and returns its error.
func (s *Server) Ends() error {
	select {
	case <-s.exited:
		s.cmd = nil
		return s.err
	case <-time.After(await.Patience):
		return errors.New("the server does not end")
	}
}

// Hangup makes the server reload.
func (s *Server) Hangup(t testing.TB) {
	t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
}

// PID returns the ID of the process.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// Init initializes a running server. With the seal "static" it waits until the server is unsealed.
// shares and threshold are for the seal "shamir".
func (s *Server) Init(t testing.TB, shares, threshold int) {
	t.Helper()
	a := s.Client("").Must(t, "PUT", "sys/init",
		map[string]int{"secret_shares": shares, "secret_threshold": threshold}, 200)
	s.Root = a.Text("root_token")
	for _, k := range a.List("keys_base64") {
		s.Keys = append(s.Keys, k.(string))
	}
	if len(s.Keys) > 0 {
		return
	}
	if err := s.Serves(); err != nil {
		t.Fatal(err)
	}
}

// Ready is New, Start and Init for the seal "static".
func Ready(t testing.TB, o Options) *Server {
	t.Helper()
	s := New(t, o)
	s.Start(t)
	s.Init(t, 0, 0)
	return s
}

// Client returns a client with a token.
func (s *Server) Client(token string) *Client { return NewClient(s.Address, token) }

// Command returns a command line of name ("keyturn" or "vault") with the root token.
func (s *Server) Command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(Folder(), name), args...)
	cmd.Dir, cmd.Env = s.Dir, s.Environ()
	return cmd
}

// Environ returns the environment of a client with the root token.
func (s *Server) Environ() []string {
	return []string{
		"HOME=" + s.Dir, "PATH=" + Folder() + ":" + os.Getenv("PATH"), "VAULT_ADDR=http://" + s.Address,
		"VAULT_TOKEN=" + s.Root,
		"TMPDIR=" + s.Dir, "LC_ALL=C.UTF-8",
	}
}

func tail(text string, n int) string {
	if len(text) <= n {
		return text
	}
	text = text[len(text)-n:]
	_, text, _ = strings.Cut(text, "\n")
	return text
}
