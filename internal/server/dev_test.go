package server

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/keyturn/keyturn/internal/secret"
)

// TestTokenFile writes the development server's token where there is nothing,
// a file that everybody may read, and a link.
func TestTokenFile(t *testing.T) {
	for name, before := range map[string]func(path, other string) error{
		"nothing": func(string, string) error { return nil },
		"a file that all may read": func(path, _ string) error {
			if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
				return err
			}
			return os.Chmod(path, 0o644)
		},
		"a link": func(path, other string) error { return os.Symlink(other, path) },
	} {
		dir := t.TempDir()
		path, other := filepath.Join(dir, ".vault-token"), filepath.Join(dir, "other")
		if err := os.WriteFile(other, []byte("other"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := before(path, other); err != nil {
			t.Fatal(err)
		}
		if err := writePrivate(path, secret.Text("hvs.root")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		info, err := os.Lstat(path)
		if err != nil || info.Mode() != fs.FileMode(0o600) {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
		text, err := os.ReadFile(path)
		if err != nil || string(text) != "hvs.root" {
			t.Errorf("%s: %q, %v", name, text, err)
		}
		if text, err := os.ReadFile(other); err != nil || string(text) != "other" {
			t.Errorf("%s: the other file has %q, %v", name, text, err)
		}
		if all, err := os.ReadDir(dir); err != nil || len(all) != 2 {
			t.Errorf("%s: %v, %v", name, all, err)
		}
	}
}
