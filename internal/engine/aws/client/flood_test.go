package client_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/keyturn/keyturn/internal/engine/aws/client"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
)

// TestEndlessEndpoint checks that an endpoint whose answer never ends, in one reply or page after
// page, costs little and gives a clear error.
func TestEndlessEndpoint(t *testing.T) {
	var sent, calls atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		_ = r.ParseForm()
		action := r.Form.Get("Action")
		w.Header().Set("Content-Type", "text/xml")
		if strings.HasPrefix(r.URL.Path, "/pages") {
			n, err := fmt.Fprintf(w,
				`<%[1]sResponse><%[1]sResult><IsTruncated>true</IsTruncated><Marker>%[2]d</Marker><AccessKeyMetadata><member><AccessKeyId>A%[2]d</AccessKeyId></member></AccessKeyMetadata>`+
					`<PolicyNames><member>p%[2]d</member></PolicyNames></%[1]sResult></%[1]sResponse>`, action,
				calls.Load())
			if sent.Add(int64(n)); err != nil {
				return
			}
			return
		}
		if strings.HasPrefix(r.URL.Path, "/error") {
			w.WriteHeader(http.StatusForbidden)
		}
		fmt.Fprintf(w, "<%[1]sResponse><%[1]sResult>", action)
		for chunk := bytes.Repeat([]byte("<Arn>x</Arn>"), 4096); ; {
			n, err := w.Write(chunk)
			if sent.Add(int64(n)); err != nil {
				return
			}
		}
	}))
	defer server.Close()
	for _, path := range []string{"/body", "/error", "/pages"} {
		c, err := client.New(t.Context(),
			client.Config{KeyID: "AKIAX", Secret: secret.Text("x"), IAM: server.URL + path,
				STS: client.Endpoint{URL: server.URL + path}})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for name, call := range map[string]func() error{
			"keys":   func() error { _, err := c.Keys(t.Context(), "u"); return err },
			"remove": func() error { return c.RemoveUser(t.Context(), "u") },
			"group":  func() error { _, _, err := c.GroupPolicies(t.Context(), "g"); return err },
			"who":    func() error { _, err := c.WhoAmI(t.Context()); return err },
		} {
			sent.Store(0)
			calls.Store(0)
			err := call()
			if err == nil || fault.Message(err) == "" || len(err.Error()) > 16<<10 {
				t.Errorf("%s, %s: %d bytes of error: %.300v", path, name, len(fmt.Sprint(err)), err)
			}
			// The library may close the request's body while the transport still reads it, which
			// closes the connection. Such an early answer is unreadable instead of too large.
			if path == "/body" && !strings.Contains(fault.Message(err), "larger than") &&
				!strings.Contains(fault.Message(err), "no readable answer") {
				t.Errorf("%s, %s: %v, want that it is too large", path, name, err)
			}
			if sent.Load() > 64<<20 || calls.Load() > 100 {
				t.Errorf("%s, %s: %d bytes in %d calls", path, name, sent.Load(), calls.Load())
			}
		}
	}
}
