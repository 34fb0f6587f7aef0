package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"

	"github.com/rogpeppe/go-internal/testscript"
)

// stripeAdmin is the secret key with which the guide's script calls Stripe.
const stripeAdmin = "sk_live_admin"

// startstripe starts a server that answers as the guide's script expects of Stripe, and aims curl
// at it: POST /v1/api_keys creates a key, and GET /v1/balance accepts it. The first word of the
// file stripe.mode changes that: "null" (a reply without a key), "empty" (no reply at all), "dead"
// (a key that does not work), "down" (the server answers 503). It sets STRIPE_URL.
func startstripe(ts *testscript.TestScript, neg bool, _ []string) {
	if neg {
		ts.Fatalf("startstripe: cannot be negated")
	}
	var created atomic.Int64
	mode := func() string {
		text, _ := os.ReadFile(ts.MkAbs("stripe.mode"))
		return strings.TrimSpace(string(text))
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, _, _ := r.BasicAuth()
		switch m := mode(); {
		case m == "down":
			w.WriteHeader(http.StatusServiceUnavailable)
		case r.URL.Path == "/v1/balance" && strings.HasPrefix(user, "sk_live_created_"):
			io.WriteString(w, `{"object": "balance"}`)
		case r.URL.Path == "/v1/balance" || user != stripeAdmin || r.Method != http.MethodPost:
			w.WriteHeader(http.StatusUnauthorized)
		case m == "empty":
		case m == "null":
			io.WriteString(w, `{"error": {"message": "an API key cannot create another one"}}`)
		case m == "dead":
			io.WriteString(w, `{"secret": "sk_dead"}`)
		default:
			fmt.Fprintf(w, `{"id": "key_%[1]d", "secret": "sk_live_created_%[1]d"}`, created.Add(1))
		}
	})
	curl, verify := httptest.NewTLSServer(handler), httptest.NewServer(handler)
	ts.Defer(curl.Close)
	ts.Defer(verify.Close)
	ts.Setenv("STRIPE_URL", verify.URL)
	ts.Setenv("STRIPE_SECRET_KEY", stripeAdmin)
	ts.Check(os.WriteFile(ts.Getenv("HOME")+"/.curlrc", fmt.Appendf(nil,
		"insecure\nconnect-to = \"api.stripe.com:443:%s\"\n", strings.TrimPrefix(curl.URL, "https://")), 0o600))
}
