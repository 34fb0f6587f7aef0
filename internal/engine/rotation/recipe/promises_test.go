package recipe

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/engine/rotation"
	"github.com/keyturn/keyturn/internal/engine/rotation/rotationtest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/secret"
)

// recordingSource opens a recipe's text, as [plain] does, and records each exchange.
func recordingSource(t *testing.T, text string, dial dialFunc, made *[]rotate.Exchange) rotation.Source {
	t.Helper()
	text = strings.ReplaceAll(strings.ReplaceAll(text, `["api.example.com"]`, `["http://127.0.0.1"]`),
		"https://api.example.com", "http://127.0.0.1")
	d, err := Provider.Parse("x.hcl", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	s, err := Provider.Open(rotation.OpenConfig{
		Definition: d, Admin: map[string]secret.Value{"token": secret.Text(adminCanary)}, Dial: dial,
		OnExchange: func(x rotate.Exchange) { *made = append(*made, x) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestExchanges: its reply, or why there is none. A creating call may answer with a new
// secret in any field, so that only those which say why are shown of it.
func TestExchanges(t *testing.T) {
	var made []rotate.Exchange
	cut := false
	s := recordingSource(t, minimal("{}"),
		rotationtest.Pipe(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if cut {
				panic(http.ErrAbortHandler)
			}
			w.WriteHeader(500)
			io.WriteString(w, `{"error": "full", "value": "sesame"}`)
		})), &made)
	_, _ = s.Create(t.Context(), order)
	_ = s.Retire(t.Context(), "a")
	cut = true
	_ = s.Retire(t.Context(), "a")
	if len(made) != 3 {
		t.Fatalf("%d exchanges, want 3: %+v", len(made), made)
	}
	for i, want := range []rotate.Exchange{
		{Step: "create", Method: "POST", Path: "/keys", Status: 500, Reply: `{"error": "full", "value": "[text]"}`},
		{Step: "retire", Method: "DELETE", Path: "/keys/a", Status: 500,
			Reply: `{"error": "full", "value": "sesame"}`},
		{Step: "retire", Method: "DELETE", Path: "/keys/a", Error: "reply is incomplete"},
	} {
		x := made[i]
		if x.Step != want.Step || x.Method != want.Method || x.Path != want.Path || x.Status != want.Status ||
			x.Reply != want.Reply {
			t.Errorf("request %d: got %+v, want %+v", i, x, want)
		}
		if (x.Error == "") != (want.Error == "") || !strings.Contains(x.Error, want.Error) {
			t.Errorf("request %d: got the error %q, want %q", i, x.Error, want.Error)
		}
	}
}

// TestStatusOfACutReply counts where it says that the call was refused.
func TestStatusOfACutReply(t *testing.T) {
	for status, want := range map[int]rotate.Outcome{201: rotate.Unknown, 400: rotate.Permanent, 429: rotate.Transient,
		500: rotate.Unknown} {
		s := plain(t, minimal("{}"), func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "100")
			w.WriteHeader(status)
			io.WriteString(w, `{"error":`)
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		})
		if _, err := s.Create(t.Context(), order); rotate.OutcomeOf(err) != want {
			t.Errorf("status %d, and a reply that is cut: %v (%v), want %v", status, rotate.OutcomeOf(err), err, want)
		}
	}
}

// TestWhyThereIsNoReply: each cause has its words and its outcome.
func TestWhyThereIsNoReply(t *testing.T) {
	refused := func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	silent := func(context.Context, string, string) (net.Conn, error) { // net/http lets it go on behind the request
		nap(time.Hour)
		return nil, io.EOF
	}
	odd := func(context.Context, string, string) (net.Conn, error) { return nil, io.ErrNoProgress }
	hangs := func(t *testing.T) dialFunc {
		return rotationtest.Pipe(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { nap(time.Hour) }))
	}
	for want, tt := range map[string]struct {
		dial    func(t *testing.T) dialFunc
		outcome rotate.Outcome
	}{
		"the connection to 127.0.0.1 was refused": {func(*testing.T) dialFunc { return refused }, rotate.Transient},
		"no connection to 127.0.0.1 within ":      {func(*testing.T) dialFunc { return silent }, rotate.Transient},
		"the provider cannot be reached":          {func(*testing.T) dialFunc { return odd }, rotate.Transient},
		"127.0.0.1 did not answer within ":        {hangs, rotate.Unknown},
	} {
		synctest.Test(t, func(t *testing.T) {
			var made []rotate.Exchange
			_, err := recordingSource(t, minimal("{}"), tt.dial(t), &made).Create(t.Context(), order)
			if rotate.OutcomeOf(err) != tt.outcome || !strings.Contains(fault.Message(err), want) {
				t.Errorf("%v, %q; want %v with %q", rotate.OutcomeOf(err), fault.Message(err), tt.outcome, want)
			}
			if len(made) != 1 || time.Duration(made[0].Took) > time.Hour ||
				want == "127.0.0.1 did not answer within " && made[0].Took == 0 {
				t.Errorf("exchanges: %+v", made)
			}
			nap(2 * time.Hour)
		})
	}
}

// nap sleeps, in a bubble.
func nap(d time.Duration) { time.Sleep(d) }

// TestExchangeShowsTheRequest: names of parameters without values, headers without credentials,
// the body without secrets.
func TestExchangeShowsTheRequest(t *testing.T) {
	var made []rotate.Exchange
	text := strings.Replace(minimal(`{ name = marker, t = admin.token }`), "  retry = ", "  query = { b = \"two\", "+
		"a = admin.token }\n  headers = { \"X-Version\" = \"7\", \"X-Token\" = admin.token }\n  retry = ", 1)
	s := recordingSource(t, text,
		rotationtest.Pipe(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(500) })),
		&made)
	_, _ = s.Create(t.Context(), order)
	if len(made) != 1 {
		t.Fatalf("%d exchanges", len(made))
	}
	x := made[0]
	if strings.Join(x.Query, " ") != "a b" {
		t.Errorf("parameters %q", x.Query)
	}
	headers := strings.Join(x.Headers, "\n")
	if !strings.Contains(headers, "Authorization: Bearer [secret]") || !strings.Contains(headers, "X-Version: 7") ||
		!strings.Contains(headers, "X-Token: [secret]") {
		t.Errorf("headers %q", x.Headers)
	}
	if !strings.Contains(x.Body, order.Marker.String()) || !strings.Contains(x.Body, "[secret]") {
		t.Errorf("body %q", x.Body)
	}
	if strings.Contains(headers+x.Body, adminCanary) {
		t.Errorf("the admin's token is shown: %+v", x)
	}
}

// TestWhatFailuresSay: the status and what was wanted, the beginning of a refusal, and nothing of
// a reply that succeeded.
func TestWhatFailuresSay(t *testing.T) {
	answer := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(status); io.WriteString(w, body) }
	}
	retire := func(h http.HandlerFunc, block string) (*rotate.Failure, string) {
		t.Helper()
		text := strings.Replace(minimal("{}"), "  method = \"DELETE\"\n", "  method = \"DELETE\"\n"+block, 1)
		err := plain(t, text, h).Retire(t.Context(), "a")
		f, ok := err.(*rotate.Failure)
		if !ok {
			t.Fatalf("%s: %v", block, err)
		}
		return f, err.Error()
	}
	f, text := retire(answer(422, strings.Repeat("x", 3*maxQuote)), "  expect { status = [200, 204] }\n")
	if f.Status != 422 || !strings.Contains(text, "answered 422, want 200 or 204") || !strings.Contains(text, "…") ||
		strings.Contains(text, strings.Repeat("x", maxQuote+1)) {
		t.Errorf("a long refusal: %d, %s", f.Status, text)
	}
	if f, text = retire(answer(302, ""), ""); !strings.Contains(text, "redirects are not followed") ||
		f.Status != 302 {
		t.Errorf("a redirect: %d, %s", f.Status, text)
	}
	if _, text = retire(answer(200, "x"+strings.Repeat("y", maxReply)), ""); !strings.Contains(text,
		"let the recipe ask for less") {
		t.Errorf("a huge reply: %s", text)
	}
	if f, text = retire(answer(200, `"canary-reply"`),
		"  expect {\n    status = [200]\n    when = response.status == 201\n  }\n"); !strings.Contains(text,
		"does not meet the recipe's condition") || strings.Contains(text, "canary-reply") {
		t.Errorf("a reply that is not wanted: %d, %s", f.Status, text)
	}
	// A condition that is null is not met.
	if f, text = retire(answer(422, `{}`),
		"  fail \"transient\" { when = try(response.json.none, null) }\n"); f.Outcome != rotate.Permanent {
		t.Errorf("a condition that is null: %v, %s", f.Outcome, text)
	}
}

// TestPartsThatCannotBeMade: a request whose parameters come to nothing that can be sent is not
// sent without them.
func TestPartsThatCannotBeMade(t *testing.T) {
	for _, query := range []string{`jsondecode(admin.token)`, `jsondecode("[1, \"${admin.token}\"]")`,
		`jsondecode("{\"a\": {\"b\": \"${admin.token}\"}}")`, `jsondecode("null")`} {
		text := strings.Replace(minimal("{}"), "  retry = ", "  query = "+query+"\n  retry = ", 1)
		s := plain(t, text, func(http.ResponseWriter, *http.Request) { t.Errorf("%s: called", query) })
		if _, err := s.Create(t.Context(), order); rotate.OutcomeOf(err) != rotate.Permanent ||
			strings.Contains(err.Error(), adminCanary) {
			t.Errorf("%s: %v", query, err)
		}
	}
	// An exchange hides credentials, also from a redactor that does not know them.
	var made []rotate.Exchange
	text := strings.Replace(minimal("{}"), `auth "bearer" { token = admin.token }`,
		`auth "header" { headers = { Authorization = "Basic bm8tc2VjcmV0" } }`, 1)
	s := recordingSource(t, text,
		rotationtest.Pipe(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(500) })),
		&made)
	_, _ = s.Create(t.Context(), order)
	if len(made) != 1 || !strings.Contains(strings.Join(made[0].Headers, "\n"), "Authorization: Basic [secret]") {
		t.Errorf("exchanges: %+v", made)
	}
}

// TestEchoedSecrets: a provider that refuses a call, and echoes what it was sent, shows in no
// error the admin's credential, nor what the recipe made of it.
func TestEchoedSecrets(t *testing.T) {
	for _, sent := range []string{`admin.token`, `"hashed-${upper(admin.token)}"`,
		`base64encode("x:${admin.token}")`} {
		text := strings.Replace(minimal("{}"), "  method = \"DELETE\"\n",
			"  method = \"POST\"\n  json = { sent = "+sent+" }\n", 1)
		echo := ""
		s := plain(t, text, func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			echo = strings.TrimSuffix(strings.TrimPrefix(string(body), `{"sent":"`), `"}`)
			w.WriteHeader(422)
			io.WriteString(w, "you sent "+echo)
		})
		err := s.Retire(t.Context(), "a")
		if err == nil || !strings.Contains(err.Error(), "you sent") || echo == "" ||
			strings.Contains(err.Error(), echo) {
			t.Errorf("%s was sent as %q: %v", sent, echo, err)
		}
	}
}
