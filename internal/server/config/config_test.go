package config

import (
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/seal"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/storage/memory"
)

var update = flag.Bool("update", false, "write the golden files")

// named are plug-ins of which only the names matter.
func named() Known {
	return Known{
		Storage: []storage.Driver{memory.Driver, {Name: "pebble"}},
		Seals: []seal.Driver{
			{Name: "shamir", Open: func(params map[string]string) (seal.Seal, error) { return nil, seal.CheckParams("shamir", params) }},
			{Name: "static", Open: func(params map[string]string) (seal.Seal, error) {
				if params["current_key"] == "" {
					return nil, fault.New("seal.Open", fault.Invalid, "seal \"static\": current_key is missing")
				}
				return nil, seal.CheckParams("static", params, "current_key")
			}},
		},
	}
}

func TestReadConfig(t *testing.T) {
	want := &Server{
		Listeners: []Listener{
			{Address: "0.0.0.0:8200", TLSDisable: true, MinVersion: 0x303, MaxBody: 1 << 20, MaxTime: 30 * time.Second, OpenMetrics: true},
			{Address: "127.0.0.1:8201", TLSDisable: true, MinVersion: 0x303},
		},
		Storage: Stanza{Name: "pebble", Params: map[string]string{"path": "/var/lib/keyturn"}},
		Seal:    Stanza{Name: "static", Params: map[string]string{"current_key": "file:///etc/keyturn/key"}},
		APIAddr: "https://keyturn.example.org:8200", ClusterName: "payments",
		LogLevel: slog.LevelWarn, LogFormat: "json", DefaultLeaseTTL: time.Hour, MaxLeaseTTL: 24 * time.Hour,
		OutboundAllow: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32"), netip.MustParsePrefix("10.1.0.0/16")},
		AuditFolders:  []string{"/var/log/keyturn", "/data/audit"}, ConnectionFolders: []string{"/etc/keyturn/tls"},
	}
	for _, file := range []string{"testdata/good.hcl", "testdata/good.json"} {
		got, err := Read([]string{file}, named())
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Server{}, "Warnings"), cmpopts.IgnoreTypes(Position{}), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
			t.Errorf("%s (-want +got):\n%s", file, diff)
		}
		for _, w := range []string{"ui: the web interface", "telemetry: pushing metrics"} {
			if !strings.Contains(strings.Join(got.Warnings, "\n"), w) {
				t.Errorf("%s: no warning of %q: %q", file, w, got.Warnings)
			}
		}
	}
}

func TestSmallestConfig(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a.hcl", `storage "memory" {}`)
	write(t, dir, "b.json", `{"listener": {"tcp": {"tls_disable": true}}}`)
	write(t, dir, "notes.txt", `not read`)
	got, err := Read([]string{dir}, named())
	if err != nil {
		t.Fatal(err)
	}
	if got.Storage.Name != "memory" || got.Seal.Name != "" || got.LogFormat != "text" || len(got.Listeners) != 1 || got.Listeners[0].Address != "127.0.0.1:8200" {
		t.Errorf("%+v", got)
	}
	if len(got.Warnings) != 1 || !strings.Contains(got.Warnings[0], "nothing survives") {
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

// The head of a configuration that is otherwise good.
const good = `listener "tcp" { tls_disable = true }
storage "memory" {}
`

// wrong are configurations, each with what is wrong in it as its name. The
// golden file has what is said.
var wrong = []struct {
	name  string
	texts []string // a.hcl, b.hcl …; JSON if it begins with a brace
}{
	{"nothing", []string{``}},
	{"no listener", []string{`storage "memory" {}`}},
	{"unknown keys", []string{good + "foo = 1\nlog_levle = \"info\"\n"}},
	{"unknown key in a listener", []string{"storage \"memory\" {}\nlistener \"tcp\" {\n  tls_disable = true\n  adress = \"x\"\n}"}},
	{"unknown key in JSON", []string{"{\n\"storage\": {\"memory\": {}},\n\"listener\": {\"tcp\": {\"tls_disable\": true}},\n\"foo\": 1\n}"}},
	{"unknown key in a listener's telemetry", []string{"storage \"memory\" {}\nlistener \"tcp\" {\n tls_disable = true\n telemetry { x = 1 }\n}"}},
	{"everything at once", []string{"foo = 1\nlog_level = \"loud\"\nstorage \"raft\" {\n  path = \"x\"\n}\nlistener \"unix\" {}\nlistener \"tcp\" {}\nmax_lease_ttl = \"soon\"\n"}},
	{"storage raft", []string{`listener "tcp" { tls_disable = true }` + "\nstorage \"raft\" {}\n"}},
	{"storage file", []string{`listener "tcp" { tls_disable = true }` + "\nstorage \"file\" {}\n"}},
	{"storage consul", []string{`listener "tcp" { tls_disable = true }` + "\nstorage \"consul\" {}\n"}},
	{"storage unheard of", []string{`listener "tcp" { tls_disable = true }` + "\nstorage \"tape\" {}\n"}},
	{"two storages", []string{good + "storage \"pebble\" {}\n"}},
	{"storage without a label", []string{good + "storage {}\n"}},
	{"storage as a value", []string{"storage = \"pebble\"\nlistener \"tcp\" { tls_disable = true }"}},
	{"storage parameter as a list", []string{"storage \"pebble\" {\n path = [1]\n}\nlistener \"tcp\" { tls_disable = true }"}},
	{"a seal that is not built", []string{good + "seal \"awskms\" {}\n"}},
	{"a seal's parameter", []string{good + "seal \"shamir\" { shares = 5 }\n"}},
	{"a seal without its key", []string{good + "seal \"static\" {}\n"}},
	{"two seals", []string{good + "seal \"shamir\" {}\nseal \"shamir\" {}\n"}},
	{"TLS not said", []string{"storage \"memory\" {}\nlistener \"tcp\" { address = \"0.0.0.0:8200\" }"}},
	{"TLS not said on loopback", []string{"storage \"memory\" {}\nlistener \"tcp\" {}"}},
	{"half of TLS", []string{"storage \"memory\" {}\nlistener \"tcp\" { tls_cert_file = \"c\" }"}},
	{"other half of TLS", []string{"storage \"memory\" {}\nlistener \"tcp\" { tls_key_file = \"c\" }"}},
	{"TLS disabled and not", []string{"storage \"memory\" {}\nlistener \"tcp\" {\n tls_disable = true\n tls_cert_file = \"c\"\n}"}},
	{"TLS file is not there", []string{"storage \"memory\" {}\nlistener \"tcp\" {\n tls_key_file = \"none.key\"\n tls_cert_file = \"none.crt\"\n}"}},
	{"TLS too old", []string{"storage \"memory\" {}\nlistener \"tcp\" {\n tls_disable = true\n tls_min_version = \"tls10\"\n}"}},
	{"client certificates without a CA", []string{"storage \"memory\" {}\nlistener \"tcp\" {\n tls_key_file = \"k\"\n tls_cert_file = \"c\"\n tls_require_and_verify_client_cert = true\n}"}},
	{"address without a port", []string{"storage \"memory\" {}\nlistener \"tcp\" {\n tls_disable = true\n address = \"localhost\"\n}"}},
	{"an address twice", []string{good + "listener \"tcp\" { tls_disable = true }\n"}},
	{"TTLs contradict", []string{good + "default_lease_ttl = \"2h\"\nmax_lease_ttl = \"1h\"\n"}},
	{"TTL negative", []string{good + "default_lease_ttl = \"-2h\"\n"}},
	{"api_addr is no URL", []string{good + "api_addr = \"keyturn:8200\"\n"}},
	{"api_addr with a password", []string{good + "api_addr = \"https://u:canary@h\"\n"}},
	{"outbound_allow as text", []string{good + "outbound_allow = \"127.0.0.1\"\n"}},
	{"outbound_allow of names", []string{good + "outbound_allow = [\"127.0.0.1\",\n  \"localhost\", 5]\n"}},
	{"folders as text", []string{good + "audit_folders = \"/var/log\"\n"}},
	{"no folders", []string{good + "audit_folders = []\n"}},
	{"folders that are none", []string{good + "connection_folders = [\"/\",\n  \"tls\", 5, \"/etc/..\"]\n"}},
	{"log format", []string{good + "log_format = \"xml\"\n"}},
	{"a number for text", []string{good + "cluster_name = 5\n"}},
	{"a list for text", []string{good + "cluster_name = [\"a\"]\n"}},
	{"not a boolean", []string{good + "disable_mlock = \"maybe\"\n"}},
	{"request size", []string{"storage \"memory\" {}\nlistener \"tcp\" {\n tls_disable = true\n max_request_size = -1\n max_request_duration = \"x\"\n}"}},
	{"telemetry as a value", []string{"storage \"memory\" {}\nlistener \"tcp\" {\n tls_disable = true\n telemetry = 1\n}"}},
	{"a key twice", []string{good + "cluster_name = \"a\"\ncluster_name = \"b\"\n"}},
	{"a key twice in JSON", []string{"{\"storage\": {\"memory\": {}},\n\"listener\": {\"tcp\": {\"tls_disable\": true}},\n\"cluster_name\": \"a\",\n\"cluster_name\": \"b\"}"}},
	{"a key in two files", []string{good + "cluster_name = \"a\"\n", "\ncluster_name = \"a\"\n"}},
	{"storage in two files", []string{good, "storage \"memory\" {}"}},
	{"problems in two files", []string{"x = 1", "y = 1"}},
	{"broken HCL", []string{good + "listener \"tcp\" {\n"}},
	{"broken JSON", []string{"{\"storage\": "}},
	{"a list", []string{"[1]"}},
	{"binary", []string{"\x00\x01\x02"}},
	{"too large", []string{strings.Repeat("#", maxFile+1)}},
}

// TestWrongConfigs keeps what is said of each mistake.
func TestWrongConfigs(t *testing.T) {
	var got strings.Builder
	for _, tt := range wrong {
		p := newParser(named())
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
			t.Errorf("%s: tells a secret: %v", tt.name, err)
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
	_, err := Read([]string{"no-such-file.hcl", empty}, named())
	if err == nil || !strings.Contains(err.Error(), "no-such-file.hcl: reading it: no such file") || !strings.Contains(err.Error(), "the folder has no file") {
		t.Errorf("got %v", err)
	}
}

// FuzzConfig: any text is a configuration, or is refused in words with a place.
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
		p := newParser(named())
		p.file("f.hcl", []byte(text))
		c, err := p.finish()
		if err == nil && (len(c.Listeners) == 0 || c.Storage.Name == "") {
			t.Errorf("accepted without a listener or a storage: %+v", c)
		}
		if err == nil {
			for _, l := range c.Listeners {
				if !l.TLSDisable && l.CertFile == "" {
					t.Errorf("serves in the clear though nobody said so: %+v", l)
				}
			}
		}
	})
}
