package recipe

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/internal/engine/rotation"
	"github.com/keyturn/keyturn/internal/engine/rotation/rotationtest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/outbound"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/secret"
)

var order = rotate.Order{Marker: rotate.Marker{Installation: "t1", Key: "demo", Turn: 1, Attempt: 1}}

// serve opens http-demo in front of a handler.
func serve(t *testing.T, h http.HandlerFunc) rotation.Source {
	t.Helper()
	return openDemo(t, demo(t), rotationtest.Pipe(t, h))
}

// plain opens a recipe's text whose only host is http://127.0.0.1 in front of a handler.
func plain(t *testing.T, text string, h http.HandlerFunc) rotation.Source {
	t.Helper()
	text = strings.ReplaceAll(strings.ReplaceAll(text, `["api.example.com"]`, `["http://127.0.0.1"]`),
		"https://api.example.com", "http://127.0.0.1")
	d, err := Provider.Parse("x.hcl", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	s, err := Provider.Open(rotation.OpenConfig{
		Definition: d, Admin: map[string]secret.Value{"token": secret.Text(adminCanary)},
		Dial: rotationtest.Pipe(t, h),
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestOutcomes has one row per kind of reply: what each call makes of it.
func TestOutcomes(t *testing.T) {
	answer := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			w.Header().Set("Retry-After", "90")
			w.Header().Set("Location", "http://127.0.0.1:8300/elsewhere")
			w.WriteHeader(status)
			io.WriteString(w, body)
		}
	}
	const u, tr, p, ex, rej = rotate.Unknown, rotate.Transient, rotate.Permanent, rotate.Exhausted, rotate.Rejected
	const none = rotate.Outcome(99) // succeeds
	for _, c := range []struct {
		name                         string
		handler                      http.HandlerFunc
		create, verify, list, retire rotate.Outcome
	}{
		{"400", answer(400, "{}"), p, p, p, p},
		{"401", answer(401, "{}"), p, rej, p, p},
		{"403", answer(403, "{}"), p, rej, p, p},
		{"404", answer(404, "{}"), p, p, p, none},
		{"408", answer(408, "{}"), tr, tr, tr, tr},
		{"409", answer(409, "{}"), ex, p, p, p},
		{"410", answer(410, "{}"), p, p, p, none},
		{"422", answer(422, "{}"), p, p, p, p},
		{"429", answer(429, "{}"), tr, tr, tr, tr},
		{"500", answer(500, "{}"), u, tr, tr, u},
		{"502 page", answer(502, "<html>"), u, tr, tr, u},
		{"503", answer(503, ""), u, tr, tr, u},
		{"300", answer(300, ""), p, p, p, p},
		{"301", answer(301, ""), p, p, p, p},
		{"302", answer(302, ""), u, p, p, u},
		{"303", answer(303, ""), u, p, p, u},
		{"307", answer(307, ""), p, p, p, p},
		{"unexpected 200", answer(200, `{"id":"other"}`), u, p, p, none},
		{"200 page", answer(200, `<html>`), u, p, p, none},
		{"unexpected 206", answer(206, `{}`), u, p, p, u},
		{"empty 201", answer(201, ``), u, p, p, u},
		{"201 without a secret", answer(201, `{"id":"a"}`), u, p, p, u},
		{"huge", answer(200, strings.Repeat("x", maxReply+1)), u, p, p, u},
		{"huge 500", answer(500, strings.Repeat("x", maxReply+1)), u, tr, tr, u},
		{"cut in the reply", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "100")
			w.WriteHeader(201)
			io.WriteString(w, `{"id":`)
			panic(http.ErrAbortHandler)
		}, u, tr, tr, u},
		{"another protocol", func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
			t.Cleanup(func() { conn.Close() })
		}, u, tr, tr, u},
		{"cut before the reply", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, u, tr, tr,
			u},
	} {
		s := serve(t, c.handler)
		_, created := s.Create(t.Context(), order)
		_, listed := s.List(t.Context())
		key := rotate.Credential{ID: "a", Secret: map[string]secret.Value{"api_key": secret.Text("key-canary")}}
		for call, result := range map[string]struct {
			err  error
			want rotate.Outcome
		}{
			"create": {created, c.create}, "verify": {s.Verify(t.Context(), key), c.verify},
			"list": {listed, c.list}, "retire": {s.Retire(t.Context(), "a"), c.retire},
		} {
			if result.want == none {
				if result.err != nil {
					t.Errorf("%s, %s: %v", c.name, call, result.err)
				}
				continue
			}
			if got := rotate.OutcomeOf(result.err); result.err == nil || got != result.want {
				t.Errorf("%s, %s: outcome %v (%v), want %v", c.name, call, got, result.err, result.want)
			}
			f, ok := result.err.(*rotate.Failure)
			if !ok || f.Status == 0 {
				continue
			}
			if f.Status >= 400 && f.RetryAfter != 90*time.Second {
				t.Errorf("%s, %s: retry after %v, want 90s", c.name, call, f.RetryAfter)
			}
			// Another try makes another key where this one made one that cannot be read.
			if want := call == "create" && f.Status/100 == 2 && result.want == u; want && !f.Repeats || f.Repeats &&
				f.Status/100 != 2 {
				t.Errorf("%s, %s: it repeats: %v", c.name, call, f.Repeats)
			}
			refuses := strings.Contains(fault.Message(f), "admin credentials")
			if want := (f.Status == 401 || f.Status == 403) && result.want == p; refuses != want {
				t.Errorf("%s, %s: %q", c.name, call, fault.Message(f))
			}
		}
	}
}

// TestLostSecret: a key exists, and only its id is known.
func TestLostSecret(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(201)
		io.WriteString(w, `{"id": "key_7", "secret": ""}`)
	})
	_, err := s.Create(t.Context(), order)
	f, ok := err.(*rotate.Failure)
	if !ok || f.Outcome != rotate.Unknown || f.ID != "key_7" {
		t.Errorf("got %#v, want unknown with the id", err)
	}
}

// TestUnreadableKeys: a key whose reply cannot be read exists. Its id is kept where it can be
// read, and its secret and id are within their limits or refused.
func TestUnreadableKeys(t *testing.T) {
	long := strings.Repeat("a", rotation.MaxOutput)
	for name, tt := range map[string]struct {
		id, key, label string
		fine           bool
		wantID         string
	}{
		"right":                    {"a", "k", "l", true, "a"},
		"the longest":              {long[:rotation.MaxID], long, long, true, long[:rotation.MaxID]},
		"no secret":                {"a", "", "l", false, "a"},
		"a long secret":            {"a", long + "a", "l", false, "a"},
		"a long label":             {"a", "k", long + "a", false, "a"},
		"no id":                    {"", "k", "l", false, ""},
		"a long id":                {long[:rotation.MaxID+1], "k", "l", false, ""},
		"an unprintable id":        {"\x01a", "k", "l", false, ""},
		"an unprintable end":       {"a\x01", "k", "l", false, ""},
		"neither id nor secret":    {"\x01", "", "l", false, ""},
		"no label is no hindrance": {"a", "k", "", true, "a"},
	} {
		text := strings.Replace(minimal("{}"), "  secret =", "  public = { label = response.json.label }\n  secret =",
			1)
		s := plain(t, text, func(w http.ResponseWriter, r *http.Request) {
			_ = json.NewEncoder(w).Encode(map[string]string{"id": tt.id, "key": tt.key, "label": tt.label})
		})
		c, err := s.Create(t.Context(), order)
		if tt.fine {
			if err != nil || c.ID != tt.wantID || c.Secret["api_key"].RevealString() != tt.key ||
				c.Public["label"] != tt.label {
				t.Errorf("%s: %.40v, %v", name, c, err)
			}
			continue
		}
		f, ok := err.(*rotate.Failure)
		if !ok || f.Outcome != rotate.Unknown || f.ID != tt.wantID || !f.Repeats {
			t.Errorf("%s: %#v, want unknown with the id %q", name, err, tt.wantID)
		}
	}
}

// TestNoList: what a recipe has no block for is not supported, and asks the provider nothing.
func TestNoList(t *testing.T) {
	s := plain(t, minimal("{}"), func(http.ResponseWriter, *http.Request) { t.Error("called") })
	if _, err := s.LastUsed(t.Context(), "a"); rotate.OutcomeOf(err) != rotate.Permanent {
		t.Errorf("last used: %v", err)
	}
	if _, err := s.List(t.Context()); rotate.OutcomeOf(err) != rotate.Permanent {
		t.Errorf("list: %v", err)
	}
}

func TestVerifyDeadIsNotFooled(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"a page":         func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "<html>sign in</html>") },
		"another's key":  func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, `{"id":"other"}`) },
		"a wrong path":   http.NotFound,
		"out of service": func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(503) },
		"a redirect":     func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/", http.StatusFound) },
	} {
		s := serve(t, h)
		key := rotate.Credential{ID: "a", Secret: map[string]secret.Value{"api_key": secret.Text("key-canary")}}
		if err := s.VerifyDead(t.Context(), key); err == nil {
			t.Errorf("%s proved that the key is dead", name)
		}
	}
}

// TestUnreachable: without a connection there surely was no effect.
func TestUnreachable(t *testing.T) {
	s := openDemo(t, demo(t), nil)
	if _, err := s.Create(t.Context(), order); rotate.OutcomeOf(err) != rotate.Permanent ||
		!fault.Is(err, fault.Denied) {
		t.Errorf("without a network: %v", err)
	}
	guarded := (&outbound.Dialer{}).DialContext
	if _, err := openDemo(t, demo(t), guarded).Create(t.Context(), order); rotate.OutcomeOf(err) != rotate.Permanent ||
		!fault.Is(err, fault.Denied) {
		t.Errorf("loopback without the operator's leave: %v", err)
	}
	allowed := (&outbound.Dialer{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}).DialContext
	text := strings.ReplaceAll(minimal("{}"), "api.example.com", "127.0.0.1:1")
	d, err := Provider.Parse("x", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	closed, err := Provider.Open(
		rotation.OpenConfig{Definition: d, Admin: map[string]secret.Value{"token": secret.Text("x")}, Dial: allowed})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := closed.Create(t.Context(), order); rotate.OutcomeOf(err) != rotate.Transient ||
		!fault.Is(err, fault.Upstream) {
		t.Errorf("a closed port: %v, want transient", err)
	}
}

// TestDeclaredHosts: a reply cannot send the admin credential elsewhere.
func TestDeclaredHosts(t *testing.T) {
	calls := 0
	text := minimal(`{}`) + `
list {
  url = coalesce(page, "https://api.example.com/keys")
  items = response.json.keys
  id = item.id
  next = response.json.next
}
`
	for _, next := range []string{"https://evil.example/keys", "http://127.0.0.1:81/keys", "//evil.example/",
		"http://127.0.0.1@evil.example/", "file:///etc/passwd", "http://127.0.0.1.evil.example/"} {
		calls = 0
		s := plain(t, text, func(w http.ResponseWriter, r *http.Request) {
			calls++
			json.NewEncoder(w).Encode(map[string]any{"keys": []any{}, "next": next})
		})
		if _, err := s.List(t.Context()); rotate.OutcomeOf(err) != rotate.Permanent || calls != 1 {
			t.Errorf("next page %q: %v after %d calls, want permanent after 1", next, err, calls)
		}
	}
}

func TestRefusedRequests(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) { t.Errorf("called: %s", r.URL) })
	if err := s.Retire(t.Context(), "..\x00"); rotate.OutcomeOf(err) != rotate.Permanent {
		t.Errorf("an unprintable id: %v", err)
	}
	if err := s.Retire(t.Context(), ".."); rotate.OutcomeOf(err) != rotate.Permanent {
		t.Errorf("a dot segment as id: %v", err)
	}
	if _, err := s.Create(t.Context(), rotate.Order{}); rotate.OutcomeOf(err) != rotate.Permanent {
		t.Errorf("no marker: %v", err)
	}
	for _, headers := range []string{`{ Host = "evil.example" }`, `{ "X-A" = "a\r\nX-B: b" }`,
		`{ "Content-Length" = 1 }`, `{ "a b" = "c" }`} {
		s := plain(t, strings.Replace(minimal("{}"), "retry =", "headers = "+headers+"\n  retry =", 1),
			func(w http.ResponseWriter, r *http.Request) { t.Error("called") })
		if _, err := s.Create(t.Context(), order); rotate.OutcomeOf(err) != rotate.Permanent ||
			!fault.Is(err, fault.Invalid) {
			t.Errorf("headers %s: %v", headers, err)
		}
	}
	for _, rest := range []string{"#", "#part", "#pa%20rt", "?a=b#part"} {
		s := plain(t, strings.Replace(minimal("{}"), `example.com/keys"`, `example.com/keys`+rest+`"`, 1),
			func(w http.ResponseWriter, r *http.Request) { t.Error("called") })
		if _, err := s.Create(t.Context(), order); rotate.OutcomeOf(err) != rotate.Permanent ||
			!strings.Contains(fault.Message(err), "fragment") {
			t.Errorf("a URL that ends in %s: %v", rest, err)
		}
	}
}

// TestNoNewKeyIsQuoted: a reply that succeeded may hold a new key, whatever else is wrong with
// it, and so may one to a creating call that says it failed. Of that, the words that say why are
// quoted.
func TestNoNewKeyIsQuoted(t *testing.T) {
	for status, quoted := range map[int]bool{200: false, 202: false, 206: false, 301: false, 400: true, 500: true} {
		s := serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(status)
			io.WriteString(w, `{"id": "a", "other": "new-key-canary", "message": "the limit is reached"}`)
		})
		_, err := s.Create(t.Context(), order)
		if cause := fmt.Sprint(err, fault.Cause(err)); err == nil || strings.Contains(cause, "new-key-canary") ||
			strings.Contains(cause, "the limit is reached") != quoted {
			t.Errorf("%d: %s", status, cause)
		}
	}
}

// TestEscapedID: what a provider calls its key cannot reach another path.
func TestEscapedID(t *testing.T) {
	var got string
	s := serve(t, func(w http.ResponseWriter, r *http.Request) { got = r.RequestURI; w.WriteHeader(204) })
	if err := s.Retire(t.Context(), "a/users/1?x=y#z"); err != nil || got != "/v1/keys/a%2Fusers%2F1%3Fx%3Dy%23z" {
		t.Errorf("got %s, %v", got, err)
	}
	got = ""
	if err := s.Retire(t.Context(), "a/../users"); rotate.OutcomeOf(err) != rotate.Permanent || got != "" {
		t.Errorf("an id with a dot segment: called %q, %v", got, err)
	}
}

// TestBodies sends one of each kind.
func TestBodies(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{`json = { name = marker, n = 3, list = ["a", null], token = admin.token }`,
			`application/json {"list":["a",null],"n":3,"name":"kt:t1/demo/1/1","token":"` + adminCanary + `"}`},
		{`form = { name = "a b", list = ["x", "y"], gone = null, n = true }`,
			"application/x-www-form-urlencoded list=x&list=y&n=true&name=a+b"},
		{"raw = \"<a>${marker}</a>\"\n content_type = \"application/xml\"", "application/xml <a>kt:t1/demo/1/1</a>"},
		{"json = {}\n content_type = \"application/vnd.api+json\"", "application/vnd.api+json {}"},
		{"graphql {\n query = \"mutation { x }\"\n variables = { a = marker }\n }",
			`application/json {"query":"mutation { x }","variables":{"a":"kt:t1/demo/1/1"}}`},
		{"", " "},
	} {
		var got string
		s := plain(t, strings.Replace(minimal("{}"), "json = {}", c.text, 1),
			func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				got = r.Header.Get("Content-Type") + " " + string(body)
				io.WriteString(w, `{"id": 7, "key": "k"}`)
			})
		made, err := s.Create(t.Context(), order)
		if err != nil || got != c.want || made.ID != "7" {
			t.Errorf("%s: sent %s, made %q, %v; want %s", c.text, got, made.ID, err, c.want)
		}
	}
}

// TestAuth sends each kind.
func TestAuth(t *testing.T) {
	for _, c := range []struct{ auth, header, want string }{
		{`auth "bearer" { token = admin.token }`, "Authorization", "Bearer " + adminCanary},
		{"auth \"basic\" {\n username = \"api\"\n password = admin.token\n }", "Authorization",
			"Basic " + base64.StdEncoding.EncodeToString([]byte("api:"+adminCanary))},
		{`auth "header" { headers = { "X-Key" = admin.token, "X-Version" = 2 } }`, "X-Key", adminCanary},
		{`auth "header" { headers = { Authorization = "Token token=${admin.token}" } }`, "Authorization",
			"Token token=" + adminCanary},
		{`auth "none" {}`, "Authorization", ""},
	} {
		var got string
		s := plain(t, strings.Replace(minimal("{}"), `auth "bearer" { token = admin.token }`, c.auth, 1),
			func(w http.ResponseWriter, r *http.Request) {
				got = r.Header.Get(c.header)
				io.WriteString(w, `{"id": 7, "key": "k"}`)
			})
		if _, err := s.Create(t.Context(), order); err != nil || got != c.want {
			t.Errorf("%s: sent %q, %v; want %q", c.auth, got, err, c.want)
		}
	}
	// What cannot stand in a header, or is not there, is not sent.
	for old, wrong := range map[string][]string{
		`auth "bearer" { token = admin.token }`: {`auth "bearer" { token = "" }`, `auth "bearer" { token = "a\nb" }`,
			`auth "header" { headers = { "X-Key" = "a\nb" } }`},
		`json = {}`: {"raw = \"x\"\n content_type = \"\"", "raw = \"x\"\n content_type = \"a\\nb\""},
	} {
		for _, w := range wrong {
			s := plain(t, strings.Replace(minimal("{}"), old, w, 1),
				func(http.ResponseWriter, *http.Request) { t.Errorf("%s: called", w) })
			if _, err := s.Create(t.Context(), order); rotate.OutcomeOf(err) != rotate.Permanent ||
				!fault.Is(err, fault.Invalid) {
				t.Errorf("%s: %v", w, err)
			}
		}
	}
}

// TestCanaries: whatever a provider echoes, and wherever a recipe puts a secret, no error shows
// it.
func TestCanaries(t *testing.T) {
	encoded := []string{
		adminCanary, url.QueryEscape(adminCanary), strings.ToLower(url.QueryEscape(adminCanary)),
		url.PathEscape(adminCanary),
		base64.StdEncoding.EncodeToString([]byte(adminCanary)),
		strings.ReplaceAll(url.QueryEscape(adminCanary), "+", "%20"),
		strings.ReplaceAll(adminCanary, "/", `\/`), "hashed-" + strings.ToUpper(adminCanary), "key-canary-0123",
	}
	silent := func(what string, err error) {
		t.Helper()
		if err == nil {
			t.Fatalf("%s: succeeded", what)
		}
		for _, text := range []string{err.Error(), fmt.Sprintf("%+v", err), fmt.Sprintf("%#v", err),
			fault.Message(err)} {
			for _, canary := range encoded {
				if strings.Contains(text, canary) {
					t.Errorf("%s: %q shows %q", what, text, canary)
				}
			}
		}
	}
	texts := map[string]string{
		"body": minimal(`{ t = admin.token, u = "hashed-${upper(admin.token)}" }`),
		"query": strings.Replace(minimal("{}"), "json = {}",
			`query = { t = admin.token, u = "hashed-${upper(admin.token)}" }`, 1),
		"path": strings.Replace(minimal(`{ u = "hashed-${upper(admin.token)}" }`), `/keys"`,
			`/keys/${urlencode(admin.token)}"`, 1),
		"basic": strings.Replace(minimal(`{ u = "hashed-${upper(admin.token)}" }`), "token = admin.token",
			"username = \"api\"\npassword = admin.token\n", 1),
	}
	const basic = "YXBpOmFkbWlu" // the beginning of base64("api:admin…")
	texts["basic"] = strings.Replace(texts["basic"], `auth "bearer" { username`, "auth \"basic\" {\n username", 1)
	for where, text := range texts {
		for _, status := range []int{400, 500, 201} {
			s := plain(t, text, func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(status)
				body, _ := io.ReadAll(r.Body)
				fmt.Fprintf(w, `{"error": "%s %s %s %s"`+"\n", strings.Join(encoded[:len(encoded)-2], " "), r.Header,
					r.RequestURI, body)
			})
			_, err := s.Create(t.Context(), order)
			silent(fmt.Sprintf("%s, %d", where, status), err)
			if strings.Contains(err.Error(), basic) {
				t.Errorf("%s, %d: %v shows a password", where, status, err)
			}
		}
		s := plain(t, text, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
		_, err := s.Create(t.Context(), order)
		silent(where+", cut", err)
	}
	broken := strings.Replace(minimal("{}"), `url = "https://api.example.com/keys"`,
		`url = "https://api.example.com/%zz${admin.token}"`, 1)
	_, err := plain(t, strings.Replace(broken, "${admin.token}", `${urlencode(lower(admin.token))}`, 1),
		nil).Create(t.Context(), order)
	silent("a bad url", err)

	// A new key must not be quoted from a reply that is not understood.
	for _, reply := range []string{
		`{"key": "key-canary-0123"}`, `{"id": {"x": "key-canary-0123"}, "key": "key-canary-0123"}`,
		`{"id": "key-canary-0123\u0000", "key": "key-canary-0123"}`,
		`"key-canary-0123"`, `key-canary-0123`, `{"id": "a", "key": ["key-canary-0123"]}`,
	} {
		s := plain(t, minimal("{}"), func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, reply) })
		_, err := s.Create(t.Context(), order)
		silent(reply, err)
	}
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(400)
		fmt.Fprintf(w, "wrong key %s", r.Header.Get("Authorization"))
	})
	silent("verifying", s.Verify(t.Context(),
		rotate.Credential{ID: "a", Secret: map[string]secret.Value{"api_key": secret.Text("key-canary-0123")}}))
}

// TestQuotes: an operator sees why a provider refused.
func TestQuotes(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(422)
		io.WriteString(w, `{"message": "label is not unique"}`)
	})
	_, err := s.Create(t.Context(), order)
	if !strings.Contains(err.Error(), "label is not unique") || strings.Contains(fault.Message(err), "label") {
		t.Errorf("the log says %q, the client reads %q; want the provider's words in the log only", err,
			fault.Message(err))
	}
}

func TestOpenRefuses(t *testing.T) {
	d := demo(t)
	right := func() rotation.OpenConfig {
		return rotation.OpenConfig{
			Definition: d,
			Params:     map[string]json.RawMessage{"url": json.RawMessage(`"http://127.0.0.1:1"`)},
			Admin:      map[string]secret.Value{"token": secret.Text("x")},
		}
	}
	for _, c := range []struct {
		change func(*rotation.OpenConfig)
		kind   fault.Kind
		want   string
	}{
		{func(c *rotation.OpenConfig) { c.Params = nil }, fault.Invalid, "params.url is required"},
		{func(c *rotation.OpenConfig) { c.Params["url"] = json.RawMessage(`null`) }, fault.Invalid,
			"params.url must be a string"},
		{func(c *rotation.OpenConfig) { c.Params["url"] = json.RawMessage(`"http://169.254.169.254"`) }, fault.Invalid,
			"plain http://"},
		{func(c *rotation.OpenConfig) { c.Params["url"] = json.RawMessage(`"http://127.0.0.1:1/"`) }, fault.Invalid,
			"refused"},
		{func(c *rotation.OpenConfig) { c.Params["ur"] = json.RawMessage(`1`) }, fault.Invalid,
			"params.ur is not known; known are: url"},
		{func(c *rotation.OpenConfig) { c.Admin = nil }, fault.Invalid, "admin.token is required"},
		{func(c *rotation.OpenConfig) { c.Admin["tokn"] = secret.Text("x") }, fault.Invalid,
			"admin.tokn is not known"},
		{func(c *rotation.OpenConfig) { c.Definition.Hash = "sha256:0" }, fault.Held, "has changed since"},
		{func(c *rotation.OpenConfig) { c.Definition.Source = append(d.Source, '#') }, fault.Held,
			"has changed since"},
		{func(c *rotation.OpenConfig) { c.Definition.Name = "other" }, fault.Invalid, "not \"other\""},
		{func(c *rotation.OpenConfig) { c.Definition = rotation.Definition{Name: "../recipes"} }, fault.NotFound,
			"there is no recipe"},
	} {
		config := right()
		c.change(&config)
		if _, err := Provider.Open(config); !fault.Is(err, c.kind) || !strings.Contains(fault.Message(err), c.want) {
			t.Errorf("got %v, want %v with %q", err, c.kind, c.want)
		}
	}
	restored := right()
	restored.Definition = rotation.Definition{Name: d.Name, Hash: d.Hash}
	if _, err := Provider.Open(restored); err != nil {
		t.Errorf("restored from name and hash: %v", err)
	}
	loose := right()
	loose.Definition, _ = Provider.Parse("x", []byte(strings.Replace(string(d.Source), "admin \"token\"", `param "count" {
  description = "d"
  type = number
  default = 1
}
param "tags" {
  description = "d"
  type = list(string)
}
admin "token"`, 1)))
	loose.Params["count"], loose.Params["tags"] = json.RawMessage(`"7"`), json.RawMessage(`"[\"a\",\"b\"]"`)
	if _, err := Provider.Open(loose); err != nil {
		t.Errorf("numbers and lists as text: %v", err)
	}
	for _, tags := range []string{`null`, `["a",null]`, `"[null]"`, `{"a":1}`, `"x"`} {
		loose.Params["tags"] = json.RawMessage(tags)
		if _, err := Provider.Open(loose); !fault.Is(err, fault.Invalid) ||
			!strings.Contains(fault.Message(err), "params.tags must be") {
			t.Errorf("tags %s: %v", tags, err)
		}
	}
	for room, fine := range map[int]bool{0: true, 1: false} {
		loose.Params["tags"] = json.RawMessage(`["` +
			strings.Repeat("a", maxParams+room-len(`[""]`+`"7"`+`"http://127.0.0.1:1"`)) + `"]`)
		if _, err := Provider.Open(loose); (err == nil) != fine || !fine &&
			!strings.Contains(fault.Message(err), "params are larger than 16 KiB together") {
			t.Errorf("%d bytes more than params may have: %v", room, err)
		}
	}
	loose.Params["tags"], loose.Params["count"] = json.RawMessage(`[]`), json.RawMessage(`"1e999999999"`)
	if _, err := Provider.Open(loose); err == nil {
		t.Error("a parameter of a gigabyte of digits was taken")
	}
}

func TestList(t *testing.T) {
	text := minimal(`{ n = marker }`) + `
list {
  url = "https://api.example.com/keys"
  query = { p = page }
  items = response.json
  where = item.state != "revoked"
  id = item.id
  label = lookup(item, "name", null)
  created = fromunix(item.at)
  last_used = try(item.used, null)
  disabled = item.state == "off"
  next = try(link(response.headers["link"], "next"), null)
}
`
	pages := map[string]string{
		"":                       `[{"id": 1, "name": "kt:t1/demo/1/1", "at": 1700000000, "state": "on"}, {"id": 2, "at": 1, "state": "revoked"}]`,
		"https://x/?a=b,c&d=%20": `[{"id": 1, "name": "twice", "at": 1, "state": "on"}, {"id": "z", "at": 1.5, "state": "off", "used": "2026-01-02T03:04:05+01:00"}]`,
	}
	s := plain(t, text, func(w http.ResponseWriter, r *http.Request) {
		p := r.URL.Query().Get("p")
		if p == "" {
			w.Header().Set("Link",
				`<https://x/?0>; rel="prev", <https://x/?a=b,c&d=%20>; title="a, b"; rel="last next"`)
		}
		io.WriteString(w, pages[p])
	})
	got, err := s.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []rotate.Listed{
		{ID: "1", Label: "kt:t1/demo/1/1", Marker: order.Marker, Created: time.Unix(1700000000, 0).UTC()},
		{ID: "z", Created: time.Unix(1, 0).UTC(), LastUsed: time.Date(2026, 1, 2, 2, 4, 5, 0, time.UTC),
			Disabled: true},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if used, err := s.LastUsed(t.Context(), "z"); err != nil || !used.Equal(want[1].LastUsed) {
		t.Errorf("last use from the list: %v, %v", used, err)
	}
	endless := plain(t, text, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", fmt.Sprintf("<https://x/%s>; rel=next", r.URL.Query().Get("p")))
		io.WriteString(w, `[]`)
	})
	if _, err := endless.List(t.Context()); rotate.OutcomeOf(err) != rotate.Permanent {
		t.Errorf("an endless list: %v", err)
	}
	for _, page := range []string{`{}`, `null`, `[{}]`, `[{"id":"","at":1,"state":"on"}]`,
		`[{"id":"a","at":"x","state":"on"}]`, `[1]`, `nonsense`, `[{"id":"a","at":1e99,"state":"on"}]`} {
		broken := plain(t, text, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, page) })
		if keys, err := broken.List(t.Context()); rotate.OutcomeOf(err) != rotate.Permanent || keys != nil {
			t.Errorf("page %s: %v, %v; want permanent and nothing", page, keys, err)
		}
	}
}

// TestPaging has the ways in which providers divide lists.
func TestPaging(t *testing.T) {
	for name, c := range map[string]struct{ block, reply string }{
		"cursor": {`url = "https://api.example.com/keys"
  query = { after = page }
  next = response.json.has_more ? response.json.last_id : null`, `{"items":[{"id":"%d"}],"has_more":%v,"last_id":"c%[3]d"}`},
		"number": {`url = "https://api.example.com/keys"
  query = { page = coalesce(page, 1) }
  next = response.json.has_more ? tonumber(coalesce(page, 1)) + 1 : null`, `{"items":[{"id":"%d"}],"has_more":%v,"x":%d}`},
		"address": {`url = coalesce(page, "https://api.example.com/keys")
  next = try(response.json.next, null)`, `{"items":[{"id":"%d"}],"has_more":%v,"next":"http://127.0.0.1/keys?%d"}`},
	} {
		var asked []string
		text := minimal("{}") + "list {\n" + c.block + "\nitems = response.json.items\nid = item.id\n}\n"
		s := plain(t, text, func(w http.ResponseWriter, r *http.Request) {
			asked = append(asked, r.URL.RawQuery)
			reply := fmt.Sprintf(c.reply, len(asked), len(asked) < 3, len(asked))
			if len(asked) == 3 {
				reply = strings.Replace(reply, `"next"`, `"none"`, 1)
			}
			io.WriteString(w, reply)
		})
		keys, err := s.List(t.Context())
		if err != nil || len(keys) != 3 {
			t.Errorf("%s: %d keys, %v; asked %q", name, len(keys), err, asked)
		}
		want := map[string][]string{"cursor": {"", "after=c1", "after=c2"}, "number": {"page=1", "page=2", "page=3"},
			"address": {"", "1", "2"}}[name]
		if diff := cmp.Diff(want, asked); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
