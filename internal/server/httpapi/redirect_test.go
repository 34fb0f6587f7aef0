package httpapi

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/internal/route"
)

// TestEmptySegmentsRedirect: a path with two slashes is sent back, and the client asks again:
// `$VAULT_ADDR/v1/…` with an address that ends in a slash is the usual cause. Nothing is served on
// the way.
func TestEmptySegmentsRedirect(t *testing.T) {
	for _, tt := range []struct{ method, target, to string }{
		{"GET", "/v1/secret//data/a", "/v1/secret/data/a"},
		{"GET", "//v1/secret/data/a?version=2&x=%2F%2F", "/v1/secret/data/a?version=2&x=%2F%2F"},
		{"PUT", "/v1//secret///data/a%2Fb", "/v1/secret/data/a%2Fb"},
		{"LIST", "/v1/secret/metadata//", "/v1/secret/metadata/"},
		{"DELETE", "///v1/sys/mounts//a", "/v1/sys/mounts/a"},
		{"GET", "/v1//evil.example/a", "/v1/evil.example/a"},
	} {
		b := &backend{}
		w := ask(New(b.config()), tt.method, tt.target, "")
		if got := w.Header().Get("Location"); w.Code != 307 || got != tt.to || w.Body.Len() != 0 {
			t.Errorf("%s %s: status %d to %q (%s), want 307 to %q", tt.method, tt.target, w.Code, got, w.Body, tt.to)
		}
		if b.seen != nil {
			t.Errorf("%s %s was served as %q", tt.method, tt.target, b.seen.Path)
		}
	}
}

// TestNoRedirectOfTokens: where a token may follow, the answer would repeat it, so that the path
// is refused.
func TestNoRedirectOfTokens(t *testing.T) {
	for _, target := range []string{
		"/v1/auth/token/lookup//canary", "//v1/auth/token/revoke/canary", "/v1/auth//token/renew/canary/",
		"/v1/auth/token//Lookup/canary?x=canary",
		"/v1/auth%2Ftoken%2Flookup%2F/canary//", "/v1//secret/data/hvs.canary",
	} {
		b := &backend{}
		w := ask(New(b.config()), "GET", target, "")
		if w.Code != 400 || len(w.Header()["Location"]) != 0 || !strings.Contains(w.Body.String(),
			"(two slashes in a row)") || strings.Contains(w.Body.String(), "canary") || b.seen != nil {
			t.Errorf("%s: status %d, %v, %s", target, w.Code, w.Header(), w.Body)
		}
	}
}

// TestFolder: that a path ended in a slash is told, however the slash was written; a listing's
// always does.
func TestFolder(t *testing.T) {
	for target, want := range map[string]bool{
		"/v1/secret/data/a": false, "/v1/secret/data/a/": true, "/v1/secret/data/a%2f": true,
		"/v1/secret/data/a%2F": true,
	} {
		for _, method := range []string{"GET", "PUT", "DELETE", "LIST"} {
			b := &backend{}
			New(b.config()).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(method, target, nil))
			if b.seen == nil || b.seen.Folder != (want && b.seen.Op != route.List) {
				t.Errorf("%s %s: %+v", method, target, b.seen)
			}
		}
	}
}
