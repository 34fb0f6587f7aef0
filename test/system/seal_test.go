//go:build integration

package system

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/test/await"
	"github.com/keyturn/keyturn/test/harness"
)

// TestSupervisor lets a supervisor restart a server with the seal "static" after every kind of
// end. The server unseals without a person.
func TestSupervisor(t *testing.T) {
	t.Parallel()
	s := harness.Ready(t, harness.Options{})
	c := s.Client(s.Root)
	c.Must(t, "POST", "sys/mounts/kv", object{"type": "kv", "options": object{"version": "2"}})
	for i, end := range []func(){s.Kill, func() { s.Stop(t) }, s.Kill} {
		c.Must(t, "PUT", "kv/data/a", object{"data": object{"n": i}})
		end()
		s.StartServing(t)
		if got := c.Must(t, "GET", "kv/data/a", nil).Int("data", "data", "n"); got != int64(i) {
			t.Errorf("after restart %d: %d", i, got)
		}
	}
	c.Must(t, "PUT", "sys/seal", nil)
	await.Eventually(t, "it is sealed", func() bool { return sealed(t, c) })
	c.Must(t, "GET", "kv/data/a", nil, 503)
	s.Stop(t)
	s.StartServing(t)
	c.Must(t, "GET", "kv/data/a", nil)
}

func sealed(t *testing.T, c *harness.Client) bool {
	t.Helper()
	return c.Must(t, "GET", "sys/seal-status", nil).Get("sealed") == true
}

// TestWrongStaticKey starts a server with a wrong key. The server says so, serves nothing, loses
// nothing, and serves again with the right key.
func TestWrongStaticKey(t *testing.T) {
	t.Parallel()
	right := harness.Options{}
	s := harness.Ready(t, right)
	c := s.Client(s.Root)
	c.Must(t, "POST", "sys/mounts/kv", object{"type": "kv", "options": object{"version": "2"}})
	c.Must(t, "PUT", "kv/data/a", object{"data": object{"x": "kept"}})
	s.Stop(t)
	rightKey := s.SealKey() + ".right"
	if err := exec.Command("mv", s.SealKey(), rightKey).Run(); err != nil {
		t.Fatal(err)
	}

	s.NewSealKey(t)
	s.Start(t)
	await.Eventually(t, "the log says what is wrong", func() bool {
		log := s.Stderr(t)
		return strings.Contains(log, "level=ERROR") && strings.Contains(log, "the seal was made with the key") &&
			strings.Contains(log, s.SealKey())
	})
	if !sealed(t, c) {
		t.Error("it is unsealed with a wrong key")
	}
	c.Must(t, "GET", "kv/data/a", nil, 503)
	c.Must(t, "PUT", "sys/init", object{"secret_shares": 1, "secret_threshold": 1}, 400)
	c.Must(t, "PUT", "sys/unseal", object{"key": base64.StdEncoding.EncodeToString(make([]byte, 33))}, 400)
	s.Stop(t)

	for what, text := range map[string]string{"short": "0011",
		"no key": "not a key at all, and longer than thirty-two bytes"} {
		if err := exec.Command("sh", "-c", "printf '%s' \"$1\" >\"$2\"", "sh", text, s.SealKey()).Run(); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(s.Launch(), s.Ends()); err == nil {
			t.Errorf("%s: the server starts", what)
		}
		if log := s.Stderr(t); !strings.Contains(log, "current_key") || !strings.Contains(log, "keyturn.hcl:") ||
			strings.Contains(log, text) {
			t.Errorf("%s: the error does not say where and what, or repeats the key: %s", what, log)
		}
	}
	if err := exec.Command("mv", rightKey, s.SealKey()).Run(); err != nil {
		t.Fatal(err)
	}
	s.StartServing(t)
	if got := c.Must(t, "GET", "kv/data/a", nil).Text("data", "data", "x"); got != "kept" {
		t.Errorf("%q is left", got)
	}
}

// TestShamir checks the life of a server that people unseal.
func TestShamir(t *testing.T) {
	t.Parallel()
	s := harness.New(t, harness.Options{Shamir: true})
	s.Start(t)
	c := s.Client("")
	for path, status := range map[string]int{"sys/health": 501, "sys/mounts": 503, "sys/init": 200,
		"sys/seal-status": 200, "kv/data/a": 503} {
		c.Must(t, "GET", path, nil, status)
	}
	for _, wrong := range []object{
		{"secret_shares": 1, "secret_threshold": 2}, {"secret_shares": 5, "secret_threshold": 1},
		{"secret_shares": 0, "secret_threshold": 0},
		{"secret_shares": 300, "secret_threshold": 3},
		{"secret_shares": 5, "secret_threshold": 3, "pgp_keys": []string{"x"}}, {},
	} {
		c.Must(t, "PUT", "sys/init", wrong, 400)
	}
	c.Must(t, "PUT", "sys/unseal", object{"key": "AAAA"}, 400)
	s.Init(t, 5, 3)
	c = s.Client(s.Root)
	if len(s.Keys) != 5 || s.Root == "" {
		t.Fatalf("%d keys", len(s.Keys))
	}
	c.Must(t, "PUT", "sys/init", object{"secret_shares": 5, "secret_threshold": 3}, 400)
	c.Must(t, "GET", "sys/mounts", nil, 503)
	c.Must(t, "GET", "sys/health", nil, 503)

	unseal(t, c, s.Keys[0], 1)
	unseal(t, c, s.Keys[0], 1) // the same share again changes nothing
	unseal(t, c, s.Keys[4], 2)
	c.Must(t, "PUT", "sys/unseal", object{"reset": true})
	if got := c.Must(t, "GET", "sys/seal-status", nil).Int("progress"); got != 0 {
		t.Errorf("after a reset the progress is %d", got)
	}
	wrongShares(t, c, s.Keys)
	operatorUnseals(t, s)
	c.Must(t, "POST", "sys/mounts/kv", object{"type": "kv", "options": object{"version": "2"}})
	c.Must(t, "PUT", "kv/data/a", object{"data": object{"x": "kept"}})
	if out, err := s.Command("vault", "operator", "seal").CombinedOutput(); err != nil {
		t.Fatalf("operator seal: %v\n%s", err, out)
	}
	await.Eventually(t, "it is sealed", func() bool { return sealed(t, c) })
	c.Must(t, "GET", "kv/data/a", nil, 503)
	c.Must(t, "PUT", "kv/data/a", object{"data": object{}}, 503)
	for i, want := range []int64{1, 2, 0} {
		unseal(t, c, s.Keys[i+1], want)
	}
	c.Must(t, "GET", "kv/data/a", nil)
	s.Kill()
	s.Start(t)
	if !sealed(t, c) {
		t.Error("a restarted server is unsealed with nobody there")
	}
	for i, want := range []int64{1, 2, 0} {
		unseal(t, c, hexOf(t, s.Keys[4-i]), want)
	}
	if got := c.Must(t, "GET", "kv/data/a", nil).Text("data", "data", "x"); got != "kept" {
		t.Errorf("%q is left", got)
	}
}

// unseal sends one share and checks the progress, which is 0 after the last one.
func unseal(t *testing.T, c *harness.Client, key string, progress int64) {
	t.Helper()
	a := c.Must(t, "PUT", "sys/unseal", object{"key": key})
	if got := a.Int("progress"); got != progress {
		t.Errorf("progress %d, want %d: %s", got, progress, a.Body)
	}
	if got := a.Get("sealed"); got != (progress != 0) {
		t.Errorf("sealed: %v at progress %d", got, progress)
	}
}

func hexOf(t *testing.T, key string) string {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(key)
	if err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(b)
}

// wrongShares tries to unseal with invalid shares, a changed share, and shares of another
// installation. None unseals the server or prevents unsealing with the right ones.
func wrongShares(t *testing.T, c *harness.Client, keys []string) {
	t.Helper()
	for _, key := range []string{"", "x", "not base64!", base64.StdEncoding.EncodeToString([]byte("short")),
		strings.Repeat("QUFB", 1000)} {
		c.Must(t, "PUT", "sys/unseal", object{"key": key}, 400)
	}
	other := harness.New(t, harness.Options{Shamir: true})
	other.Start(t)
	other.Init(t, 5, 3)
	other.Kill()
	changed, err := base64.StdEncoding.DecodeString(keys[2])
	if err != nil {
		t.Fatal(err)
	}
	changed[3] ^= 1
	for what, third := range map[string]string{"changed": base64.StdEncoding.EncodeToString(changed),
		"of another server": other.Keys[2]} {
		c.Must(t, "PUT", "sys/unseal", object{"reset": true})
		unseal(t, c, keys[0], 1)
		unseal(t, c, keys[1], 2)
		a, err := c.Do("PUT", "sys/unseal", object{"key": third})
		if err != nil || a.Status != 400 || len(a.List("errors")) == 0 {
			t.Errorf("a share that is %s: %v %s", what, err, body(a))
		}
		if !sealed(t, c) {
			t.Fatalf("a share that is %s has unsealed it", what)
		}
	}
	c.Must(t, "PUT", "sys/unseal", object{"reset": true})
}

// operatorUnseals unseals with the command line, as a person does.
func operatorUnseals(t *testing.T, s *harness.Server) {
	t.Helper()
	for i, want := range []string{"1/3", "2/3", "false"} {
		out, err := s.Command("vault", "operator", "unseal", s.Keys[i]).CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) {
			t.Fatalf("operator unseal %d: %v\n%s\nwant %s", i, err, out, want)
		}
	}
	if out, err := s.Command("vault", "status").CombinedOutput(); err != nil {
		t.Fatalf("status: %v\n%s", err, fmt.Sprintf("%.2000s", out))
	}
}
