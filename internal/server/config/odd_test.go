package config

import (
	"strings"
	"testing"
)

// TestOddValues: an impossible port is refused, and an error does not repeat a long text in full.
func TestOddValues(t *testing.T) {
	for text, want := range map[string]bool{
		"https://a:8200": true, "https://a": true, "https://a:99999": false, "https://a:0": true,
	} {
		if got := ServerURL(text); got != want {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
	dir := t.TempDir()
	file := write(t, dir, "c.hcl", "listener \"tcp\" {\n address = \"127.0.0.1:99999\"\n tls_disable = true\n}\n")
	if _, err := Read([]string{file}, drivers()); err == nil ||
		!strings.Contains(err.Error(), "want a host and a port") {
		t.Errorf("a listener at port 99999: %v", err)
	}
	if _, err := Level(strings.Repeat("x", 100_000)); err == nil || len(err.Error()) > 200 {
		t.Errorf("a level of 100 KB is repeated in an error of %d bytes", len(err.Error()))
	}
}
