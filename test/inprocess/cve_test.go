package inprocess_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage/memory"
)

// TestCVE_2025_52894 also covers CVE-2026-5807: only the routes of this list need no token, and no
// operator's route is in it.
func TestCVE_2025_52894(t *testing.T) {
	want := []string{"read sys/wrapping/lookup", "update sys/wrapping/lookup", "update sys/wrapping/rewrap",
		"update sys/wrapping/unwrap"}
	var public, own []string
	for mount, routes := range everyRoute(t, newOutside()) {
		for _, r := range routes {
			if r.Public {
				public = append(public, string(r.Op)+" "+mount+r.Pattern)
			}
			if r.Own {
				own = append(own, string(r.Op)+" "+mount+r.Pattern)
			}
		}
	}
	slices.Sort(public)
	if !slices.Equal(public, want) {
		t.Errorf("without a token: %q, want %q", public, want)
	}
	slices.Sort(own)
	if want := []string{"read sys/internal/specs/openapi", "read sys/internal/ui/mounts",
		"read sys/internal/ui/mounts/{path...}"}; !slices.Equal(own, want) {
		t.Errorf("with any token: %q, want %q", own, want)
	}
	s := start(t, memory.Open())
	weak := s.clerk(t, "weak", `path "nothing" { capabilities = ["read"] }`)
	for _, path := range []string{
		"sys/rekey/init", "sys/rekey/update", "sys/rekey/verify", "sys/rekey-recovery-key/init",
		"sys/generate-root/attempt", "sys/generate-root/update",
		"sys/decode-token", "sys/seal", "sys/step-down", "sys/rotate", "sys/raw/core/keyring", "sys/storage/raft/join",
		"sys/clock/trust", "sys/metrics",
	} {
		// help is allowed for every token
		for _, op := range []route.Op{route.Read, route.Write, route.Delete, route.List, route.Patch} {
			for _, tok := range []string{"", "hvs.nobody", weak} {
				if a, err := s.ask(t, op, path, tok, ""); !fault.Is(err, fault.Denied) {
					t.Errorf("%s %s with token %.10q: %v, %v", op, path, tok, a, err)
				}
			}
		}
	}
	s.must(t, route.Read, "sys/mounts", s.root, "")
}

// TestCVE_2024_9180 also covers CVE-2025-5999: only root can grant root, in any spelling.
func TestCVE_2024_9180(t *testing.T) {
	s := start(t, memory.Open())
	s.must(t, route.Write, "auth/token/roles/any", s.root, `{"disallowed_policies":["other"]}`)
	s.must(t, route.Write, "auth/token/roles/globs", s.root, `{"allowed_policies_glob":["*","r*","root"]}`)
	clerk := s.clerk(t, "clerk",
		`path "auth/token/*" { capabilities = ["create", "update", "sudo"] }`+"\n"+
			`path "sys/policies/acl/*" { capabilities = ["create", "update"] }`)
	for _, name := range []string{"root", "Root", "ROOT", " root", "root ", "root\\t", "\\u0000root", "root\\u0000",
		"ｒｏｏｔ", "rооt", "root,default", "default,ROOT", "root\\n", "../root", "root/", "root\\u200b"} {
		for _, path := range []string{"auth/token/create", "auth/token/create-orphan", "auth/token/create/any",
			"auth/token/create/globs"} {
			for _, form := range []string{`{"policies":["%s"]}`, `{"policies":"%s"}`, `{"policy":"%s"}`,
				`{"policies":["clerk","%s"]}`, `{"policies":["clerk"],"policy":["%s"]}`} {
				a, err := s.ask(t, route.Write, path, clerk, fmt.Sprintf(form, name))
				if err == nil {
					t.Errorf("%s with %s made %v", path, fmt.Sprintf(form, name), a.Auth["policies"])
				}
			}
		}
		path := "sys/policies/acl/" + strings.ReplaceAll(name, "\\t", "")
		if !strings.ContainsAny(path, "\\ .,") && !strings.HasSuffix(path, "/") {
			if _, err := s.ask(t, route.Write, path, clerk,
				`{"policy":"path \"*\" { capabilities = [\"read\"] }"}`); err == nil {
				t.Errorf("%s was written", path)
			}
		}
	}
}

// TestCVE_2026_105820 also covers CVE-2026-115365: a policy's name can neither leave the folder of
// policies nor stand for several names.
func TestCVE_2026_105820(t *testing.T) {
	s := start(t, memory.Open())
	for _, name := range []string{"a%2fb", "a,b", "%20a", "a%20", "..%2fmount", "...", "%2e%2e%2e", "a%00", "a%5cb",
		"ä", strings.Repeat("a", 129)} {
		for _, base := range []string{"sys/policies/acl/", "sys/policy/", "sys/policies/password/"} {
			p, err := route.ParsePath(base+name, false)
			if err != nil {
				continue
			}
			a, err := s.Handle(t.Context(), &route.Request{ID: "x", Op: route.Write, Path: p, Token: s.token(),
				Body: []byte(`{"policy":"length = 8 rule \"charset\" { charset = \"ab\" }"}`), Time: time.Now()})
			if err == nil {
				t.Errorf("%s%s was written: %s", base, name, a.Body)
			}
		}
	}
	// "ab" and "c" are other policies than "a" and "bc", and than "abc".
	for _, name := range []string{"a", "ab", "abc", "bc", "c"} {
		s.must(t, route.Write, "sys/policies/acl/"+name, s.root,
			fmt.Sprintf(`{"policy":"path \"cubbyhole/%s\" { capabilities = [\"create\", \"update\"] }"}`, name))
	}
	for _, set := range [][]string{{"ab", "c"}, {"a", "bc"}, {"abc"}} {
		tok := s.must(t, route.Write, "auth/token/create", s.root,
			fmt.Sprintf(`{"policies":%q,"no_default_policy":true}`,
				strings.Join(set, ","))).Auth["client_token"].(string)
		for _, name := range []string{"a", "ab", "abc", "bc", "c"} {
			_, err := s.ask(t, route.Write, "cubbyhole/"+name, tok, `{"x":"y"}`)
			if may := slices.Contains(set, name); may != (err == nil) {
				t.Errorf("policies %q write to %s: %v", set, name, err)
			}
		}
	}
}

// TestCVE_2026_42186 mounts again where a mount was disabled, and creates a token with the same
// name. Nothing of the old ones exists.
func TestCVE_2026_42186(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLife(t)
		for _, kv := range []string{`{"type":"kv"}`, `{"type":"kv","options":{"version":"2"}}`} {
			l.must(t, route.Write, "sys/mounts/kv", l.root, kv)
			l.must(t, route.Write, "kv/data/x", l.root, `{"data":{"a":"CANARY"}}`)
			l.must(t, route.Delete, "sys/mounts/kv", l.root, "")
			l.must(t, route.Write, "sys/mounts/kv", l.root, kv)
			for _, path := range []string{"kv/data/x", "kv/metadata/x"} {
				if a, err := l.ask(t, route.Read, path, l.root, ""); !fault.Is(err, fault.NotFound) {
					t.Errorf("%s after disabling: %v, %v", path, a, err)
				}
			}
			if _, err := l.ask(t, route.List, "kv/metadata", l.root, ""); !fault.Is(err, fault.NotFound) {
				t.Errorf("a list after disabling: %v", err)
			}
			l.must(t, route.Delete, "sys/mounts/kv", l.root, "")
		}
		for range 2 {
			l.must(t, route.Write, "auth/token/create", l.root, `{"id":"again","policies":["default"]}`)
			if a, err := l.ask(t, route.Read, "cubbyhole/x", "again", ""); !fault.Is(err, fault.NotFound) {
				t.Errorf("a fresh token's cubbyhole: %v, %v", a, err)
			}
			l.must(t, route.Write, "cubbyhole/x", "again", `{"a":"CANARY"}`)
			l.must(t, route.Write, "auth/token/revoke", l.root, `{"token":"again"}`)
			time.Sleep(time.Minute)
			synctest.Wait()
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		for key, e := range rows(t, l.st) {
			if strings.Contains(string(e.Value), "CANARY") {
				t.Errorf("%s is left", key)
			}
		}
	})
}

// TestCVE_2026_46405 checks that an error answer contains no token.
func TestCVE_2026_46405(t *testing.T) {
	st := memory.Open()
	s := start(t, st)
	s.must(t, route.Write, "auth/token/roles/r", s.root, `{"allowed_policies":["default"]}`)
	clerk := s.clerk(t, "clerk", `path "auth/token/*" { capabilities = ["create", "update"] }`)
	before := lasting(t, st)
	for path, bodies := range map[string][]string{
		"auth/token/create": {
			`{"policies":["admin"]}`, `{"policies":["root"]}`, `{"ttl":"x"}`, `{"ttl":"-1s"}`, `{"type":"x"}`,
			`{"num_uses":-1}`, `{"period":"1h"}`, `{"no_parent":true}`,
			`{"id":"chosen"}`, `{"bound_cidrs":["x"]}`, `{"type":"batch","num_uses":1}`, `{"meta":5}`,
			`{"policies":{}}`,
		},
		"auth/token/create-orphan": {`{"policies":["admin"]}`, `{"policies":["root"]}`, `{"period":"1h"}`},
		"auth/token/create/r":      {`{"policies":["admin"]}`, `{"no_parent":true}`, `{"period":"1h"}`},
		"auth/token/create/none":   {`{}`},
		"auth/token/renew":         {`{"token":"x"}`},
	} {
		for _, body := range bodies {
			for _, wrap := range []time.Duration{0, time.Minute} {
				if a, err := s.askWrapped(t, route.Write, path, clerk, body, wrap); err == nil {
					t.Errorf("%s %s answered %+v", path, body, a)
				}
			}
		}
	}
	after := lasting(t, st)
	for key, version := range after {
		if before[key] != version {
			t.Errorf("%s was written", key)
		}
	}
	if len(after) != len(before) {
		t.Errorf("%d rows, and %d before", len(after), len(before))
	}
}
