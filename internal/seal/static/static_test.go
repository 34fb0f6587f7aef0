package static

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/seal"
	"github.com/keyturn/keyturn/internal/seal/sealtest"
)

func newKey() []byte {
	b := make([]byte, keySize)
	_, _ = rand.Read(b)
	return b
}

// write returns the address of a file that holds b.
func write(t testing.TB, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return "file://" + path
}

func opened(t testing.TB, params map[string]string) seal.Seal {
	t.Helper()
	s, err := Driver.Open(params)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	return s
}

func TestStatic(t *testing.T) {
	sealtest.Run(t, Driver, func(t *testing.T) seal.Seal {
		return opened(t, map[string]string{"current_key": write(t, newKey())})
	})
}

// TestForms: a key is the same in every format and from every source.
func TestForms(t *testing.T) {
	k := newKey()
	root, _, r, err := seal.Initialize(t.Context(), opened(t, map[string]string{"current_key": write(t, k)}),
		seal.Split{})
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("KEYTURN_TEST_KEY", hex.EncodeToString(k))
	for name, from := range map[string]string{
		"raw":              write(t, k),
		"hex":              write(t, []byte(hex.EncodeToString(k))),
		"HEX with newline": write(t, []byte(strings.ToUpper(hex.EncodeToString(k))+"\n")),
		"base64":           write(t, []byte(base64.StdEncoding.EncodeToString(k)+"\r\n")),
		"base64url":        write(t, []byte(base64.RawURLEncoding.EncodeToString(k))),
		"environment":      "env://KEYTURN_TEST_KEY",
		"plain path":       strings.TrimPrefix(write(t, k), "file://"),
	} {
		got, renewed, err := seal.Unseal(t.Context(), opened(t, map[string]string{"current_key": from}), r)
		if err != nil || !got.Equal(root) || renewed != nil {
			t.Errorf("%s: Unseal = another key or a renewed record (%v), %v", name, renewed != nil, err)
		}
	}
}

func TestRefused(t *testing.T) {
	good, two := write(t, newKey()), write(t, newKey())
	canary := strings.Repeat("canary", 6)
	for name, tt := range map[string]struct {
		params map[string]string
		says   string
	}{
		"nothing":     {nil, "current_key is missing"},
		"no file":     {map[string]string{"current_key": "file:///no/such/file"}, "/no/such/file"},
		"a folder":    {map[string]string{"current_key": t.TempDir()}, "reading the file"},
		"no variable": {map[string]string{"current_key": "env://KEYTURN_NOT_SET"}, `"KEYTURN_NOT_SET"`},
		"inline":      {map[string]string{"current_key": canary}, "configuration itself cannot contain a key"},
		"empty file":  {map[string]string{"current_key": write(t, nil)}, "want 32 bytes"},
		"31 bytes":    {map[string]string{"current_key": write(t, make([]byte, 31))}, "want 32 bytes"},
		"33 bytes":    {map[string]string{"current_key": write(t, make([]byte, 33))}, "want 32 bytes"},
		"16 bytes in hex": {map[string]string{"current_key": write(t, []byte(strings.Repeat("a1", 16)))},
			"only 16 bytes"},
		"another file":   {map[string]string{"current_key": write(t, bytes.Repeat([]byte("x"), 5000))}, "too long"},
		"text":           {map[string]string{"current_key": write(t, []byte(canary))}, "want 32 bytes"},
		"id without key": {map[string]string{"current_key": good, "previous_key_id": "x"}, "previous_key is not"},
		"bad previous": {map[string]string{"current_key": good, "previous_key": "file:///no/such/file"},
			"previous_key"},
		"one id, two keys": {map[string]string{
			"current_key": good, "current_key_id": "x", "previous_key": two, "previous_key_id": "x",
		}, "name them differently"},
		"one key, two ids": {map[string]string{
			"current_key": good, "current_key_id": "x", "previous_key": good, "previous_key_id": "y",
		}, "the same key"},
	} {
		_, err := Driver.Open(tt.params)
		msg := fault.Message(err)
		if !fault.Is(err, fault.Invalid) || !strings.Contains(msg, tt.says) || strings.Contains(msg, canary) {
			t.Errorf("%s: %v; want invalid, saying %q", name, err, tt.says)
		}
	}
}

// TestReplaceKey: after one start with both keys, the server no longer needs the old one.
func TestReplaceKey(t *testing.T) {
	ctx := t.Context()
	old, next := write(t, newKey()), write(t, newKey())
	root, _, r, err := seal.Initialize(ctx, opened(t, map[string]string{"current_key": old, "current_key_id": "one"}),
		seal.Split{})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := seal.Unseal(ctx, opened(t, map[string]string{"current_key": next, "current_key_id": "two"}),
		r); !fault.Is(err, fault.Invalid) ||
		!strings.Contains(fault.Message(err), `"one"`) || !strings.Contains(fault.Message(err), `"two"`) {
		t.Errorf("Unseal without the old key = %v, want invalid with both ids", err)
	}
	both := opened(t,
		map[string]string{"current_key": next, "current_key_id": "two", "previous_key": old, "previous_key_id": "one"})
	got, renewed, err := seal.Unseal(ctx, both, r)
	if err != nil || !got.Equal(root) || renewed == nil {
		t.Fatalf("Unseal with both keys: renewed %v, %v", renewed != nil, err)
	}
	if got, again, err := seal.Unseal(ctx, both, renewed); err != nil || !got.Equal(root) || again != nil {
		t.Errorf("Unseal again: renewed %v, %v; want once", again != nil, err)
	}
	if got, _, err := seal.Unseal(ctx, opened(t, map[string]string{"current_key": next, "current_key_id": "two"}),
		renewed); err != nil || !got.Equal(root) {
		t.Errorf("Unseal with the new key alone: %v", err)
	}
	if _, _, err := seal.Unseal(ctx, opened(t, map[string]string{"current_key": old, "current_key_id": "one"}),
		renewed); !fault.Is(err, fault.Invalid) {
		t.Errorf("Unseal with the old key alone = %v, want invalid", err)
	}
	// A key that only got another name opens, and the record takes the name.
	if got, renamed, err := seal.Unseal(ctx, opened(t, map[string]string{"current_key": next}), renewed); err != nil ||
		!got.Equal(root) || renamed == nil {
		t.Errorf("Unseal with a renamed key: renewed %v, %v", renamed != nil, err)
	}
	// The id stayed and the key did not.
	if _, _, err := seal.Unseal(ctx, opened(t, map[string]string{"current_key": old, "current_key_id": "two"}),
		renewed); !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Message(err), "does not open the seal") {
		t.Errorf("Unseal with another key of the same id = %v", err)
	}
}

func FuzzParseKey(f *testing.F) {
	f.Add(newKey())
	f.Add([]byte(hex.EncodeToString(newKey())))
	f.Add([]byte(base64.StdEncoding.EncodeToString(newKey())))
	f.Fuzz(func(t *testing.T, text []byte) {
		given := bytes.Clone(text)
		k, err := parseKey(text)
		if err == nil && len(k) != keySize {
			t.Errorf("parseKey(%q) = %d bytes", text, len(k))
		}
		if err != nil && len(text) > 8 && strings.Contains(err.Error(), string(text)) {
			t.Errorf("the error repeats the key: %v", err)
		}
		if !bytes.Equal(given, text) {
			t.Error("parseKey changed what it was given")
		}
	})
}
