package mysql

import "testing"

// TestExactness checks which hosts match a client, and which is the most specific.
func TestExactness(t *testing.T) {
	for _, tt := range []struct {
		host, client string
		fits         bool
	}{
		{"%", "10.9.8.7", true},
		{"", "10.9.8.7", true},
		{"10.9.%", "10.9.8.7", true},
		{"10.9.%", "10.90.8.7", false},
		{"10.9.8._", "10.9.8.7", true},
		{"10.9.8._", "10.9.8.70", false},
		{"10.9.8.7", "10.9.8.7", true},
		{"10.9.8.7", "10.9.8.70", false},
		{"10.9.8.0/255.255.255.0", "10.9.8.7", true},
		{"10.9.8.0/255.255.255.0", "10.9.9.7", false},
		{"10.9.8.0/24", "10.9.8.7", true},
		{"10.9.8.0/24", "10.9.9.7", false},
		{"10.9.8.0/24", "app.example.com", false},
		{"10.9.8.7/x", "10.9.8.7", false},
		{"localhost", "localhost", true},
		{"127.0.0.1", "localhost", true},
		{"127.0.%", "localhost", true},
		{"localhost", "127.0.0.1", false},
		{"%.Example.com", "app.example.COM", true},
		{"%.example.com", "example.com", false},
		{`a\_b`, "a_b", true},
		{`a\_b`, "axb", false},
		{"%a%b%", "xxaxxbxx", true},
		{"%a%b", "xxbxxaxx", false},
		{"::1", "::1", true},
		{"fe80::/10", "fe80::1", true},
		{"_", "", false},
	} {
		if got := exactness(tt.host, tt.client); (got >= 0) != tt.fits {
			t.Errorf("%q for %q: %d, want it to fit: %v", tt.host, tt.client, got, tt.fits)
		}
	}
	closer := []string{"%", "10.%", "10.9.8.%", "10.9.8.0/24", "10.9.8.7"}
	for i := 1; i < len(closer); i++ {
		if exactness(closer[i-1], "10.9.8.7") >= exactness(closer[i], "10.9.8.7") {
			t.Errorf("%q is not more exact than %q", closer[i], closer[i-1])
		}
	}
}
