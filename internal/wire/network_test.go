package wire_test

import (
	"testing"

	"github.com/keyturn/keyturn/internal/wire"
)

// TestParseNetwork: IPv4 written as IPv6 is IPv4, and what could never match is refused.
func TestParseNetwork(t *testing.T) {
	for text, want := range map[string]string{
		"10.0.0.0/8": "10.0.0.0/8", "10.1.2.3/8": "10.0.0.0/8", "10.0.0.1": "10.0.0.1/32", "fd00::/8": "fd00::/8",
		"::1": "::1/128", "::/0": "::/0",
		"::ffff:10.0.0.1": "10.0.0.1/32", "::ffff:10.1.0.0/104": "10.0.0.0/8", "::ffff:10.0.0.1/128": "10.0.0.1/32",
		"::ffff:0.0.0.0/96": "0.0.0.0/0",
		"::ffff:10.0.0.0/8": "", "fe80::1%eth0": "", "10.0.0.0/33": "", "": "", "x": "",
	} {
		got, ok := wire.ParseNetwork(text)
		if ok != (want != "") || ok && got.String() != want {
			t.Errorf("%q: %v, %v, want %q", text, got, ok, want)
		}
	}
}
