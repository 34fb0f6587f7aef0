package recipe

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
)

// polled is [minimal] with an operation.
func polled(poll string) string {
	return strings.Replace(minimal("{ name = marker }"), "  id = response.json.id", `  poll {
    url      = "https://api.example.com/operations/${urlencode(created.json.op)}"
    interval = "2s"
    within   = "20s"
`+poll+`
  }
  id = response.json.id`, 1)
}

// TestPoll: what the replies about an operation say of the key that it creates. Whatever leaves
// that open is Unknown, after a limited time.
func TestPoll(t *testing.T) {
	const (
		until = "until = response.json.done\n"
		fails = until + "fail \"permanent\" {\n when = response.status == 422\n}\nexpect {\n status = [200]\n " +
			"when = try(response.json.error, null) == null\n}\n" +
			"fail \"exhausted\" {\n when = response.json.error == \"full\"\n}"
		done = `200 {"done": true, "id": "1", "key": "k"}`
		wait = `200 {"done": false}`
	)
	type row struct {
		poll, created string
		replies       []string // the last one is repeated
		want          rotate.Outcome
		id            string
		polls         int
		took          time.Duration
	}
	const created, none, u, s = `201 {"op": "o/1"}`, rotate.Outcome(99), rotate.Unknown, time.Second // none: it succeeds
	for name, tt := range map[string]row{
		"at once":               {until, created, []string{done}, none, "1", 1, 0},
		"at the third time":     {until, created, []string{wait, wait, done}, none, "1", 3, 4 * s},
		"after failures":        {until, created, []string{"500", "429", "cut", "404", done}, none, "1", 5, 8 * s},
		"after a later time":    {until, created, []string{"503 retry", done}, none, "1", 2, 7 * s},
		"never":                 {until, created, []string{wait}, u, "", 10, 20 * s},
		"never answered":        {until, created, []string{"500"}, u, "", 10, 20 * s},
		"no state in it":        {until, created, []string{"200 {}"}, u, "", 10, 20 * s},
		"failed":                {fails, created, []string{wait, "422"}, rotate.Permanent, "", 2, 2 * s},
		"at the limit":          {fails, created, []string{`200 {"error": "full"}`}, rotate.Exhausted, "", 1, 0},
		"an error of no class":  {fails, created, []string{`200 {"error": "x"}`}, u, "", 10, 20 * s},
		"without a secret":      {until, created, []string{`200 {"done": true, "id": "1"}`}, u, "1", 1, 0},
		"without an id":         {until, created, []string{`200 {"done": true, "key": "k"}`}, u, "", 1, 0},
		"no operation":          {until, `201 {}`, []string{done}, u, "", 0, 0},
		"create was refused":    {until, `400 {}`, []string{done}, rotate.Permanent, "", 0, 0},
		"a reply that is large": {until, created, []string{"large"}, u, "", 10, 20 * s},
	} {
		synctest.Test(t, func(t *testing.T) {
			replies, polls := tt.replies, 0
			opened := plain(t, polled(tt.poll), func(w http.ResponseWriter, r *http.Request) {
				reply := tt.created
				if r.Method == http.MethodGet {
					if r.URL.EscapedPath() != "/operations/o%2F1" {
						t.Errorf("%s: %s", name, r.URL.EscapedPath())
					}
					polls++
					reply = replies[0]
					replies = replies[min(1, len(replies)-1):]
				}
				status, body, _ := strings.Cut(reply, " ")
				switch status {
				case "cut":
					panic(http.ErrAbortHandler)
				case "large":
					status, body = "200", strings.Repeat("x", maxReply+1)
				}
				if body == "retry" {
					w.Header().Set("Retry-After", "7")
				}
				w.WriteHeader(map[string]int{"200": 200, "201": 201, "400": 400, "404": 404, "422": 422, "429": 429,
					"500": 500, "503": 503}[status])
				io.WriteString(w, body)
			})
			start := time.Now()
			c, err := opened.Create(t.Context(), order)
			took, got, id := time.Since(start), none, c.ID
			if f, ok := err.(*rotate.Failure); ok {
				got, id = f.Outcome, f.ID
			}
			if got != tt.want || id != tt.id || polls != tt.polls || took != tt.took {
				t.Errorf("%s: got %v (%v), id %q, %d polls in %v; want %v, %q, %d in %v", name, got, err, id, polls,
					took, tt.want, tt.id, tt.polls, tt.took)
			}
		})
	}
}

// TestPollIsInterrupted: a server that stops does not wait for an operation to end.
func TestPollIsInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var polls atomic.Int32
		s := plain(t, polled("until = response.json.done"), func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet && polls.Add(1) == 2 {
				cancel()
			}
			w.WriteHeader(map[string]int{"GET": 200, "POST": 201}[r.Method])
			io.WriteString(w, `{"op": "1", "done": false}`)
		})
		start := time.Now()
		_, err := s.Create(ctx, order)
		took := time.Since(start)
		if rotate.OutcomeOf(err) != rotate.Unknown || took > 3*time.Second || polls.Load() != 2 {
			t.Errorf("%v after %v and %d polls; want it unknown at once", err, took, polls.Load())
		}
	})
}

// TestLongestCreate: the time that the engine gives a creating call holds all of its requests.
func TestLongestCreate(t *testing.T) {
	for _, tt := range []struct {
		text string
		want time.Duration
	}{
		{minimal("{}"), 30 * time.Second}, {polled("until = true"), 50 * time.Second},
		{strings.Replace(polled("until = true"), "create {", "create {\ntimeout = \"1m\"\nread {\n"+
			"url = \"https://api.example.com\"\nvalue = 1\ntimeout = \"10s\"\n}\nheaders = { a = read }", 1),
			90 * time.Second},
	} {
		d, err := Provider.Parse("x.hcl", []byte(tt.text))
		if err != nil || d.Can.Timeout != tt.want {
			t.Errorf("%v, %v; want %v", d.Can.Timeout, err, tt.want)
		}
	}
}

// TestRead: the request that a call reads first. If it fails, the call is not made.
func TestRead(t *testing.T) {
	text := strings.Replace(minimal("{ name = marker, scopes = read.scopes }"), "create {\n", `create {
  read {
    url   = "https://api.example.com/keys/${urlencode(current.id)}"
    value = response.json
  }
`, 1)
	for name, tt := range map[string]struct {
		current, reply string
		status         int
		want           rotate.Outcome
		made           int
		says           string
	}{
		"it is read":         {"a/b", `{"scopes": ["x"]}`, 200, rotate.Outcome(99), 1, ""},
		"no current key":     {"", `{}`, 200, rotate.Permanent, 0, "give current_key_id"},
		"not found":          {"a/b", `{}`, 404, rotate.Permanent, 0, `read: the provider answered 404`},
		"busy":               {"a/b", `{}`, 429, rotate.Transient, 0, "answered 429"},
		"broken":             {"a/b", `{}`, 500, rotate.Transient, 0, "answered 500"},
		"what it says lacks": {"a/b", `{}`, 200, rotate.Permanent, 0, "scopes"},
	} {
		made := 0
		s := plain(t, text, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet {
				if r.URL.EscapedPath() != "/keys/a%2Fb" {
					t.Errorf("%s: read %s", name, r.URL.EscapedPath())
				}
				w.WriteHeader(tt.status)
				io.WriteString(w, tt.reply)
				return
			}
			sent, _ := io.ReadAll(r.Body)
			if made++; !strings.Contains(string(sent), `"scopes":["x"]`) {
				t.Errorf("%s: sent %s", name, sent)
			}
			w.WriteHeader(201)
			io.WriteString(w, `{"id": "1", "key": "k"}`)
		})
		_, err := s.Create(t.Context(), rotate.Order{Marker: order.Marker, Current: tt.current})
		got := rotate.Outcome(99)
		if err != nil {
			got = rotate.OutcomeOf(err)
		}
		if got != tt.want || made != tt.made || !strings.Contains(fault.Message(err), tt.says) {
			t.Errorf("%s: got %v (%v) and %d calls, want %v, %q and %d", name, got, err, made, tt.want,
				tt.says, tt.made)
		}
	}
}
