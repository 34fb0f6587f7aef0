package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// canary is a secret that only root may read.
const canary = "CANARY-d41d8cd98f00"

// pathServer starts a development server with a canary at secret/denied/a, and a token whose
// policy allows everything below secret/ except that. It returns the address and the token.
func pathServer(f *testing.F) (address, token string) {
	address = strings.TrimPrefix(developmentServer(f, io.Discard), "http://")
	for _, r := range [][3]string{
		{"PUT", "secret/data/denied/a", `{"data":{"x":"` + canary + `"}}`},
		{"PUT", "secret/data/open/a", `{"data":{"x":"y"}}`},
		{"PUT", "sys/policies/acl/canary", `{"policy":"# ` + canary + `\npath \"x\" {}"}`},
		{"PUT", "sys/policies/acl/most",
			`{"policy":"path \"secret/*\" { capabilities = [\"create\",\"read\",\"update\",\"delete\",\"list\",\"patch\"] }\npath \"sys/policies/*\" { capabilities = [\"read\"] }\npath \"sys/policies/acl/canary\" { capabilities = [\"deny\"] }\npath \"secret/data/denied/*\" { capabilities = [\"deny\"] }\npath \"secret/subkeys/denied/*\" { capabilities = [\"deny\"] }"}`},
		{"PUT", "auth/token/create", `{"policies":["most"],"no_default_policy":true}`},
	} {
		status, body := rawRequest(f, address, r[0], "/v1/"+r[1], "root", r[2])
		if status >= 300 {
			f.Fatalf("%s %s: status %d %s", r[0], r[1], status, body)
		}
		if _, after, ok := strings.Cut(body, `"client_token":"`); ok {
			token, _, _ = strings.Cut(after, `"`)
		}
	}
	return address, token
}

// rawRequest sends a request with an unmodified target.
func rawRequest(t testing.TB, address, method, target, token, body string) (int, string) {
	c, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c,
		"%s %s HTTP/1.1\r\nHost: h\r\nConnection: close\r\nX-Vault-Token: %s\r\nContent-Length: %d\r\n\r\n%s", method,
		target, token, len(body), body)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, "" // the server closes the connection if it is no HTTP
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, ""
	}
	return resp.StatusCode, string(text)
}

// FuzzPolicyPath checks that no spelling of a path reads what the policy denies. It is the
// negative test of CVE-2026-3605, CVE-2026-63131 and CVE-2026-89322.
func FuzzPolicyPath(f *testing.F) {
	address, token := pathServer(f)
	if status, body := rawRequest(f, address, "GET", "/v1/secret/data/open/a", token, ""); status != 200 {
		f.Fatalf("what is allowed: status %d %s", status, body)
	}
	for _, target := range []string{
		"secret/data/denied/a", "secret/data/denied/a/", "secret/data/denied//a", "secret/data//denied/a",
		"secret//data/denied/a",
		"secret/data/open/../denied/a", "secret/data/open/%2e%2e/denied/a", "secret/data/open/%252e%252e/denied/a",
		"secret/data/./denied/a",
		"secret/data/%64enied/a", "secret/data/denied%2Fa", "secret%2Fdata%2Fdenied%2Fa", "secret/data/denied%252Fa",
		"secret/data/DENIED/a",
		"/secret/data/denied/a", "%2Fsecret/data/denied/a", "secret/data/denied/a%00",
		"secret/data/denied/a?list=true", "secret/data/denied/a?x=%zz",
		"secret/data/denied%5Ca", "secret/data/denied/a;x", "secret/data/denied/a%20",
		"secret/data/open/..%2fdenied/a", "secret/subkeys/denied/a",
		"sys/policies/acl/canary", "sys/policies/acl/Canary", "sys/policies/acl/canary/", "sys/policies/acl/%63anary",
		"sys/policy/canary",
		"secret/data/d\u200benied/a", "secret/data/denied/%61",
	} {
		for _, method := range []string{"GET", "LIST", "PATCH"} {
			f.Add(method, target)
		}
	}
	f.Fuzz(func(t *testing.T, method, target string) {
		if strings.ContainsAny(method+target, " \r\n") {
			return
		}
		if status, body := rawRequest(t, address, method, "/v1/"+target, token, ""); strings.Contains(body, canary) {
			t.Errorf("%s %q: status %d tells the canary: %s", method, target, status, body)
		}
	})
}
