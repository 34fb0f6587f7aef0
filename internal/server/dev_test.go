package server

import (
	"crypto/x509"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/server/config"
)

// TestDevTLS: the certificate is good for its names by the authority that is
// written beside it, and the key is the user's alone.
func TestDevTLS(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "new")
	settings, authority, err := devTLS(folder, devNames("10.1.2.3:8200", []string{"keyturn.example"}))
	if err != nil {
		t.Fatal(err)
	}
	c, err := settings.Config()
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(c.Certificates[0].Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(authority)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	for name, good := range map[string]bool{
		"localhost": true, "127.0.0.1": true, "::1": true, "10.1.2.3": true, "keyturn.example": true,
		"other.example": false,
	} {
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name}); (err == nil) != good {
			t.Errorf("%s: %v", name, err)
		}
	}
	if info, err := os.Stat(settings.KeyFile); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key: %v, %v", info, err)
	}
	if _, _, err := devTLS(authority, nil); err == nil || !strings.Contains(err.Error(), "-dev-tls-cert-dir") {
		t.Errorf("a file in place of the folder: %v", err)
	}
}

// TestDevFlags: flags that are not there say what to do, and near ones are named.
func TestDevFlags(t *testing.T) {
	for args, want := range map[string]string{
		"-dev -dev-plugin-dir=x": "the flag -dev-plugin-dir is not supported: every engine is built in; leave the " +
			"flag out",
		"-recovery":                "the flag -recovery is not supported: ",
		"-dev-root-tokenid=x -dev": "did you mean -dev-root-token-id?",
		"-nonesuch":                "there is no flag -nonesuch",
		"-dev-kv-v1 -config=x":     "-dev-kv-v1 needs -dev",
		"-dev -dev-tls-san=x":      "-dev-tls-cert-dir and -dev-tls-san need -dev-tls",
		"-dev -check":              "-check needs -config",
	} {
		_, err := parseOptions(strings.Fields(args), io.Discard)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", args, err, want)
		}
	}
	if o, err := parseOptions([]string{"-dev-tls"}, io.Discard); err != nil || !o.dev {
		t.Errorf("-dev-tls alone: %v, %+v", err, o)
	}
	for _, name := range config.AbsentFlags() {
		_, err := parseOptions([]string{"-" + name}, io.Discard)
		if err == nil || !strings.Contains(err.Error(), "is not supported") {
			t.Errorf("-%s is said to be absent: %v", name, err)
		}
	}
}

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
