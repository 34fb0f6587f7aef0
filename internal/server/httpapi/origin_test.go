package httpapi

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/internal/core"
)

// TestCrossOrigin: a browser learns which pages may call, and a page that may not is refused
// before anything happens.
func TestCrossOrigin(t *testing.T) {
	b := &backend{}
	cors := core.CORS{}
	var failing error
	cfg := b.config()
	cfg.Backend.CORS = func(context.Context) (core.CORS, error) { return cors, failing }
	h := New(cfg)

	w := ask(h, "PUT", "/v1/secret/a", `{}`, "Origin", "https://evil.example")
	if w.Code != 200 || w.Header().Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("without CORS: %d, %v", w.Code, w.Header())
	}
	cors = core.CORS{Origins: []string{"https://ui.example"}, Headers: []string{"X-Mine"}}
	b.seen = nil
	if w = ask(h, "PUT", "/v1/secret/a", `{}`, "Origin", "https://evil.example"); w.Code != 403 || b.seen != nil {
		t.Errorf("a page of another origin: %d, and the request was handled: %v", w.Code, b.seen != nil)
	}
	w = ask(h, "PUT", "/v1/secret/a", `{}`, "Origin", "https://ui.example")
	if w.Code != 200 || b.seen == nil || w.Header().Get("Access-Control-Allow-Origin") != "https://ui.example" ||
		w.Header().Get("Vary") != "Origin" {
		t.Errorf("a page that may: %d, %v", w.Code, w.Header())
	}
	b.seen = nil
	w = ask(h, "OPTIONS", "/v1/secret/a", "", "Origin", "https://ui.example", "Access-Control-Request-Method", "PUT")
	if w.Code != 204 || b.seen != nil ||
		!strings.Contains(w.Header().Get("Access-Control-Allow-Headers"), "X-Vault-Token") ||
		!strings.HasSuffix(w.Header().Get("Access-Control-Allow-Headers"), ",X-Mine") ||
		!strings.Contains(w.Header().Get("Access-Control-Allow-Methods"), "PUT") {
		t.Errorf("a preflight: %d, %v, handled: %v", w.Code, w.Header(), b.seen != nil)
	}
	if w = ask(h, "OPTIONS", "/v1/secret/a", "", "Origin", "https://evil.example", "Access-Control-Request-Method",
		"PUT"); w.Code != 403 {
		t.Errorf("a preflight of another origin: %d", w.Code)
	}
	if w = ask(h, "OPTIONS", "/v1/secret/a", ""); w.Code != 405 {
		t.Errorf("OPTIONS without an origin: %d", w.Code)
	}
	ask(h, "GET", "/v1/secret/a", "", "X-Mine", "one", "X-Mine", "two")
	if strings.Join(b.seen.Header["X-Mine"], " ") != "one two" {
		t.Errorf("core sees the headers %v", b.seen.Header)
	}
	if failing = errors.New("no store"); ask(h, "GET", "/v1/secret/a", "", "Origin",
		"https://ui.example").Code != 500 {
		t.Error("a request is served although nobody knows which origins may call")
	}
}

func TestHeadersOfUI(t *testing.T) {
	cfg := (&backend{}).config()
	cfg.Backend.UIHeaders = func(context.Context) (map[string][]string, error) {
		return map[string][]string{"X-A": {"one", "two"}}, nil
	}
	h := New(cfg)
	if w := ask(h, "GET", "/ui/", ""); w.Code != 404 || strings.Join(w.Header().Values("X-A"), " ") != "one two" {
		t.Errorf("below /ui: %d, %v", w.Code, w.Header())
	}
	if w := ask(h, "GET", "/elsewhere", ""); w.Code != 404 || w.Header().Get("X-A") != "" {
		t.Errorf("elsewhere: %d, %v", w.Code, w.Header())
	}
}

// TestFlights: a request is listed while it is served, without a token that stands in its path.
func TestFlights(t *testing.T) {
	b, flights := &backend{}, &Flights{}
	cfg := b.config()
	cfg.Flights = flights
	h := New(cfg)
	var during []core.Flight
	depth := 0
	b.act = func(context.Context) {
		if depth++; depth == 1 {
			ask(h, "GET", "/v1/auth/token/lookup/mine", "") // a second one beside the first
			return
		}
		during = flights.List()
	}
	ask(h, "PUT", "/v1/secret/a", `{}`)
	if len(during) != 2 || len(flights.List()) != 0 {
		t.Fatalf("%d were listed while two were served, %d afterwards", len(during), len(flights.List()))
	}
	slices.SortFunc(during, func(a, b core.Flight) int { return strings.Compare(a.Method, b.Method) })
	paths := during[0].Method + " " + during[0].Path + ", " + during[1].Method + " " + during[1].Path
	if paths != "GET /v1/auth/token/lookup/[token], PUT /v1/secret/a" || during[0].ID == during[1].ID ||
		during[0].Start.IsZero() || during[0].Remote == "" {
		t.Errorf("listed %s: %+v", paths, during)
	}
	for _, path := range []string{
		"/v1/auth/token/Lookup/canary", "/v1/auth%2Ftoken%2Frenew%2Fcanary/", "/v1/auth/token/lookup-self/canary",
		"/v1/auth/other/revoke/canary", "/v1/secret/hvs.canary",
	} {
		b.act = func(context.Context) { during = flights.List() }
		ask(h, "PUT", path, `{}`)
		if len(during) != 1 || strings.Contains(during[0].Path, "canary") ||
			!strings.HasSuffix(during[0].Path, "/[token]") {
			t.Errorf("%s is listed as %+v", path, during)
		}
	}
	b.act = func(context.Context) { panic("x") }
	if w := ask(h, "GET", "/v1/secret/a", ""); w.Code != http.StatusInternalServerError || len(flights.List()) != 0 {
		t.Errorf("after a panic: %d, and %d are listed", w.Code, len(flights.List()))
	}
}

func TestSealBackends(t *testing.T) {
	h := New((&backend{}).config())
	w := ask(h, "GET", "/v1/sys/seal-backend-status", "")
	if w.Code != 200 || !strings.Contains(w.Body.String(), `"backends":[{"name":"shamir","healthy":true}]`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
