//go:build integration

package system

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/test/await"
	"github.com/keyturn/keyturn/test/harness"
)

// TestTokensInPaths sends tokens in paths, in the oldest forms of the API and similar ones, and
// looks for the tokens in everything that the server writes and answers.
func TestTokensInPaths(t *testing.T) {
	t.Parallel()
	c := &canaries{t: t, seen: map[string]bool{}}
	c.s = harness.Ready(t, harness.Options{Level: "trace", Config: `log_requests_level = "info"`})
	c.root, c.nobody = c.s.Client(c.s.Root), c.s.Client("")
	log := filepath.Join(c.s.Dir, "audit.log")
	c.good("PUT", "sys/audit/file", object{"type": "file", "options": object{"file_path": log}})
	c.weak = c.s.Client(
		c.good("POST", "auth/token/create", object{"policies": []string{"default"}}).Text("auth", "client_token"))
	c.inPaths()
	audit, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	for _, form := range []string{"lookup", "renew", "revoke", "revoke-orphan"} {
		if want := `"path":"auth/token/` + form + `/[token]"`; !strings.Contains(string(audit), want) {
			t.Errorf("the audit log has no %s: the test tests nothing", want)
		}
		if want := "/v1/auth/token/" + form + "/[token]"; !strings.Contains(c.s.Stderr(t)+c.s.Stdout(t), want) {
			t.Errorf("the log has no %s: the test tests nothing", want)
		}
	}
	c.s.Stop(t)
	c.files()
}

// inPaths sends tokens in valid and invalid paths.
func (c *canaries) inPaths() {
	mark := c.plain("token in a path") // chosen IDs do not look like tokens
	n := 0
	for _, form := range []string{"lookup", "renew", "revoke-orphan", "revoke"} {
		for _, target := range []string{
			"/v1/auth/token/%s/%s", "/v1/auth/token/%s/%s/", "/v1/auth/token/%s//%s", "//v1/auth/token/%s/%s",
			"/v1/auth/token/%s/%s/more", "/v1/auth/token/%s/%s?help=1",
			"/v1/auth/token/%s%%2F%s", "/v1/auth%%2Ftoken%%2f%s/%s", "/v1/auth%%252Ftoken/%s/%s",
			"/v1/auth/token/%s%%252F%s", "/v1/auth/token/%s/%%00%s", "/v1/auth/token/%s/%%zz%s",
			"/v1/auth/token/%s/../%s",
			"/v1/auth/token/./%s/%s", "/v1/Auth/token/%s/%s", "/v1/auth/Token/%s/%s", "/v1/auth/tok/%s/%s",
			"/v1/token/%s/%s", "/v1/ns/auth/token/%s/%s", "/v1/auth/token/%s-self/%s", "/v1/auth/token/%s-accessor/%s",
			"/auth/token/%s/%s", "/v2/auth/token/%s/%s", "/ui/auth/token/%s/%s", `/v1/auth\token\%s\%s`,
			"http://keyturn/v1/auth/token/%s/%s", "/v1/sys/internal/ui/mounts/auth/token/%s/%s",
			"/v1/auth/token/%s/%s HTTP/1.1 ", // not a request line
			"/v1/auth/token/%s/" + strings.Repeat("x", 1100) + "/%s",
		} {
			for _, named := range []func(string) string{strings.Clone, strings.ToUpper,
				func(s string) string { return strings.ToUpper(s[:1]) + s[1:] }} {
				n++
				id := fmt.Sprintf("%s-%d", mark, n)
				c.good("POST", "auth/token/create", object{"id": id, "policies": []string{"default"}, "ttl": "1h"})
				c.inPath(fmt.Sprintf(target, named(form), id), id)
			}
		}
	}
	made := c.token("token of the usual form in a path", object{"policies": []string{"default"}})
	for _, target := range []string{"/v1/auth/token/lookup/", "/v1/auth/token/", "/v1/nothing/",
		"/v1/auth/token/lookup-accessor/", "/v1/"} {
		c.inPath(target+made, made)
	}
	c.ask(c.root, "POST", "sys/capabilities-self", object{"paths": []string{"auth/token/lookup/x"}})
	c.good("POST", "sys/capabilities-self",
		object{"paths": []string{"auth/token/lookup/" + c.plain("token in a path that is judged")}})
	a := c.good("GET", "auth/token/lookup/"+made, nil)
	if warnings := a.List("warnings"); len(warnings) != 1 {
		c.t.Errorf("a lookup warns %q, want one warning", warnings)
	}
	c.inFlight()
	c.clean("the metrics", c.good("GET", "sys/metrics?format=prometheus", nil).Body)
	c.clean("the list of leases", c.good("GET", "sys/leases/count", nil).Body)
	c.clean("the OpenAPI document", c.good("GET", "sys/internal/specs/openapi", nil).Body)
}

// inPath sends a target with several methods, as callers that may and that may not. The answer to
// root contains the token's data, and so the token.
func (c *canaries) inPath(target, token string) {
	c.t.Helper()
	data := strings.NewReplacer(`"id":"`+token+`"`, "", `"client_token":"`+token+`"`, "")
	for _, method := range []string{"GET", "LIST", "HEAD", "PATCH", "DELETE", "OPTIONS", "POST"} {
		for _, who := range []*harness.Client{c.nobody, c.weak, c.root} {
			for _, head := range [][]string{{"Origin", "http://elsewhere"}, {"X-Vault-Namespace", "ns"},
				{"X-Vault-Wrap-TTL", "1m"}} {
				if head[0] != "Origin" && method != "GET" && method != "POST" {
					continue
				}
				answer, err := harness.Raw(c.s.Address, harness.Line(method, target, who.Token, "",
					append(head, "Content-Type", "application/merge-patch+json")...), await.Patience)
				if err != nil {
					c.t.Fatalf("%s %s: %v", method, target, err)
				}
				if who == c.root && head[0] != "X-Vault-Wrap-TTL" {
					answer = data.Replace(answer)
				}
				c.clean("the answer to "+method+" "+target, []byte(answer))
			}
		}
	}
}

// inFlight checks a request that waits for its body.
func (c *canaries) inFlight() {
	id := c.plain("token of a request that waits")
	for _, target := range []string{"/v1/auth/token/renew/" + id, "/v1/auth%2Ftoken%2FRevoke%2F" + id,
		"/v1/auth/tok/lookup/" + id} {
		conn, err := net.Dial("tcp", c.s.Address)
		if err != nil {
			c.t.Fatal(err)
		}
		line := strings.Replace(harness.Line("POST", target, c.s.Root, "{}"), "Content-Length: 2", "Content-Length: 3",
			1)
		if _, err := conn.Write([]byte(line)); err != nil {
			c.t.Fatal(err)
		}
		await.Eventually(c.t, "the request is in flight", func() bool {
			a := c.good("GET", "sys/in-flight-req", nil)
			c.clean("the list of requests in flight", a.Body)
			return strings.Contains(string(a.Body), "/[token]")
		})
		if err := conn.Close(); err != nil {
			c.t.Fatal(err)
		}
	}
}
