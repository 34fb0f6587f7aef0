//go:build unix

package cli

import (
	"io"
	"strings"
	"testing"
)

// endless is standard input without end.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// TestEndlessInput checks that a file or standard input that never ends is refused.
func TestEndlessInput(t *testing.T) {
	for _, arg := range []string{"@/dev/zero", "key=@/dev/zero", "-", "key=-"} {
		if _, err := parseData(endless{}, []string{arg}); err == nil || !strings.Contains(err.Error(), "32 MiB") {
			t.Errorf("%s: %v", arg, err)
		}
	}
	s := &session{env: Env{Stdin: endless{}, Stderr: io.Discard}, args: []string{"-"}}
	for _, name := range []string{"-", "/dev/zero"} {
		if _, err := s.readFile(name); err == nil || !strings.Contains(err.Error(), "32 MiB") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := s.argumentOrPrompt(t.Context(), "Token: "); err == nil || !strings.Contains(err.Error(), "1 MiB") {
		t.Errorf("an argument from standard input: %v", err)
	}
	if _, err := s.prompt(t.Context(), "Token: "); err == nil || !strings.Contains(err.Error(), "1048576 bytes") {
		t.Errorf("an answer: %v", err)
	}
	for _, o := range []options{{caFile: "/dev/zero"}, {clientCert: "/dev/zero"}, {clientKeyFile: "/dev/zero"}} {
		if _, err := o.config(func(string) string { return "" }); err == nil ||
			!strings.Contains(err.Error(), "/dev/zero is a device") {
			t.Errorf("%+v: %v", o, err)
		}
	}
	for _, v := range []string{"VAULT_CACERT", "VAULT_CLIENT_CERT", "VAULT_CLIENT_KEY", "VAULT_CONFIG_PATH"} {
		env := func(name string) string { return map[string]string{v: "/dev/zero"}[name] }
		if _, err := new(options).config(env); err == nil || !strings.Contains(err.Error(), "/dev/zero is a device") {
			t.Errorf("%s: %v", v, err)
		}
	}
}

// TestByteOrderMark checks that the error for a byte-order mark names it.
func TestByteOrderMark(t *testing.T) {
	if _, err := parseData(strings.NewReader("\xef\xbb\xbf{}"), []string{"-"}); err == nil ||
		!strings.Contains(err.Error(), "byte-order mark") {
		t.Error(err)
	}
}
