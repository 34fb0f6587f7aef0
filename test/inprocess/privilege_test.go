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
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage/memory"
)

// clerk returns a token with a policy of the given text.
func (s *server) clerk(t *testing.T, name, text string) string {
	t.Helper()
	s.must(t, route.Write, "sys/policies/acl/"+name, s.root, fmt.Sprintf(`{"policy":%q}`, text))
	return s.must(t, route.Write, "auth/token/create", s.root,
		fmt.Sprintf(`{"policies":[%q]}`, name)).Auth["client_token"].(string)
}

// TestRolesGiveNoMore requests more from a role than the caller may have and the role allows.
func TestRolesGiveNoMore(t *testing.T) {
	s := start(t, memory.Open())
	s.must(t, route.Write, "sys/policies/acl/admin", s.root, `{"policy":"path \"*\" { capabilities = [\"read\"] }"}`)
	s.must(t, route.Write, "auth/token/roles/plain", s.root, `{}`)
	s.must(t, route.Write, "auth/token/roles/bound", s.root,
		`{"allowed_policies":["default"],"token_bound_cidrs":["10.0.0.0/8"]}`)
	s.must(t, route.Write, "auth/token/roles/periodic", s.root, `{"allowed_policies":["default"],"token_period":"1h"}`)
	s.must(t, route.Write, "auth/token/roles/not", s.root,
		`{"disallowed_policies":["Clerk"],"disallowed_policies_glob":["Adm*"]}`)
	clerk := s.clerk(t, "clerk", `path "auth/token/create/*" { capabilities = ["update"] }`)
	for _, c := range []struct {
		name, role, body string
		kind             fault.Kind // the kind of the refusal; 0 if there is none
	}{
		{"a policy of another", "plain", `{"policies":["admin"]}`, fault.Denied},
		{"root", "plain", `{"policies":["root"]}`, fault.Denied},
		{"no parent", "plain", `{"policies":["clerk"],"no_parent":true}`, fault.Invalid},
		{"a period", "plain", `{"policies":["clerk"],"period":"24h"}`, fault.Invalid},
		{"a policy that is disallowed", "not", `{"policies":["clerk"]}`, fault.Invalid},
		{"a policy that a pattern disallows", "not", `{"policies":["ADMIN"]}`, fault.Invalid},
		{"its own", "plain", `{"policies":["clerk"]}`, 0},
		{"nothing", "plain", `{}`, 0},
		{"the role's period", "periodic", `{}`, 0},
		{"a longer period than the role's", "periodic", `{"period":"24h"}`, 0},
		{"more addresses", "bound", `{"bound_cidrs":["0.0.0.0/0","10.1.0.0/16"]}`, 0},
	} {
		a, err := s.ask(t, route.Write, "auth/token/create/"+c.role, clerk, c.body)
		if fault.KindOf(err) != c.kind || (err != nil) != (c.kind != 0) {
			t.Errorf("%s: answered %v, %v, want a refusal of kind %s", c.name, a, err, c.kind)
		}
		if err != nil {
			continue
		}
		made := s.must(t, route.Write, "auth/token/lookup", s.root,
			fmt.Sprintf(`{"token":%q}`, a.Auth["client_token"])).Data
		switch {
		case made["orphan"] == true:
			t.Errorf("%s: the token is an orphan: %v", c.name, made)
		case c.role != "bound" && slices.Contains(made["policies"].([]any), any("admin")):
			t.Errorf("%s: policies %v", c.name, made["policies"])
		case c.role == "periodic" && made["period"] != 3600.0:
			t.Errorf("%s: period %v", c.name, made["period"])
		case c.role == "bound" && fmt.Sprint(made["bound_cidrs"]) != "[10.0.0.0/8 10.1.0.0/16]":
			t.Errorf("%s: bound_cidrs %v, want what the request and the role have in common", c.name,
				made["bound_cidrs"])
		}
	}
	if _, err := s.ask(t, route.Write, "auth/token/create/bound", clerk,
		`{"bound_cidrs":["192.168.0.0/16"]}`); !fault.Is(err, fault.Invalid) {
		t.Errorf("addresses outside of the role's: %v", err)
	}
}

// TestLeaseOfThePath revokes and renews with a policy for one lease, and names another one in the
// body.
func TestLeaseOfThePath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLife(t)
		l.must(t, route.Write, "sys/mounts/issuer", l.root, `{"type":"issuer"}`)
		theirs := l.must(t, route.Write, "issuer/creds/theirs", l.root, `{}`).LeaseID
		own := l.must(t, route.Write, "issuer/creds/own", l.root, `{}`).LeaseID
		var text strings.Builder
		for _, base := range []string{"sys/leases/", "sys/"} {
			fmt.Fprintf(&text, "path %q { capabilities = [\"update\"] }\n", base+"renew/issuer/creds/own/*")
			fmt.Fprintf(&text, "path %q { capabilities = [\"update\"] }\n", base+"revoke/issuer/creds/own/*")
		}
		clerk := l.clerk(t, "clerk", text.String())
		for _, path := range []string{"sys/leases/renew/", "sys/leases/revoke/", "sys/renew/", "sys/revoke/"} {
			for _, field := range []string{"lease_id", "url_lease_id"} {
				_, err := l.ask(t, route.Write, path+own, clerk,
					fmt.Sprintf(`{%q:%q,"sync":true,"increment":"1h"}`, field, theirs))
				if !fault.Is(err, fault.Invalid) {
					t.Errorf("%s with %s of another lease: %v", path, field, err)
				}
			}
		}
		if alive := l.out.Attempts(); len(alive) != 2 {
			t.Errorf("of two leases these are left: %v", alive)
		}
		l.must(t, route.Write, "sys/leases/renew/"+own, clerk, fmt.Sprintf(`{"lease_id":%q}`, own))
		l.must(t, route.Write, "sys/leases/renew", l.root, fmt.Sprintf(`{"url_lease_id":%q}`, own))
		l.must(t, route.Write, "sys/leases/revoke/"+own, clerk, `{"sync":true}`)
	})
}

// TestLoginMethodsNeedSudo changes login methods with policies that allow the path, but not what
// Vault protects there.
func TestLoginMethodsNeedSudo(t *testing.T) {
	s := start(t, memory.Open())
	clerk := s.clerk(t, "clerk", `path "sys/auth/*" { capabilities = ["create", "read", "update", "delete"] }`)
	for _, c := range []struct {
		op         route.Op
		path, body string
	}{
		{route.Read, "sys/auth/token", ""},
		{route.Read, "sys/auth/token/tune", ""},
		{route.Write, "sys/auth/other", `{"type":"approle"}`},
		{route.Write, "sys/auth/token/tune", `{"description":"x"}`},
		{route.Delete, "sys/auth/other", ""},
	} {
		if _, err := s.ask(t, c.op, c.path, clerk, c.body); !fault.Is(err, fault.Denied) {
			t.Errorf("%s %s without sudo: %v", c.op, c.path, err)
		}
	}
	chief := s.clerk(t, "chief", `path "sys/auth/*" { capabilities = ["read", "update", "sudo"] }`)
	s.must(t, route.Write, "sys/auth/token/tune", chief, `{"description":"x"}`)
	s.must(t, route.Read, "sys/auth/token/tune", chief, "")
}

func (s *server) token() secret.Value { return secret.Text(s.root) }

// TestWrappingNeedsACaller looks up a wrapping token without another token and requests a wrapped
// answer. The new token would have no owner, and no policy would limit its TTL.
func TestWrappingNeedsACaller(t *testing.T) {
	st := memory.Open()
	s := start(t, st)
	a, err := s.askWrapped(t, route.Read, "sys/mounts", s.root, "", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	before := lasting(t, st)
	for _, op := range []route.Op{route.Read, route.Write} {
		got, err := s.askWrapped(t, op, "sys/wrapping/lookup", a.Wrap["token"].(string), "", 250*365*24*time.Hour)
		if err != nil || got.Wrap != nil || got.Data["creation_path"] != "sys/mounts" {
			t.Errorf("%s: %+v, %v", op, got, err)
		}
	}
	if after := lasting(t, st); len(after) != len(before) {
		t.Errorf("%d rows, and %d before", len(after), len(before))
	}
}
