package inprocess_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage/memory"
)

// clerk is a token with a policy of the given text.
func (s *server) clerk(t *testing.T, name, text string) string {
	t.Helper()
	s.must(t, route.Write, "sys/policies/acl/"+name, s.root, fmt.Sprintf(`{"policy":%q}`, text))
	return s.must(t, route.Write, "auth/token/create", s.root, fmt.Sprintf(`{"policies":[%q]}`, name)).Auth["client_token"].(string)
}

// TestRolesGiveNoMore asks a role for what the caller may not have and the role
// does not give.
func TestRolesGiveNoMore(t *testing.T) {
	s := start(t, memory.Open())
	s.must(t, route.Write, "sys/policies/acl/admin", s.root, `{"policy":"path \"*\" { capabilities = [\"read\"] }"}`)
	s.must(t, route.Write, "auth/token/roles/plain", s.root, `{}`)
	s.must(t, route.Write, "auth/token/roles/bound", s.root, `{"allowed_policies":["default"],"token_bound_cidrs":["10.0.0.0/8"]}`)
	s.must(t, route.Write, "auth/token/roles/periodic", s.root, `{"allowed_policies":["default"],"token_period":"1h"}`)
	s.must(t, route.Write, "auth/token/roles/not", s.root, `{"disallowed_policies":["Clerk"],"disallowed_policies_glob":["Adm*"]}`)
	clerk := s.clerk(t, "clerk", `path "auth/token/create/*" { capabilities = ["update"] }`)
	for _, c := range []struct {
		name, role, body string
		kind             fault.Kind // of the refusal; 0: there is none
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
		made := s.must(t, route.Write, "auth/token/lookup", s.root, fmt.Sprintf(`{"token":%q}`, a.Auth["client_token"])).Data
		switch {
		case made["orphan"] == true:
			t.Errorf("%s: the token is an orphan: %v", c.name, made)
		case c.role != "bound" && slices.Contains(made["policies"].([]any), any("admin")):
			t.Errorf("%s: policies %v", c.name, made["policies"])
		case c.role == "periodic" && made["period"] != 3600.0:
			t.Errorf("%s: period %v", c.name, made["period"])
		case c.role == "bound" && fmt.Sprint(made["bound_cidrs"]) != "[10.0.0.0/8 10.1.0.0/16]":
			t.Errorf("%s: bound_cidrs %v, want what the request and the role have in common", c.name, made["bound_cidrs"])
		}
	}
	if _, err := s.ask(t, route.Write, "auth/token/create/bound", clerk, `{"bound_cidrs":["192.168.0.0/16"]}`); !fault.Is(err, fault.Invalid) {
		t.Errorf("addresses outside of the role's: %v", err)
	}
}
