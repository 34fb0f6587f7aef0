package inprocess_test

import (
	"context"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/auth"
	authtoken "github.com/keyturn/keyturn/internal/auth/token"
	"github.com/keyturn/keyturn/internal/core"
	"github.com/keyturn/keyturn/internal/core/coretest"
	"github.com/keyturn/keyturn/internal/core/outsidetest"
	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/engine/cubbyhole"
	"github.com/keyturn/keyturn/internal/engine/kv"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/storage/memory"
)

// server is a running core with methods to call it.
type server struct {
	*core.Core
	root string
}

// run runs a core, which stop stops. What the configuration leaves out is as in most tests.
func run(t testing.TB, config core.Config) (c *core.Core, ctx context.Context, stop func()) {
	config.Seal = outsidetest.Seal{}
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	if config.Engines == nil {
		config.Engines = []engine.Type{kv.Type, cubbyhole.Type}
	}
	if config.Auths == nil {
		config.Auths = []auth.Type{authtoken.Type}
	}
	c = core.New(config)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = c.Run(ctx) }()
	return c, ctx, func() { cancel(); <-done }
}

// launch is run for a core that is initialized and unsealed.
func launch(t testing.TB, config core.Config) (s *server, stop func()) {
	t.Helper()
	c, ctx, stop := run(t, config)
	s = &server{Core: c, root: "hvs.root-token-for-tests"}
	done, err := c.Initialized(ctx)
	if err == nil && !done {
		_, err = c.Init(ctx, core.InitRequest{RootToken: secret.Text(s.root)})
	} else if err == nil {
		err = c.AutoUnseal(ctx)
	}
	if err != nil {
		t.Fatalf("starting: %v", err)
	}
	return s, stop
}

func start(t testing.TB, st storage.Store) *server {
	t.Helper()
	s, _ := launch(t, core.Config{
		Store: st, StorageName: "memory", ClusterName: "test",
		Server: core.Server{Log: core.Log{Watch: func(string, string) (<-chan []byte, func(), bool, error) {
			return nil, func() {}, true, nil
		}}},
		Metrics: func(context.Context, string, string) ([]byte, string, error) {
			return []byte("metric 1\n"), "text/plain", nil
		},
	})
	return s
}

type answer = coretest.Answer

func (s *server) ask(t testing.TB, op route.Op, path, tok, body string) (*answer, error) {
	t.Helper()
	return s.askWrapped(t, op, path, tok, body, 0)
}

// request returns a complete request.
func (s *server) request(t testing.TB, op route.Op, path, tok, body string) *route.Request {
	t.Helper()
	p, err := route.ParsePath(path, op == route.List)
	if err != nil {
		t.Fatal(err)
	}
	return &route.Request{
		ID: core.NewRequestID(), Op: op, Path: p, Token: secret.Text(tok), Body: []byte(body), Time: time.Now(),
		Remote: netip.MustParseAddrPort("127.0.0.1:1"),
	}
}

func (s *server) askWrapped(t testing.TB, op route.Op, path, tok, body string, wrap time.Duration) (*answer, error) {
	t.Helper()
	return coretest.Ask(t.Context(), s.Core, coretest.Request{Op: op, Path: path, Token: tok, Body: body, Wrap: wrap})
}

func (s *server) must(t testing.TB, op route.Op, path, tok, body string) *answer {
	t.Helper()
	a, err := s.ask(t, op, path, tok, body)
	if err != nil {
		t.Fatalf("%s %s: %v", op, path, err)
	}
	return a
}

func TestKVThroughCore(t *testing.T) {
	st := memory.Open()
	s := start(t, st)
	s.must(t, route.Write, "sys/mounts/static", s.root, `{"type":"kv","options":{"version":"2"}}`)
	s.must(t, route.Write, "static/data/stripe/production", s.root, `{"data":{"api_key":"sk_live_current"}}`)
	s.must(t, route.Write, "static/data/stripe/production", s.root, `{"data":{"api_key":"sk_live_new"}}`)
	a := s.must(t, route.Read, "static/data/stripe/production", s.root, "")
	if got := a.Data["data"].(map[string]any)["api_key"]; got != "sk_live_new" {
		t.Fatalf("read %v", a.Data)
	}
	// A new core over the same store has everything that was acknowledged.
	s2 := start(t, st)
	a = s2.must(t, route.Read, "static/data/stripe/production", s.root, "")
	if got := a.Data["metadata"].(map[string]any)["version"]; got != 2.0 {
		t.Fatalf("after a restart: %v", a.Data)
	}
}

func TestTokensAndPolicies(t *testing.T) {
	s := start(t, memory.Open())
	s.must(t, route.Write, "sys/policies/acl/dev", s.root,
		`{"policy":"path \"k/dev/*\" { capabilities = [\"create\",\"read\"] }"}`)
	s.must(t, route.Write, "sys/mounts/k", s.root, `{"type":"kv"}`)
	a := s.must(t, route.Write, "auth/token/create", s.root, `{"policies":["dev"],"ttl":"1h"}`)
	dev := a.Auth["client_token"].(string)
	s.must(t, route.Write, "k/dev/a", dev, `{"x":"1"}`)
	s.must(t, route.Read, "k/dev/a", dev, "")
	for _, refused := range []struct {
		op   route.Op
		path string
		body string
	}{{route.Write, "k/dev/a", `{"x":"2"}`}, {route.Read, "k/prod/a", ""}, {route.Read, "sys/mounts",
		""}, {route.Write, "auth/token/create", `{}`}, {route.Delete, "k/dev/a", ""}} {
		if _, err := s.ask(t, refused.op, refused.path, dev, refused.body); !fault.Is(err, fault.Denied) {
			t.Errorf("%s %s with dev: %v, want denied", refused.op, refused.path, err)
		}
	}
	s.must(t, route.Write, "auth/token/revoke", s.root, `{"token":"`+dev+`"}`)
	if _, err := s.ask(t, route.Read, "k/dev/a", dev, ""); !fault.Is(err, fault.Denied) {
		t.Errorf("a revoked token: %v, want denied", err)
	}
}

func TestRevokingATree(t *testing.T) {
	s := start(t, memory.Open())
	s.must(t, route.Write, "sys/policies/acl/make", s.root,
		`{"policy":"path \"auth/token/*\" { capabilities = [\"create\",\"read\",\"update\",\"sudo\"] }"}`)
	tok := s.root
	var made []string
	for range 5 {
		a := s.must(t, route.Write, "auth/token/create", tok, `{"policies":["make"],"ttl":"1h"}`)
		tok = a.Auth["client_token"].(string)
		made = append(made, tok)
	}
	orphan := s.must(t, route.Write, "auth/token/create-orphan", made[4],
		`{"policies":["make"],"ttl":"1h"}`).Auth["client_token"].(string)
	s.must(t, route.Write, "auth/token/revoke", s.root, `{"token":"`+made[1]+`"}`)
	for i, m := range made {
		_, err := s.ask(t, route.Read, "auth/token/lookup-self", m, "")
		if want := i >= 1; want != fault.Is(err, fault.Denied) {
			t.Errorf("token %d after revoking token 1: %v", i, err)
		}
	}
	s.must(t, route.Read, "auth/token/lookup-self", orphan, "")
}

func TestWrapping(t *testing.T) {
	s := start(t, memory.Open())
	a, err := s.askWrapped(t, route.Write, "auth/token/create", s.root, `{"policies":["default"],"ttl":"1h"}`,
		time.Minute)
	if err != nil || a.Wrap["token"] == nil || a.Auth != nil {
		t.Fatalf("wrapped create = %+v, %v", a, err)
	}
	w := a.Wrap["token"].(string)
	if _, err := s.ask(t, route.Read, "auth/token/lookup-self", w, ""); !fault.Is(err, fault.Denied) {
		t.Errorf("a wrapping token used as another: %v, want denied", err)
	}
	got := s.must(t, route.Write, "sys/wrapping/unwrap", w, "")
	if tok, _ := got.Auth["client_token"].(string); !strings.HasPrefix(tok, "hvs.") {
		t.Fatalf("unwrapped %+v", got)
	}
	if _, err := s.ask(t, route.Write, "sys/wrapping/unwrap", w, ""); !fault.Is(err, fault.Invalid) {
		t.Errorf("unwrapping twice: %v, want invalid", err)
	}
}

func TestLastUse(t *testing.T) {
	s := start(t, memory.Open())
	a := s.must(t, route.Write, "auth/token/create", s.root, `{"policies":["default"],"ttl":"1h","num_uses":2}`)
	tok := a.Auth["client_token"].(string)
	for _, want := range []float64{1, -1} {
		if got := s.must(t, route.Read, "auth/token/lookup-self", tok, "").Data["num_uses"]; got != want {
			t.Errorf("num_uses = %v, want %v", got, want)
		}
	}
	if _, err := s.ask(t, route.Read, "auth/token/lookup-self", tok, ""); !fault.Is(err, fault.Denied) {
		t.Errorf("a third use: %v, want denied", err)
	}
}

func TestSealing(t *testing.T) {
	s := start(t, memory.Open())
	s.must(t, route.Write, "sys/seal", s.root, "")
	deadline := time.Now().Add(5 * time.Second)
	for !s.Sealed() && time.Now().Before(deadline) {
		if _, err := s.ask(t, route.Read, "sys/mounts", s.root, ""); fault.Is(err, fault.Sealed) {
			break
		}
	}
	if _, err := s.ask(t, route.Read, "sys/mounts", s.root, ""); !fault.Is(err, fault.Sealed) {
		t.Fatalf("after sys/seal: %v, want sealed", err)
	}
	if err := s.AutoUnseal(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.must(t, route.Read, "sys/mounts", s.root, "")
}

func TestMetricsHaveABody(t *testing.T) {
	s := start(t, memory.Open())
	r := &route.Request{
		ID: core.NewRequestID(), Op: route.Read, Path: "sys/metrics", Token: secret.Text(s.root), Time: time.Now(),
		Query: map[string][]string{"format": {"prometheus"}},
	}
	a, err := s.Handle(t.Context(), r)
	if err != nil || string(a.Body) != "metric 1\n" || a.ContentType != "text/plain" {
		t.Fatalf("metrics = %+v, %v", a, err)
	}
}
