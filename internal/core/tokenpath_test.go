package core_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/core/coretest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
)

// TestTokenInPath: policies judge the path with the token; the audit log, errors and the
// creation_path of wrapped answers do not contain the token.
func TestTokenInPath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := coretest.Start(t)
		s.Must(route.Write, "sys/audit/tape", `{"type":"tape"}`)
		s.Must(route.Write, "sys/mounts/auth/token/tune", `{"audit_non_hmac_request_keys":["token","increment"]}`)
		caller := s.Login(`path "auth/token/lookup/canary-mine" { capabilities = ["read", "update"] }
			path "auth/token/lookup/canary-c*" { capabilities = ["update"] }
			path "auth/token/revoke-orphan/*" { capabilities = ["update"] }`)
		for _, id := range []string{"canary-mine", "canary-child", "canary-other"} {
			s.Must(route.Write, "auth/token/create", `{"policies":["default"],"ttl":"1h","id":"`+id+`"}`)
		}
		as := func(op route.Op, path string) coretest.Request {
			return coretest.Request{Op: op, Path: path, Token: caller}
		}
		before := len(s.Tape.Text())
		s.MustDo(as(route.Read, "auth/token/lookup/canary-mine"))
		s.MustDo(as(route.Write, "auth/token/lookup/canary-child/"))
		for _, r := range []coretest.Request{as(route.Read, "auth/token/lookup/canary-child"), as(route.Read,
			"auth/token/lookup/canary-other"), as(route.Write, "auth/token/revoke-orphan/canary-other")} {
			s.RefusedDo(r, fault.Denied, "permission denied")
		}
		a := s.MustDo(coretest.Request{Op: route.Read, Path: "auth/token/lookup/canary-mine", Wrap: time.Minute})
		if a.Wrap["creation_path"] != "auth/token/lookup/[token]" || strings.Contains(a.Body, "canary") {
			t.Errorf("wrapped: %s", a.Body)
		}
		a = s.MustDo(coretest.Request{Op: route.Write, Path: "sys/wrapping/lookup", Token: a.Wrap["token"].(string)})
		if a.Data["creation_path"] != "auth/token/lookup/[token]" {
			t.Errorf("what is wrapped: %s", a.Body)
		}
		if a := s.Must(route.Write, "auth/token/renew/canary-mine", `{"increment":"2h"}`); a.Status != 200 ||
			a.Auth["lease_duration"] != 7200.0 || len(a.Warnings) != 1 {
			t.Errorf("renewed: %s", a.Body)
		}
		if a := s.Must(route.Write, "auth/token/revoke/canary-mine", ""); a.Status != 200 || len(a.Warnings) != 1 {
			t.Errorf("revoked: %d %s", a.Status, a.Body)
		}
		s.Must(route.Write, "auth/token/revoke-orphan/canary-child", "")
		checkUnserved(t, s)
		s.Must(route.Help, "auth/token/lookup/canary-other", "")
		s.Must(route.Write, "sys/capabilities-self", `{"paths":["auth/token/lookup/canary-other","x"]}`)

		text := s.Tape.Text()[before:]
		if strings.Contains(text, "canary") {
			t.Errorf("the audit log has a token: %s", text)
		}
		for _, want := range []string{
			`"path":"auth/token/lookup/[token]"`, `"path":"auth/token/renew/[token]"`,
			`"path":"auth/token/revoke/[token]"`, `"path":"auth/token/revoke-orphan/[token]"`,
			`"data":{"increment":"2h","token":"hmac-sha256:`, `"creation_path":"auth/token/lookup/[token]"`,
			`"auth/token/lookup/[token]":[`,
		} {
			if !strings.Contains(text, want) {
				t.Errorf("the audit log has no %s: %s", want, text)
			}
		}
		s.Stop()
	})
}

// checkUnserved requests paths that no route serves. Neither the errors nor the audit log contain
// the token.
func checkUnserved(t *testing.T, s *coretest.Server) {
	t.Helper()
	for _, r := range []coretest.Request{
		{Op: route.Delete, Path: "auth/token/lookup/canary-other"}, {
			Op: route.List, Path: "auth/token/lookup/canary-other",
		}, {Op: route.Patch, Path: "auth/token/renew/canary-other"},
		{Op: route.Read, Path: "auth/token/lookup/canary-other/more"}, {
			Op: route.Read, Path: "auth/token/Lookup/canary-other",
		}, {Op: route.Read, Path: "Auth/Token/lookup/canary-other"},
		{Op: route.Read, Path: "auth/tok/lookup/canary-other"}, {Op: route.Read, Path: "token/lookup/canary-other"},
		{Op: route.Read, Path: "ns/auth/token/lookup/canary-other"},
		{Op: route.Read, Path: "auth/token/lookup%252Fcanary-other"},
		{Op: route.Read, Path: "auth/token/lookup/../canary-other"},
		{Op: route.Read, Path: "sys/internal/ui/mounts/auth/nothing/lookup/canary-other"},
	} {
		if a, err := s.Do(r); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s %s: %+v, %v", r.Op, r.Path, a, err)
		}
	}
}
