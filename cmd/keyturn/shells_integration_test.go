//go:build integration && linux

package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// typings are inputs with tabs, and what is executed.
var typings = []struct{ keys, want string }{
	{"keyturn kv ge\t -field=a secret/to\t\r", "top-value"},
	{"keyturn kv get -fi\ta -mount=se\t folder/o\t\r", "one-value"},
	{"keyturn kv get -field=a secret/folder/o\t\r", "one-value"},
	{"keyturn -form\tjson policy rea\t defau\t\r", `"policy":`},
	{"keyturn kv get -field=a secret/folder/two\t\r", "two-value"},
}

// TestShells installs the completion and types commands in bash, zsh and fish.
func TestShells(t *testing.T) {
	address := developmentServer(t, os.Stderr)
	for path, value := range map[string]string{"top": "top-value", "folder/one": "one-value",
		"folder/two words $(touch x)": "two-value"} {
		write(t, address, "PUT", "secret/data/"+strings.NewReplacer(" ", "%20", "$", "%24").Replace(path),
			fmt.Sprintf(`{"data":{"a":%q}}`, value))
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		t.Run(shell, func(t *testing.T) {
			program, err := exec.LookPath(shell)
			if err != nil {
				t.Fatalf("%v; test/prepare.sh installs it", err)
			}
			s := newTypist(t, program, address)
			for _, typing := range typings {
				s.types(typing.keys, typing.want)
			}
			s.types("ls x\r", "No such file") // no name was executed
		})
	}
}

// A typist types into a shell in a terminal.
type typist struct {
	t        *testing.T
	terminal *os.File
	mu       sync.Mutex
	seen     bytes.Buffer
}

// newTypist creates a home folder with the completion and starts the shell.
func newTypist(t *testing.T, shell, address string) *typist {
	home := t.TempDir()
	// If this folder is missing, fish fills it in the background, even while the test removes its
	// files.
	if err := os.MkdirAll(filepath.Join(home, ".local", "share", "fish", "generated_completions"), 0o755); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(home, "my bin", "keyturn") // the test binary is keyturn under this name
	copyProgram(t, program)
	env := []string{"HOME=" + home, "SHELL=" + shell, "TERM=xterm", "PATH=" + filepath.Dir(program) + ":/usr/bin:/bin",
		"VAULT_ADDR=" + address, "VAULT_TOKEN=root", "PS1=ready> ", "LC_ALL=C.UTF-8"}
	install := exec.CommandContext(t.Context(), program, "-autocomplete-install")
	install.Env = env
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("installing: %v\n%s", err, out)
	}
	terminal, inner := openTerminal(t)
	defer inner.Close()
	command := exec.CommandContext(t.Context(), shell, "-i")
	command.Env, command.Dir = env, home
	command.Stdin, command.Stdout, command.Stderr = inner, inner, inner
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	s := &typist{t: t, terminal: terminal}
	go s.watch()
	t.Cleanup(func() {
		_ = command.Process.Kill() // it may have ended
		_ = command.Wait()
		terminal.Close()
	})
	s.types("printf '%s-%s\\n' up 42\r", "up-42")
	return s
}

// watch reads the terminal until it closes, and answers the queries of fish.
func (s *typist) watch() {
	buffer := make([]byte, 4096)
	for {
		n, err := s.terminal.Read(buffer)
		if err != nil {
			return
		}
		s.mu.Lock()
		s.seen.Write(buffer[:n])
		s.mu.Unlock()
		for question, answer := range map[string]string{"\x1b[c": "\x1b[?62;c", "\x1b[6n": "\x1b[1;1R"} {
			if bytes.Contains(buffer[:n], []byte(question)) {
				_, _ = io.WriteString(s.terminal, answer) // the terminal may have closed
			}
		}
	}
}

// types types keys and waits for the output.
func (s *typist) types(keys, want string) {
	s.t.Helper()
	s.mu.Lock()
	s.seen.Reset()
	s.mu.Unlock()
	if _, err := io.WriteString(s.terminal, keys); err != nil {
		s.t.Fatal(err)
	}
	late, tick := time.After(2*time.Minute), time.NewTicker(20*time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-late:
			s.t.Fatalf("%q: no %q in\n%q", keys, want, s.text())
		case <-tick.C:
			if strings.Contains(s.text(), want) {
				return
			}
		}
	}
}

func (s *typist) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen.String()
}

// copyProgram copies this program, because its name decides what it does.
func copyProgram(t *testing.T, to string) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, text, 0o755); err != nil {
		t.Fatal(err)
	}
}

// openTerminal opens a pseudo terminal: our end, and the program's.
func openTerminal(t *testing.T) (ours, inner *os.File) {
	ours, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fd := int(ours.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 40, Col: 200}); err != nil {
		t.Fatal(err)
	}
	inner, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return ours, inner
}
