//go:build integration

package system

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/test/await"
	"github.com/keyturn/keyturn/test/harness"
)

// haproxy starts HAProxy for the duration of the test. Each frontend is "name listen server mode
// options".
func haproxy(t *testing.T, fronts ...[4]string) {
	t.Helper()
	program := "/usr/sbin/haproxy"
	if _, err := os.Stat(program); err != nil {
		if program, err = exec.LookPath("haproxy"); err != nil {
			t.Skip("NOT TESTED: haproxy is not installed")
		}
	}
	var text strings.Builder
	text.WriteString(
		"global\n  maxconn 100\ndefaults\n  timeout connect 60s\n  timeout client 60s\n  timeout server 60s\n")
	for i, f := range fronts {
		fmt.Fprintf(&text, "listen f%d\n  bind %s\n  mode %s\n", i, f[0], f[2])
		if f[2] == "http" {
			text.WriteString("  option forwardfor\n")
		}
		fmt.Fprintf(&text, "  server s %s %s\n", f[1], f[3])
	}
	path := filepath.Join(t.TempDir(), "haproxy.cfg")
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-db", "-f", path)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended already
		_ = cmd.Wait()         // its error is that it was killed
	})
	for _, f := range fronts {
		await.Eventually(t, "haproxy listens on "+f[0], func() bool {
			c, err := net.Dial("tcp", f[0])
			if err != nil {
				return false
			}
			c.Close()
			return true
		})
	}
}

// calling returns a client that calls from a local address.
func calling(from, address, token string) *harness.Client {
	c := harness.NewClient(address, token)
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c.HTTP.Transport = &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true}
	return c
}

// remoteAddresses returns the remote addresses of requests to a path in the audit log.
func remoteAddresses(t *testing.T, log, path string) []string {
	t.Helper()
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for l := range strings.Lines(string(text)) {
		var entry struct {
			Type    string
			Request struct {
				Path   string
				Remote string `json:"remote_address"`
			}
		}
		if err := json.Unmarshal([]byte(l), &entry); err != nil {
			t.Fatal(err)
		}
		if entry.Type == "request" && entry.Request.Path == path {
			all = append(all, entry.Request.Remote)
		}
	}
	return all
}

// TestBehindHAProxy checks that tokens that are bound to networks, and the audit log, use the
// client's address and not the proxy's, whichever way the proxy passes it, and that no other
// client can claim an address.
func TestBehindHAProxy(t *testing.T) {
	t.Parallel()
	const client, stranger, liar = "127.0.0.5", "127.0.0.6", "127.0.0.9"
	forwarded, lax, allow, deny := harness.FreeAddress(t), harness.FreeAddress(t), harness.FreeAddress(
		t), harness.FreeAddress(t)
	listener := func(address, more string) string {
		return fmt.Sprintf("listener \"tcp\" {\n  address = %q\n  tls_disable = true\n  %s\n}\n", address, more)
	}
	s := harness.Ready(t,
		harness.Options{Config: listener(forwarded, `x_forwarded_for_authorized_addrs = "127.0.0.1"`) +
			listener(lax, "x_forwarded_for_authorized_addrs = \"127.0.0.1\"\n  x_forwarded_for_reject_not_present = "+
				"false\n  x_forwarded_for_reject_not_authorized = false") + listener(allow,
			"proxy_protocol_behavior = \"allow_authorized\"\n  proxy_protocol_authorized_addrs = \"127.0.0.1\"") +
			listener(deny,
				"proxy_protocol_behavior = \"deny_unauthorized\"\n  proxy_protocol_authorized_addrs = "+
					"[\"127.0.0.1/32\"]")})
	log := auditFile(t, s, "proxies")
	s.Client(s.Root).Must(t, "PUT", "auth/token/roles/bound",
		object{"token_bound_cidrs": client + "/32", "allowed_policies": "default"}, 204)
	token := s.Client(s.Root).Must(t, "PUT", "auth/token/create/bound", object{"policies": []string{"default"}},
		200).Text("auth", "client_token")

	front := map[string]string{}
	var fronts [][4]string
	for name, to := range map[string][3]string{
		"X-Forwarded-For": {forwarded, "http", ""}, "X-Forwarded-For, lax": {lax, "http", ""},
		"PROXY v1": {allow, "tcp", "send-proxy"}, "PROXY v2": {allow, "tcp", "send-proxy-v2"},
		"PROXY v1, deny": {deny, "tcp", "send-proxy"}, "PROXY v2, deny": {deny, "tcp", "send-proxy-v2"},
	} {
		front[name] = harness.FreeAddress(t)
		fronts = append(fronts, [4]string{front[name], to[0], to[1], to[2]})
	}
	haproxy(t, fronts...)

	const path = "auth/token/lookup-self"
	for name, address := range front {
		before := len(remoteAddresses(t, log, path))
		if a := ask(t, calling(client, address, token), path); a.Status != 200 {
			t.Errorf("%s: the client is refused: %d %s", name, a.Status, a.Body)
		}
		if a := ask(t, calling(stranger, address, token), path); a.Status != 403 {
			t.Errorf("%s: a stranger may use the token: %d %s", name, a.Status, a.Body)
		}
		// The address that the stranger claims comes before that of the proxy.
		if a := ask(t, calling(stranger, address, token), path, "X-Forwarded-For", client); a.Status != 403 {
			t.Errorf("%s: a claim through the proxy is believed: %d %s", name, a.Status, a.Body)
		}
		got := remoteAddresses(t, log, path)[before:]
		if len(got) != 3 || got[0] != client || got[1] != stranger || got[2] != stranger {
			t.Errorf("%s: the audit log has %q", name, got)
		}
	}

	// A direct request from an address that may not name a client.
	if a := ask(t, calling(liar, forwarded, token), path, "X-Forwarded-For", client); a.Status != 400 ||
		!strings.Contains(string(a.Body), "x_forwarded_for_authorized_addrs") {
		t.Errorf("a spoofed header: %d %s", a.Status, a.Body)
	}
	if a := ask(t, calling(client, forwarded, token), path); a.Status != 400 ||
		!strings.Contains(string(a.Body), "x_forwarded_for_reject_not_present") {
		t.Errorf("no header: %d %s", a.Status, a.Body)
	}
	if a := ask(t, calling(liar, lax, token), path, "X-Forwarded-For", client); a.Status != 403 {
		t.Errorf("a spoofed header that is passed over: %d %s", a.Status, a.Body)
	}
	if a := ask(t, calling(client, lax, token), path); a.Status != 200 {
		t.Errorf("no header, and none wanted: %d %s", a.Status, a.Body)
	}
	if a := ask(t, calling(liar, s.Address, token), path, "X-Forwarded-For", client); a.Status != 403 {
		t.Errorf("a listener that knows no proxies: %d %s", a.Status, a.Body)
	}
	head := "PROXY TCP4 " + client + " 127.0.0.1 5 6\r\n"
	request := harness.Line("GET", "/v1/"+path, "", "", "X-Vault-Token", token)
	for address, want := range map[string]string{allow: "HTTP/1.1 403", deny: "", s.Address: "HTTP/1.1 400"} {
		if got := spoof(t, liar, address, head+request); !strings.HasPrefix(got, want) || want == "" && got != "" {
			t.Errorf("a spoofed PROXY header: %.200q, want %q", got, want)
		}
	}
	if got := spoof(t, liar, deny, request); got != "" {
		t.Errorf("deny_unauthorized answers one that is not: %.200q", got)
	}
}

// ask reads a path.
func ask(t *testing.T, c *harness.Client, path string, head ...string) *harness.Answer {
	t.Helper()
	a, err := c.Do("GET", path, nil, head...)
	if err != nil {
		t.Errorf("%s: %v", path, err)
		return &harness.Answer{}
	}
	return a
}

// spoof sends text from an address and returns the answer; "" if the server closes the connection.
func spoof(t *testing.T, from, address, text string) string {
	t.Helper()
	c, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = c.Write([]byte(text)) // the server may have closed the connection
	b := make([]byte, 1000)
	n, _ := c.Read(b) // then there is no answer
	return string(b[:n])
}
