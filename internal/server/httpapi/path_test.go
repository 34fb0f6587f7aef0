package httpapi

import (
	"bufio"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/keyturn/keyturn/internal/route"
)

// FuzzPath: whatever the raw request line is, the path that the house gets –
// the one value that router, policy, audit and engine see – is canonical,
// is what one decoding of the line says, and means the same if it is sent again.
func FuzzPath(f *testing.F) {
	for _, target := range []string{
		"/v1/secret/data/a", "/v1/secret/data/a/", "/v1/secret/../sys/raw", "/v1/secret/%2e%2e/sys",
		"/v1/secret/%252e%252e/sys",
		"/v1/secret//a", "//v1/secret/a", "/v1//secret", "/v1/%2Fsecret", "/v1/secret%2Fa", "/v1/secret%252Fa",
		"/v1/a%00b", "/v1/%C0%AE",
		"/v1/secret/.", "/v1/./secret", "http://host/v1/secret/a", "http://host//v1/secret", "/v1/secret?list=true",
		"/v1/a%5c..%5cb",
		"/v1/sys/health", "/v1/sys/health/", "/v1/SYS/HEALTH", "/v1/a;b", "/v1/a%3Fb", "/v1/a#b", "/%76%31/a",
		"/v1/Ａ/ａ", "*", "/v1/a b",
	} {
		for _, method := range []string{"GET", "LIST", "PUT"} {
			f.Add(method, target)
		}
	}
	f.Fuzz(func(t *testing.T, method, target string) {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(method + " " + target +
			" HTTP/1.1\r\nHost: h\r\n\r\n")))
		if err != nil {
			return
		}
		b := &backend{}
		w := httptest.NewRecorder()
		New(b.config()).ServeHTTP(w, r)
		if b.seen == nil {
			return
		}
		if b.seen.Query.Has("list") != r.URL.Query().Has("list") && b.seen.Op != route.Write {
			t.Errorf("query %v", b.seen.Query)
		}
		got := string(b.seen.Path)
		raw, _, _ := strings.Cut(r.RequestURI, "?")
		if i := strings.Index(raw, "://"); i >= 0 && !strings.HasPrefix(raw, "/") {
			raw = raw[i+3:]
			raw = raw[strings.IndexByte(raw, '/'):]
		}
		once, err := url.PathUnescape(strings.TrimPrefix(raw, "/v1/"))
		if err != nil {
			t.Fatalf("%q went through as %q", target, got)
		}
		want := strings.TrimSuffix(strings.TrimPrefix(once, "/"), "/")
		if b.seen.Op == route.List && want != "" {
			want += "/"
		}
		if got != want {
			t.Errorf("%s %q went through as %q, want %q", method, target, got, want)
		}
		canonical(t, b.seen.Op, got)
	})
}

// canonical checks a path's form, and that it comes back as it is.
func canonical(t *testing.T, op route.Op, path string) {
	if !utf8.ValidString(path) || len(path) > route.MaxPath+1 || strings.ContainsAny(path, "\x00\n\r") {
		t.Errorf("path %q", path)
	}
	if strings.HasSuffix(path, "/") && op != route.List {
		t.Errorf("%s of %q", op, path)
	}
	segments := strings.Split(strings.TrimSuffix(path, "/"), "/")
	var escaped []string
	for _, s := range segments {
		if s == "." || s == ".." || s == "" && path != "" {
			t.Errorf("path %q has the segment %q", path, s)
		}
		escaped = append(escaped, url.PathEscape(s))
	}
	again, err := route.ParsePath("/"+strings.Join(escaped, "/"), op == route.List)
	if err != nil || string(again) != path {
		t.Errorf("path %q comes back as %q, %v", path, again, err)
	}
}

// FuzzRequest throws whole requests at the door: it answers each, with an
// error's form where it refuses, and passes only what is within the limits.
func FuzzRequest(f *testing.F) {
	for _, s := range []string{
		"GET /v1/secret/a HTTP/1.1\r\nHost: h\r\nX-Vault-Token: t\r\n\r\n",
		"PUT /v1/secret/a HTTP/1.1\r\nHost: h\r\nContent-Length: 7\r\n\r\n{\"a\":1}",
		"POST /v1/sys/unseal HTTP/1.1\r\nHost: h\r\nContent-Length: 14\r\n\r\n{\"key\":\"01ff\"}",
		"PUT /v1/sys/init HTTP/1.1\r\nHost: h\r\nContent-Length: 19\r\n\r\n{\"secret_shares\":1}",
		"PATCH /v1/a HTTP/1.1\r\nHost: h\r\nContent-Type: application/merge-patch+json\r\nTransfer-Encoding: " +
			"chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
		"GET /v1/sys/health?sealedcode=999 HTTP/1.1\r\nHost: h\r\n\r\n",
		"GET /v1/a HTTP/1.1\r\nHost: h\r\nX-Vault-Wrap-TTL: 99999999999999h\r\n\r\n",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
		if err != nil {
			return
		}
		b := &backend{}
		w := httptest.NewRecorder()
		New(b.config()).ServeHTTP(w, r)
		if w.Code >= 500 && w.Code != 501 && w.Code != 503 || w.Code < 200 {
			// sys/health answers with what it is asked for.
			if !strings.Contains(text, "code=") {
				t.Errorf("status %d %s", w.Code, w.Body)
			}
		}
		if w.Code >= 400 && w.Code < 500 && !strings.HasPrefix(w.Body.String(), `{"errors":[`) &&
			!strings.Contains(text, "code=") {
			t.Errorf("status %d %s", w.Code, w.Body)
		}
		if b.seen != nil && b.body != "" && (b.body[0] != '{' || b.body[len(b.body)-1] != '}') {
			t.Errorf("body %q", b.body)
		}
	})
}

// BenchmarkDoor is what a read costs here, without the house behind it.
func BenchmarkDoor(b *testing.B) {
	h := New((&backend{}).config())
	r := httptest.NewRequest("GET", "/v1/secret/data/app/one", nil)
	r.Header.Set("X-Vault-Token", "hvs.CAESIGkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk")
	r.Header.Set("X-Vault-Request", "true")
	w := &nowhere{head: http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		h.ServeHTTP(w, r)
	}
}

// BenchmarkDoorWrite is the same for a write with a small body.
func BenchmarkDoorWrite(b *testing.B) {
	h := New((&backend{}).config())
	const body = `{"data":{"api_key":"sk_live_0123456789abcdef","rotated_at":"2026-03-09T00:00:00Z"},"options":{"cas":3}}`
	r := httptest.NewRequest("PUT", "/v1/secret/data/app/one", nil)
	r.ContentLength = int64(len(body))
	from := &again{strings.NewReader(body)}
	w := &nowhere{head: http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		from.Seek(0, 0)
		r.Body = from
		h.ServeHTTP(w, r)
	}
}

type again struct{ *strings.Reader }

func (*again) Close() error { return nil }

type nowhere struct{ head http.Header }

func (n *nowhere) Header() http.Header         { return n.head }
func (n *nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (n *nowhere) WriteHeader(int)             {}
