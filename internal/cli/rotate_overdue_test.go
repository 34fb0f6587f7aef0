package cli

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestOverdueReadsOn: nothing is said to be late only after the last page, and only if every mount
// is indexed.
func TestOverdueReadsOn(t *testing.T) {
	const late = `{"path":"static/x","late_seconds":7200}`
	for name, tt := range map[string]struct {
		pages []string
		code  int
		want  string
	}{
		"nothing":         {[]string{`"secrets":[]`}, 0, "Nothing is late"},
		"a later page":    {[]string{`"secrets":[],"next":"1"`, `"secrets":[` + late + `]`}, exitRemote, "static/x"},
		"the end":         {[]string{`"secrets":[],"next":"1"`, `"secrets":[]`}, 0, "Nothing is late"},
		"not yet indexed": {[]string{`"secrets":[],"indexing":["static/"]`}, exitRemote, "still being indexed"},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				page := 0
				_, _ = fmt.Sscan(r.URL.Query().Get("after"), &page)
				_, _ = io.WriteString(w, `{"data":{`+tt.pages[page]+`}}`)
			}))
			defer server.Close()
			var out bytes.Buffer
			env := map[string]string{"VAULT_ADDR": server.URL, "VAULT_TOKEN": "held"}
			code := Main(t.Context(), []string{"keyturn", "rotate", "overdue"},
				Env{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &out,
					Getenv: func(k string) string { return env[k] }})
			if code != tt.code || !strings.Contains(out.String(), tt.want) {
				t.Errorf("exit code %d: %s", code, out.String())
			}
		})
	}
}
