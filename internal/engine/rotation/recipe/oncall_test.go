package recipe

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/internal/engine/rotation"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/secret"
)

// TestHostsThatNoURLReaches: a URL that no call could be made to is refused when the recipe is
// written, or when it is bound to parameters, and the error has the form that is right.
func TestHostsThatNoURLReaches(t *testing.T) {
	at := func(hosts, url string) string {
		return strings.NewReplacer(`["api.example.com"]`, hosts, "https://api.example.com", url).Replace(minimal("{}"))
	}
	for _, c := range []struct{ hosts, url, want string }{
		{`["127.0.0.1:8410"]`, "http://127.0.0.1:8410", `write "http://127.0.0.1:8410" in hosts`},
		{`["api.example.com"]`, "https://api.example.org",
			`leads to "https://api.example.org:443", but hosts allows only ["https://api.example.com:443"]`},
		{`["api.example.com"]`, "api.example.com", `the url of create begins with "api.example.com/`},
		{`["http://api.example.com"]`, "http://api.example.com", "plain http:// is only for loopback addresses"},
		{`["http://127.0.0.1:8410"]`, "http://127.0.0.1:8410", ""},
		{`["api.example.com:443"]`, "https://api.example.com", ""},
	} {
		_, err := parse("x", []byte(at(c.hosts, c.url)))
		if got := fault.Message(err); c.want == "" && err != nil || !strings.Contains(got, c.want) {
			t.Errorf("hosts %s, url %s: %q, want %q", c.hosts, c.url, got, c.want)
		}
	}
	for url, want := range map[string]string{
		`127.0.0.1:8300`:         `begins with "127.0.0.1:8300/v1/keys", which is not a URL`,
		`http://127.0.0.1:8300`:  "",
		`https://127.0.0.1:8300`: "",
	} {
		param, _ := json.Marshal(url)
		_, err := Provider.Open(rotation.OpenConfig{
			Definition: demo(t), Params: map[string]json.RawMessage{"url": param},
			Admin: map[string]secret.Value{"token": secret.Text("x")},
		})
		if got := fault.Message(err); want == "" && err != nil || !strings.Contains(got, want) {
			t.Errorf("param url %s: %q, want %q", url, got, want)
		}
	}
}

// TestUnknownFunctionInACondition: a condition that can never be met, because it names a function
// that there is not, is refused when the recipe is written, wherever it stands.
func TestUnknownFunctionInACondition(t *testing.T) {
	for _, when := range []string{`strcontains("a", "b")`, `response.status == 403 && strcontains("a", "b")`,
		`response.status == 403 || !strcontains("a", "b")`} {
		text := strings.Replace(minimal("{}"), "  retry = ", "  fail \"exhausted\" { when = "+when+" }\n  retry = ", 1)
		if _, err := parse("x", []byte(text)); !strings.Contains(fault.Message(err), "strcontains") {
			t.Errorf("%s: %v", when, err)
		}
	}
}

// TestVerifyOfSomebodysKey: of a key that somebody else has created its secret alone is known. A
// recipe that compares the provider's answer with the key's id takes that from the answer; what
// else it wants holds, and a key that the provider refuses is refused.
func TestVerifyOfSomebodysKey(t *testing.T) {
	verify := func(when string) string {
		return minimal(`{ label = marker }`) + `verify {
  url = "https://api.example.com/me"
  auth "bearer" { token = key.api_key }
  expect { when = ` + when + ` }
}
`
	}
	for name, tt := range map[string]struct {
		text   string
		status int
		reply  string
		want   string // outcome; "": it works
	}{
		"its id":              {verify("response.json.id == key.id"), 200, `{"id":"ak_7"}`, ""},
		"the other way round": {verify("key.id == response.json.id"), 200, `{"id":"ak_7"}`, ""},
		"its id, and more": {verify("response.json.ok && response.json.id == key.id"), 200,
			`{"id":"ak_7","ok":true}`, ""},
		"not what else counts": {verify("response.json.ok && response.json.id == key.id"), 200,
			`{"id":"ak_7","ok":false}`, "permanent"},
		"no id in the answer": {verify("response.json.id == key.id"), 200, `{}`, "permanent"},
		"dead":                {verify("response.json.id == key.id"), 401, `{}`, "rejected"},
		"by its id alone": {strings.Replace(verify("true"), "com/me", "com/keys/${urlencode(key.id)}", 1), 200,
			`{}`, "untested"},
	} {
		s := plain(t, tt.text, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(tt.status)
			_, _ = io.WriteString(w, tt.reply)
		})
		err := s.Verify(t.Context(), rotate.Credential{Secret: map[string]secret.Value{"api_key": secret.Text("k")}})
		got := ""
		if err != nil {
			got = rotate.OutcomeOf(err).String()
		}
		if got != tt.want {
			t.Errorf("%s: %q (%v), want %q", name, got, err, tt.want)
		}
	}
	s := plain(t, verify("response.json.id == key.id"),
		func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"id":"ak_7"}`) })
	if err := s.Verify(t.Context(),
		rotate.Credential{ID: "ak_1", Secret: map[string]secret.Value{"api_key": secret.Text("k")}}); rotate.OutcomeOf(
		err) != rotate.Permanent {
		t.Errorf("the provider names another key than the one that was created: %v", err)
	}
}

// TestHostsOfEachBlock: a host that is not declared is found in the URL of whichever block, and
// one that only the call knows is not complained of.
func TestHostsOfEachBlock(t *testing.T) {
	const evil = "https://evil.example.com"
	verify := "verify {\n  proof = \"management\"\n  url = \"%s/me\"\n}\n"
	list := "list {\n  url = \"%s/keys\"\n  items = response.json.keys\n  id = item.id\n}\n"
	used := "last_used {\n  url = \"%s/used\"\n  value = response.json.at\n}\n"
	disable := "disable {\n  method = \"POST\"\n  url = \"%s/keys/${urlencode(key.id)}/off\"\n}\n"
	all := func(of string) string {
		text := minimal("{}")
		for name, block := range map[string]string{"verify": verify, "list": list, "last_used": used,
			"disable": disable} {
			host := "https://api.example.com"
			if name == of {
				host = evil
			}
			text += strings.ReplaceAll(block, "%s", host)
		}
		return text
	}
	if _, err := parse("x", []byte(all(""))); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"verify", "list", "last_used", "disable"} {
		if _, err := parse("x", []byte(all(name))); !strings.Contains(fault.Message(err),
			"the url of "+name+" leads to") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for url, want := range map[string]string{
		`"https://api.example.com"`:                "",
		`"https://api.example.com?x=1"`:            "",
		`"https://evil.example.com?x=1"`:           "leads to",
		`"https://evil.example.com"`:               "leads to",
		`"https://evil.example.com${admin.token}"`: "", // more of the host may come with the call
		`"keys"`: "which is not a URL",
	} {
		_, err := parse("x",
			[]byte(strings.Replace(minimal("{}"), `url = "https://api.example.com/keys"`, "url = "+url, 1)))
		if got := fault.Message(err); want == "" && strings.Contains(got, "leads to") || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", url, got, want)
		}
	}
}
