package httpapi

import (
	"net/http/httptest"
	"testing"

	"github.com/keyturn/keyturn/internal/route"
)

// TestEmptySegmentsRedirect: a path with two slashes is sent back, and the client asks again: `$VAULT_ADDR/v1/…` with an
// address that ends in a slash is the usual cause. Nothing is served on the way.
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

// TestFolder: that a path ended in a slash is told, however the slash was written; a listing's always does.
func TestFolder(t *testing.T) {
	for target, want := range map[string]bool{"/v1/secret/data/a": false, "/v1/secret/data/a/": true, "/v1/secret/data/a%2f": true, "/v1/secret/data/a%2F": true} {
		for _, method := range []string{"GET", "PUT", "DELETE", "LIST"} {
			b := &backend{}
			New(b.config()).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(method, target, nil))
			if b.seen == nil || b.seen.Folder != (want && b.seen.Op != route.List) {
				t.Errorf("%s %s: %+v", method, target, b.seen)
			}
		}
	}
}
