package recipe

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestReadProvesNothing: a 404 of a request that is made first does not show that the key is gone,
// unless the request is about the key.
func TestReadProvesNothing(t *testing.T) {
	text := strings.Replace(minimal("{ name = marker }"), "retire {\n  method = \"DELETE\"\n", `retire {
  method = "DELETE"
  absent = response.status == 410
  read {
    url   = "https://api.example.com/project"
    value = response.json.etag
  }
  headers = { If-Match = read }
`, 1)
	deleted := 0
	s := plain(t, text, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "DELETE" {
			deleted++
		}
		w.WriteHeader(404)
		io.WriteString(w, `{"error":"no such project, or no permission"}`)
	})
	if err := s.Retire(t.Context(), "a"); err == nil {
		t.Errorf("retired after %d deletions", deleted)
	}
}

// TestSlotIsNeverGone: a slot that is answered with 404 is not retired.
func TestSlotIsNeverGone(t *testing.T) {
	text := `name = "slots"
description = "d"
style = "slots"
slots = ["key1", "key2"]
evidence = "e"
hosts = ["api.example.com"]
admin "token" { description = "d" }
auth "bearer" { token = admin.token }
create {
  url = "https://api.example.com/keys/${urlencode(slot)}"
  secret = { api_key = response.json.key }
}
retire {
  method = "POST"
  url = "https://api.example.com/keys/${urlencode(key.slot)}"
  read {
    url   = "https://api.example.com/project"
    value = response.json.etag
  }
  headers = { If-Match = read }
}
`
	posted := 0
	s := plain(t, text, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "POST" {
			posted++
		}
		w.WriteHeader(404)
	})
	if err := s.Retire(t.Context(), "key1#1.1"); err == nil {
		t.Errorf("a slot was retired after %d calls", posted)
	}
}

// TestUnauthenticatedReadProvesNothing: nor does a 404 to the request that asks for the challenge.
func TestUnauthenticatedReadProvesNothing(t *testing.T) {
	text := strings.Replace(digested, "retire {\n", `retire {
  read {
    url   = "https://api.example.com/project"
    value = response.json.etag
  }
  headers = { If-Match = read }
`, 1)
	authed := 0
	s := plain(t, text, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			authed++
		}
		w.WriteHeader(404)
	})
	if err := s.Retire(t.Context(), "a"); err == nil {
		t.Errorf("retired with %d authenticated requests", authed)
	}
}
