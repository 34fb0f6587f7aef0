//go:build integration

package system

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/test/harness"
)

// filled returns a stopped server with secrets, and the secrets.
func filled(t *testing.T, secrets, size int) (*harness.Server, map[string]string) {
	t.Helper()
	s := harness.Ready(t, harness.Options{})
	c := s.Client(s.Root)
	c.Must(t, "POST", "sys/mounts/kv", object{"type": "kv", "options": object{"version": "1"}})
	random := rand.New(rand.NewPCG(3, 4))
	values := map[string]string{}
	for i := range secrets {
		pad := make([]byte, size/2)
		for j := range pad {
			pad[j] = byte(random.Uint32())
		}
		key, value := fmt.Sprintf("kv/%03d", i), fmt.Sprintf("%d %x", i, pad)
		c.Must(t, "PUT", key, object{"x": value})
		values[key] = value
	}
	return s, values
}

// copied returns another server on a copy of the first one's folder.
func copied(t *testing.T, from *harness.Server, data string) *harness.Server {
	t.Helper()
	s := harness.New(t, harness.Options{})
	s.Root = from.Root
	if err := errors.Join(harness.CopyTree(data, s.Data), harness.CopyTree(from.SealKey(), s.SealKey())); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestBackup does what the documentation says: stop, copy, start.
func TestBackup(t *testing.T) {
	t.Parallel()
	s, values := filled(t, 20, 100)
	s.Stop(t)
	backup := filepath.Join(t.TempDir(), "backup")
	if err := harness.CopyTree(s.Data, backup); err != nil {
		t.Fatal(err)
	}
	s.StartServing(t)
	c := s.Client(s.Root)
	c.Must(t, "PUT", "kv/001", object{"x": "after the backup"})
	c.Must(t, "DELETE", "kv/002", nil)

	restored := copied(t, s, backup)
	restored.StartServing(t)
	r := restored.Client(s.Root)
	for key, value := range values {
		if got := r.Must(t, "GET", key, nil).Text("data", "x"); got != value {
			t.Errorf("restored %s: %q, want %q", key, got, value)
		}
	}
	r.Must(t, "PUT", "kv/001", object{"x": "after restoring"})
	restored.Stop(t)
	restored.StartServing(t)
	if got := r.Must(t, "GET", "kv/001", nil).Text("data", "x"); got != "after restoring" {
		t.Errorf("a restored server keeps %q", got)
	}
	if got := c.Must(t, "GET", "kv/001", nil).Text("data", "x"); got != "after the backup" {
		t.Errorf("the first server has %q", got)
	}
}

// TestSecondServer starts a second server on the same folder.
func TestSecondServer(t *testing.T) {
	t.Parallel()
	first := harness.Ready(t, harness.Options{})
	second := harness.New(t, harness.Options{Data: first.Data})
	second.Root = first.Root
	if err := harness.CopyTree(first.SealKey(), second.SealKey()); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(second.Launch(), second.Answers()); !errors.Is(err, harness.ErrEnded) {
		t.Fatalf("the second server: %v", err)
	}
	if log := second.Stderr(t); !strings.Contains(log, first.Data) || !strings.Contains(log, "keyturn.hcl:") {
		t.Errorf("its error does not name the folder and the line:\n%s", log)
	}
	second.Kill()
	first.Client(first.Root).Must(t, "GET", "sys/mounts", nil)
	first.Kill()
	second.StartServing(t)
	second.Client(first.Root).Must(t, "GET", "sys/mounts", nil)
}

// TestNewerLayout starts this version on a folder of a newer version.
func TestNewerLayout(t *testing.T) {
	t.Parallel()
	s := harness.Ready(t, harness.Options{})
	s.Stop(t)
	marker := filepath.Join(s.Data, "LAYOUT")
	now, err := os.ReadFile(marker)
	if err != nil {
		t.Fatal(err)
	}
	for text, says := range map[string]string{
		"keyturn storage layout 999\n": "999", "keyturn storage layout x\n": "damaged", "": "damaged",
		"MySQL data\n": "damaged",
	} {
		if err := os.WriteFile(marker, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		before := s.Stderr(t)
		if err := errors.Join(s.Launch(), s.Ends()); err == nil {
			t.Errorf("%q: the server starts", text)
		}
		if log := strings.TrimPrefix(s.Stderr(t), before); !strings.Contains(log, says) {
			t.Errorf("%q: the error does not say %q: %s", text, says, log)
		}
	}
	if err := os.WriteFile(marker, now, 0o600); err != nil {
		t.Fatal(err)
	}
	s.StartServing(t)
	s.Client(s.Root).Must(t, "GET", "sys/mounts", nil)
	out, err := s.Command("keyturn", "version").CombinedOutput()
	if want := strings.TrimSpace(strings.TrimPrefix(string(now), "keyturn storage ")); err != nil ||
		!strings.Contains(string(out), want) {
		t.Errorf("version: %v %q, want it to have %q", err, out, want)
	}
}
