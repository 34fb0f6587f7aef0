package demo

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// A server is `keyturn server` as a process that can be killed.
type server struct {
	*client // with the root token after initialization
	dir     string
	program string
	process *process // nil if it does not run
}

// startLimit limits the start of the server, which takes seconds on a slow machine.
const startLimit = 30 * time.Second

// prepareServer writes the configuration of a server that unseals itself.
func prepareServer(ctx context.Context, dir string) (*server, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding this program: %w", err)
	}
	port, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	address := fmt.Sprintf("127.0.0.1:%d", port)
	s := &server{dir: dir, program: program,
		client: &client{url: "http://" + address, http: &http.Client{Transport: &http.Transport{}}}}
	var key [32]byte
	_, _ = rand.Read(key[:]) // never fails
	if err := os.WriteFile(s.path("seal.key"), []byte(hex.EncodeToString(key[:])+"\n"), 0o600); err != nil {
		return nil, err
	}
	return s, os.WriteFile(s.path("keyturn.hcl"), []byte(s.config(address)), 0o600)
}

func (s *server) path(name string) string { return filepath.Join(s.dir, name) }

// config allows engines to call the loopback address, because everything that they call is there.
func (s *server) config(address string) string {
	return fmt.Sprintf(`listener "tcp" {
  address     = %q
  tls_disable = true
}

storage "pebble" {
  path = %q
}

seal "static" {
  current_key = %q
}

outbound_allow = ["127.0.0.0/8"]
disable_mlock  = true
`, address, filepath.ToSlash(s.path("store")), "file://"+filepath.ToSlash(s.path("seal.key")))
}

// start starts the server, waits until it answers, and returns how long that took.
func (s *server) start(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	cmd := exec.Command(s.program, "server", "-config", s.path("keyturn.hcl"))
	cmd.Dir = s.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir, "TMPDIR=" + os.TempDir(),
		"SYSTEMROOT=" + os.Getenv("SYSTEMROOT")}
	p, err := launch(cmd, s.path("server.log"))
	if err != nil {
		return 0, fmt.Errorf("starting the server: %w", err)
	}
	s.process = p
	if err := p.answer(ctx, startLimit, s.ready); err != nil {
		return 0, fmt.Errorf("starting the server: %w; its log ends:\n%s", err, tail(s.path("server.log")))
	}
	return time.Since(began), nil
}

// ready returns nil if the server is unsealed or waits to be initialized.
func (s *server) ready(ctx context.Context) error {
	return s.raw(ctx, http.MethodGet, "sys/health?uninitcode=200", nil, new(any))
}

// initialize initializes the server and keeps the root token.
func (s *server) initialize(ctx context.Context) error {
	var made struct {
		Token string `json:"root_token"`
	}
	if err := s.raw(ctx, http.MethodPut, "sys/init", map[string]int{"recovery_shares": 1, "recovery_threshold": 1},
		&made); err != nil {
		return err
	}
	s.client = s.as(made.Token)
	return s.process.answer(ctx, startLimit, func(ctx context.Context) error {
		return s.raw(ctx, http.MethodGet, "sys/health", nil, new(any))
	})
}

// kill kills the server with SIGKILL.
func (s *server) kill() {
	s.process.kill()
	s.process = nil
	s.http.CloseIdleConnections()
}

// close stops the server as a supervisor would.
func (s *server) close() {
	if s.process != nil {
		s.process.stop(os.Interrupt)
	}
}
