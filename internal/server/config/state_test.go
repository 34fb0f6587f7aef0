package config

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestSanitized: the result has the fields that Vault documents, and only the names of storage and
// seal.
func TestSanitized(t *testing.T) {
	c, err := Read([]string{"testdata/good.hcl"}, drivers())
	if err != nil {
		t.Fatal(err)
	}
	text, err := c.Sanitized()
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"api_addr", "cache_size", "cluster_addr", "cluster_cipher_suites", "cluster_name", "default_lease_ttl",
		"default_max_request_duration",
		"disable_cache", "disable_clustering", "disable_indexing", "disable_mlock", "disable_performance_standby",
		"disable_printable_check",
		"disable_sealwrap", "enable_ui", "listeners", "log_format", "log_level", "max_lease_ttl", "pid_file",
		"plugin_directory",
		"raw_storage_endpoint", "seals", "storage",
	} {
		if _, ok := got[name]; !ok {
			t.Errorf("there is no %s", name)
		}
	}
	for _, secret := range []string{"/var/lib/keyturn", "/etc/keyturn/key"} {
		if strings.Contains(string(text), secret) {
			t.Errorf("it contains %s: %s", secret, text)
		}
	}
	for _, want := range []string{
		`{"config":{"address":"127.0.0.1:8201","tls_disable":1},"type":"tcp"}`, `"type":"static"`, `"type":"pebble"`,
		`"default_lease_ttl":3600`, `"default_max_request_duration":45`, `"log_level":"warn"`,
		`"x_forwarded_for_hop_skips":"1"`,
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("there is no %s: %s", want, text)
		}
	}
	small := newParser(drivers())
	small.file("a.hcl", []byte(good))
	if c, err = small.finish(); err != nil {
		t.Fatal(err)
	}
	if text, err = c.Sanitized(); err != nil || !strings.Contains(string(text), `"type":"shamir"`) ||
		!strings.Contains(string(text), `"default_max_request_duration":0`) {
		t.Errorf("%s, %v", text, err)
	}
}
