package sys_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/internal/core"
	"github.com/keyturn/keyturn/internal/core/coretest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
)

func TestMounts(t *testing.T) {
	s := coretest.Start(t)
	s.Must(route.Write, "sys/mounts/m",
		`{"type":"plugin","plugin_name":"kv","description":"d","local":true,"options":{"version":"2"}}`)
	got := s.Must(route.Read, "sys/mounts/m", "").Data
	if got["type"] != "kv" || got["local"] != true || got["description"] != "d" ||
		!cmp.Equal(got["options"], map[string]any{"version": "2"}) {
		t.Errorf("it is %v", got)
	}
	for _, path := range []string{"sys/mounts/none", "sys/mounts/none/tune"} {
		s.Refused(route.Read, path, "", fault.Invalid, "No secret engine mount at none/")
	}
	s.Refused(route.Read, "sys/auth/none", "", fault.Invalid, "No auth engine at none/")
	s.Refused(route.Write, "sys/mounts/none/tune", `{}`, fault.Invalid, "nothing is mounted")
	auth := s.Must(route.Read, "sys/auth", "").Data["token/"].(map[string]any)
	if auth["type"] != "token" || auth["config"].(map[string]any)["token_type"] != "default-service" {
		t.Errorf("the method of tokens is %v", auth)
	}
	s.Must(route.Write, "sys/mounts/m/tune",
		`{"audit_non_hmac_request_keys":["a"],"audit_non_hmac_response_keys":["b"],"passthrough_request_headers":["x-a"],"allowed_response_headers":["x-b"],"listing_visibility":"unauth","default_lease_ttl":"1h"}`)
	tuned := s.Must(route.Read, "sys/mounts/m/tune", "").Data
	for name, want := range map[string]any{
		"audit_non_hmac_request_keys": []any{"a"}, "audit_non_hmac_response_keys": []any{"b"},
		"passthrough_request_headers": []any{"x-a"},
		"allowed_response_headers":    []any{"x-b"}, "listing_visibility": "unauth", "default_lease_ttl": 3600.0,
		"max_lease_ttl": 768.0 * 3600,
	} {
		if !cmp.Equal(tuned[name], want) {
			t.Errorf("%s is %v, want %v", name, tuned[name], want)
		}
	}
	a := s.Must(route.Write, "sys/mounts/n", `{"type":"kv","config":{"nonesuch":1,"max_lease_ttl":60}}`)
	if !cmp.Equal(a.Warnings, []string{`unknown parameter "config.nonesuch" was ignored`}) {
		t.Errorf("warnings %q", a.Warnings)
	}
	s.Refused(route.Delete, "sys/mounts/auth/token", "", fault.Invalid, "")
}

// TestVisibleMounts: a user interface sees the mounts that the caller's policies mention, and
// those that are visible to everyone.
func TestVisibleMounts(t *testing.T) {
	s := coretest.Start(t)
	for _, m := range []string{"mine", "other", "open"} {
		s.Must(route.Write, "sys/mounts/"+m, `{"type":"kv"}`)
	}
	s.Must(route.Write, "sys/mounts/open/tune", `{"listing_visibility":"unauth"}`)
	tok := s.Login(`path "mine/*" { capabilities = ["read"] }`)
	as := func(op route.Op, path string) coretest.Request {
		return coretest.Request{Op: op, Path: path, Token: tok}
	}
	seen := s.MustDo(as(route.Read, "sys/internal/ui/mounts")).Data["secret"].(map[string]any)
	for path, want := range map[string]bool{"mine/": true, "open/": true, "other/": false} {
		if _, ok := seen[path]; ok != want {
			t.Errorf("%s is shown: %v", path, ok)
		}
	}
	for _, path := range []string{"mine", "mine/deep/er"} {
		if got := s.MustDo(as(route.Read, "sys/internal/ui/mounts/"+path)).Data["path"]; got != "mine/" {
			t.Errorf("%s is at %v", path, got)
		}
	}
	for _, path := range []string{"other/a", "nowhere/a"} { // the same answer, which reveals nothing
		s.RefusedDo(as(route.Read, "sys/internal/ui/mounts/"+path), fault.Denied, "preflight capability check")
	}
	if got := s.Must(route.Read, "sys/internal/ui/resultant-acl", "").Data["root"]; got != true {
		t.Errorf("the root token's: %v", got)
	}
}

func TestPolicies(t *testing.T) {
	s := coretest.Start(t)
	text := `path "secret/*" { capabilities = ["read"] }`
	s.Must(route.Write, "sys/policies/acl/plain", `{"policy":"path \"secret/*\" { capabilities = [\"read\"] }"}`)
	s.Must(route.Write, "sys/policies/acl/coded", `{"policy":"`+base64.StdEncoding.EncodeToString([]byte(text))+`"}`)
	s.Must(route.Write, "sys/policy/old", `{"rules":"path \"secret/*\" { capabilities = [\"read\"] }"}`)
	for _, name := range []string{"plain", "coded", "old"} {
		if got := s.Must(route.Read, "sys/policies/acl/"+name, "").Data["policy"]; got != text {
			t.Errorf("%s is %v", name, got)
		}
		if got := s.Must(route.Read, "sys/policy/"+name, "").Data["rules"]; got != text {
			t.Errorf("%s, under the old path, is %v", name, got)
		}
	}
	names := s.Must(route.List, "sys/policies/acl", "").Data["keys"].([]any)
	for _, want := range []any{"plain", "coded", "old", "default", "root"} {
		if !slices.Contains(names, want) {
			t.Errorf("%v is not listed: %v", want, names)
		}
	}
	if got := s.Must(route.Read, "sys/policy", "").Data; !cmp.Equal(got["policies"], got["keys"]) {
		t.Errorf("the old list is %v", got)
	}
	s.Refused(route.Write, "sys/policies/acl/bad", `{"policy":"path {"}`, fault.Invalid, "")
	s.Refused(route.Write, "sys/policies/acl/bad", `{}`, fault.Invalid, "the policy's text is missing")
	s.Refused(route.Write, "sys/policies/acl/root", `{"policy":"path \"*\" { capabilities = [\"read\"] }"}`,
		fault.Invalid, "")
	s.Refused(route.Read, "sys/policies/acl/none", "", fault.NotFound, "")
	s.Must(route.Delete, "sys/policies/acl/plain", "")
	s.Refused(route.Read, "sys/policies/acl/plain", "", fault.NotFound, "")

	s.Must(route.Write, "sys/policies/password/p", `{"policy":"length = 24\nrule \"charset\" { charset = \"ab\" }"}`)
	if got := s.Must(route.Read, "sys/policies/password/p/generate", "").Data["password"].(string); len(got) != 24 ||
		strings.Trim(got, "ab") != "" {
		t.Errorf("generated %q", got)
	}
	if got := s.Must(route.List, "sys/policies/password", "").Data["keys"]; !cmp.Equal(got, []any{"p"}) {
		t.Errorf("listed are %v", got)
	}
	if got := s.Must(route.Read, "sys/policies/password/p", "").Data["policy"].(string); !strings.Contains(got,
		"length = 24") {
		t.Errorf("it reads %q", got)
	}
	s.Must(route.Delete, "sys/policies/password/p", "")
	s.Refused(route.Read, "sys/policies/password/p", "", fault.NotFound, "")
}

func TestCapabilities(t *testing.T) {
	s := coretest.Start(t)
	tok := s.Login(`path "secret/a" { capabilities = ["read", "list"] } path "secret/b" { capabilities = ["deny"] }`)
	check := func(a *coretest.Answer) {
		t.Helper()
		for path, want := range map[string]any{
			"secret/a": []any{"list", "read"}, "secret/b": []any{"deny"}, "secret/c": []any{"deny"},
		} {
			if !cmp.Equal(a.Data[path], want) {
				t.Errorf("%s: %v, want %v", path, a.Data[path], want)
			}
		}
	}
	const paths = `"paths":["secret/a","secret/b","secret/c"]`
	check(s.Must(route.Write, "sys/capabilities", `{"token":"`+tok+`",`+paths+`}`))
	check(s.MustDo(coretest.Request{
		Op: route.Write, Path: "sys/capabilities-self", Token: tok, Body: `{` + paths + `}`,
	}))
	accessor := s.Must(route.Write, "auth/token/lookup", `{"token":"`+tok+`"}`).Data["accessor"].(string)
	check(s.Must(route.Write, "sys/capabilities-accessor", `{"accessor":"`+accessor+`",`+paths+`}`))
	if a := s.Must(route.Write, "sys/capabilities-self", `{"path":"anything"}`); !cmp.Equal(a.Data["capabilities"],
		[]any{"root"}) {
		t.Errorf("the root token: %s", a.Body)
	}
	s.Refused(route.Write, "sys/capabilities-self", `{}`, fault.Invalid, "path")
	_, err := s.Do(coretest.Request{
		Op: route.Write, Path: "sys/capabilities", Body: `{"token":"hvs.none","path":"a"}`,
	})
	if err == nil {
		t.Error("a token that is not there has capabilities")
	}
}

// TestLeases looks up, lists, counts, renews and revokes leases, by body and by path, at new and
// deprecated paths.
func TestLeases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := coretest.Start(t)
		s.Must(route.Write, "sys/mounts/m", `{"type":"things"}`)
		issue := func(role string) string { return s.Must(route.Read, "m/creds/"+role, `{"ttl":"1h"}`).LeaseID }
		id := issue("a")
		got := s.Must(route.Write, "sys/leases/lookup", `{"lease_id":"`+id+`"}`).Data
		if got["id"] != id || got["ttl"] != 3600.0 || got["renewable"] != true || got["last_renewal"] != nil ||
			got["state"] != nil {
			t.Errorf("looked up: %v", got)
		}
		for _, path := range []string{"sys/leases/renew", "sys/renew"} {
			if a := s.Must(route.Write, path, `{"lease_id":"`+id+`","increment":"30m"}`); a.TTL != 1800 {
				t.Errorf("%s: %s", path, a.Body)
			}
			if a := s.Must(route.Write, path+"/"+id, `{"increment":"2h"}`); a.TTL != 7200 {
				t.Errorf("%s by path: %s", path, a.Body)
			}
			s.Refused(route.Write, path+"/"+id, `{"lease_id":"other"}`, fault.Invalid, "lease_id")
			s.Refused(route.Write, path, `{}`, fault.Invalid, "say which lease")
			s.Refused(route.Write, path, `{"lease_id":"/`+id+`"}`, fault.Invalid, "canonical form")
		}
		if got := s.Must(route.Write, "sys/leases/lookup", `{"lease_id":"`+id+`"}`).Data["last_renewal"]; got == nil {
			t.Error("its renewal is not shown")
		}
		s.Refused(route.Write, "sys/leases/lookup", `{"lease_id":"m/creds/a/none"}`, fault.Invalid, "was not found")

		for _, role := range []string{"a", "b", "c"} {
			issue(role)
		}
		list := func(path, body string) string {
			return fmt.Sprint(s.MustDo(coretest.Request{Op: route.List, Path: path, Body: body}).Data["keys"])
		}
		if got := list("sys/leases/lookup", ""); got != "[m/]" {
			t.Errorf("at the top are %s", got)
		}
		if got := list("sys/leases/lookup/m/creds", ""); got != "[a/ b/ c/]" {
			t.Errorf("below creds are %s", got)
		}
		if got := list("sys/leases/lookup/m/creds", `{"after":"a/","limit":1}`); got != "[b/]" {
			t.Errorf("a page is %s", got)
		}
		if got := s.Must(route.Read, "sys/leases/count", "").Data["lease_count"]; got != 4.0 {
			t.Errorf("%v are counted", got)
		}
		s.MustDo(coretest.Request{
			Op: route.Read, Path: "sys/leases/count", Query: map[string][]string{"type": {"irrevocable"}},
		})
		s.RefusedDo(coretest.Request{
			Op: route.Read, Path: "sys/leases/count", Query: map[string][]string{"type": {"x"}},
		}, fault.Invalid, `"irrevocable" or "all"`)
		if a := s.Must(route.Write, "sys/leases/tidy", ""); a.Status != 202 {
			t.Errorf("tidying: %d", a.Status)
		}

		s.Things.Undo(fault.New("things", fault.Upstream, "the target is away"))
		s.Must(route.Write, "sys/revoke/"+id, "")
		time.Sleep(5 * time.Second)
		failing := s.Must(route.Read, "sys/leases", "").Data
		first := failing["leases"].([]any)[0].(map[string]any)
		if first["lease_id"] != id || !strings.Contains(first["error"].(string), "the target is away") ||
			!cmp.Equal(failing["counts"], map[string]any{"m/": 1.0}) {
			t.Errorf("failing are %v", failing)
		}
		got = s.Must(route.Write, "sys/leases/lookup", `{"lease_id":"`+id+`"}`).Data
		if got["state"] != "revoking" || got["ttl"] != 0.0 || got["revoke_tries"] != 1.0 ||
			got["revoke_next_try"] == nil {
			t.Errorf("while it fails it is %v", got)
		}
		s.RefusedDo(coretest.Request{Op: route.Read, Path: "sys/leases", Query: map[string][]string{"type": {"x"}}},
			fault.Invalid, "irrevocable")
		if a := s.MustDo(coretest.Request{
			Op: route.Read, Path: "sys/leases", Query: map[string][]string{"limit": {"1"}},
		}); len(a.Warnings) != 1 {
			t.Errorf("a page that is full: warnings %q", a.Warnings)
		}
		s.Things.Undo(nil)
		s.Must(route.Write, "sys/revoke-prefix/m/creds/b", `{"sync":true}`)
		s.Must(route.Write, "sys/revoke-force/m/creds/c", "")
		time.Sleep(time.Minute)
		if left := s.Things.Alive(); len(left) != 1 || !strings.HasPrefix(left[0], "m/creds/a/") || left[0] == id {
			t.Errorf("alive are %q", left)
		}
		s.Stop()
	})
}

// TestWrappingRoutes: a wrapped answer can be looked up, rewrapped, and unwrapped once.
func TestWrappingRoutes(t *testing.T) {
	s := coretest.Start(t)
	a := s.MustDo(coretest.Request{
		Op: route.Write, Path: "sys/wrapping/wrap", Body: `{"v":"canary"}`, Wrap: time.Minute,
	})
	tok := a.Wrap["token"].(string)
	if got := s.Must(route.Write, "sys/wrapping/lookup", `{"token":"`+tok+`"}`).Data; got["creation_ttl"] != 60.0 ||
		got["creation_path"] != "sys/wrapping/wrap" {
		t.Errorf("looked up: %v", got)
	}
	next := s.Must(route.Write, "sys/wrapping/rewrap", `{"token":"`+tok+`"}`).Wrap["token"].(string)
	for _, path := range []string{"sys/wrapping/unwrap", "sys/wrapping/lookup", "sys/wrapping/rewrap"} {
		s.Refused(route.Write, path, `{"token":"`+tok+`"}`, fault.Invalid, "wrapping token is not valid")
	}
	if got := s.Must(route.Write, "sys/wrapping/unwrap", `{"token":"`+next+`"}`).Data["v"]; got != "canary" {
		t.Errorf("unwrapped: %v", got)
	}
	s.Refused(route.Write, "sys/wrapping/unwrap", `{"token":"`+coretest.Root+`"}`, fault.Invalid, "")
	s.Refused(route.Write, "sys/wrapping/wrap", `{"v":"1"}`, fault.Invalid, "")
}

func TestTools(t *testing.T) {
	s := coretest.Start(t)
	for path, n := range map[string]int{"random": 32, "random/5": 5, "random/platform": 32, "random/platform/7": 7} {
		got := s.Must(route.Write, "sys/tools/"+path, `{"format":"hex"}`).Data["random_bytes"].(string)
		if b, err := hex.DecodeString(got); err != nil || len(b) != n {
			t.Errorf("%s gives %q", path, got)
		}
	}
	for path, body := range map[string]string{
		"random/0x": `{}`, "random/elsewhere": `{}`, "random": `{"bytes":131073}`, "random/5": `{"format":"x"}`,
		"hash/md5": `{"input":"YQ=="}`, "hash": `{"input":"not base64!"}`,
	} {
		s.Refused(route.Write, "sys/tools/"+path, body, fault.Invalid, "")
	}
	sum := sha256.Sum256([]byte("a"))
	if got := s.Must(route.Write, "sys/tools/hash",
		`{"input":"YQ=="}`).Data["sum"]; got != hex.EncodeToString(sum[:]) {
		t.Errorf("the hash is %v", got)
	}
	for _, algorithm := range []string{
		"sha2-224", "sha2-256", "sha2-384", "sha2-512", "sha3-224", "sha3-256", "sha3-384", "sha3-512",
	} {
		got := s.Must(route.Write, "sys/tools/hash/"+algorithm,
			`{"input":"YQ==","format":"base64"}`).Data["sum"].(string)
		if b, err := base64.StdEncoding.DecodeString(got); err != nil || fmt.Sprint(len(b)*8) != algorithm[5:] {
			t.Errorf("%s gives %q", algorithm, got)
		}
	}
}

func TestAudit(t *testing.T) {
	s := coretest.Start(t)
	s.Must(route.Write, "sys/audit/a", `{"type":"tape","description":"d","local":true}`)
	got := s.Must(route.Read, "sys/audit", "").Data["a/"].(map[string]any)
	if got["type"] != "tape" || got["description"] != "d" || got["local"] != true {
		t.Errorf("listed: %v", got)
	}
	s.Refused(route.Write, "sys/audit/a", `{"type":"tape"}`, fault.Invalid, "")
	s.Refused(route.Write, "sys/audit/b", `{"type":"nonesuch"}`, fault.Invalid, "")
	hash := s.Must(route.Write, "sys/audit-hash/a", `{"input":"`+coretest.Root+`"}`).Data["hash"].(string)
	if !strings.HasPrefix(hash, "hmac-sha256:") || !strings.Contains(s.Tape.Text(), hash) {
		t.Errorf("the hash of the token, %q, is not on the tape", hash)
	}
	_, err := s.Do(coretest.Request{Op: route.Write, Path: "sys/audit-hash/none", Body: `{"input":"x"}`})
	if err == nil {
		t.Error("a device that is not there hashes")
	}
	s.Must(route.Delete, "sys/audit/a", "")
	if _, there := s.Must(route.Read, "sys/audit", "").Data["a/"]; there {
		t.Error("it is still listed")
	}
}

// TestJobs checks who may see jobs. The tests of core check what jobs do.
func TestJobs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := coretest.Start(t)
		s.Must(route.Write, "sys/mounts/m", `{"type":"things"}`)
		s.Must(route.Read, "m/creds/r", "")
		s.Things.Undo(errors.New("away"))
		s.Must(route.Delete, "sys/mounts/m", "")
		list := s.Must(route.List, "sys/jobs", "").Data
		id := list["keys"].([]any)[0].(string)
		info := list["key_info"].(map[string]any)[id].(map[string]any)
		if info["kind"] != "disable" || info["path"] != "m/" {
			t.Errorf("listed: %v", list)
		}
		for path, op := range map[string]route.Op{"sys/jobs": route.List, "sys/jobs/" + id: route.Read} {
			plain := s.Login(`path "sys/jobs*" { capabilities = ["read", "list"] }`)
			s.RefusedDo(coretest.Request{Op: op, Path: path, Token: plain}, fault.Denied, "permission denied")
			sudo := s.Login(`path "sys/jobs*" { capabilities = ["read", "list", "sudo"] }`)
			s.MustDo(coretest.Request{Op: op, Path: path, Token: sudo})
		}
		s.Things.Undo(nil)
		s.Must(route.Write, "sys/leases/revoke-force/m", "")
		time.Sleep(2 * time.Minute)
		s.Refused(route.List, "sys/jobs", "", fault.NotFound, "")
		s.Stop()
	})
}

func TestServerRoutes(t *testing.T) {
	s := coretest.Start(t)
	s.Refused(route.Read, "sys/metrics", "", fault.Unsupported, "keeps no metrics")
	s.Must(route.Write, "sys/clock/trust", "")
	measured := coretest.Start(t, func(c *core.Config) {
		c.Metrics = func(_ context.Context, format, _ string) ([]byte, string, error) {
			return []byte("metric{format=\"" + format + "\"} 1\n"), "text/plain", nil
		}
	})
	a := measured.MustDo(coretest.Request{
		Op: route.Read, Path: "sys/metrics", Query: map[string][]string{"format": {"prometheus"}},
	})
	if a.Body != "metric{format=\"prometheus\"} 1\n" {
		t.Errorf("metrics are %q", a.Body)
	}
}

// TestOpenAPITokens: the document includes the deprecated paths that contain a token.
func TestOpenAPITokens(t *testing.T) {
	s := coretest.Start(t)
	var doc struct {
		Paths map[string]map[string]json.RawMessage `json:"paths"`
	}
	if err := json.Unmarshal([]byte(s.Must(route.Read, "sys/internal/specs/openapi", "").Body), &doc); err != nil {
		t.Fatal(err)
	}
	for _, form := range []string{"lookup", "renew", "revoke", "revoke-orphan"} {
		if post := string(doc.Paths["/auth/token/"+form+"/{token}"]["post"]); !strings.Contains(post,
			`"deprecated":true`) {
			t.Errorf("%s is described as %s", form, post)
		}
		if post := string(doc.Paths["/auth/token/"+form]["post"]); post == "" || strings.Contains(post, "deprecated") {
			t.Errorf("the form of %s with a body is described as %s", form, post)
		}
	}
}
