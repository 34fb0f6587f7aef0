package httpapi

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/core"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/seal"
	"github.com/keyturn/keyturn/internal/secret"
)

// backend is a house that remembers the last request and answers as told.
type backend struct {
	seen   *route.Request
	body   string
	answer *core.Answer
	err    error
	act    func(ctx context.Context)
	health core.Health
	init   core.InitRequest
	key    secret.Value
	reset  bool
	auto   bool
}

func (b *backend) config() Config {
	return Config{
		Version: "0.0.1",
		Backend: Backend{
			Handle: func(ctx context.Context, r *route.Request) (*core.Answer, error) {
				b.seen, b.body = r, string(r.Body) // the buffer goes back to the pool
				if b.act != nil {
					b.act(ctx)
				}
				if b.answer == nil && b.err == nil {
					return &core.Answer{Status: 200, Body: []byte(`{}`)}, nil
				}
				return b.answer, b.err
			},
			Health: func(context.Context) (core.Health, error) { return b.health, b.err },
			SealStatus: func(context.Context) (core.SealStatus, error) {
				return core.SealStatus{Status: seal.Status{Type: "shamir"}, AutoUnseals: b.auto}, b.err
			},
			Initialized: func(context.Context) (bool, error) { return b.health.Initialized, b.err },
			Init: func(_ context.Context, r core.InitRequest) (*core.InitResult, error) {
				b.init = r
				return &core.InitResult{
					Shares: []secret.Value{secret.Text("\x01\xff")}, RootToken: secret.Text("hvs.root"),
				}, b.err
			},
			Unseal: func(_ context.Context, key secret.Value, reset bool) (core.SealStatus, error) {
				b.key, b.reset = key, reset
				return core.SealStatus{Status: seal.Status{Type: "shamir", Progress: 1}}, b.err
			},
			Metrics: func(_ context.Context, format, _ string) ([]byte, string, error) {
				return []byte(format + " up 1\n"), "text/plain", nil
			},
		},
	}
}

// ask sends one request and returns the answer.
func ask(h http.Handler, method, target, body string, head ...string) *httptest.ResponseRecorder {
	var from io.Reader
	if body != "" {
		from = strings.NewReader(body)
	}
	r := httptest.NewRequest(method, target, from)
	for i := 0; i+1 < len(head); i += 2 {
		r.Header.Add(head[i], head[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestOperations(t *testing.T) {
	for _, tt := range []struct {
		method, target string
		op             route.Op
		path           route.Path
	}{
		{"GET", "/v1/secret/a", route.Read, "secret/a"},
		{"GET", "/v1/secret/a/", route.Read, "secret/a"},
		{"GET", "/v1/secret/a?list=true", route.List, "secret/a/"},
		{"GET", "/v1/secret/a/?list=1", route.List, "secret/a/"},
		{"GET", "/v1/secret/a?list=false", route.Read, "secret/a"},
		{"LIST", "/v1/secret/a", route.List, "secret/a/"},
		{"LIST", "/v1/secret/a/", route.List, "secret/a/"},
		{"POST", "/v1/secret/a", route.Write, "secret/a"},
		{"PUT", "/v1/secret/a?list=true", route.Write, "secret/a"},
		{"DELETE", "/v1/secret/a", route.Delete, "secret/a"},
		{"PATCH", "/v1/secret/a", route.Patch, "secret/a"},
		{"GET", "/v1/secret/a%20b%2Fc", route.Read, "secret/a b/c"},
	} {
		b := &backend{}
		w := ask(New(b.config()), tt.method, tt.target, "", "Content-Type", "application/merge-patch+json")
		if w.Code != 200 || b.seen == nil {
			t.Errorf("%s %s: status %d %s", tt.method, tt.target, w.Code, w.Body)
			continue
		}
		if b.seen.Op != tt.op || b.seen.Path != tt.path {
			t.Errorf("%s %s: %s %q, want %s %q", tt.method, tt.target, b.seen.Op, b.seen.Path, tt.op, tt.path)
		}
	}
}

// TestGHSA_rh46: what engines and core do among themselves is no method.
func TestGHSA_rh46(t *testing.T) {
	for _, method := range []string{
		"REVOKE", "RENEW", "ROLLBACK", "HELP", "CREATE", "UPDATE", "READ", "CONNECT", "alias-lookahead",
		"Resolve-Role", "SCAN", "LIST ", "Get",
	} {
		for _, override := range []string{"X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"} {
			b := &backend{}
			r := httptest.NewRequest("GET", "/v1/secret/a", nil)
			r.Method = method
			w := httptest.NewRecorder()
			if New(b.config()).ServeHTTP(w, r); w.Code != 405 || b.seen != nil {
				t.Errorf("%s: status %d, seen %v", method, w.Code, b.seen)
			}
			if w := ask(New(b.config()), "GET", "/v1/secret/a?_method=DELETE", "", override, method); w.Code != 200 ||
				b.seen.Op != route.Read {
				t.Errorf("%s: %s made it %v", override, method, b.seen)
			}
		}
	}
}

// TestRefused has each thing that does not pass the door.
func TestRefused(t *testing.T) {
	long := strings.Repeat("x", maxToken+1)
	for name, tt := range map[string]struct {
		method, target, body string
		head                 []string
		status               int
		says                 string
	}{
		"outside the API":            {"GET", "/v2/secret", "", nil, 404, "below /v1/"},
		"the API without a path":     {"GET", "/v1", "", nil, 404, "below /v1/"},
		"web interface":              {"GET", "/ui/", "", nil, 404, "web interface"},
		"escaped prefix":             {"GET", "/%76%31/secret/a", "", nil, 404, "below /v1/"},
		"OPTIONS":                    {"OPTIONS", "/v1/secret/a", "", nil, 405, "method"},
		"TRACE":                      {"TRACE", "/v1/secret/a", "", nil, 405, "method"},
		"lower case method":          {"list", "/v1/secret/a", "", nil, 405, "method"},
		"HEAD of a secret":           {"HEAD", "/v1/secret/a", "", nil, 405, "status pages"},
		"dot segment":                {"GET", "/v1/secret/../sys/raw", "", nil, 400, "dot segment"},
		"escaped dot segment":        {"GET", "/v1/secret/%2e%2e/sys", "", nil, 400, "dot segment"},
		"twice escaped dots":         {"GET", "/v1/secret/%252e%252e/sys", "", nil, 400, "dot segment"},
		"escaped empty segment":      {"GET", "/v1/secret%2F%2Fa", "", nil, 400, "empty segment"},
		"half escaped empty segment": {"LIST", "/v1/secret/%2F", "", nil, 400, "empty segment"},
		"empty and dot segments":     {"GET", "/v1/secret//../sys/raw", "", nil, 400, "dot segment"},
		"empty before the API":       {"GET", "//ui", "", nil, 404, "below /v1/"},
		"namespace in a second header": {"GET", "/v1/secret/a", "",
			[]string{"X-Vault-Namespace", "", "X-Vault-Namespace", "ns1"}, 400, "X-Vault-Namespace"},
		"wrapping in a second header": {"GET", "/v1/secret/a", "",
			[]string{"X-Vault-Wrap-TTL", "", "X-Vault-Wrap-TTL", "5m"}, 400, "X-Vault-Wrap-TTL"},
		"wrapping for no time": {"GET", "/v1/secret/a", "", []string{"X-Vault-Wrap-TTL", "-1s"}, 400,
			"X-Vault-Wrap-TTL"},
		"a C1 control character": {"GET", "/v1/secret/a%C2%9B31m", "", nil, 400, "control"},
		"NUL":                    {"GET", "/v1/secret/a%00b", "", nil, 400, "control"},
		"not UTF-8":              {"GET", "/v1/secret/%ff", "", nil, 400, "UTF-8"},
		"long path":              {"GET", "/v1/secret/" + strings.Repeat("a", 1024), "", nil, 400, "1024"},
		"broken query":           {"GET", "/v1/secret/a?x=%zz", "", nil, 400, "query"},
		"semicolons in query":    {"GET", "/v1/secret/a?x=1;list=true", "", nil, 400, "query"},
		"list is no boolean":     {"GET", "/v1/secret/a?list=perhaps", "", nil, 400, `\"list\"`},
		"help by another method": {"DELETE", "/v1/secret/a?help=1", "", nil, 405, "GET"},
		"namespace":              {"GET", "/v1/secret/a", "", []string{"X-Vault-Namespace", "team"}, 400, "X-Vault-Namespace"},
		"namespace below root": {"GET", "/v1/secret/a", "", []string{"X-Vault-Namespace", "root/team"}, 400,
			"X-Vault-Namespace"},
		"wrapping TTL": {"GET", "/v1/secret/a", "", []string{"X-Vault-Wrap-TTL", "soon"}, 400, "X-Vault-Wrap-TTL"},
		"negative wrapping TTL": {"GET", "/v1/secret/a", "", []string{"X-Vault-Wrap-TTL", "-1h"}, 400,
			"X-Vault-Wrap-TTL"},
		"wrapping format": {"GET", "/v1/secret/a", "", []string{"X-Vault-Wrap-Format", "jwt"}, 400,
			"X-Vault-Wrap-Format"},
		"long token":  {"GET", "/v1/secret/a", "", []string{"X-Vault-Token", long}, 413, "X-Vault-Token"},
		"long bearer": {"GET", "/v1/secret/a", "", []string{"Authorization", "Bearer " + long}, 413, "token"},
		"two tokens": {"GET", "/v1/secret/a", "",
			[]string{"X-Vault-Token", "a", "X-Vault-Token", "b"}, 400, "more than once"},
		"two bearers": {"GET", "/v1/secret/a", "",
			[]string{"Authorization", "Bearer a", "Authorization", "Bearer b"}, 400, "more than once"},
		"PATCH as JSON": {"PATCH", "/v1/secret/a", `{}`, []string{"Content-Type", "application/json"},
			400, "merge-patch"},
		"PATCH as nothing": {"PATCH", "/v1/secret/a", `{}`, nil, 400, "merge-patch"},
		"broken JSON":      {"PUT", "/v1/secret/a", `{"a":`, nil, 400, "JSON"},
		"a list":           {"PUT", "/v1/secret/a", `[1]`, nil, 400, "object"},
		"a string":         {"PUT", "/v1/secret/a", `"x"`, nil, 400, "object"},
		"two objects":      {"PUT", "/v1/secret/a", `{}{}`, nil, 400, "JSON"},
		"a key twice":      {"PUT", "/v1/secret/a", `{"a":1,"a":2}`, nil, 400, "JSON"},
		"nested deep": {"PUT", "/v1/secret/a",
			`{"a":` + strings.Repeat("[", 300) + strings.Repeat("]", 300) + `}`, nil, 400, "max_json_depth"},
		"many keys": {"PUT", "/v1/secret/a", manyKeys(20_001), nil, 400, "JSON"},
		"a form": {"POST", "/v1/secret/a", `a=b`,
			[]string{"Content-Type", "application/x-www-form-urlencoded"}, 400, "JSON"},
		"parameters in two places": {"DELETE", "/v1/secret/a?force=true", `{"force":false}`, nil, 400, "query string"},
		"large unseal": {"PUT", "/v1/sys/unseal", `{"key":"` + strings.Repeat("A", smallBody) + `"}`,
			nil, 413, "1048576"},
	} {
		t.Run(name, func(t *testing.T) {
			b := &backend{}
			w := ask(New(b.config()), tt.method, tt.target, tt.body, tt.head...)
			if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.says) {
				t.Errorf("status %d %s, want %d and %q", w.Code, w.Body, tt.status, tt.says)
			}
			if b.seen != nil {
				t.Errorf("it went through as %s %q", b.seen.Op, b.seen.Path)
			}
			if !strings.HasPrefix(w.Body.String(), `{"errors":[`) ||
				w.Header().Get("Content-Type") != "application/json" {
				t.Errorf("not an error's form: %s", w.Body)
			}
		})
	}
}

func manyKeys(n int) string {
	var b strings.Builder
	b.WriteString("{")
	for i := range n {
		if i > 0 {
			b.WriteString(",")
		}
		b.WriteString(`"` + strings.Repeat("k", 1+i%50) + newID() + `":1`)
	}
	b.WriteString("}")
	return b.String()
}

func TestHeaders(t *testing.T) {
	for name, tt := range map[string]struct {
		head  []string
		token string
		wrap  time.Duration
	}{
		"none":             {nil, "", 0},
		"token":            {[]string{"X-Vault-Token", "hvs.a"}, "hvs.a", 0},
		"bearer":           {[]string{"Authorization", "Bearer hvs.b"}, "hvs.b", 0},
		"bearer, any case": {[]string{"Authorization", "bearer hvs.b"}, "hvs.b", 0},
		"token first":      {[]string{"X-Vault-Token", "hvs.a", "Authorization", "Bearer hvs.b"}, "hvs.a", 0},
		"basic":            {[]string{"Authorization", "Basic YTpi"}, "", 0},
		"wrap":             {[]string{"X-Vault-Wrap-TTL", "5m"}, "", 5 * time.Minute},
		"wrap in seconds":  {[]string{"X-Vault-Wrap-TTL", "90"}, "", 90 * time.Second},
		"root namespace":   {[]string{"X-Vault-Namespace", "root/", "X-Vault-Request", "true"}, "", 0},
		"no namespace":     {[]string{"X-Vault-Namespace", ""}, "", 0},
		"longest token":    {[]string{"X-Vault-Token", strings.Repeat("x", maxToken)}, strings.Repeat("x", maxToken), 0},
	} {
		b := &backend{}
		w := ask(New(b.config()), "GET", "/v1/secret/a", "", tt.head...)
		if w.Code != 200 {
			t.Errorf("%s: status %d %s", name, w.Code, w.Body)
			continue
		}
		if got := b.seen.Token.RevealString(); got != tt.token {
			t.Errorf("%s: token %q, want %q", name, got, tt.token)
		}
		if b.seen.WrapTTL != tt.wrap {
			t.Errorf("%s: wrap %s, want %s", name, b.seen.WrapTTL, tt.wrap)
		}
		if w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s: the answer may be cached", name)
		}
	}
}

func TestBodies(t *testing.T) {
	for body, want := range map[string]string{
		``: ``, `null`: ``, " \n": ``, ` {"a":1.0} `: `{"a":1.0}`, `{}`: `{}`, `{"a":"<&>"}`: `{"a":"<&>"}`,
	} {
		b := &backend{}
		if w := ask(New(b.config()), "POST", "/v1/secret/a", body); w.Code != 200 || b.body != want {
			t.Errorf("body %q: status %d, passed %q, want %q", body, w.Code, b.body, want)
		}
	}
}

// TestIgnoredIsSaid: what has no effect leaves a warning.
func TestIgnoredIsSaid(t *testing.T) {
	b := &backend{}
	ask(New(b.config()), "GET", "/v1/secret/a", `{"a":1}`)
	if got := b.seen.Reply().Warnings; len(got) != 1 || b.body != "" {
		t.Errorf("body of a GET: warnings %q, body %q", got, b.body)
	}
	ask(New(b.config()), "PUT", "/v1/secret/a?cas=1", `{"a":1}`)
	if got := b.seen.Reply().Warnings; len(got) != 1 || !strings.Contains(got[0], `"cas"`) {
		t.Errorf("query of a PUT: warnings %q", got)
	}
}

// TestCVE_2023_6337 sends bodies that are too large, with and without saying
// how large they are.
func TestCVE_2023_6337(t *testing.T) {
	b := &backend{}
	h := New(b.config())
	r := httptest.NewRequest("PUT", "/v1/secret/a", neverRead{t})
	r.ContentLength = 33 << 20
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != 413 {
		t.Errorf("announced: status %d", w.Code)
	}
	for _, size := range []int{DefaultMaxBody + 1, DefaultMaxBody + 4096, 40 << 20} {
		r = httptest.NewRequest("PUT", "/v1/secret/a", io.LimitReader(spaces{}, int64(size)))
		r.ContentLength = -1
		w = httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != 413 {
			t.Errorf("%d bytes without a length: status %d", size, w.Code)
		}
	}
	if b.seen != nil {
		t.Error("it went through")
	}
	r = httptest.NewRequest("PUT", "/v1/secret/a",
		io.MultiReader(strings.NewReader(`{"a":1}`), io.LimitReader(spaces{}, DefaultMaxBody-7)))
	r.ContentLength = -1
	w = httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != 200 || b.body != `{"a":1}` {
		t.Errorf("at the limit: status %d, body of %d bytes", w.Code, len(b.body))
	}
	if n := h.large.Load(); n != 0 {
		t.Errorf("%d large bodies are still counted", n)
	}
}

type neverRead struct{ t *testing.T }

func (n neverRead) Read([]byte) (int, error) {
	n.t.Error("a body was read that is too large as announced")
	return 0, io.EOF
}

type spaces struct{}

func (spaces) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func TestManyLargeBodies(t *testing.T) {
	b := &backend{}
	h := New(b.config())
	h.large.Store(maxLarge)
	body := `{"a":"` + strings.Repeat("x", smallBody) + `"}`
	if w := ask(h, "PUT", "/v1/secret/a", body); w.Code != 503 {
		t.Errorf("status %d", w.Code)
	}
	if n := h.large.Load(); n != maxLarge {
		t.Errorf("%d are counted, want %d", n, maxLarge)
	}
	h.large.Store(0)
	if w := ask(h, "PUT", "/v1/secret/a", body); w.Code != 200 {
		t.Errorf("status %d %s", w.Code, w.Body)
	}
}

func TestBrokenBody(t *testing.T) {
	for want, err := range map[int]error{400: io.ErrUnexpectedEOF, 504: os.ErrDeadlineExceeded} {
		b := &backend{}
		r := httptest.NewRequest("PUT", "/v1/secret/a", io.MultiReader(strings.NewReader(`{"a":1}`), failing{err}))
		w := httptest.NewRecorder()
		New(b.config()).ServeHTTP(w, r)
		if w.Code != want || b.seen != nil {
			t.Errorf("%v: status %d %s", err, w.Code, w.Body)
		}
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// TestBuffersAreWiped: no later request finds a secret in a pooled buffer.
func TestBuffersAreWiped(t *testing.T) {
	b := &backend{}
	var held []byte
	cfg := b.config()
	cfg.Backend.Handle = func(_ context.Context, r *route.Request) (*core.Answer, error) {
		held = r.Body
		return &core.Answer{Status: 204}, nil
	}
	ask(New(cfg), "PUT", "/v1/secret/a", `{"password":"canary"}`)
	if bytes.Contains(held, []byte("canary")) {
		t.Errorf("still there: %q", held)
	}
}

func TestErrors(t *testing.T) {
	cause := errors.New("driver says hunter2-from-elsewhere")
	for name, tt := range map[string]struct {
		err    error
		status int
		says   string
		logged bool
	}{
		"not ours": {cause, 500, "internal error", true},
		"internal": {fault.Wrap("x", fault.Internal, cause), 500, "internal error", true},
		"invalid": {fault.New("x", fault.Invalid, "field \"ttl\": want a duration"), 400,
			`field \"ttl\": want a duration"]`, false},
		"with a cause": {&fault.Error{Op: "x", Kind: fault.Invalid, Msg: "connection_url: no answer", Err: cause}, 400,
			"connection_url: no answer (the", true},
		"denied":       {fault.New("x", fault.Denied, ""), 403, `["permission denied"]`, false},
		"nothing":      {fault.New("x", fault.NotFound, ""), 404, `{"errors":[]}`, false},
		"no route":     {fault.New("x", fault.NotFound, "no handler"), 404, `["no handler"]`, false},
		"conflict":     {fault.New("x", fault.Conflict, ""), 409, "read it again", false},
		"unsupported":  {fault.New("x", fault.Unsupported, ""), 405, "not supported", false},
		"large":        {fault.New("x", fault.TooLarge, ""), 413, "too large", false},
		"sealed":       {fault.New("x", fault.Sealed, ""), 503, "sealed", false},
		"unavailable":  {fault.Wrap("x", fault.Unavailable, cause), 503, "try again", true},
		"upstream":     {fault.Wrap("x", fault.Upstream, cause), 500, "system behind", true},
		"timeout":      {fault.Wrap("x", fault.Timeout, context.DeadlineExceeded), 504, "took too long", true},
		"held":         {fault.New("x", fault.Held, ""), 503, "operator", false},
		"unknown kind": {&fault.Error{Kind: 200}, 500, "internal error", true},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			b := &backend{err: tt.err}
			cfg := b.config()
			cfg.Log = slog.New(slog.NewJSONHandler(&log, nil))
			w := ask(New(cfg), "GET", "/v1/secret/a", "")
			if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.says) {
				t.Errorf("status %d %s, want %d and %s", w.Code, w.Body, tt.status, tt.says)
			}
			if strings.Contains(w.Body.String(), "hunter2") {
				t.Errorf("the cause went to the client: %s", w.Body)
			}
			id := b.seen.ID
			if got := strings.Contains(log.String(), id); got != tt.logged {
				t.Errorf("logged: %v, want %v: %s", got, tt.logged, log.String())
			}
			if got := strings.Contains(w.Body.String(), id); got != tt.logged {
				t.Errorf("the client knows the id: %v, want %v", got, tt.logged)
			}
		})
	}
}

// TestCVE_2025_4166 plants secrets in a request whose error repeats them.
func TestCVE_2025_4166(t *testing.T) {
	const token, password = "hvs.CANARYTOKEN", "p%ss/CANARY+word"
	var log bytes.Buffer
	b := &backend{}
	cfg := b.config()
	cfg.Log = slog.New(slog.NewJSONHandler(&log, nil))
	b.err = fault.Wrap("x", fault.Upstream, errors.New(`parse "postgres://u:`+password+`@h": bad; token `+token))
	w := ask(New(cfg), "PUT", "/v1/db/config/x", `{"inner":[{"password":"`+password+`"}]}`, "X-Vault-Token", token)
	for _, text := range []string{w.Body.String(), log.String()} {
		if strings.Contains(text, "CANARY") {
			t.Errorf("a secret is told: %s", text)
		}
	}
	if !strings.Contains(log.String(), "bad; token [secret]") {
		t.Errorf("the cause is not in the log: %s", log.String())
	}
}

func TestPanic(t *testing.T) {
	for name, act := range map[string]func(context.Context){
		"value": func(context.Context) { panic("CANARY") },
		"error": func(context.Context) { panic(errors.New("CANARY")) },
		"index": func(context.Context) { var s []int; _ = s[len(s)] },
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			b := &backend{act: act}
			cfg := b.config()
			cfg.Log = slog.New(slog.NewJSONHandler(&log, nil))
			h := New(cfg)
			w := ask(h, "PUT", "/v1/secret/a", `{"a":"CANARY"}`)
			if w.Code != 500 || !strings.Contains(w.Body.String(), b.seen.ID) {
				t.Errorf("status %d %s", w.Code, w.Body)
			}
			if strings.Contains(log.String()+w.Body.String(), "CANARY") {
				t.Errorf("a value is told: %s", log.String())
			}
			if !strings.Contains(log.String(), "httpapi_test.go") {
				t.Errorf("no stack: %s", log.String())
			}
			b.act = nil
			if w := ask(h, "GET", "/v1/secret/a", ""); w.Code != 200 {
				t.Errorf("afterwards: status %d", w.Code)
			}
		})
	}
}

// TestDeadline sees the backend's context end after the longest time.
func TestDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &backend{act: func(ctx context.Context) { <-ctx.Done() }, err: fault.Wrap("x", fault.Timeout,
			context.DeadlineExceeded)}
		began := time.Now()
		w := ask(New(b.config()), "GET", "/v1/secret/a", "")
		if took := time.Since(began); took != DefaultMaxTime || w.Code != 504 {
			t.Errorf("status %d after %s", w.Code, took)
		}
	})
}

func TestAnswers(t *testing.T) {
	big := strings.Repeat("x", 5000)
	for name, tt := range map[string]struct {
		answer core.Answer
		kind   string
	}{
		"data":  {core.Answer{Status: 200, Body: []byte(`{"a":"<&>"}`)}, "application/json"},
		"big":   {core.Answer{Status: 200, Body: []byte(big)}, "application/json"},
		"text":  {core.Answer{Status: 200, Body: []byte(`a 1`), ContentType: "text/plain"}, "text/plain"},
		"gone":  {core.Answer{Status: 404, Body: []byte(`{"data":{}}`)}, "application/json"},
		"empty": {core.Answer{Status: 204}, ""},
	} {
		b := &backend{answer: &tt.answer}
		w := ask(New(b.config()), "GET", "/v1/secret/a", "")
		if w.Code != tt.answer.Status || w.Body.String() != string(tt.answer.Body) ||
			w.Header().Get("Content-Type") != tt.kind {
			t.Errorf("%s: status %d, type %q, %d bytes", name, w.Code, w.Header().Get("Content-Type"), w.Body.Len())
		}
	}
}

func TestIDs(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		id := newID()
		if seen[id] || len(id) != 36 || id[14] != '4' || !strings.ContainsRune("89ab", rune(id[19])) {
			t.Fatalf("bad id %q", id)
		}
		seen[id] = true
	}
}
