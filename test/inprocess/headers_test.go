package inprocess_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/audit"
	"github.com/keyturn/keyturn/internal/core"
	"github.com/keyturn/keyturn/internal/core/outsidetest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage/memory"
)

// TestAuditedHeaders checks that a configured header is in the audit log within a second, plain or
// hashed, even if another server over the same store was configured.
func TestAuditedHeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tape := new(outsidetest.Tape)
		st := memory.Open()
		open := func() *server {
			s, _ := launch(t, core.Config{Store: st, Audits: []audit.Type{tape.Type()}})
			return s
		}
		first := open()
		first.must(t, route.Write, "sys/audit/tape", first.root, `{"type":"tape"}`)
		second := open()
		send := func(s *server) string {
			before := len(tape.Text())
			_, err := s.Handle(t.Context(), &route.Request{
				ID: core.NewRequestID(), Op: route.Read, Path: "sys/mounts", Token: secret.Text(s.root),
				Time: time.Now(),
				Header: map[string][]string{"X-Corr": {"abc", "def"}, "X-Session": {"canary-session"},
					"X-Other": {"canary-other"}},
			})
			if err != nil {
				t.Fatal(err)
			}
			return tape.Text()[before:]
		}
		if got := send(first); strings.Contains(got, `"headers"`) || strings.Contains(got, `"abc"`) {
			t.Errorf("before a header was named:\n%s", got)
		}
		first.must(t, route.Write, "sys/config/auditing/request-headers/x-corr", first.root, `{}`)
		first.must(t, route.Write, "sys/config/auditing/request-headers/X-Session", first.root, `{"hmac":true}`)
		time.Sleep(time.Second)
		for _, s := range []*server{first, second} {
			got := send(s)
			if !strings.Contains(got, `"headers":{"x-corr":["abc","def"],"x-session":["hmac-sha256:`) ||
				strings.Contains(got, "canary") {
				t.Errorf("a second after two headers were named:\n%s", got)
			}
		}
	})
}

// TestRawShowsNoCubbyhole checks that a caller that may read raw rows of the store cannot read the
// cubbyhole of another token.
func TestRawShowsNoCubbyhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := launch(t, core.Config{Store: memory.Open(), Server: core.Server{RawStorage: true}})
		s.must(t, route.Write, "cubbyhole/mine", s.root, `{"k":"canary-cubbyhole"}`)
		clerk := s.clerk(t, "raw", `path "sys/raw/*" { capabilities = ["read", "list", "update", "delete", "sudo"] }`)
		uuid := s.must(t, route.Read, "sys/mounts/cubbyhole", s.root, "").Data["uuid"].(string)
		if got := s.must(t, route.List, "sys/raw/mount/"+uuid+"/c", s.root, "").Data["keys"].([]any); len(got) != 1 {
			t.Fatalf("root lists %v", got)
		}
		for _, path := range []string{"mount/" + uuid, "mount/" + uuid + "/c", "mount/" + uuid + "/c/x/mine"} {
			for _, op := range []route.Op{route.Read, route.List, route.Write, route.Delete} {
				if a, err := s.ask(t, op, "sys/raw/"+path, clerk, ""); !fault.Is(err, fault.Denied) {
					t.Errorf("%s %s: %v, %v", op, path, a, err)
				}
			}
		}
		s.must(t, route.List, "sys/raw/core", clerk, "")
	})
}
