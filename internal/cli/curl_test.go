package cli

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// otherLines are command lines without a path.
var otherLines = []string{
	"read secret/x a=b c=d",
	"write -f sys/x",
	"write secret/x it=it's quote=\"",
	"delete x version=2",
	"read -wrap-ttl=5m x",
	"read -namespace=team x",
	"read -header=X-Extra=yes x",
	"rotate status",
	"rotate overdue -untracked",
	"rotate now -leaked x",
	"recipe list", "recipe show x",
	"login hvs.typed",
	"login -no-store hvs.typed",
	"login -method=userpass username=a password=b",
	"token create -policy=a -ttl=1h", "token create -orphan",
	"token lookup", "token lookup x", "token lookup -accessor x",
	"token renew", "token renew x", "token renew -accessor x",
	"token revoke -self", "token revoke x", "token revoke -accessor x", "token revoke -mode=orphan x",
	"token capabilities x y", "token capabilities -accessor x y",
	"policy list", "secrets list", "auth list", "audit list",
	"unwrap", "unwrap hvs.wrapping",
	"status", "operator init", "operator init -status", "operator unseal aGk=", "operator unseal -reset",
	"operator seal", "operator rotate", "operator key-status", "operator members", "version-history", "plugin list",
	"plugin list -detailed database",
}

// TestCurlLineIsTheRequest checks that the line that -output-curl-string prints sends the same
// request as the command, and that the command then does not send it.
func TestCurlLineIsTheRequest(t *testing.T) {
	lines := slices.Clone(otherLines)
	for _, p := range pathLines {
		lines = append(lines, strings.ReplaceAll(p.line, "@", "a\u00a0b$(touch${IFS}x)!#*"))
	}
	tried := map[string]bool{}
	defer os.Remove(filepath.Join(os.Getenv("HOME"), ".vault-token")) // what login stores
	for _, line := range lines {
		words := strings.Split(line, " ") // a hard space is part of a word
		path, _, err := tree(Env{}).find(words)
		if err != nil {
			t.Fatal(err)
		}
		tried[lineOf("", path)] = true
		wanted, out, code := runAgainstServer(t, words)
		if len(wanted) == 0 {
			t.Fatalf("%s: exit %d, no request\n%s", line, code, out)
		}
		others, out, code := runAgainstServer(t, append(words, "-output-curl-string"))
		got, err := requestOf(t, out)
		if err != nil || code != exitOK || !slices.Contains(wanted, got) {
			t.Errorf("%s: exit %d, %v\n%s\nmeans %s\nbut the command sends\n%s", line, code, err, out, got,
				strings.Join(wanted, "\n"))
		}
		for _, other := range others {
			if !strings.HasPrefix(other, "GET ") || other == got {
				t.Errorf("%s -output-curl-string sends %s", line, other)
			}
		}
	}
	eachCommand(tree(Env{}), "", func(line string, c *command) {
		if c.run != nil && !c.local && !tried[line] {
			t.Errorf("no line calls %q", line)
		}
	})
}

// runAgainstServer runs a line and describes the requests that the server receives.
func runAgainstServer(t *testing.T, words []string) (requests []string, out string, code int) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		requests = append(requests, description(r.Method, r.URL.RequestURI(), r.Header, string(body)))
		switch {
		case strings.HasPrefix(r.URL.Path, "/v1/sys/internal/ui/mounts/secret"):
			io.WriteString(w, `{"data":{"path":"secret/","type":"kv","options":{"version":"2"}}}`)
		case strings.HasPrefix(r.URL.Path, "/v1/sys/internal/ui/mounts/"):
			fmt.Fprintf(w, `{"data":{"path":%q,"type":"kv"}}`,
				strings.TrimPrefix(r.URL.Path, "/v1/sys/internal/ui/mounts/")+"/")
		default:
			io.WriteString(w, `{"data":{"data":{"x":"1"},"metadata":{"version":1}}}`)
		}
	}))
	defer server.Close()
	var stdout bytes.Buffer
	env := map[string]string{"VAULT_ADDR": server.URL, "VAULT_TOKEN": "hvs.held"}
	code = Main(t.Context(), append([]string{"keyturn"}, words...), Env{
		Stdin: strings.NewReader(`path "x" {}`), Stdout: &stdout, Stderr: io.Discard,
		Getenv: func(name string) string { return env[name] },
	})
	return requests, stdout.String(), code
}

// description is the text by which this test compares requests.
func description(method, uri string, header http.Header, body string) string {
	text := method + " " + uri
	for _, name := range []string{"X-Vault-Token", "X-Vault-Wrap-Ttl", "X-Vault-Namespace", "X-Vault-Request",
		"X-Extra", "Content-Type"} {
		if value := header.Get(name); value != "" {
			text += " [" + name + ": " + value + "]"
		}
	}
	return text + " " + body
}

// requestOf describes the request that a curl line sends.
func requestOf(t *testing.T, line string) (string, error) {
	t.Helper()
	words := split(t, strings.TrimSuffix(line, "\n"))
	method, header, body, address := http.MethodGet, http.Header{}, "", ""
	for i := 1; i < len(words); i++ {
		switch words[i] {
		case "-X":
			i++
			method = words[i]
		case "-H":
			i++
			name, value, _ := strings.Cut(words[i], ": ")
			header.Set(name, strings.ReplaceAll(value, "$(keyturn print token)", "hvs.held"))
		case "-d":
			i++
			body = words[i]
		default:
			address = words[i]
		}
	}
	u, err := url.Parse(address)
	if err != nil {
		return "", err
	}
	return description(method, u.RequestURI(), header, body), nil
}

// TestCurlLineConnects checks the options for a socket and for the name in the certificate.
func TestCurlLineConnects(t *testing.T) {
	for _, c := range []struct{ address, flag, want string }{
		{"unix:///run/x.sock", "-field=a", `curl --unix-socket '/run/x.sock' `},
		{"https://10.0.0.1:8200", "-tls-server-name=vault.example",
			`curl --connect-to '::10.0.0.1:8200' -H 'X-Vault-Request: true' -H "X-Vault-Token: $(keyturn print token)" https://vault.example:8200/v1/x`},
		{"https://[::1]", "-tls-server-name=vault.example",
			`curl --connect-to '::[::1]:443' -H 'X-Vault-Request: true' -H "X-Vault-Token: $(keyturn print token)" https://vault.example:443/v1/x`},
		{"https://h:1", "-tls-skip-verify",
			`curl --insecure -H 'X-Vault-Request: true' -H "X-Vault-Token: $(keyturn print token)" https://h:1/v1/x`},
	} {
		var stdout, stderr bytes.Buffer
		code := Main(t.Context(),
			[]string{"keyturn", "read", "-output-curl-string", "-address=" + c.address, c.flag, "x"}, Env{
				Stdout: &stdout, Stderr: &stderr,
				Getenv: func(name string) string { return map[string]string{"VAULT_TOKEN": "x"}[name] },
			})
		if code != exitOK || !strings.HasPrefix(stdout.String(), c.want) {
			t.Errorf("%s %s: exit %d, %s%s\nwant %s", c.address, c.flag, code, &stdout, &stderr, c.want)
		}
	}
}
