package token

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/internal/auth"
	"github.com/keyturn/keyturn/internal/barrier/barriertest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/storage/memory"
	"github.com/keyturn/keyturn/internal/token"
	"github.com/keyturn/keyturn/internal/wire"
)

// fixture is the method on its own store, with the parts of core that it calls.
type fixture struct {
	t      *testing.T
	tokens *token.Store
	table  *route.Table
	root   secret.Value
	waited []string // tokens that RevokeWait was called for
	max    time.Duration
}

func open(t *testing.T) *fixture {
	t.Helper()
	b := barriertest.Open(t, memory.Open())
	w := &fixture{t: t, root: secret.Text("root"), max: 768 * time.Hour}
	w.tokens = token.NewStore(token.Config{
		Barrier: b, Due: func(string, time.Time, time.Time) []storage.Op { return nil },
		EndLeases: func(context.Context, string) error { return nil },
		Forget:    func(context.Context, string) error { return nil },
	})
	if _, _, err := w.tokens.CreateAs(t.Context(), w.root, &token.Entry{Path: "auth/token/root"}, token.FirstRoot(),
		nil); err != nil {
		t.Fatal(err)
	}
	m, err := Type.Open(t.Context(), &auth.Mount{
		Store: b.View("mount/x/"), Log: slog.New(slog.DiscardHandler), Tokens: w.tokens, Issue: w.issue,
		Settings: func() auth.Settings {
			return auth.Settings{
				Path: "auth/token/", DefaultTTL: time.Hour, MaxTTL: w.max,
			}
		},
		RevokeWait: func(_ context.Context, id string) { w.waited = append(w.waited, id) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if w.table, err = route.NewTable(m.Routes()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// issue creates a token like core, but without the limits of the mount and the system.
func (w *fixture) issue(
	ctx context.Context, r *route.Request, e token.Entry, want token.Request, parent *token.Entry,
) (*route.Auth, error) {
	g, err := token.Assign(token.Creator{Policies: r.Caller.Policies, Sudo: r.Sudo}, want)
	if err != nil {
		return nil, err
	}
	if e.Created = time.Now(); e.Path == "" {
		e.Path = string(r.Path)
	}
	if e.TTL = max(e.TTL, e.Period); e.TTL == 0 {
		e.TTL = time.Hour
	}
	e.Expires = e.Created.Add(e.TTL)
	tok, made, err := w.tokens.Create(ctx, &e, g, parent)
	if err != nil {
		return nil, err
	}
	return &route.Auth{
		ClientToken: tok, Accessor: made.Accessor, Policies: made.Policies(), Orphan: made.Orphan(),
		NumUses: made.Uses, Renewable: made.Renewable,
	}, nil
}

type reply struct {
	data     map[string]any
	auth     *route.Auth
	warnings []string
	status   int
}

func (w *fixture) do(tok secret.Value, op route.Op, path, body string, sudo bool) (reply, error) {
	w.t.Helper()
	e, err := w.tokens.Lookup(w.t.Context(), tok)
	if err != nil {
		w.t.Fatal(err)
	}
	if body != "" {
		if err := wire.Check([]byte(body), wire.DefaultLimits); err != nil {
			w.t.Fatal(err)
		}
	}
	r := &route.Request{
		Op: op, Path: route.Path("auth/token/" + path), Rest: path, Token: tok, Body: []byte(body), Time: time.Now(),
		Sudo:   sudo || e.Root(),
		Caller: &route.Caller{ID: e.ID, Policies: e.Policies(), Root: e.Root()},
		Mount:  route.Mount{Path: "auth/token/"},
	}
	got, err := w.table.Find(r)
	if err != nil {
		return reply{}, err
	}
	data, err := got.Serve(w.t.Context(), r)
	if err != nil {
		return reply{}, err
	}
	out := reply{auth: r.Reply().Auth, warnings: r.Reply().Warnings, status: r.Reply().Status}
	if data != nil {
		if err := json.Unmarshal(wire.Append(nil, data), &out.data); err != nil {
			w.t.Fatal(err)
		}
	}
	return out, nil
}

func (w *fixture) must(tok secret.Value, op route.Op, path, body string) reply {
	w.t.Helper()
	got, err := w.do(tok, op, path, body, false)
	if err != nil {
		w.t.Fatalf("%s %s %s: %v", op, path, body, err)
	}
	return got
}

func (w *fixture) refused(tok secret.Value, op route.Op, path, body string, kind fault.Kind, says string) {
	w.t.Helper()
	got, err := w.do(tok, op, path, body, false)
	if !fault.Is(err, kind) || !strings.Contains(fault.Message(err), says) {
		w.t.Errorf("%s %s %s: %+v, %v, want %s and %q", op, path, body, got, err, kind, says)
	}
}

func (w *fixture) lookup(tok secret.Value) map[string]any {
	w.t.Helper()
	return w.must(w.root, route.Write, "lookup", `{"token":"`+tok.RevealString()+`"}`).data
}

func TestCreate(t *testing.T) {
	w := open(t)
	for body, want := range map[string]map[string]any{
		`{"policies":["b","a"]}`: {"policies": []any{
			"a", "b", "default",
		}, "orphan": false, "renewable": true, "type": "service", "display_name": "token"},
		`{"policies":["a"],"no_default_policy":true}`:       {"policies": []any{"a"}},
		`{"policies":["a"],"renewable":false}`:              {"renewable": false},
		`{"policies":["a"],"renewable":null}`:               {"renewable": true},
		`{"policies":["a"],"no_parent":true}`:               {"orphan": true},
		`{"policies":["a"],"ttl":"5m"}`:                     {"creation_ttl": 300.0},
		`{"policies":["a"],"lease":"5m"}`:                   {"creation_ttl": 300.0},
		`{"policies":["a"],"period":"10m"}`:                 {"period": 600.0},
		`{"policies":["a"],"num_uses":3}`:                   {"num_uses": 3.0},
		`{"policies":["a"],"explicit_max_ttl":"2h"}`:        {"explicit_max_ttl": 7200.0},
		`{"policies":["a"],"display_name":"web app!-"}`:     {"display_name": "token-web-app-"},
		`{"policies":["a"],"meta":{"k":"v"}}`:               {"meta": map[string]any{"k": "v"}},
		`{"policies":["a"],"type":"batch"}`:                 {"type": "batch", "renewable": false},
		`{"policies":["a"],"id":"chosen"}`:                  {"id": "chosen"},
		`{"policies":["a"],"bound_cidrs":"10.1.2.3/8,::1"}`: {"bound_cidrs": []any{"10.0.0.0/8", "::1/128"}},
	} {
		got := w.lookup(w.must(w.root, route.Write, "create", body).auth.ClientToken)
		for field, v := range want {
			if d := cmp.Diff(v, got[field]); d != "" {
				t.Errorf("%s: %s\n%s", body, field, d)
			}
		}
	}
	for body, says := range map[string]string{
		`{"num_uses":-1}`: "must not be negative", `{"type":"x"}`: "must be", `{"type":"default-batch"}`: "must be",
		`{"bound_cidrs":["x"]}`: "bound_cidrs", `{"id":"a.b"}`: "chosen token",
		`{"type":"batch","period":"1h"}`: "cannot be periodic", `{"type":"batch","num_uses":1}`: "limited number",
		`{"type":"batch","explicit_max_ttl":"1h"}`: "explicit maximum",
		`{"ttl":"1h","lease":"2h"}`:                "two of its names",
		`{"id":"chosen","policies":["a"]}`:         "such a token",
	} {
		w.refused(w.root, route.Write, "create", body, fault.Invalid, says)
	}
}

// TestCreateWithoutSudo: requests that need root or sudo are refused without it.
func TestCreateWithoutSudo(t *testing.T) {
	w := open(t)
	plain := w.must(w.root, route.Write, "create", `{"policies":["a"]}`).auth.ClientToken
	for body, says := range map[string]string{`{"no_parent":true}`: "no_parent", `{"period":"1h"}`: "period"} {
		w.refused(plain, route.Write, "create", body, fault.Invalid, says)
		if got, err := w.do(plain, route.Write, "create", body, true); err != nil {
			t.Errorf("%s with sudo: %+v, %v", body, got, err)
		}
	}
	w.refused(plain, route.Write, "create", `{"policies":["b"]}`, fault.Denied, "does not hold")
	if got, err := w.do(plain, route.Write, "create", `{"policies":["b"]}`, true); err != nil ||
		!cmp.Equal(got.auth.Policies, []string{"b", "default"}) {
		t.Errorf("another policy with sudo: %+v, %v", got, err)
	}
	if _, err := w.do(plain, route.Write, "create", `{"id":"mine"}`, true); !fault.Is(err, fault.Invalid) {
		t.Errorf("a chosen token with sudo: %v", err)
	}
	if got := w.must(plain, route.Write, "create-orphan", `{}`); !got.auth.Orphan {
		t.Errorf("create-orphan: %+v", got.auth)
	}
	for _, body := range []string{`{"type":"batch"}`, `{"num_uses":2}`} {
		tok := w.must(plain, route.Write, "create", body).auth.ClientToken
		if got, err := w.do(tok, route.Write, "create", `{}`, true); err == nil {
			t.Errorf("a token with %s created %+v", body, got.auth)
		}
	}
}

func TestAllowedCIDRs(t *testing.T) {
	prefixes := func(texts string) (out []netip.Prefix) {
		for _, s := range strings.Fields(texts) {
			out = append(out, netip.MustParsePrefix(s))
		}
		return out
	}
	for _, tt := range []struct {
		name, asked, caller, role string
		sudo                      bool
		want                      string // "-": refused
	}{
		{"free", "", "", "", false, ""},
		{"asked", "10.0.0.0/8", "", "", false, "10.0.0.0/8"},
		{"of the caller", "", "10.0.0.0/8", "", false, "10.0.0.0/8"},
		{"less than the caller's", "10.1.0.0/16", "10.0.0.0/8", "", false, "10.1.0.0/16"},
		{"more than the caller's", "0.0.0.0/0", "10.0.0.0/8", "", false, "10.0.0.0/8"},
		{"others than the caller's", "192.168.0.0/16", "10.0.0.0/8", "", false, "-"},
		{"others with sudo", "192.168.0.0/16", "10.0.0.0/8", "", true, "192.168.0.0/16"},
		{"none with sudo", "", "10.0.0.0/8", "", true, ""},
		{"the role's", "", "10.0.0.0/8", "192.168.0.0/16", false, "192.168.0.0/16"},
		{"others than the role's", "10.0.0.0/8", "", "192.168.0.0/16", true, "-"},
		{"some of several", "10.1.0.0/16 172.16.0.1/32", "10.0.0.0/8 172.16.0.0/12", "", false,
			"10.1.0.0/16 172.16.0.1/32"},
	} {
		caller, ro := &token.Entry{BoundCIDRs: prefixes(tt.caller)}, &role{
			Name: "r", BoundCIDRs: strings.Fields(tt.role),
		}
		got, err := allowedCIDRs(strings.Fields(tt.asked), caller, ro, tt.sudo)
		if (err != nil) != (tt.want == "-") || err == nil &&
			!cmp.Equal(got, prefixes(tt.want), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })) {
			t.Errorf("%s: %v, %v, want %s", tt.name, got, err, tt.want)
		}
	}
}

func TestRoles(t *testing.T) {
	w := open(t)
	w.refused(w.root, route.Read, "roles/none", "", fault.NotFound, "")
	w.refused(w.root, route.List, "roles", "", fault.NotFound, "")
	w.refused(w.root, route.Write, "create/none", "{}", fault.Invalid, "unknown role")
	w.must(w.root, route.Write, "roles/app",
		`{"allowed_policies":["z","A"],"disallowed_policies_glob":"x*","period":"1h","token_num_uses":5,"renewable":false,"path_suffix":"v1","bound_cidrs":["10.0.0.0/8"],"explicit_max_ttl":"2h"}`)
	want := map[string]any{
		"allowed_policies": []any{"z", "a"}, "allowed_policies_glob": nil, "disallowed_policies": nil,
		"disallowed_policies_glob": []any{"x*"}, "allowed_entity_aliases": nil,
		"name": "app", "orphan": false, "path_suffix": "v1", "renewable": false, "token_type": "default-service",
		"token_no_default_policy": false, "token_num_uses": 5.0,
		"period": 3600.0, "token_period": 3600.0, "explicit_max_ttl": 7200.0, "token_explicit_max_ttl": 7200.0,
		"token_bound_cidrs": []any{"10.0.0.0/8"},
	}
	if d := cmp.Diff(want, w.must(w.root, route.Read, "roles/app", "").data); d != "" {
		t.Error(d)
	}
	// Absent fields keep their values.
	w.must(w.root, route.Write, "roles/app", `{"token_period":0,"renewable":null,"allowed_policies_glob":["team/*"]}`)
	got := w.must(w.root, route.Read, "roles/app", "").data
	if got["renewable"] != true || got["period"] != 0.0 || got["path_suffix"] != "v1" ||
		!cmp.Equal(got["allowed_policies_glob"], any([]any{"team/*"})) {
		t.Errorf("%v", got)
	}
	made := w.must(w.root, route.Write, "create/app", `{"num_uses":9,"explicit_max_ttl":"1h","policies":["team/pa"]}`)
	shown := w.lookup(made.auth.ClientToken)
	for field, v := range map[string]any{
		"path": "auth/token/create/app/v1", "role": "app", "num_uses": 5.0, "explicit_max_ttl": 3600.0,
		"policies": []any{"default", "team/pa"},
	} {
		if d := cmp.Diff(v, shown[field]); d != "" {
			t.Errorf("%s: %s", field, d)
		}
	}
	for body, says := range map[string]string{
		`{"allowed_policies":["a,b"]}`: "policy name", `{"disallowed_policies":[""]}`: "policy name",
		`{"allowed_policies_glob":["a,*"]}`: "glob", `{"token_num_uses":-1}`: "negative",
		`{"token_bound_cidrs":["x"]}`:                 `"token_bound_cidrs"`,
		`{"token_bound_cidrs":["::ffff:10.0.0.0/8"]}`: `"token_bound_cidrs"`, `{"token_type":"x"}`: "token_type",
		`{"path_suffix":"a/"}`: "path_suffix", `{"period":1,"token_period":2}`: "two of its names",
	} {
		w.refused(w.root, route.Write, "roles/app", body, fault.Invalid, says)
	}
	plain := w.must(w.root, route.Write, "create", `{"policies":["a"]}`).auth.ClientToken
	w.refused(plain, route.Write, "roles/evil", `{"allowed_policies":["ROOT"]}`, fault.Denied, "only a root token")
	w.refused(w.root, route.Write, "roles/App", `{}`, fault.Invalid, `write "app"`)
	if got := w.must(w.root, route.List, "roles", "").data; !cmp.Equal(got["keys"], any([]any{"app"})) {
		t.Errorf("%v", got)
	}
	w.must(w.root, route.Delete, "roles/app", "")
	w.must(w.root, route.Delete, "roles/app", "")
	w.refused(w.root, route.Read, "roles/app", "", fault.NotFound, "")
}

func TestRoleTokenType(t *testing.T) {
	for _, tt := range []struct{ role, asked, want string }{
		{"", "", ""}, {"", "batch", "batch"}, {"service", "batch", "service"}, {"batch", "", "batch"},
		{"default-batch", "", "batch"},
		{"default-batch", "service", "service"}, {"default-service", "batch", "batch"},
	} {
		if got := (&role{Type: tt.role}).kind(tt.asked); got != tt.want {
			t.Errorf("%q of a role of type %q is %q, want %q", tt.asked, tt.role, got, tt.want)
		}
	}
}

func TestLookup(t *testing.T) {
	w := open(t)
	made := w.must(w.root, route.Write, "create", `{"policies":["a"],"ttl":"1h"}`).auth
	for _, op := range []route.Op{route.Read, route.Write} {
		got := w.must(made.ClientToken, op, "lookup-self", "").data
		if got["id"] != made.ClientToken.RevealString() || got["accessor"] != made.Accessor ||
			got["ttl"].(float64) < 3500 {
			t.Errorf("%v", got)
		}
	}
	if got := w.must(made.ClientToken, route.Read, "lookup", "").data; got["accessor"] != made.Accessor {
		t.Errorf("%v", got)
	}
	if got := w.must(w.root, route.Write, "lookup-accessor",
		`{"accessor":"`+made.Accessor+`"}`).data; got["id"] != "" || got["accessor"] != made.Accessor {
		t.Errorf("%v", got)
	}
	if got := w.must(w.root, route.Read, "lookup-self", "").data; got["expire_time"] != nil || got["ttl"] != 0.0 ||
		got["path"] != "auth/token/root" {
		t.Errorf("root: %v", got)
	}
	w.refused(w.root, route.Write, "lookup", `{"token":"hvs.nobody"}`, fault.Denied, "bad token")
	w.refused(w.root, route.Write, "lookup-accessor", `{"accessor":"nobody"}`, fault.Invalid,
		"no token has this accessor")
	keys := w.must(w.root, route.List, "accessors", "").data["keys"].([]any)
	if len(keys) != 2 {
		t.Errorf("%v", keys)
	}
	if got := w.must(w.root, route.Write, "tidy", ""); got.status != 202 || len(got.warnings) != 1 {
		t.Errorf("%+v", got)
	}
}

func TestRenew(t *testing.T) { synctest.Test(t, testRenew) }

// testRenew runs in a bubble.
func testRenew(t *testing.T) {
	w := open(t)
	make := func(body string) *route.Auth { return w.must(w.root, route.Write, "create", body).auth }
	secs := func(a *route.Auth) int { return int(a.LeaseDuration.Round(time.Second) / time.Second) }
	a := make(`{"policies":["a"],"ttl":"1h"}`)
	if got := w.must(a.ClientToken, route.Write, "renew-self", `{"increment":"2h"}`).auth; secs(got) != 7200 ||
		!got.ClientToken.Equal(a.ClientToken) {
		t.Errorf("%+v", got)
	}
	if got := w.must(w.root, route.Write, "renew",
		`{"token":"`+a.ClientToken.RevealString()+`"}`).auth; secs(got) != 7200 {
		t.Errorf("without an increment it asks for the same again: %+v", got)
	}
	if got := w.must(w.root, route.Write, "renew-accessor",
		`{"accessor":"`+a.Accessor+`","increment":60}`).auth; secs(got) != 60 || !got.ClientToken.Empty() {
		t.Errorf("%+v", got)
	}
	if got := w.must(make(`{"policies":["a"],"period":"10m"}`).ClientToken, route.Write, "renew-self",
		`{"increment":"9h"}`).auth; secs(got) != 600 {
		t.Errorf("a periodic one: %+v", got)
	}
	if got := w.must(make(`{"policies":["a"],"ttl":"1h","explicit_max_ttl":"90m"}`).ClientToken, route.Write,
		"renew-self", `{"increment":"9h"}`); secs(got.auth) != 5400 || len(got.warnings) != 1 {
		t.Errorf("up to its maximum: %+v", got)
	}
	w.max = 30 * time.Minute
	if got := w.must(make(`{"policies":["a"],"ttl":"10m"}`).ClientToken, route.Write, "renew-self",
		`{"increment":"9h"}`); secs(got.auth) != 1800 || len(got.warnings) != 1 {
		t.Errorf("up to the mount's maximum: %+v", got)
	}
	time.Sleep(time.Second)
	w.max = time.Second
	w.refused(a.ClientToken, route.Write, "renew-self", ``, fault.Invalid, "maximum lifetime")
	w.max = time.Hour
	w.refused(make(`{"policies":["a"],"type":"batch"}`).ClientToken, route.Write, "renew-self", ``, fault.Invalid,
		"batch tokens")
	w.refused(make(`{"policies":["a"],"renewable":false}`).ClientToken, route.Write, "renew-self", ``, fault.Invalid,
		"not renewable")
	w.refused(w.root, route.Write, "renew-self", ``, fault.Invalid, "not renewable")
	w.refused(w.root, route.Write, "renew", `{}`, fault.Invalid, "which token")
	w.refused(w.root, route.Write, "renew", `{"token":"hvs.nobody"}`, fault.Denied, "bad token")
	w.refused(w.root, route.Write, "renew-accessor", `{"accessor":"x"}`, fault.Invalid, "no token has")
}

func TestRevoke(t *testing.T) {
	w := open(t)
	make := func(by secret.Value) *route.Auth { return w.must(by, route.Write, "create", `{"policies":["a"]}`).auth }
	alive := func(a *route.Auth) bool {
		_, err := w.tokens.ByAccessor(t.Context(), a.Accessor)
		return err == nil
	}
	root := w.root
	for name, revoke := range map[string]func(a *route.Auth){
		"revoke-self": func(a *route.Auth) { w.must(a.ClientToken, route.Write, "revoke-self", "") },
		"revoke": func(a *route.Auth) {
			w.must(root, route.Write, "revoke", `{"token":"`+a.ClientToken.RevealString()+`"}`)
		},
		"revoke-accessor": func(a *route.Auth) {
			w.must(root, route.Write, "revoke-accessor", `{"accessor":"`+a.Accessor+`"}`)
		},
	} {
		w.waited = nil
		a := make(root)
		below := make(a.ClientToken)
		revoke(a)
		if alive(a) || alive(below) || len(w.waited) != 1 {
			t.Errorf("%s: it lives %v, its child %v, waited for %q", name, alive(a), alive(below), w.waited)
		}
	}
	a := make(root)
	below := make(a.ClientToken)
	w.must(root, route.Write, "revoke-orphan", `{"token":"`+a.ClientToken.RevealString()+`"}`)
	if alive(a) || !alive(below) {
		t.Errorf("revoke-orphan: it lives %v, its child %v", alive(a), alive(below))
	}
	batch := w.must(root, route.Write, "create", `{"policies":["a"],"type":"batch"}`).auth.ClientToken
	for _, path := range []string{"revoke", "revoke-orphan"} {
		w.refused(root, route.Write, path, `{"token":"`+batch.RevealString()+`"}`, fault.Invalid, "batch tokens")
		w.refused(root, route.Write, path, `{}`, fault.Invalid, "which token")
		w.must(root, route.Write, path, `{"token":"hvs.nobody"}`) // revoking an unknown token succeeds
	}
	got := w.must(root, route.Write, "revoke-accessor", `{"accessor":"`+a.Accessor+`"}`)
	if got.status != 200 || len(got.warnings) != 1 {
		t.Errorf("by an accessor that is gone: %+v", got)
	}
	w.refused(root, route.Write, "revoke-accessor", `{}`, fault.Invalid, "accessor")
}
