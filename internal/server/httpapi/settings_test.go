package httpapi

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/core"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/wire"
)

// from sends a request as if it came from an address.
func from(h http.Handler, remote string, forwarded ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("GET", "/v1/secret/a", nil)
	r.RemoteAddr = remote
	r.Header["X-Forwarded-For"] = forwarded
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// TestForwarded has who is believed to be the client.
func TestForwarded(t *testing.T) {
	proxies := []netip.Prefix{
		netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8"), netip.MustParsePrefix("fe80::/10"),
	}
	strict, lax := Forwarded{By: proxies}, Forwarded{By: proxies, TakeAbsent: true, TakeUntrusted: true}
	hop := Forwarded{By: proxies, Hops: 1}
	for name, tt := range map[string]struct {
		rule   *Forwarded
		remote string
		values []string
		want   string // the client; or what the refusal says
		status int
	}{
		"off":                              {nil, "10.0.0.1:5", []string{"1.2.3.4"}, "10.0.0.1:5", 200},
		"a proxy":                          {&strict, "10.0.0.1:5", []string{"1.2.3.4"}, "1.2.3.4:5", 200},
		"a proxy over IPv6":                {&strict, "[fd00::1]:5", []string{"2001:db8::1"}, "[2001:db8::1]:5", 200},
		"a proxy on the link":              {&strict, "[fe80::1%eth0]:5", []string{"1.2.3.4"}, "1.2.3.4:5", 200},
		"a proxy, mapped":                  {&strict, "[::ffff:10.0.0.1]:5", []string{"1.2.3.4"}, "1.2.3.4:5", 200},
		"a mapped client":                  {&strict, "10.0.0.1:5", []string{"::ffff:1.2.3.4"}, "1.2.3.4:5", 200},
		"with a port":                      {&strict, "10.0.0.1:5", []string{"1.2.3.4:77"}, "1.2.3.4:77", 200},
		"IPv6 with a port":                 {&strict, "10.0.0.1:5", []string{"[2001:db8::1]:77"}, "[2001:db8::1]:77", 200},
		"IPv6 in brackets":                 {&strict, "10.0.0.1:5", []string{"[2001:db8::1]"}, "[2001:db8::1]:5", 200},
		"the client's own claim is old":    {&strict, "10.0.0.1:5", []string{"6.6.6.6, 1.2.3.4"}, "1.2.3.4:5", 200},
		"the claim in a header of its own": {&strict, "10.0.0.1:5", []string{"6.6.6.6", "1.2.3.4"}, "1.2.3.4:5", 200},
		"two proxies":                      {&hop, "10.0.0.1:5", []string{"6.6.6.6, 1.2.3.4, 10.0.0.2"}, "1.2.3.4:5", 200},
		"Vault's example":                  {&hop, "10.0.0.1:5", []string{"1.2.3.4, 2.3.4.5, 3.4.5.6, 4.5.6.7"}, "3.4.5.6:5", 200},
		"fewer hops than proxies":          {&hop, "10.0.0.1:5", []string{"1.2.3.4"}, "hop_skips", 400},
		"no address":                       {&strict, "10.0.0.1:5", []string{"1.2.3.4, unknown"}, "not an IP address", 400},
		"nothing at the end":               {&strict, "10.0.0.1:5", []string{"1.2.3.4,"}, "not an IP address", 400},
		"absent":                           {&strict, "10.0.0.1:5", nil, "x_forwarded_for_reject_not_present", 400},
		"empty":                            {&strict, "10.0.0.1:5", []string{" "}, "x_forwarded_for_reject_not_present", 400},
		"absent, and taken":                {&lax, "10.0.0.1:5", nil, "10.0.0.1:5", 200},
		"absent from elsewhere, taken":     {&lax, "9.9.9.9:5", nil, "9.9.9.9:5", 200},
		"absent from elsewhere":            {&strict, "9.9.9.9:5", nil, "x_forwarded_for_reject_not_present", 400},
		"spoofed":                          {&strict, "9.9.9.9:5", []string{"1.2.3.4"}, "x_forwarded_for_authorized_addrs", 400},
		"spoofed, and passed over":         {&lax, "9.9.9.9:5", []string{"10.0.0.1"}, "9.9.9.9:5", 200},
		"a socket of this machine":         {&strict, "@", []string{"1.2.3.4"}, "x_forwarded_for_authorized_addrs", 400},
	} {
		b := &backend{}
		cfg := b.config()
		cfg.Settings.Forwarded = tt.rule
		w := from(New(cfg), tt.remote, tt.values...)
		if w.Code != tt.status {
			t.Errorf("%s: status %d %s", name, w.Code, w.Body)
			continue
		}
		if tt.status != 200 {
			if !strings.Contains(w.Body.String(), tt.want) || b.seen != nil {
				t.Errorf("%s: %s, went through: %v", name, w.Body, b.seen != nil)
			}
			continue
		}
		if got := b.seen.Remote.String(); got != tt.want {
			t.Errorf("%s: the client is %s, want %s", name, got, tt.want)
		}
	}
}

// TestForwardedGuardsPages: what anybody may read is not for those who come past
// the proxy either.
func TestForwardedGuardsPages(t *testing.T) {
	cfg := (&backend{}).config()
	cfg.Settings.Forwarded = &Forwarded{By: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	if w := ask(New(cfg), "GET", "/v1/sys/health", ""); w.Code != 400 {
		t.Errorf("status %d", w.Code)
	}
}

// TestCustomHeaders: the narrowest name that fits a status counts, for each header.
func TestCustomHeaders(t *testing.T) {
	h := NewHeaders(map[string]map[string]string{
		"default": {"X-Custom": "default", "x-everywhere": "yes"},
		"3xx":     {"X-Custom": "3xx"},
		"307":     {"X-Custom": "307"},
		"404":     {"X-Lost": "yes"},
	})
	for status, want := range map[int]string{200: "default", 306: "3xx", 307: "307", 404: "default", 599: "default"} {
		b := &backend{answer: &core.Answer{Status: status}}
		cfg := b.config()
		cfg.Settings.Headers, cfg.Settings.Hostname = h, "host-a"
		w := ask(New(cfg), "GET", "/v1/secret/a", "")
		head := w.Header()
		if head.Get("X-Custom") != want || head.Get("X-Everywhere") != "yes" ||
			head.Get("X-Vault-Hostname") != "host-a" || head.Get("Cache-Control") != "no-store" {
			t.Errorf("%d: %v", status, head)
		}
		if lost := head.Get("X-Lost") != ""; lost != (status == 404) {
			t.Errorf("%d: %v", status, head)
		}
	}
	cfg := (&backend{}).config()
	cfg.Settings.Headers = h
	if w := ask(New(cfg), "GET", "/elsewhere", ""); w.Code != 404 || w.Header().Get("X-Lost") != "yes" {
		t.Errorf("a refusal of the door's: %d %v", w.Code, w.Header())
	}
	for _, name := range []string{
		"X-Vault-Token", "x-vault-own", "Content-Type", "content-length", "Connection", "Transfer-Encoding",
	} {
		if !OwnHeader(name) {
			t.Errorf("%s may be set", name)
		}
	}
	for name, want := range map[string]bool{
		"default": true, "2xx": true, "404": true, "6xx": false, "0xx": false, "2x": false, "xx2": false, "": false,
		"2x1": false,
	} {
		if StatusName(name) != want {
			t.Errorf("StatusName(%q) is not %v", name, want)
		}
	}
}

// TestRedact leaves out what the pages that anybody may read would tell.
func TestRedact(t *testing.T) {
	b := &backend{health: core.Health{Initialized: true, ClusterName: "payments", ClusterID: "12345678-9"}}
	for _, path := range []string{"sys/health", "sys/seal-status"} {
		cfg := b.config()
		if w := ask(New(cfg), "GET", "/v1/"+path, ""); !strings.Contains(w.Body.String(), APIVersion) ||
			!strings.Contains(w.Body.String(), "0.0.1") {
			t.Errorf("%s: %s", path, w.Body)
		}
		cfg.Settings.Redact = Redact{Addresses: true, ClusterName: true, Version: true}
		w := ask(New(cfg), "GET", "/v1/"+path, "")
		for _, told := range []string{APIVersion, "0.0.1", "payments", "cluster_name"} {
			if strings.Contains(w.Body.String(), told) {
				t.Errorf("%s tells %q: %s", path, told, w.Body)
			}
		}
		if !strings.Contains(w.Body.String(), `"version":""`) {
			t.Errorf("%s: %s", path, w.Body)
		}
	}
}

// TestApply: the next request meets what was changed.
func TestApply(t *testing.T) {
	b := &backend{}
	h := New(b.config())
	body := `{"a":[[[1]]]}`
	if w := ask(h, "PUT", "/v1/secret/a", body); w.Code != 200 {
		t.Errorf("status %d %s", w.Code, w.Body)
	}
	h.Apply(Settings{JSON: wire.Limits{Depth: 3}, MaxBody: 100})
	if w := ask(h, "PUT", "/v1/secret/a", body); w.Code != 400 ||
		!strings.Contains(w.Body.String(), "max_json_depth") {
		t.Errorf("status %d %s", w.Code, w.Body)
	}
	if w := ask(h, "PUT", "/v1/secret/a", `{"a":"`+strings.Repeat("x", 100)+`"}`); w.Code != 413 {
		t.Errorf("status %d %s", w.Code, w.Body)
	}
	h.Apply(Settings{MaxBody: -1})
	if w := ask(h, "PUT", "/v1/secret/a",
		`{"a":[`+strings.Repeat(strings.Repeat(" ", 1<<20)+"1,", 40)+`1]}`); w.Code != 200 {
		t.Errorf("without a limit: status %d %.200s", w.Code, w.Body)
	}
}

// TestLogRequests writes a line for each request at the level that is wanted, and
// no token that stands in a path.
func TestLogRequests(t *testing.T) {
	var out bytes.Buffer
	b := &backend{err: errors.New("CANARY")}
	cfg := b.config()
	cfg.Log = slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelInfo}))
	h := New(cfg)
	ask(h, "GET", "/v1/secret/quiet", "")
	for _, level := range []slog.Level{slog.LevelDebug, slog.LevelInfo} {
		h.Apply(Settings{LogRequests: &level})
		ask(h, "PUT", "/v1/secret/"+level.String(), `{"a":"b"}`)
		ask(h, "GET", "/v1/auth/token/lookup/hvs.canary1", "")
		ask(h, "PUT", "/v1/auth/token/revoke-orphan/canary1", "")
		ask(h, "GET", "/v1/auth/token/Lookup/canary1/", "")
		ask(h, "GET", "/v1/auth/token/lookup//canary1", "")
		ask(h, "GET", "/v1/auth%2Ftoken%2flookup%2Fcanary1", "")
	}
	text := out.String()
	for _, want := range []string{
		"msg=completed_request", "request_method=PUT", "request_path=/v1/secret/INFO", "status_code=500",
		"client_address=192.0.2.1:1234", "duration=",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %q: %s", want, text)
		}
	}
	for _, not := range []string{"secret/quiet", "request_path=/v1/secret/DEBUG", "canary1"} {
		if strings.Contains(text, not) {
			t.Errorf("there is %q: %s", not, text)
		}
	}
}

// slowly gives one byte a second.
type slowly struct{ left int }

// Read runs in a bubble.
func (s *slowly) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	s.left--
	time.Sleep(time.Second)
	p[0] = ' '
	return 1, nil
}

// deadlines is a connection that knows the deadline of its reads.
type deadlines struct {
	*httptest.ResponseRecorder
	set  []time.Duration
	from time.Time
}

func (d *deadlines) SetReadDeadline(t time.Time) error {
	d.set = append(d.set, t.Sub(d.from))
	return nil
}

// TestReadTime bounds the body by its own time, and gives the connection that of
// the whole request back.
func TestReadTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &backend{}
		cfg := b.config()
		cfg.Settings.ReadTime = 30 * time.Second
		w := &deadlines{ResponseRecorder: httptest.NewRecorder(), from: time.Now()}
		New(cfg).ServeHTTP(w,
			httptest.NewRequest("PUT", "/v1/secret/a", io.MultiReader(strings.NewReader(`{"a":1}`), &slowly{5})))
		if len(w.set) != 2 || w.set[0] != 30*time.Second || w.set[1] != DefaultMaxTime || w.Code != 200 {
			t.Errorf("status %d, deadlines %v", w.Code, w.set)
		}
		w = &deadlines{ResponseRecorder: httptest.NewRecorder(), from: time.Now()}
		New(cfg).ServeHTTP(w,
			httptest.NewRequest("PUT", "/v1/secret/a", io.MultiReader(strings.NewReader(`{"a":`), late{})))
		if w.Code != 504 || !strings.Contains(w.Body.String(), "did not come in time") {
			t.Errorf("status %d %s", w.Code, w.Body)
		}
		w = &deadlines{ResponseRecorder: httptest.NewRecorder(), from: time.Now()}
		if New(cfg).ServeHTTP(w, httptest.NewRequest("GET", "/v1/secret/a", nil)); len(w.set) != 0 {
			t.Errorf("a request without a body: %v", w.set)
		}
	})
}

// late is a connection whose deadline has passed.
type late struct{}

func (late) Read([]byte) (int, error) { return 0, os.ErrDeadlineExceeded }

// TestAccept: what the client asks for reaches who renders the metrics.
func TestAccept(t *testing.T) {
	b := &backend{}
	if ask(New(b.config()), "GET", "/v1/sys/metrics", "", "Accept", "text/x"); b.seen == nil ||
		b.seen.Accept != "text/x" || b.seen.Op != route.Read {
		t.Errorf("%+v", b.seen)
	}
}
