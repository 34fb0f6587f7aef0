package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/keyturn/keyturn/internal/server/httpapi"
)

// samples are values of all keys that differ from the defaults.
var samples = map[string]string{
	"address": `"127.0.0.1:8300"`, "api_addr": `"http://b:1"`, "cluster_addr": `"http://c:1"`,
	"cluster_address": `"c:1"`, "cluster_name": `"c"`,
	"audit_folders": `["/a"]`, "connection_folders": `["/a"]`,
	"custom_response_headers": `{ "default" = { "X-A" = ["b"] } }`, "default_lease_ttl": `"1h"`,
	"default_max_request_duration": `"5s"`,
	"disable_cache":                `true`, "disable_mlock": `true`, "enable_response_header_hostname": `true`,
	"enable_response_header_raft_node_id": `true`,
	"http_idle_timeout":                   `"7s"`, "http_read_header_timeout": `"7s"`, "http_read_timeout": `"7s"`,
	"http_write_timeout":     `"7s"`,
	"introspection_endpoint": `true`, "rotation_metrics_limit": `7`, "raw_storage_endpoint": `true`,
	"log_file": `"/tmp/x.log"`, "log_format": `"json"`, "log_level": `"error"`, "log_requests_level": `"info"`,
	"log_rotate_bytes":    `5`,
	"log_rotate_duration": `"1m"`, "log_rotate_max_files": `5`, "max_json_array_element_count": `5`,
	"max_json_depth":              `5`,
	"max_json_object_entry_count": `5`, "max_json_string_value_length": `5`, "max_json_token": `5`,
	"max_lease_ttl":        `"900h"`,
	"max_request_duration": `"5s"`, "max_request_size": `5`, "outbound_allow": `"10.0.0.1"`,
	"pid_file":                        `"/tmp/x.pid"`,
	"proxy_protocol_authorized_addrs": `"10.0.0.1"`, "proxy_protocol_behavior": `"use_always"`,
	"redact_addresses":    `true`,
	"redact_cluster_name": `true`, "redact_version": `true`, "socket_group": `"g"`, "socket_mode": `"600"`,
	"socket_user": `"u"`,
	"telemetry":   `{ }`, "tls_cipher_suites": `"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"`,
	"tls_client_ca_file": `"DIR/other.crt"`,
	"tls_cert_file":      `"DIR/other.crt"`, "tls_disable_client_certs": `true`, "tls_key_file": `"DIR/other.key"`,
	"tls_max_version": `"tls12"`,
	"tls_min_version": `"tls13"`, "tls_prefer_server_cipher_suites": `true`,
	"tls_require_and_verify_client_cert": `true`, "ui": `true`,
	"x_forwarded_for_authorized_addrs": `"10.0.0.1"`, "x_forwarded_for_hop_skips": `1`,
	"x_forwarded_for_reject_not_authorized": `false`,
	"x_forwarded_for_reject_not_present":    `false`,
}

// certificates writes server.crt, server.key and another pair to a new folder.
func certificates(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"server", "other"} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		}
		der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
		if err != nil {
			t.Fatal(err)
		}
		private, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		write(t, dir, name+".crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
		write(t, dir, name+".key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
	}
	return dir
}

// read reads a configuration with the members of one block, and everything else that is required.
// DIR is replaced by dir.
func read(t *testing.T, dir, block, members string) *Server {
	t.Helper()
	p := newParser(drivers())
	top, tcp, unix := "", "tls_cert_file = \"DIR/server.crt\"\ntls_key_file = \"DIR/server.key\"\n", ""
	switch block {
	case topBlock:
		top = members
	case tcpBlock:
		name, _, _ := strings.Cut(members, " ")
		if name == "tls_disable" || name == "tls_cert_file" || name == "tls_key_file" {
			tcp = ""
		}
		tcp += members
	case unixBlock:
		unix = members
	}
	p.file("a.hcl", []byte(strings.ReplaceAll("storage \"memory\" {}\n"+top+"\nlistener \"tcp\" {\n"+tcp+
		"\n}\nlistener \"unix\" {\n"+unix+"\n}\n", "DIR", dir)))
	c, err := p.finish()
	if err != nil {
		t.Fatalf("%s: %v", members, err)
	}
	return c
}

// TestReload changes each key alone. A key that SIGHUP re-reads gets the new value; any other
// keeps the old one, and Later names it.
func TestReload(t *testing.T) {
	dir := certificates(t)
	same := []cmp.Option{
		cmpopts.IgnoreFields(Server{}, "Warnings"), cmpopts.IgnoreTypes(Position{}),
		cmp.AllowUnexported(Server{}, Listener{}, httpapi.Headers{}),
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	}
	for _, block := range []string{topBlock, tcpBlock, unixBlock} {
		for _, k := range keysOf(block) {
			if slices.ContainsFunc(labelledKeys, func(l key) bool { return l.name == k.name }) ||
				k.name == "tls_disable" {
				continue
			}
			value, ok := samples[k.name]
			if block == unixBlock && k.name == "address" {
				value = `"/run/other.sock"`
			}
			if !ok {
				t.Errorf("%s %s: there is no sample", block, k.name)
				continue
			}
			old := read(t, dir, block, "")
			if strings.HasPrefix(k.name, "tls_cert") || strings.HasPrefix(k.name, "tls_key") {
				continue // they change together; see TestReloadTLS of the server
			}
			next := read(t, dir, block, k.name+" = "+value)
			if cmp.Equal(old, next, same...) {
				t.Errorf("%s %s = %s: nothing has changed", block, k.name, value)
			}
			later, got := old.Later(next), old.Reloaded(next)
			if named := len(later) > 0; named == k.reload {
				t.Errorf("%s %s: Later says %q, and reload is %v", block, k.name, later, k.reload)
			}
			want := next
			if !k.reload {
				want = old
			}
			if diff := cmp.Diff(want, got, same...); diff != "" {
				t.Errorf("%s %s (-want +got):\n%s", block, k.name, diff)
			}
		}
	}
}

func TestLater(t *testing.T) {
	base := read(t, certificates(t), topBlock, "")
	for text, want := range map[string]string{
		"storage \"memory\" {}\nlistener \"tcp\" { tls_disable = true }":                                     "tls_disable of listener 127.0.0.1:8200, listener /run/vault.sock",
		"storage \"pebble\" { path = \"a\" }\nlistener \"unix\" {}\nseal \"static\" { current_key = \"x\" }": "storage, seal, listener 127.0.0.1:8200",
	} {
		p := newParser(drivers())
		p.file("a.hcl", []byte(text))
		next, err := p.finish()
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(base.Later(next), ", "); !strings.HasSuffix(got, want) {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}
