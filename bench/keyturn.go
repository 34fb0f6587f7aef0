package main

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// patience limits a start.
const patience = 60 * time.Second

// A keyturn is one installation and its process.
type keyturn struct {
	dir     string
	address string
	root    string
	token   string // with the policy "bench"

	argv   []string
	cmd    *exec.Cmd
	exited chan error
}

// newKeyturn creates an installation and does not start it.
func newKeyturn(b *bench, name string) (*keyturn, error) {
	k := &keyturn{dir: filepath.Join(b.dir, name), argv: []string{b.binary}}
	if b.profile != "" {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		if err := os.MkdirAll(b.profile, 0o700); err != nil {
			return nil, err
		}
		k.argv = []string{self, childKeyturn, filepath.Join(b.profile, name)}
	}
	if err := os.Mkdir(k.dir, 0o700); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	k.address = l.Addr().String()
	if err := l.Close(); err != nil {
		return nil, err
	}
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	config := fmt.Sprintf(`
listener "tcp" {
  address     = %q
  tls_disable = true
}
storage "pebble" { path = %q }
seal "static" { current_key = "file://%s" }
outbound_allow = ["127.0.0.0/8"]
disable_mlock  = true
`, k.address, k.store(), k.sealKey())
	return k, errors.Join(
		os.WriteFile(k.sealKey(), []byte(hex.EncodeToString(key)), 0o600),
		os.WriteFile(k.config(), []byte(config), 0o600),
	)
}

func (k *keyturn) store() string   { return filepath.Join(k.dir, "store") }
func (k *keyturn) sealKey() string { return filepath.Join(k.dir, "seal.key") }
func (k *keyturn) config() string  { return filepath.Join(k.dir, "keyturn.hcl") }
func (k *keyturn) audit() string   { return filepath.Join(k.dir, "audit.log") }

// start starts the process and does not wait for an answer.
func (k *keyturn) start() error {
	log, err := os.OpenFile(filepath.Join(k.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the process has its own handle
	argv := append(k.argv[:len(k.argv):len(k.argv)], "server", "-config", k.config())
	k.cmd = exec.Command(argv[0], argv[1:]...)
	k.cmd.Dir, k.cmd.Stdout, k.cmd.Stderr = k.dir, log, log
	if err := k.cmd.Start(); err != nil {
		return err
	}
	k.exited = make(chan error, 1)
	go func() { k.exited <- k.cmd.Wait() }()
	return nil
}

// await sends a GET until the answer is 200.
func (k *keyturn) await(path string) error {
	deadline := time.Now().Add(patience)
	for {
		status, body, err := k.do(http.MethodGet, path, nil)
		if err == nil && status == http.StatusOK {
			return nil
		}
		select {
		case err := <-k.exited:
			k.cmd = nil
			log, _ := os.ReadFile(filepath.Join(k.dir, "log"))
			return fmt.Errorf("keyturn ended: %w\n%s", err, log[max(0, len(log)-2000):])
		case <-time.After(time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("keyturn does not answer: %w, status %d %s", err, status, body)
		}
	}
}

// The first path answers as soon as the process does, the second when it serves.
const (
	answers = "sys/health?sealedcode=200&uninitcode=200"
	serves  = "auth/token/lookup-self"
)

// kill kills the process, if it runs.
func (k *keyturn) kill() {
	if k.cmd == nil {
		return
	}
	_ = k.cmd.Process.Kill() // it may have ended already
	<-k.exited
	k.cmd = nil
}

// stop stops the process as a supervisor does, if it runs.
func (k *keyturn) stop() error {
	if k.cmd == nil {
		return nil
	}
	if err := k.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case err := <-k.exited:
		k.cmd = nil
		return err
	case <-time.After(patience):
		k.kill()
		return errors.New("keyturn did not stop")
	}
}

// ready starts a new installation with a mount, a policy and a token.
func ready(b *bench, name string, audited bool) (*keyturn, error) {
	k, err := newKeyturn(b, name)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(k.start(), k.await(answers)); err != nil {
		return nil, err
	}
	if err := k.furnish(audited); err != nil {
		k.kill()
		return nil, err
	}
	return k, nil
}

// policy is the policy of the client's token.
const policy = `path "kv/*" { capabilities = ["create", "read", "update"] }
path "auth/token/create" { capabilities = ["update"] }
path "sys/leases/*" { capabilities = ["update"] }
path "database/creds/*" { capabilities = ["read"] }`

func (k *keyturn) furnish(audited bool) error {
	var started struct {
		Root string `json:"root_token"`
	}
	if err := k.call(http.MethodPut, "sys/init", map[string]int{}, &started); err != nil {
		return err
	}
	k.root = started.Root
	k.token = k.root
	if err := k.await(serves); err != nil {
		return err
	}
	var made struct {
		Auth struct {
			Token string `json:"client_token"`
		} `json:"auth"`
	}
	err := errors.Join(
		k.call(http.MethodPost, "sys/mounts/kv",
			map[string]any{"type": "kv", "options": map[string]string{"version": "2"}}, nil),
		k.call(http.MethodPut, "sys/policies/acl/bench", map[string]string{"policy": policy}, nil),
		k.call(http.MethodPost, "auth/token/create", map[string]any{"policies": []string{"bench"}, "ttl": "240h"},
			&made),
	)
	k.token = made.Auth.Token
	if err != nil || !audited {
		return err
	}
	return k.as(k.root).call(http.MethodPut, "sys/audit/file",
		map[string]any{"type": "file", "options": map[string]string{"file_path": k.audit()}}, nil)
}

// as is the same installation, asked with another token.
func (k *keyturn) as(token string) *keyturn {
	other := *k
	other.token = token
	return &other
}

// call asks, expects success, and decodes the answer.
func (k *keyturn) call(method, path string, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return err
		}
	}
	status, text, err := k.do(method, path, body)
	if err != nil {
		return err
	}
	if status >= 300 {
		return fmt.Errorf("%s %s: status %d: %s", method, path, status, text)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(text, out)
}

func (k *keyturn) do(method, path string, body []byte) (int, []byte, error) {
	r, err := http.NewRequest(method, "http://"+k.address+"/v1/"+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	if k.token != "" {
		r.Header.Set("X-Vault-Token", k.token)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = res.Body.Close() }() // it was read
	text, err := io.ReadAll(res.Body)
	return res.StatusCode, text, err
}
