package inprocess_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/keyturn/keyturn/internal/core"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/plugins"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage/memory"
)

// verifyOnly is a recipe that only verifies what somebody else has written.
const verifyOnly = `
name        = "stripe-verify"
description = "verifies a secret key of Stripe"
style       = "external"
evidence    = "this test"
hosts       = [param.url]
param "url" { description = "the API" }
verify {
  url = "${param.url}/v1/balance"
  auth "basic" {
    username = key.api_key
    password = ""
  }
}
`

// TestExternalVerified: what the provider refuses is answered 400 and the old version stays
// current, for every way to write, on every server of the store. While the provider is down, a
// write is accepted with a warning, and verified later.
func TestExternalVerified(t *testing.T) {
	var down atomic.Bool
	var calls atomic.Int32
	provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, _, _ := r.BasicAuth()
		if strings.Contains(user, "sk_live_2") {
			calls.Add(1)
		}
		switch {
		case down.Load():
			w.WriteHeader(http.StatusServiceUnavailable)
		case r.URL.Path != "/v1/balance" || !strings.HasPrefix(user, "sk_live_"):
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	defer provider.Close()
	var dialer net.Dialer
	config := core.Config{
		Store: memory.Open(), StorageName: "memory", ClusterName: "test",
		Types: core.Types{Engines: plugins.Engines, Auths: plugins.AuthMethods},
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, address)
		},
	}
	first, _ := launch(t, config)
	w := &everything{server: first}
	w.must(t, route.Write, "sys/mounts/static", w.root, `{"type":"kv-v2"}`)
	w.must(t, route.Write, "rotation/recipes/stripe-verify", w.root, `{"source":"`+
		strings.NewReplacer("\n", `\n`, `"`, `\"`).Replace(verifyOnly)+`"}`)
	register := `{"path":"static/stripe","recipe":"stripe-verify","class":"financial","params":{"url":"` +
		provider.URL + `"}}`
	w.must(t, route.Write, "rotation/external/stripe", w.root, register)
	if got := w.must(t, route.Read, "rotation/external/stripe", w.root, "").Data["fields"].([]any); len(got) != 1 ||
		got[0] != "api_key" {
		t.Errorf("the fields are %v", got)
	}
	second, _ := launch(t, config)
	other := &everything{server: second}
	other.root = w.root
	current := func() any {
		t.Helper()
		return w.must(t, route.Read, "static/data/stripe", w.root, "").Data["data"].(map[string]any)["api_key"]
	}
	write := func(on *everything, op route.Op, body string) error {
		t.Helper()
		_, err := on.says(t, op, "static/data/stripe", on.root, body)
		return err
	}
	for _, wrong := range []string{`""`, `null`, `"null"`, `7`, `{}`, `"sk_dead_1"`} {
		if err := write(w, route.Write, `{"data":{"api_key":`+wrong+`}}`); wrong != "null" && wrong != "7" &&
			wrong != "{}" && !fault.Is(err, fault.Invalid) {
			t.Errorf("a first write of %s: %v, want it refused", wrong, err)
		}
	}
	if err := write(other, route.Write, `{"data":{"api_key":"sk_live_1"}}`); err != nil {
		t.Fatal(err)
	}
	for _, on := range []*everything{w, other} {
		for _, wrong := range []string{`""`, `null`, `"null"`, `7`, `{}`, `"sk_dead_1"`} {
			for _, op := range []route.Op{route.Write, route.Patch} {
				if err := write(on, op, `{"data":{"api_key":`+wrong+`}}`); !fault.Is(err, fault.Invalid) {
					t.Errorf("%s of %s: %v, want it refused", op, wrong, err)
				}
			}
		}
	}
	if got := current(); got != "sk_live_1" {
		t.Errorf("after refused writes, the key is %v", got)
	}
	if err := write(w, route.Patch, `{"data":{"note":"x"}}`); err != nil || current() != "sk_live_1" {
		t.Errorf("a write of another field: %v", err)
	}
	down.Store(true)
	said, err := w.says(t, route.Write, "static/data/stripe", w.root, `{"data":{"api_key":"sk_live_2"}}`)
	if err != nil || !strings.Contains(said, "could not be checked") || current() != "sk_live_2" {
		t.Errorf("while the provider is down: %v, said %q", err, said)
	}
	if got := w.must(t, route.Read, "rotation/external/stripe", w.root, "").Data["rotation"]; got != 1.0 {
		t.Errorf("an unverified key counts as rotation %v", got)
	}
	w.must(t, route.Write, "sys/policies/acl/outsider", w.root, `{"policy":"path \"rotation/external/*\" `+
		`{ capabilities = [\"create\", \"read\", \"update\"] } path \"static/data/*\" `+
		`{ capabilities = [\"create\", \"update\"] }"}`)
	token := w.must(t, route.Write, "auth/token/create", w.root,
		`{"policies":["outsider"]}`).Auth["client_token"].(string)
	if _, err := w.ask(t, route.Write, "rotation/external/mine", token,
		strings.ReplaceAll(register, "static/stripe", "static/other")); !fault.Is(err, fault.Denied) {
		t.Errorf("a recipe for a secret that the caller may not read: %v, want it denied", err)
	}
	_, err = w.ask(t, route.Write, "rotation/keys/stripe", w.root, publishing("stripe", "static/stripe"))
	if !fault.Is(err, fault.Conflict) {
		t.Errorf("a key that rotates to a registered path: %v, want a conflict", err)
	}
	// The recipe gets no key that its owner may no longer read, and null stays refused.
	down.Store(false)
	policy := func(rules string) {
		w.must(t, route.Write, "sys/policies/acl/owner", w.root, `{"policy":"`+strings.ReplaceAll(
			`path "rotation/external/*" { capabilities = ["create", "update"] } path "static/data/owned" { capabilities = [`+
				rules+`] }`, `"`, `\"`)+`"}`)
	}
	policy(`"create", "update", "read"`)
	token = w.must(t, route.Write, "auth/token/create", w.root,
		`{"policies":["owner"]}`).Auth["client_token"].(string)
	w.must(t, route.Write, "rotation/external/owned", token,
		strings.ReplaceAll(register, "static/stripe", "static/owned"))
	w.must(t, route.Write, "static/data/owned", w.root, `{"data":{"api_key":"sk_live_1"}}`)
	policy(`"create", "update"`)
	calls.Store(0)
	said, err = w.says(t, route.Write, "static/data/owned", w.root, `{"data":{"api_key":"sk_live_2"}}`)
	if err != nil || !strings.Contains(said, "could not be checked") || calls.Load() != 0 {
		t.Errorf("once the owner may not read: %v, said %q, %d calls", err, said, calls.Load())
	}
	if _, err := w.says(t, route.Write, "static/data/owned", w.root, `{"data":{"api_key":"null"}}`); !fault.Is(err,
		fault.Invalid) {
		t.Errorf("a write of null then: %v, want it refused", err)
	}
	text := w.must(t, route.Read, "rotation/external/stripe/history", w.root, "").Body
	if strings.Contains(text, "sk_") {
		t.Errorf("the history shows a secret: %s", text)
	}
}
