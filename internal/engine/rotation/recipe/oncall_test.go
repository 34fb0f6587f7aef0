package recipe

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/internal/engine/rotation"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
)

// TestHostsThatNoURLReaches: a URL that no call could be made to is refused when the recipe is written, or when it is bound to
// parameters, and the error has the form that is right.
func TestHostsThatNoURLReaches(t *testing.T) {
	at := func(hosts, url string) string {
		return strings.NewReplacer(`["api.example.com"]`, hosts, "https://api.example.com", url).Replace(minimal("{}"))
	}
	for _, c := range []struct{ hosts, url, want string }{
		{`["127.0.0.1:8410"]`, "http://127.0.0.1:8410", `write "http://127.0.0.1:8410" in hosts`},
		{`["api.example.com"]`, "https://api.example.org", `leads to "https://api.example.org:443", and hosts allows ["https://api.example.com:443"]`},
		{`["api.example.com"]`, "api.example.com", `that of create begins with "api.example.com/`},
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
		`127.0.0.1:8300`:         `begins with "127.0.0.1:8300/v1/keys", which is no URL`,
		`http://127.0.0.1:8300`:  "",
		`https://127.0.0.1:8300`: "",
	} {
		param, _ := json.Marshal(url)
		_, err := Provider.Open(rotation.OpenConfig{
			Definition: demo(t), Params: map[string]json.RawMessage{"url": param}, Admin: map[string]secret.Value{"token": secret.Text("x")},
		})
		if got := fault.Message(err); want == "" && err != nil || !strings.Contains(got, want) {
			t.Errorf("param url %s: %q, want %q", url, got, want)
		}
	}
}
