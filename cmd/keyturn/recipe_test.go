package main

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

// TestLiveTrialOutlivesItsReader checks that a live test of a recipe retires its key even if the
// reader of its output has gone, as with head, or its terminal is closed.
func TestLiveTrialOutlivesItsReader(t *testing.T) {
	for name, end := range map[string]func(out io.Closer, p *os.Process){
		"a closed pipe":     func(out io.Closer, _ *os.Process) { out.Close() },
		"a closed terminal": func(_ io.Closer, p *os.Process) { _ = p.Signal(syscall.SIGHUP) },
	} {
		t.Run(name, func(t *testing.T) {
			var created, retired atomic.Int64
			verify := make(chan struct{})
			provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch r.Method {
				case http.MethodPost:
					created.Add(1)
					w.WriteHeader(http.StatusCreated)
					io.WriteString(w, `{"id":"1","key":"a-new-key"}`)
				case http.MethodDelete:
					retired.Add(1)
					w.WriteHeader(http.StatusNoContent)
				default:
					if <-verify; retired.Load() > 0 {
						w.WriteHeader(http.StatusUnauthorized)
					}
				}
			}))
			defer provider.Close()
			file := filepath.Join(t.TempDir(), "r.hcl")
			if err := os.WriteFile(file, []byte(strings.ReplaceAll(liveRecipe, "PROVIDER", provider.URL)),
				0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), "keyturn", "recipe", "test", "-live", "-yes", file)
			cmd.Env = append(os.Environ(), "KEYTURN_ADMIN_TOKEN=canary-of-the-admin", "HOME="+t.TempDir())
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			for lines := bufio.NewScanner(out); lines.Scan() && !strings.Contains(lines.Text(), "ok: key 1"); {
			}
			end(out, cmd.Process)
			close(verify)
			go io.Copy(io.Discard, out)
			err = cmd.Wait()
			if created.Load() != 1 || retired.Load() != 1 {
				t.Errorf("%d keys were created, %d retired; the test ended with %s", created.Load(), retired.Load(),
					fmt.Sprint(err))
			}
		})
	}
}

const liveRecipe = `name = "r"
description = "d"
style       = "two-key"
evidence    = "e"
hosts       = ["PROVIDER"]
admin "token" { description = "d" }
auth "bearer" { token = admin.token }
create {
  url    = "PROVIDER/keys"
  retry  = "never"
  id     = response.json.id
  secret = { api_key = response.json.key }
}
verify {
  url = "PROVIDER/me"
  auth "bearer" { token = key.api_key }
}
retire {
  method = "DELETE"
  url    = "PROVIDER/keys/${urlencode(key.id)}"
}
`
