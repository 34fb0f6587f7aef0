//go:build integration

package system

import (
	"bufio"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/test/await"
	"github.com/keyturn/keyturn/test/harness"
)

// watch reads sys/monitor until it ends, and sends its lines to the channel.
func watch(t *testing.T, s *harness.Server, token, query string) <-chan string {
	t.Helper()
	r, err := http.NewRequest("GET", "http://"+s.Address+"/v1/sys/monitor?"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Vault-Token", token)
	res, err := (&http.Client{Transport: &http.Transport{}}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != 200 {
		t.Fatalf("sys/monitor: %s", res.Status)
	}
	lines := make(chan string, 1000)
	go func() {
		defer close(lines)
		defer res.Body.Close()
		for in := bufio.NewScanner(res.Body); in.Scan(); {
			lines <- in.Text()
		}
	}()
	return lines
}

// until reads lines until one contains the text; it returns "" if there is none.
func until(t *testing.T, lines <-chan string, text string) string {
	t.Helper()
	late := time.After(await.Patience)
	for {
		select {
		case line, ok := <-lines:
			if !ok || text != "" && strings.Contains(line, text) {
				return line
			}
		case <-late:
			t.Fatalf("no line with %q", text)
		}
	}
}

// TestMonitor reads the log of a server, at another level and in another format than its own,
// until the token is revoked or the server stops.
func TestMonitor(t *testing.T) {
	t.Parallel()
	s := harness.Ready(t, harness.Options{Level: "warn", Config: `log_requests_level = "debug"`})
	root := s.Client(s.Root)
	root.Must(t, "PUT", "sys/policies/acl/watch", object{"policy": `path "sys/monitor" { capabilities = ["read"] }`},
		204)
	token := root.Must(t, "PUT", "auth/token/create", object{"policies": []string{"watch"}}, 200).Text("auth",
		"client_token")
	if a, err := root.As(token).Do("GET", "sys/monitor?log_level=loud", nil); err != nil || a.Status != 400 {
		t.Errorf("a level that there is not: %+v, %v", a, err)
	}
	deep := watch(t, s, token, "log_level=debug&log_format=json")
	quiet := watch(t, s, s.Root, "")
	root.Must(t, "GET", "sys/mounts", nil, 200)
	line := until(t, deep, "sys/mounts")
	var entry struct{ Level, Msg string }
	if err := json.Unmarshal([]byte(line), &entry); err != nil || entry.Level != "DEBUG" ||
		entry.Msg != "completed_request" {
		t.Errorf("%q, %v", line, err)
	}
	if strings.Contains(s.Stderr(t), "completed_request") {
		t.Error("watching has changed what the log tells")
	}
	root.Must(t, "PUT", "auth/token/revoke", object{"token": token}, 204)
	if line := until(t, deep, "\x00"); line != "" {
		t.Errorf("a revoked token reads on: %q", line)
	}
	s.Stop(t)
	if line := until(t, quiet, "stopping"); line == "" || strings.Contains(line, "completed_request") {
		t.Errorf("the last line is %q", line)
	}
	until(t, quiet, "\x00")
}
