package node

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/internal/barrier"
	"github.com/keyturn/keyturn/internal/barrier/barriertest"
	"github.com/keyturn/keyturn/internal/core/mounts"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage/memory"
	"github.com/keyturn/keyturn/internal/wire"
)

// A fixture has the routes over an empty store.
type fixture struct {
	t     *testing.T
	table *route.Table
	view  *barrier.View
	cfg   Config
}

func open(t *testing.T, edit func(c *Config)) *fixture {
	t.Helper()
	store := memory.Open()
	b := barriertest.Open(t, store)
	rotation := DefaultKeyRotation
	c := Config{
		View: b.View(""), Mounts: mounts.New(mounts.Config{Barrier: b, Log: slog.New(slog.DiscardHandler)}),
		Keys: Keys{Status: b.KeyStatus, Rotate: b.Rotate,
			Rotation:    func(context.Context) (KeyRotation, error) { return rotation, nil },
			SetRotation: func(_ context.Context, c KeyRotation) error { rotation = c; return nil },
		},
	}
	if edit != nil {
		edit(&c)
	}
	table, err := route.NewTable(Routes(c))
	if err != nil {
		t.Fatal(err)
	}
	return &fixture{t, table, c.View, c}
}

// do serves a request and returns the answer's data as JSON.
func (p *fixture) do(op route.Op, path, body string) (string, error) {
	p.t.Helper()
	r := &route.Request{Op: op, Path: route.Path("sys/" + path), Rest: path, Body: []byte(body)}
	found, err := p.table.Find(r)
	if err != nil {
		p.t.Fatalf("%s %s: %v", op, path, err)
	}
	data, err := found.Serve(p.t.Context(), r)
	if err != nil {
		return "", err
	}
	return string(wire.Append(nil, data)), nil
}

func (p *fixture) must(op route.Op, path, body, want string) {
	p.t.Helper()
	got, err := p.do(op, path, body)
	if err != nil {
		p.t.Errorf("%s %s: %v", op, path, err)
		return
	}
	var g, w any
	if json.Unmarshal([]byte(got), &g) != nil || json.Unmarshal([]byte(want), &w) != nil || !cmp.Equal(g, w) {
		p.t.Errorf("%s %s: got %s, want %s", op, path, got, want)
	}
}

func (p *fixture) refused(op route.Op, path, body string, kind fault.Kind, says string) {
	p.t.Helper()
	got, err := p.do(op, path, body)
	if !fault.Is(err, kind) || !strings.Contains(fault.Message(err), says) {
		p.t.Errorf("%s %s %s: got %s and %v, want %v that says %q", op, path, body, got, err, kind, says)
	}
}

func TestCORS(t *testing.T) {
	p := open(t, nil)
	p.must(route.Read, "config/cors", "", `{"enabled":false}`)
	for body, says := range map[string]string{
		`{}`:                                                        "name the origins",
		`{"allowed_origins":"*,https://a.b"}`:                       "send it alone",
		`{"allowed_origins":"ui.example"}`:                          "is not an origin",
		`{"allowed_origins":"https://a.b/c"}`:                       "is not an origin",
		`{"allowed_origins":["https://a.b\r\nX"]}`:                  "is not an origin",
		`{"allowed_origins":"https://a.b","allowed_headers":"X Y"}`: "is not a header name",
	} {
		p.refused(route.Write, "config/cors", body, fault.Invalid, says)
	}
	p.must(route.Read, "config/cors", "", `{"enabled":false}`)
	p.must(route.Write, "config/cors",
		`{"allowed_origins":"https://ui.example,http://localhost:8080","allowed_headers":"X-Mine"}`, `null`)
	headers, _ := json.Marshal(append(append([]string{}, DefaultCORSHeaders...), "X-Mine"))
	p.must(route.Read, "config/cors", "", fmt.Sprintf(
		`{"enabled":true,"allowed_origins":["https://ui.example","http://localhost:8080"],"allowed_headers":%s}`,
		headers))
	c, err := CORSSetting.Read(t.Context(), p.view)
	if err != nil || !c.Allows("https://UI.example") || c.Allows("https://evil.example") || c.Allows("null") {
		t.Errorf("read %+v, %v", c, err)
	}
	p.must(route.Delete, "config/cors", "", `null`)
	p.must(route.Read, "config/cors", "", `{"enabled":false}`)
}

func TestUIHeaders(t *testing.T) {
	p := open(t, nil)
	p.refused(route.List, "config/ui/headers", "", fault.NotFound, "")
	p.refused(route.Write, "config/ui/headers/X-Vault-Mine", `{"values":["x"]}`, fault.Invalid, "are the API's own")
	p.refused(route.Write, "config/ui/headers/X Y", `{"values":["x"]}`, fault.Invalid, "is not a header name")
	p.refused(route.Write, "config/ui/headers/X-A", `{}`, fault.Invalid, "give at least one")
	p.refused(route.Write, "config/ui/headers/X-A", `{"values":["a\nSet-Cookie: b"]}`, fault.Invalid, "no line breaks")
	p.must(route.Write, "config/ui/headers/X-A", `{"values":["one","two"]}`, `null`)
	p.refused(route.Write, "config/ui/headers/x-a", `{"values":["one"]}`, fault.Conflict, `spelled "X-A"`)
	p.must(route.List, "config/ui/headers", "", `{"keys":["X-A"]}`)
	p.must(route.Read, "config/ui/headers/X-A", "", `{"value":"one"}`)
	p.must(route.Delete, "config/ui/headers/X-A", "", `null`)
	p.refused(route.Read, "config/ui/headers/X-A", "", fault.NotFound, "")
}

// TestAuditedHeaders: a header that carries a token cannot be recorded in clear.
func TestAuditedHeaders(t *testing.T) {
	p := open(t, nil)
	const at = "config/auditing/request-headers"
	p.must(route.Read, at, "", `{"headers":{}}`)
	for _, name := range []string{"X-Vault-Token", "x-vault-token", "Authorization", "cookie"} {
		p.refused(route.Write, at+"/"+name, `{"hmac":false}`, fault.Invalid, "carries credentials")
		p.refused(route.Write, at+"/"+name, `{}`, fault.Invalid, "carries credentials")
	}
	p.must(route.Write, at+"/X-Correlation-Id", `{}`, `null`)
	p.must(route.Write, at+"/X-Vault-Token", `{"hmac":true}`, `null`)
	p.refused(route.Write, at+"/x-correlation-id", `{"hmac":true}`, fault.Conflict, "spelled")
	p.must(route.Read, at, "", `{"headers":{"X-Correlation-Id":{"hmac":false},"X-Vault-Token":{"hmac":true}}}`)
	p.must(route.Read, at+"/X-Correlation-Id", "", `{"X-Correlation-Id":{"hmac":false}}`)
	p.must(route.Delete, at+"/X-Correlation-Id", "", `null`)
	p.refused(route.Read, at+"/X-Correlation-Id", "", fault.NotFound, "is not audited")
}

// TestTwoWriters: if two servers of a store set two headers at the same time, both are kept.
func TestTwoWriters(t *testing.T) {
	p := open(t, nil)
	first := true
	err := AuditedHeader.change(t.Context(), p.view, func(all *map[string]HeaderRule) error {
		if first {
			first = false
			p.must(route.Write, "config/auditing/request-headers/X-Other", `{}`, `null`)
		}
		*all = put(*all, "X-Mine", HeaderRule{})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	p.must(route.Read, "config/auditing/request-headers", "",
		`{"headers":{"X-Mine":{"hmac":false},"X-Other":{"hmac":false}}}`)
}

func TestKeyRotation(t *testing.T) {
	p := open(t, nil)
	p.must(route.Read, "rotate/config", "", `{"enabled":true,"max_operations":3865470566,"interval":0}`)
	p.refused(route.Write, "rotate/config", `{"max_operations":999999}`, fault.Invalid, "want 1000000 to")
	p.refused(route.Write, "rotate/config", `{"interval":"1h"}`, fault.Invalid, "24h or more")
	p.must(route.Write, "rotate/config", `{"interval":"720h"}`, `null`)
	p.must(route.Read, "rotate/config", "", `{"enabled":true,"max_operations":3865470566,"interval":2592000}`)
	p.must(route.Write, "rotate/config", `{"interval":0,"max_operations":1000000,"enabled":false}`, `null`)
	p.must(route.Read, "rotate/config", "", `{"enabled":false,"max_operations":1000000,"interval":0}`)
	before, err := p.cfg.Keys.Status()
	if err != nil {
		t.Fatal(err)
	}
	p.must(route.Write, "rotate", "", `null`)
	if got, err := p.do(route.Read, "key-status", ""); err != nil ||
		!strings.Contains(got, fmt.Sprintf(`"term":%d,`, before.Term+1)) {
		t.Errorf("after a rotation the key's status is %s, %v", got, err)
	}
}

func TestKeyRotationDue(t *testing.T) {
	made := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		c     KeyRotation
		uses  uint64
		after time.Duration
		want  bool
	}{
		{DefaultKeyRotation, 10, 1e6 * time.Hour, false},
		{DefaultKeyRotation, 3_865_470_566, 0, true},
		{KeyRotation{Enabled: true, MaxOperations: 100, Interval: 24 * time.Hour}, 99, 24*time.Hour - 1, false},
		{KeyRotation{Enabled: true, MaxOperations: 100, Interval: 24 * time.Hour}, 99, 24 * time.Hour, true},
		{KeyRotation{Enabled: false, MaxOperations: 100, Interval: 24 * time.Hour}, 1e9, 1e6 * time.Hour, false},
	} {
		if got := tt.c.Due(made, tt.uses, made.Add(tt.after)); got != tt.want {
			t.Errorf("%+v after %d uses and %s: due is %v, want %v", tt.c, tt.uses, tt.after, got, tt.want)
		}
	}
}

// TestRaw: rows are shown only if the configuration enables it, and key rows never.
func TestRaw(t *testing.T) {
	p := open(t, nil)
	for _, op := range []route.Op{route.Read, route.Write, route.Delete, route.List} {
		p.refused(op, "raw/core/x", "", fault.Unsupported, "raw_storage_endpoint")
	}
	p = open(t, func(c *Config) { c.RawStorage = true })
	for _, key := range []string{"core/keyring", "core/seal"} {
		for _, op := range []route.Op{route.Read, route.Write, route.Delete} {
			p.refused(op, "raw/"+key, `{"value":"x"}`, fault.Denied, "neither shown nor written")
		}
	}
	// Only a root token may create root tokens.
	for _, key := range []string{"token/x", "token-accessor/x", "token-child/x/y", "wrapped/x"} {
		for _, op := range []route.Op{route.Read, route.Write, route.Delete} {
			p.refused(op, "raw/"+key, `{"value":"x"}`, fault.Denied, "only a root token")
		}
	}
	for _, key := range []string{"token", "token-child", "wrapped"} {
		p.refused(route.List, "raw/"+key, "", fault.Denied, "only a root token")
	}
	p.must(route.Write, "raw/core/x/one", `{"value":"text"}`, `null`)
	p.must(route.Write, "raw/core/x/two", `{"value":"/w==","encoding":"base64"}`, `null`)
	p.refused(route.Write, "raw/core/x/two", `{"value":"-","encoding":"base64"}`, fault.Invalid, "not base64")
	p.refused(route.Write, "raw/core/x/two", `{"value":"-","encoding":"hex"}`, fault.Invalid, "want base64")
	p.must(route.Read, "raw/core/x/one", "", `{"value":"text"}`)
	p.refused(route.Read, "raw/core/x/two", "", fault.Invalid, "is not text")
	p.must(route.List, "raw/core/x", "", `{"keys":["one","two"]}`)
	got, err := p.do(route.List, "raw/core", "")
	if err != nil || !strings.Contains(got, `"x/"`) || strings.Contains(got, "one") {
		t.Errorf("the list of core is %s, %v", got, err)
	}
	p.must(route.Delete, "raw/core/x/one", "", `null`)
	p.refused(route.Read, "raw/core/x/one", "", fault.NotFound, "")
}

func TestPlugins(t *testing.T) {
	p := open(t, func(c *Config) {
		c.Plugins = []Plugin{{"auth", "token"}, {"database", "postgresql-database-plugin"}, {"secret", "kv"}}
	})
	p.must(route.List, "plugins/catalog/database", "", `{"keys":["postgresql-database-plugin"]}`)
	p.refused(route.List, "plugins/catalog/other", "", fault.Invalid, "there is no plugin type")
	p.must(route.Read, "plugins/catalog/secret/kv", "",
		`{"name":"kv","type":"secret","version":"v2.0.0+builtin.bao","builtin":true,"deprecation_status":"supported","command":"","sha256":""}`)
	p.refused(route.Read, "plugins/catalog/secret/pki", "", fault.NotFound, "")
	p.refused(route.Write, "plugins/catalog/secret/pki", `{"command":"x"}`, fault.Unsupported, "cannot be added")
	got, err := p.do(route.Read, "plugins/catalog", "")
	if err != nil || !strings.Contains(got, `"secret":["kv"]`) ||
		!strings.Contains(got, `"detailed":[{"name":"token"`) {
		t.Errorf("the catalog is %s, %v", got, err)
	}
}

// TestUnsupportedEndpoints: unsupported endpoints return an error that says so.
func TestUnsupportedEndpoints(t *testing.T) {
	p := open(t, nil)
	for path, says := range map[string]string{
		"host-info": "no information about its machine", "in-flight-req": "does not count",
		"internal/counters/activity": "clients are not counted",
		"internal/counters/entities": "not implemented yet", "internal/counters/requests": "sys/metrics",
		"internal/inspect/router/root": "introspection_endpoint",
	} {
		p.refused(route.Read, path, "", fault.Unsupported, says)
	}
}

func TestProfiles(t *testing.T) {
	p := open(t, nil)
	got, err := p.do(route.Read, "pprof", "")
	if err != nil || !strings.Contains(got, `"heap"`) || !strings.Contains(got, `"trace"`) {
		t.Errorf("the profiles are %s, %v", got, err)
	}
	p.refused(route.Read, "pprof/none", "", fault.NotFound, "there is no profile")
	r := &route.Request{Op: route.Read, Rest: "pprof/goroutine", Query: map[string][]string{"debug": {"1"}}}
	found, err := p.table.Find(r)
	if err != nil {
		t.Fatal(err)
	}
	data, err := found.Serve(t.Context(), r)
	raw, ok := data.(*wire.Raw)
	if err != nil || !ok || !strings.Contains(string(raw.Reveal()), "goroutine profile:") {
		t.Errorf("the goroutines: %v", err)
	}
	r = &route.Request{Op: route.Read, Rest: "pprof/profile", Query: map[string][]string{"seconds": {"61"}}}
	if found, err = p.table.Find(r); err != nil {
		t.Fatal(err)
	}
	if _, err := found.Serve(t.Context(), r); !fault.Is(err, fault.Invalid) {
		t.Errorf("a profile of 61 seconds: %v", err)
	}
}

func TestVersionHistory(t *testing.T) {
	first, second := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC)
	p := open(t, func(c *Config) {
		c.Versions = func(context.Context) ([]InstalledVersion, error) {
			return []InstalledVersion{{"1.0.0", first}, {"1.1.0", second}}, nil
		}
		c.InFlight = func() []Flight {
			return []Flight{{ID: "id", Start: first, Remote: "127.0.0.1:9", Path: "/v1/sys/mounts", Method: "GET"}}
		}
	})
	p.must(route.List, "version-history", "", `{"keys":["1.0.0","1.1.0"],"key_info":{
		"1.0.0":{"build_date":null,"previous_version":null,"timestamp_installed":"2026-03-01T00:00:00Z"},
		"1.1.0":{"build_date":null,"previous_version":"1.0.0","timestamp_installed":"2026-04-01T00:00:00Z"}}}`)
	p.must(route.Read, "in-flight-req", "",
		`{"id":{"start_time":"2026-03-01T00:00:00Z","client_remote_address":"127.0.0.1:9","request_path":"/v1/sys/mounts","request_method":"GET","client_id":""}}`)
}
