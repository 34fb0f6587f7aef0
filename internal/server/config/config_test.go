package config

import (
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/seal"
	"github.com/keyturn/keyturn/internal/server/httpapi"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/storage/memory"
	"github.com/keyturn/keyturn/internal/wire"
)

var update = flag.Bool("update", false, "write the golden files")

// drivers returns drivers that have names and parameters, and open nothing.
func drivers() Known {
	return Known{
		Storage: []storage.Driver{memory.Driver, {
			Name: "pebble", Params: []storage.Param{{Name: "path"}, {Name: "cache_bytes"}},
			Check: func(params map[string]string) error {
				if params["path"] == "" {
					return fault.New("storage.Open", fault.Invalid, "storage \"pebble\" needs path")
				}
				return nil
			},
		}},
		Seals: []seal.Driver{
			{Name: "shamir", Open: func(map[string]string) (seal.Seal, error) { return nil, nil }},
			{Name: "static",
				Params: []seal.Param{{Name: "current_key"}}, Open: func(params map[string]string) (seal.Seal, error) {
					if params["current_key"] == "" {
						return nil, fault.New("seal.Open", fault.Invalid, "seal \"static\": current_key is missing")
					}
					return nil, nil
				}},
		},
	}
}

func TestReadConfig(t *testing.T) {
	requests := slog.LevelDebug
	first := httpapi.Settings{
		MaxBody: 1 << 20, MaxTime: 30 * time.Second, ReadTime: 20 * time.Second, OpenMetrics: true,
		LogRequests: &requests,
		JSON:        wire.Limits{Depth: 10, StringLen: 1000, Entries: 20, Elements: 30, Tokens: 400},
		Redact:      httpapi.Redact{Addresses: true, ClusterName: true, Version: true},
		Forwarded: &httpapi.Forwarded{
			By: prefixes("10.0.0.0/8", "192.168.1.1/32"), Hops: 1, TakeAbsent: true, TakeUntrusted: true,
		},
		Headers: httpapi.NewHeaders(map[string]map[string]string{
			"default": {"Strict-Transport-Security": "max-age=31536000; includeSubDomains", "X-Custom": "a"},
			"2xx":     {"X-Custom": "b"}, "307": {"X-Custom": "c"},
		}),
	}
	want := &Server{
		Listeners: []Listener{
			{
				Kind: TCP, Address: "0.0.0.0:8200", TLS: TLS{Disable: true, MinVersion: 0x303}, HTTP: first,
				Timeouts: httpapi.Timeouts{ReadHeader: 5 * time.Second, Write: 40 * time.Second, Idle: time.Minute},
				Proxy:    Proxy{Behavior: AllowAuthorized, By: prefixes("10.0.0.0/8", "fd00::/8")},
			},
			{
				Kind: TCP, Address: "127.0.0.1:8201", TLS: TLS{Disable: true, MinVersion: 0x303},
				HTTP: httpapi.Settings{
					MaxTime: 45 * time.Second, ReadTime: 30 * time.Second, LogRequests: &requests,
				},
				Timeouts: httpapi.Timeouts{
					ReadHeader: 10 * time.Second, Write: 55 * time.Second, Idle: 5 * time.Minute,
				},
			},
			{
				Kind: Unix, Address: "/run/keyturn.sock", Socket: Socket{Mode: 0o660, User: "1000", Group: "keyturn"},
				HTTP:     httpapi.Settings{MaxTime: 45 * time.Second, LogRequests: &requests},
				Timeouts: httpapi.Timeouts{ReadHeader: 10 * time.Second, Idle: 10 * time.Second},
			},
		},
		Storage: Stanza{Name: "pebble", Params: map[string]string{"path": "/var/lib/keyturn"}},
		Seal:    Stanza{Name: "static", Params: map[string]string{"current_key": "file:///etc/keyturn/key"}},
		APIAddr: "https://keyturn.example.org:8200", ClusterName: "payments", PIDFile: "/run/keyturn.pid",
		Log: Log{
			Level: slog.LevelWarn, Format: "json", Requests: &requests,
			File: "/var/log/keyturn.log", RotateBytes: 1 << 20, RotateEvery: time.Hour, MaxFiles: 3,
		},
		DefaultLeaseTTL: time.Hour, MaxLeaseTTL: 24 * time.Hour, MaxRequestTime: 45 * time.Second,
		OutboundAllow: prefixes("127.0.0.1/32", "10.1.0.0/16"), DisableCache: true, ShowHostname: true,
		RotationSeries: 200,
		AuditFolders:   []string{"/var/log/keyturn", "/data/audit"}, ConnectionFolders: []string{"/etc/keyturn/tls"},
	}
	for _, file := range []string{"testdata/good.hcl", "testdata/good.json"} {
		got, err := Read([]string{file}, drivers())
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Server{}, "Warnings"),
			cmpopts.IgnoreTypes(Position{}, given{}),
			cmp.AllowUnexported(Server{}, Listener{}, httpapi.Headers{}),
			cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
			t.Errorf("%s (-want +got):\n%s", file, diff)
		}
		for _, w := range []string{
			"ui: the web interface", "statsd_address: it has no effect", "plugin_directory: it has no effect",
			"cluster_addr: clusters are not implemented yet",
		} {
			if !strings.Contains(strings.Join(got.Warnings, "\n"), w) {
				t.Errorf("%s: there is no warning %q in %q", file, w, got.Warnings)
			}
		}
	}
}

func prefixes(texts ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, text := range texts {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

func TestSmallestConfig(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a.hcl", `storage "memory" {}`)
	write(t, dir, "b.json", `{"listener": {"tcp": {"tls_disable": true}}}`)
	write(t, dir, "notes.txt", `not read`)
	got, err := Read([]string{dir}, drivers())
	if err != nil {
		t.Fatal(err)
	}
	if got.Storage.Name != "memory" || got.Seal.Name != "" || got.Log.Format != "text" || len(got.Listeners) != 1 ||
		got.Listeners[0].Address != "127.0.0.1:8200" {
		t.Errorf("%+v", got)
	}
	if len(got.Warnings) != 1 || !strings.Contains(got.Warnings[0], "everything is lost") {
		t.Errorf("warnings %q", got.Warnings)
	}
}

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// good is the beginning of a configuration that is valid without the rest.
const good = `listener "tcp" { tls_disable = true }
storage "memory" {}
`

// wrong are invalid configurations; the golden file has their errors.
var wrong = []struct {
	name  string
	texts []string // a.hcl, b.hcl …; JSON if it begins with a brace
}{
	{"nothing", []string{``}},
	{"no listener", []string{`storage "memory" {}`}},
	{"unknown keys", []string{good + "foo = 1\nlog_levle = \"info\"\n"}},
	{"unknown key in a listener",
		[]string{"storage \"memory\" {}\nlistener \"tcp\" {\n  tls_disable = true\n  adress = \"x\"\n}"}},
	{"unknown key in JSON", []string{
		"{\n\"storage\": {\"memory\": {}},\n\"listener\": {\"tcp\": {\"tls_disable\": true}},\n\"foo\": 1\n}",
	}},
	{"unknown key in a listener's telemetry",
		[]string{"storage \"memory\" {}\nlistener \"tcp\" {\n tls_disable = true\n telemetry { x = 1 }\n}"}},
	{"everything at once", []string{
		"foo = 1\nlog_level = \"loud\"\nstorage \"raft\" {\n  path = \"x\"\n}\nlistener \"udp\" {}\nlistener " +
			"\"tcp\" {}\nmax_lease_ttl = \"soon\"\n",
	}},
	{"storage raft", []string{`listener "tcp" { tls_disable = true }` + "\nstorage \"raft\" {}\n"}},
	{"storage file", []string{`listener "tcp" { tls_disable = true }` + "\nstorage \"file\" {}\n"}},
	{"storage consul", []string{`listener "tcp" { tls_disable = true }` + "\nstorage \"consul\" {}\n"}},
	{"an unknown storage", []string{`listener "tcp" { tls_disable = true }` + "\nstorage \"tape\" {}\n"}},
	{"two storages", []string{good + "storage \"pebble\" {}\n"}},
	{"storage without a label", []string{good + "storage {}\n"}},
	{"storage as a value", []string{"storage = \"pebble\"\nlistener \"tcp\" { tls_disable = true }"}},
	{"storage parameter as a list",
		[]string{"storage \"pebble\" {\n path = [1]\n}\nlistener \"tcp\" { tls_disable = true }"}},
	{"an unsupported seal", []string{good + "seal \"awskms\" {}\n"}},
	{"a seal's parameter", []string{good + "seal \"shamir\" { shares = 5 }\n"}},
	{"a seal without its key", []string{good + "seal \"static\" {}\n"}},
	{"two seals", []string{good + "seal \"shamir\" {}\nseal \"shamir\" {}\n"}},
	{"no TLS settings", []string{"storage \"memory\" {}\nlistener \"tcp\" { address = \"0.0.0.0:8200\" }"}},
	{"no TLS settings on loopback", []string{"storage \"memory\" {}\nlistener \"tcp\" {}"}},
	{"half of TLS", []string{"storage \"memory\" {}\nlistener \"tcp\" { tls_cert_file = \"c\" }"}},
	{"other half of TLS", []string{"storage \"memory\" {}\nlistener \"tcp\" { tls_key_file = \"c\" }"}},
	{"TLS disabled and configured",
		[]string{"storage \"memory\" {}\nlistener \"tcp\" {\n tls_disable = true\n tls_cert_file = \"c\"\n}"}},
	{"a missing TLS file", []string{
		"storage \"memory\" {}\nlistener \"tcp\" {\n tls_key_file = \"none.key\"\n tls_cert_file = \"none.crt\"\n}",
	}},
	{"TLS too old",
		[]string{"storage \"memory\" {}\nlistener \"tcp\" {\n tls_disable = true\n tls_min_version = \"tls10\"\n}"}},
	{"client certificates without a CA", []string{
		"storage \"memory\" {}\nlistener \"tcp\" {\n tls_key_file = \"k\"\n tls_cert_file = \"c\"\n " +
			"tls_require_and_verify_client_cert = true\n}",
	}},
	{"address without a port",
		[]string{"storage \"memory\" {}\nlistener \"tcp\" {\n tls_disable = true\n address = \"localhost\"\n}"}},
	{"an address twice", []string{good + "listener \"tcp\" { tls_disable = true }\n"}},
	{"TTLs contradict", []string{good + "default_lease_ttl = \"2h\"\nmax_lease_ttl = \"1h\"\n"}},
	{"TTL negative", []string{good + "default_lease_ttl = \"-2h\"\n"}},
	{"api_addr is no URL", []string{good + "api_addr = \"keyturn:8200\"\n"}},
	{"api_addr with a password", []string{good + "api_addr = \"https://u:canary@h\"\n"}},
	{"outbound_allow as a number", []string{good + "outbound_allow = 127\n"}},
	{"outbound_allow of names", []string{good + "outbound_allow = [\"127.0.0.1\",\n  \"localhost\", 5]\n"}},
	{"folders as text", []string{good + "audit_folders = \"/var/log\"\n"}},
	{"no folders", []string{good + "audit_folders = []\n"}},
	{"invalid folders", []string{good + "connection_folders = [\"/\",\n  \"tls\", 5, \"/etc/..\"]\n"}},
	{"log format", []string{good + "log_format = \"xml\"\n"}},
	{"a number for text", []string{good + "cluster_name = 5\n"}},
	{"a list for text", []string{good + "cluster_name = [\"a\"]\n"}},
	{"not a boolean", []string{good + "disable_mlock = \"maybe\"\n"}},
	{"request size", []string{
		"storage \"memory\" {}\nlistener \"tcp\" {\n tls_disable = true\n max_request_size = -1\n " +
			"max_request_duration = \"x\"\n}",
	}},
	{"telemetry as a value",
		[]string{"storage \"memory\" {}\nlistener \"tcp\" {\n tls_disable = true\n telemetry = 1\n}"}},
	{"a key twice", []string{good + "cluster_name = \"a\"\ncluster_name = \"b\"\n"}},
	{"a key twice in JSON", []string{
		"{\"storage\": {\"memory\": {}},\n\"listener\": {\"tcp\": {\"tls_disable\": true}},\n\"cluster_name\": " +
			"\"a\",\n\"cluster_name\": \"b\"}",
	}},
	{"a key in two files", []string{good + "cluster_name = \"a\"\n", "\ncluster_name = \"a\"\n"}},
	{"storage in two files", []string{good, "storage \"memory\" {}"}},
	{"problems in two files", []string{"x = 1", "y = 1"}},
	{"broken HCL", []string{good + "listener \"tcp\" {\n"}},
	{"broken JSON", []string{"{\"storage\": "}},
	{"a list", []string{"[1]"}},
	{"binary", []string{"\x00\x01\x02"}},
	{"a listener that is misspelt", []string{good + "listner \"tcp\" {}\n"}},
	{"an old name of a key", []string{good + "redirect_addr = \"http://x\"\n"}},
	{"refused keys of Vault", []string{good + "ha_storage \"consul\" {}\nkms_library \"pkcs11\" {}\nsentinel {}\n"}},
	{"a listener's key at the top",
		[]string{good + "tls_cert_file = \"x\"\nmax_json_depth = 5\nchroot_namespace = \"a\"\n"}},
	{"a top level's key in a listener", []string{
		"storage \"memory\" {}\nlistener \"tcp\" {\n tls_disable = true\n log_level = \"info\"\n socket_mode = " +
			"\"660\"\n}",
	}},
	{"an unknown listener", []string{"storage \"memory\" {}\nlistener \"udp\" {}\n"}},
	{"a socket", []string{
		"storage \"memory\" {}\nlistener \"unix\" {\n address = \"keyturn.sock\"\n socket_mode = \"999\"\n " +
			"tls_disable = false\n tls_cert_file = \"x\"\n}",
	}},
	{"an unknown key of the storage", []string{
		"storage \"pebble\" {\n path = \"/x\"\n cache_byte = 5\n foo = 1\n redirect_addr = \"x\"\n}\nlistener " +
			"\"tcp\" { tls_disable = true }",
	}},
	{"storage without its path", []string{"storage \"pebble\" {}\nlistener \"tcp\" { tls_disable = true }"}},
	{"backend and storage", []string{good + "backend \"memory\" {}\n"}},
	{"an unknown key of telemetry",
		[]string{good + "telemetry {\n statsd_adress = \"x\"\n foo = 1\n unauthenticated_metrics_access = true\n}\n"}},
	{"an unknown seal", []string{good + "seal \"wax\" {}\n"}},
	{"TLS versions and suites", []string{
		"storage \"memory\" {}\nlistener \"tcp\" {\n tls_cert_file = \"c\"\n tls_key_file = \"k\"\n " +
			"tls_max_version = \"tls11\"\n tls_cipher_suites = \"TLS_X,TLS_RSA_WITH_RC4_128_SHA\"\n}",
	}},
	{"TLS versions in the wrong order", []string{
		"storage \"memory\" {}\nlistener \"tcp\" {\n tls_cert_file = \"c\"\n tls_key_file = \"k\"\n " +
			"tls_max_version = \"tls12\"\n tls_min_version = \"tls13\"\n}",
	}},
	{"no suite of TLS 1.2", []string{
		"storage \"memory\" {}\nlistener \"tcp\" {\n tls_cert_file = \"c\"\n tls_key_file = \"k\"\n " +
			"tls_max_version = \"tls12\"\n tls_cipher_suites = \"TLS_AES_128_GCM_SHA256\"\n}",
	}},
	{"client certificates required and disabled", []string{
		"storage \"memory\" {}\nlistener \"tcp\" {\n tls_cert_file = \"c\"\n tls_key_file = \"k\"\n " +
			"tls_require_and_verify_client_cert = true\n tls_disable_client_certs = true\n}",
	}},
	{"an encrypted key", []string{
		"storage \"memory\" {}\nlistener \"tcp\" {\n tls_cert_file = \"c\"\n tls_key_file = " +
			"\"testdata/encrypted.key\"\n}",
	}},
	{"proxies", []string{
		"storage \"memory\" {}\nlistener \"tcp\" {\n tls_disable = true\n proxy_protocol_behavior = " +
			"\"sometimes\"\n x_forwarded_for_authorized_addrs = \"proxy.example.org\"\n " +
			"x_forwarded_for_hop_skips = \"-1\"\n}",
	}},
	{"no authorized proxies", []string{
		"storage \"memory\" {}\nlistener \"tcp\" {\n tls_disable = true\n proxy_protocol_behavior = " +
			"\"deny_unauthorized\"\n proxy_protocol_authorized_addrs = \"\"\n}",
	}},
	{"limits", []string{
		"storage \"memory\" {}\nlistener \"tcp\" {\n tls_disable = true\n max_json_depth = 10001\n " +
			"max_json_token = -1\n http_idle_timeout = \"-1s\"\n http_read_timeout = \"soon\"\n}",
	}},
	{"headers", []string{
		"storage \"memory\" {}\nlistener \"tcp\" {\n tls_disable = true\n custom_response_headers {\n  \"200s\" " +
			"= { \"X\" = [\"y\"] }\n  \"999\" = {}\n  \"default\" = {\n   \"X Y\" = [\"z\"]\n   \"X\" = [1]\n   " +
			"\"Y\" = [\"a\\nb\"]\n  }\n }\n}",
	}},
	{"headers as text", []string{
		"storage \"memory\" {}\nlistener \"tcp\" {\n tls_disable = true\n custom_response_headers = \"X\"\n}",
	}},
	{"levels and rotation", []string{
		good + "log_requests_level = \"some\"\nlog_rotate_bytes = -1\nlog_rotate_duration = " +
			"\"0s\"\nlog_rotate_max_files = -2\n",
	}},
	{"a template with an empty result",
		[]string{good + "api_addr = \"http://{{ GetInterfaceIP \\\"nosuch\\\" }}:8200\"\n"}},
	{"a template that is broken", []string{good + "cluster_addr = \"{{ Get\"\n"}},
	{"problems in JSON", []string{
		"{\n\"storage\": {\"pebble\": {\n\"path\": \"/x\",\n\"pth\": 1}},\n\"listener\": [\n{\"tcp\": " +
			"{\"tls_disable\": true}},\n{\"tcp\": {\"adress\": \"x\", \"tls_disable\": true,\n\"address\": " +
			"\"nowhere\"}}],\n\"cluster_name\": 5}",
	}},
	{"null in JSON", []string{"{\n\"storage\": null}"}},
	{"nested deep", []string{strings.Repeat("a {", 30)}},
	{"too large", []string{strings.Repeat("#", maxFile+1)}},
}

// TestWrongConfigs compares the error of each mistake with the golden file.
func TestWrongConfigs(t *testing.T) {
	var got strings.Builder
	for _, tt := range wrong {
		p := newParser(drivers())
		for i, text := range tt.texts {
			end := ".hcl"
			if strings.HasPrefix(text, "{") {
				end = ".json"
			}
			p.file(string(rune('a'+i))+end, []byte(text))
		}
		_, err := p.finish()
		if err == nil {
			t.Errorf("%s: accepted", tt.name)
			continue
		}
		if strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: the error contains a secret: %v", tt.name, err)
		}
		fmt.Fprintf(&got, "# %s\n%v\n\n", tt.name, err)
	}
	golden(t, "testdata/errors.golden", got.String())
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s; -update rewrites it (-want +got):\n%s", path, diff)
	}
}

func TestMissingFiles(t *testing.T) {
	empty := t.TempDir()
	_, err := Read([]string{"no-such-file.hcl", empty}, drivers())
	if err == nil || !strings.Contains(err.Error(), "no-such-file.hcl: reading it: no such file") ||
		!strings.Contains(err.Error(), "the folder has no file") {
		t.Errorf("got %v", err)
	}
}

// TestEndlessFiles: files without an end are refused, and the error says the limit.
func TestEndlessFiles(t *testing.T) {
	if _, err := Read([]string{"/dev/zero"}, drivers()); err == nil ||
		!strings.Contains(err.Error(), "/dev/zero: reading it: it is too large: at most 1 MiB") {
		t.Errorf("a configuration: %v", err)
	}
	dir := certificates(t)
	cert, key := filepath.Join(dir, "server.crt"), filepath.Join(dir, "server.key")
	for name, listener := range map[string]TLS{
		"the key": {CertFile: cert, KeyFile: "/dev/zero"}, "the certificate": {CertFile: "/dev/zero", KeyFile: key},
		"the authorities": {CertFile: cert, KeyFile: key, ClientCAFile: "/dev/zero"},
	} {
		if _, err := listener.Config(); err == nil || !strings.Contains(err.Error(), "at most 1 MiB") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzConfig: a text is refused, or is a configuration that has a listener and a storage, and
// serves without TLS only if it says so.
func FuzzConfig(f *testing.F) {
	for _, tt := range wrong {
		if len(tt.texts[0]) < 1000 {
			f.Add(tt.texts[0])
		}
	}
	for _, path := range []string{"testdata/good.hcl", "testdata/good.json"} {
		text, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Fuzz(func(t *testing.T, text string) {
		p := newParser(drivers())
		p.file("f.hcl", []byte(text))
		c, err := p.finish()
		if err == nil && (len(c.Listeners) == 0 || c.Storage.Name == "") {
			t.Errorf("accepted without a listener or a storage: %+v", c)
		}
		if err == nil {
			for _, l := range c.Listeners {
				if !l.TLS.Disable && l.TLS.CertFile == "" && l.Kind == TCP {
					t.Errorf("a listener serves without TLS, although tls_disable is not set: %+v", l)
				}
			}
		}
	})
}

// TestReadDev: files add to the development mode. Contradictions have no effect and cause
// warnings, and a listener at the mode's address replaces the mode's listener.
func TestReadDev(t *testing.T) {
	mode := Server{
		Listeners: []Listener{
			{At: Position{File: "-dev"}, Kind: TCP, Address: "127.0.0.1:8200", TLS: TLS{Disable: true}},
		}, Storage: Stanza{Name: "memory"},
	}
	path := filepath.Join(t.TempDir(), "dev.hcl")
	for _, c := range []struct {
		name, text string
		listeners  []string
		warnings   int
	}{
		{"nothing", "", []string{"127.0.0.1:8200"}, 0},
		{"storage", "storage \"pebble\" {\n path = \"/nowhere\"\n}\n", []string{"127.0.0.1:8200"}, 1},
		{"another listener", "listener \"tcp\" {\n address = \"127.0.0.1:1\"\n tls_disable = true\n}\n",
			[]string{"127.0.0.1:8200", "127.0.0.1:1"}, 0},
		{"the same listener", "listener \"tcp\" {\n address = \"127.0.0.1:8200\"\n tls_disable = true\n}\n",
			[]string{"127.0.0.1:8200"}, 0},
	} {
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := ReadDev([]string{path}, drivers(), mode)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		var at []string
		for _, l := range got.Listeners {
			at = append(at, l.Address)
			if l.Timeouts.ReadHeader == 0 {
				t.Errorf("%s: listener %s has no time limits", c.name, l.Address)
			}
		}
		if !slices.Equal(at, c.listeners) || len(got.Warnings) != c.warnings || got.Storage.Name != "memory" {
			t.Errorf("%s: listeners %q, warnings %q, storage %q", c.name, at, got.Warnings, got.Storage.Name)
		}
	}
	if _, err := ReadDev(nil, drivers(), mode); err != nil {
		t.Errorf("no files: %v", err)
	}
}
