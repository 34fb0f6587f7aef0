// Package harness runs keyturn for tests of the whole system: the binary as it is shipped, as a
// process on a free port with its files in a temporary folder. Tests call it over HTTP, and stop,
// kill and restart it as a supervisor would.
//
// A package that uses it has
//
//	func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }
//
// which builds the binary once. KEYTURN_BINARY may name an existing one.
package harness

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// folder contains the binary and the link "vault".
var folder string

// Main builds the binary, runs the tests and removes the binary.
func Main(m *testing.M) int {
	dir, err := os.MkdirTemp("", "kt-bin-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }() // the system cleans its temporary folder
	folder = dir
	if err := build(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

func build() error {
	if ready := os.Getenv("KEYTURN_BINARY"); ready != "" {
		if err := copyFile(ready, Binary()); err != nil {
			return err
		}
	} else {
		cmd := exec.Command("go", "build", "-trimpath", "-o", Binary(), "github.com/keyturn/keyturn/cmd/keyturn")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("building keyturn: %w\n%s", err, out)
		}
	}
	return os.Symlink(Binary(), filepath.Join(folder, "vault"))
}

// Binary returns the path of the program.
func Binary() string { return filepath.Join(folder, "keyturn") }

// Folder returns the folder of the binary and its link vault, for PATH.
func Folder() string { return folder }

// CopyTree copies a folder, as a backup does.
func CopyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		if d.IsDir() {
			return os.MkdirAll(target, 0o700)
		}
		return copyFile(path, target)
	})
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, info.Mode().Perm())
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}

// FreeAddress returns a free address of this machine. Its port is below those that the system uses
// for outgoing connections, which could take it while a server restarts.
func FreeAddress(t testing.TB) string {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(22_000)))
		if err != nil {
			continue
		}
		defer l.Close()
		return l.Addr().String()
	}
	t.Fatal("no free port")
	return ""
}
