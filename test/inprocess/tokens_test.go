package inprocess_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/engine/kv"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage/memory"
)

// policiesOf returns the policies of the token in an answer.
func policiesOf(a *answer) string {
	var names []string
	for _, p := range a.Auth["policies"].([]any) {
		names = append(names, p.(string))
	}
	return strings.Join(names, " ")
}

// TestRootComesOnlyFromRoot checks that token roles give no root token. Once, a token that could
// write and use token roles got one with a role for root, and with that a periodic orphan.
func TestRootComesOnlyFromRoot(t *testing.T) {
	s := start(t, memory.Open())
	clerk := s.clerk(t, "clerk", `path "auth/token/roles/*" { capabilities = ["create", "update", "sudo"] }
path "auth/token/create*" { capabilities = ["create", "update", "sudo"] }`)
	for _, body := range []string{`{"allowed_policies":["root"]}`, `{"allowed_policies":"x,root"}`,
		`{"allowed_policies":["ROOT"]}`, `{"allowed_policies":[" root "]}`} {
		if _, err := s.ask(t, route.Write, "auth/token/roles/evil", clerk, body); !fault.Is(err, fault.Denied) {
			t.Errorf("a role with %s was written: %v", body, err)
		}
	}
	s.must(t, route.Write, "auth/token/roles/named", s.root, `{"allowed_policies":["root","x"]}`)
	s.must(t, route.Write, "auth/token/roles/glob", s.root, `{"allowed_policies_glob":["*"]}`)
	s.must(t, route.Write, "auth/token/roles/others", s.root,
		`{"disallowed_policies":["x"],"orphan":true,"token_period":"1h"}`)
	for _, path := range []string{"create", "create-orphan", "create/named", "create/glob", "create/others"} {
		for _, body := range []string{`{"policies":["root"]}`, `{"policies":["x","root"],"period":"1h"}`,
			`{"policies":"root","type":"batch"}`, `{"policies":["root"],"no_parent":true,"ttl":"1h"}`} {
			if a, err := s.ask(t, route.Write, "auth/token/"+path, clerk, body); !fault.Is(err, fault.Denied) &&
				!fault.Is(err, fault.Invalid) {
				t.Errorf("auth/token/%s %s: %+v, %v", path, body, a, err)
			}
		}
	}
	if a, err := s.ask(t, route.Write, "auth/token/create/named", clerk, `{}`); !fault.Is(err, fault.Denied) {
		t.Errorf("unasked, by a role that names root: %+v, %v", a, err)
	}
	if got := policiesOf(
		s.must(t, route.Write, "auth/token/create/named", s.root, `{"policies":["root"]}`)); got != "root" {
		t.Errorf("root by a role, of root: %s", got)
	}
	s.must(t, route.Delete, "auth/token/roles/named", s.root, "")
}

// TestChildHoldsNoMoreThanItsMaker checks policies and bound addresses of child tokens.
func TestChildHoldsNoMoreThanItsMaker(t *testing.T) {
	s := start(t, memory.Open())
	s.must(t, route.Write, "sys/policies/acl/maker", s.root,
		`{"policy":"path \"auth/token/create\" { capabilities = [\"update\"] }\npath \"auth/token/create-orphan\" { capabilities = [\"update\"] }"}`)
	s.must(t, route.Write, "sys/policies/acl/free", s.root,
		`{"policy":"path \"auth/token/create\" { capabilities = [\"update\", \"sudo\"] }"}`)
	make := func(tok, path, body string) *answer { return s.must(t, route.Write, "auth/token/"+path, tok, body) }
	bare := make(s.root, "create",
		`{"policies":["maker"],"no_default_policy":true,"bound_cidrs":["127.0.0.0/8"]}`).Auth["client_token"].(string)
	for path, bodies := range map[string][]string{"create": {`{}`, `{"policies":["maker"]}`,
		`{"policies":["maker"],"no_default_policy":false}`}, "create-orphan": {`{}`}} {
		for _, body := range bodies {
			a := make(bare, path, body)
			if got := policiesOf(a); got != "maker" {
				t.Errorf("%s %s of one without default: %s", path, body, got)
			}
			made := s.must(t, route.Write, "auth/token/lookup", s.root,
				fmt.Sprintf(`{"token":%q}`, a.Auth["client_token"])).Data
			if got := fmt.Sprint(made["bound_cidrs"]); got != "[127.0.0.0/8]" {
				t.Errorf("%s %s: bound to %s", path, body, got)
			}
		}
	}
	if _, err := s.ask(t, route.Write, "auth/token/create", bare, `{"policies":["default"]}`); !fault.Is(err,
		fault.Denied) {
		t.Errorf("default was asked for and given: %v", err)
	}
	if _, err := s.ask(t, route.Write, "auth/token/create", bare, `{"bound_cidrs":["10.0.0.0/8"]}`); !fault.Is(err,
		fault.Invalid) {
		t.Errorf("other addresses: %v", err)
	}
	// Sudo on the path allows what is documented: other policies, no parent, a period, and other
	// addresses.
	free := make(s.root, "create",
		`{"policies":["free"],"no_default_policy":true,"bound_cidrs":["127.0.0.0/8"]}`).Auth["client_token"].(string)
	a := make(free, "create", `{"policies":["maker"],"no_parent":true,"period":"1h","bound_cidrs":["10.0.0.0/8"]}`)
	if got := policiesOf(a); got != "default maker" || a.Auth["orphan"] != true || a.Auth["lease_duration"] != 3600.0 {
		t.Errorf("by sudo: %+v", a.Auth)
	}
	for _, body := range []string{`{"no_parent":true}`, `{"period":"1h"}`, `{"policies":["free"]}`, `{"id":"mine"}`} {
		if _, err := s.ask(t, route.Write, "auth/token/create", bare, body); err == nil {
			t.Errorf("%s without sudo was answered", body)
		}
	}
	if _, err := s.ask(t, route.Write, "auth/token/create", free, `{"id":"mine"}`); err == nil {
		t.Error("a token was chosen by one that is not root")
	}
}

// TestOneFormOfAName checks that a rule about prod also holds for PROD, because both name the same
// object.
func TestOneFormOfAName(t *testing.T) {
	s := start(t, memory.Open())
	rule := `{"policy":"path \"secret/*\" { capabilities = [\"read\"] }"}`
	for _, name := range []string{"prod", "team/pa", "on call"} {
		s.must(t, route.Write, "sys/policies/acl/"+strings.ReplaceAll(name, " ", "%20"), s.root, rule)
	}
	s.must(t, route.Write, "sys/policies/password/prod", s.root,
		`{"policy":"length = 8 rule \"charset\" { charset = \"ab\" }"}`)
	s.must(t, route.Write, "auth/token/roles/admin", s.root, `{"allowed_policies":["default"]}`)
	clerk := s.clerk(t, "clerk", `path "sys/policies/acl/*" { capabilities = ["create", "update", "delete", "read"] }
path "sys/policies/acl/prod" { capabilities = ["read"] }
path "sys/policy/*" { capabilities = ["create", "update", "delete"] }
path "sys/policies/password/*" { capabilities = ["create", "update", "delete", "read"] }
path "auth/token/create/*" { capabilities = ["update"] }
path "auth/token/create/admin" { capabilities = ["update"]
  denied_parameters = { "ttl" = [] } }
path "auth/token/roles/*" { capabilities = ["create", "update", "delete", "read"] }`)
	for path, want := range map[string]string{
		"sys/policies/acl/PROD": "prod", "sys/policies/acl/prod%20": "prod", "sys/policies/acl/%20prod": "prod",
		"sys/policies/acl/Team/PA": "team/pa", "sys/policies/acl/On%20call": "on call",
		"sys/policy/Prod": "prod", "sys/policies/password/PROD": "prod", "auth/token/roles/ADMIN": "admin",
	} {
		for _, op := range []route.Op{route.Write, route.Read, route.Delete} {
			if op == route.Read && strings.HasPrefix(path, "sys/policy/") {
				continue
			}
			_, err := s.ask(t, op, path, clerk, map[route.Op]string{route.Write: rule}[op])
			if !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Message(err), fmt.Sprintf("write %q", want)) {
				t.Errorf("%s %s: %v, want a refusal that says %q", op, path, err, want)
			}
		}
	}
	for _, body := range []string{`{"ttl":"1h"}`, `{"lease":"1h"}`, `{}`} {
		if a, err := s.ask(t, route.Write, "auth/token/create/ADMIN", clerk, body); !fault.Is(err, fault.Invalid) {
			t.Errorf("create/ADMIN %s: %+v, %v", body, a, err)
		}
	}
	if a, err := s.ask(t, route.Write, "auth/token/create/admin", clerk, `{"lease":"1h"}`); !fault.Is(err,
		fault.Denied) {
		t.Errorf("a denied ttl was given as lease: %+v, %v", a, err)
	}
	for _, name := range []string{"prod", "team/pa", "on call"} {
		if got := s.must(t, route.Read, "sys/policies/acl/"+strings.ReplaceAll(name, " ", "%20"), s.root,
			"").Data; got["name"] != name || len(got) != 2 {
			t.Errorf("%s reads as %v", name, got)
		}
	}
	// A name in a body is normalized before the policy check.
	a := s.must(t, route.Write, "auth/token/create", s.root, `{"policies":["PROD"," Team/PA ","On call"]}`)
	if got := policiesOf(a); got != "default on call prod team/pa" {
		t.Errorf("policies: %s", got)
	}
	if a, err := s.ask(t, route.Write, "auth/token/create", s.root, `{"policies":["a,b"]}`); !fault.Is(err,
		fault.Invalid) {
		t.Errorf("one name that is two: %+v, %v", a, err)
	}
	s.must(t, route.Write, "auth/token/create", s.root, `{"policies":"prod, team/pa"}`)
}

// TestParametersUnderTheirSecondNames checks that a rule about the parameter policies also holds
// for its other name, policy.
func TestParametersUnderTheirSecondNames(t *testing.T) {
	s := start(t, memory.Open())
	s.must(t, route.Write, "auth/token/roles/r", s.root, `{"allowed_policies":["default"]}`)
	clerk := s.clerk(t, "clerk", `path "auth/token/create" { capabilities = ["update"]
  denied_parameters = { "policies" = ["clerk"], "ttl" = [], "type" = ["batch"], "display_name" = ["admin"] } }
path "auth/token/roles/*" { capabilities = ["create", "update"]
  denied_parameters = { "token_period" = [], "explicit_max_ttl" = [] } }
path "sys/policies/acl/*" { capabilities = ["create", "update"]
  required_parameters = ["rules"] }
path "sys/leases/*" { capabilities = ["update"]
  denied_parameters = { "lease_id" = ["issuer/*"] } }
path "sys/capabilities-self" { capabilities = ["update"]
  allowed_parameters = { "path" = ["secret/*"] } }`)
	for path, bodies := range map[string][]string{
		"auth/token/create": {`{"policies":["clerk"]}`, `{"policy":["clerk"]}`, `{"policy":"x, CLERK"}`,
			`{"policies":null,"policy":" clerk "}`, `{"ttl":"1h"}`, `{"lease":"1h"}`},
		"auth/token/roles/x": {`{"token_period":"1h"}`, `{"period":"1h"}`, `{"token_explicit_max_ttl":"1h"}`,
			`{"explicit_max_ttl":"1h"}`},
		"sys/policies/acl/x": {`{}`, `{"policy":null}`},
		"sys/leases/revoke": {`{"lease_id":"issuer/creds/x/y"}`, `{"url_lease_id":"issuer/creds/x/y"}`,
			`{"lease_id":"/issuer/creds/x/y"}`},
		"sys/capabilities-self": {`{"paths":["other/x"]}`, `{"path":"other/x"}`, `{"paths":"secret/x,other/x"}`},
	} {
		for _, body := range bodies {
			if a, err := s.ask(t, route.Write, path, clerk, body); !fault.Is(err, fault.Denied) {
				t.Errorf("%s %s: %+v, %v", path, body, a, err)
			}
		}
	}
	for _, body := range []string{`{"type":"batch"}`, `{"type":"default-batch"}`, `{"display_name":"admin"}`,
		`{"display_name":"admin!"}`, `{"display_name":"Admin-"}`} {
		if a, err := s.ask(t, route.Write, "auth/token/create", clerk, body); err == nil {
			t.Errorf("%s: %+v", body, a)
		}
	}
	s.must(t, route.Write, "sys/policies/acl/x", clerk, `{"policy":"path \"a\" { capabilities = [\"read\"] }"}`)
	s.must(t, route.Write, "sys/capabilities-self", clerk, `{"paths":["secret/x","secret/y"]}`)
	if a, err := s.ask(t, route.Write, "auth/token/create", s.root,
		`{"policies":["default"],"policy":["clerk"]}`); !fault.Is(err, fault.Invalid) {
		t.Errorf("two names that say different things: %+v, %v", a, err)
	}
	if got := policiesOf(
		s.must(t, route.Write, "auth/token/create", s.root, `{"policy":["clerk"]}`)); got != "clerk default" {
		t.Errorf("by the second name: %s", got)
	}
}

// TestValuesUnderTheirSecondNames checks that a rule about a type of engine also holds for other
// names of the type.
func TestValuesUnderTheirSecondNames(t *testing.T) {
	s := start(t, memory.Open())
	clerk := s.clerk(t, "clerk", `path "sys/mounts/*" { capabilities = ["create", "update"]
  denied_parameters = { "type" = ["kv"] } }
path "sys/mounts/v2/*" { capabilities = ["create", "update"]
  denied_parameters = { "type" = ["kv-v2"] } }`)
	kinds := []string{"kv-v1", "kv-v2"}
	kinds = append(append(kinds, kv.Type.Name), kv.Type.Aliases...)
	for _, kind := range kinds {
		for _, body := range []string{`{"type":"` + kind + `"}`, `{"type":"plugin","plugin_name":"` + kind + `"}`} {
			if a, err := s.ask(t, route.Write, "sys/mounts/mine", clerk, body); !fault.Is(err, fault.Denied) {
				t.Errorf("%s: %+v, %v", body, a, err)
			}
		}
	}
	s.must(t, route.Write, "sys/mounts/v2/a", clerk, `{"type":"kv-v1"}`) // only the other type is denied there
}

// TestPoliciesAreNoKeys checks that a policy whose name looks like two names gives neither.
func TestPoliciesAreNoKeys(t *testing.T) {
	s := start(t, memory.Open())
	for _, name := range []string{"aadmin", "xdummy"} {
		s.must(t, route.Write, "sys/policies/acl/"+name, s.root,
			`{"policy":"path \"sys/mounts\" { capabilities = [\"read\"] }"}`)
	}
	for _, body := range []string{`{"allowed_policies":["aadmin,xdummy"]}`, `{"allowed_policies_glob":["aadmin,*"]}`,
		`{"disallowed_policies":["a,b"]}`, `{"allowed_policies":[""]}`} {
		if _, err := s.ask(t, route.Write, "auth/token/roles/r", s.root, body); !fault.Is(err, fault.Invalid) {
			t.Errorf("a role with %s: %v", body, err)
		}
	}
	s.must(t, route.Write, "auth/token/roles/r", s.root, `{"allowed_policies":["aadmin","xdummy"]}`)
	both := s.must(t, route.Write, "auth/token/create/r", s.root,
		`{"no_default_policy":true}`).Auth["client_token"].(string)
	s.must(t, route.Read, "sys/mounts", both, "")
}

// TestGuardsCannotBeTuned checks that access to sys/mounts is not enough to make the audit log
// show tokens.
func TestGuardsCannotBeTuned(t *testing.T) {
	s := start(t, memory.Open())
	clerk := s.clerk(t, "clerk", `path "sys/mounts/*" { capabilities = ["create", "update", "read"] }`)
	const tune = `{"audit_non_hmac_request_keys":["token"],"audit_non_hmac_response_keys":["token"]}`
	for _, tok := range []string{clerk, s.root} {
		for _, path := range []string{"sys", "cubbyhole", "identity"} {
			if _, err := s.ask(t, route.Write, "sys/mounts/"+path+"/tune", tok, tune); !fault.Is(err, fault.Invalid) {
				t.Errorf("%s was tuned: %v", path, err)
			}
		}
	}
	if _, err := s.ask(t, route.Write, "sys/mounts/auth/token/tune", clerk, tune); !fault.Is(err, fault.Denied) {
		t.Errorf("auth/token was tuned by another door: %v", err)
	}
	s.must(t, route.Write, "sys/mounts/auth/token/tune", s.root, `{"max_lease_ttl":"1000h"}`)
	guard := s.clerk(t, "guard", `path "sys/mounts/auth/token/tune" { capabilities = ["update", "sudo"] }`)
	s.must(t, route.Write, "sys/mounts/auth/token/tune", guard, `{"max_lease_ttl":"900h"}`)
	s.must(t, route.Write, "sys/mounts/secret", clerk, `{"type":"kv"}`)
	s.must(t, route.Write, "sys/mounts/secret/tune", clerk, `{"audit_non_hmac_request_keys":["note"]}`)
}

// TestWrappingTTLIsBounded checks the limits of the mount and the system. Once, a longer TTL
// overflowed.
func TestWrappingTTLIsBounded(t *testing.T) {
	s := start(t, memory.Open())
	s.must(t, route.Write, "sys/mounts/short", s.root, `{"type":"kv","config":{"max_lease_ttl":"1h"}}`)
	s.must(t, route.Write, "short/x", s.root, `{"a":"b"}`)
	for path, want := range map[string]float64{"short/x": 3600, "auth/token/lookup-self": 32 * 24 * 3600} {
		for _, ttl := range []time.Duration{9223372036 * time.Second, 1<<63 - 1, 33 * 24 * time.Hour} {
			a, err := s.askWrapped(t, route.Read, path, s.root, "", ttl)
			if err != nil || a.Wrap["ttl"] != want {
				t.Errorf("%s for %s: %+v, %v, want %v s", path, ttl, a, err, want)
			}
		}
	}
	a, err := s.askWrapped(t, route.Read, "short/x", s.root, "", time.Minute)
	if err != nil || a.Wrap["ttl"] != 60.0 {
		t.Errorf("%+v, %v", a, err)
	}
	// The policy checks the resulting TTL, not the requested one.
	least := s.clerk(t, "least", `path "short/*" { capabilities = ["read"]
 min_wrapping_ttl = "2h" }`)
	if a, err := s.askWrapped(t, route.Read, "short/x", least, "", 3*time.Hour); !fault.Is(err, fault.Denied) {
		t.Errorf("wrapped for less than the rule wants: %+v, %v", a, err)
	}
}

// TestWrappedTokenThatNobodyUnwraps ends with its wrapping; one that was unwrapped lives.
func TestWrappedTokenThatNobodyUnwraps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLife(t)
		wrapped := func() (wrapping, accessor string) {
			a, err := l.askWrapped(t, route.Write, "auth/token/create", l.root, `{"policies":["default"],"ttl":"10h"}`,
				time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			return a.Wrap["token"].(string), a.Wrap["wrapped_accessor"].(string)
		}
		alive := func(accessor string) bool {
			_, err := l.ask(t, route.Write, "auth/token/lookup-accessor", l.root,
				fmt.Sprintf(`{"accessor":%q}`, accessor))
			return err == nil
		}
		_, left := wrapped()
		opened, used := wrapped()
		again, moved := wrapped()
		ended, revoked := wrapped()
		l.must(t, route.Write, "sys/wrapping/unwrap", opened, "")
		// A renewal that is wrapped is of a token that was there before.
		mine := l.must(t, route.Write, "auth/token/create", l.root, `{"policies":["default"],"ttl":"10h"}`).Auth
		if _, err := l.askWrapped(t, route.Write, "auth/token/renew-self", mine["client_token"].(string), "",
			time.Minute); err != nil {
			t.Fatal(err)
		}
		time.Sleep(30 * time.Second)
		l.must(t, route.Write, "sys/wrapping/rewrap", l.root, fmt.Sprintf(`{"token":%q}`, again))
		l.must(t, route.Write, "auth/token/revoke", l.root, fmt.Sprintf(`{"token":%q}`, ended))
		if alive(revoked) {
			t.Error("the wrapping token was revoked, and the token inside lives")
		}
		if !alive(left) || !alive(used) || !alive(moved) {
			t.Error("a token ended before its wrapping")
		}
		time.Sleep(35 * time.Second)
		synctest.Wait()
		if alive(left) {
			t.Error("the wrapping has ended, and the token inside lives")
		}
		if !alive(used) || !alive(moved) || !alive(mine["accessor"].(string)) {
			t.Error("a token was revoked that was unwrapped, wrapped anew or never in it")
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if alive(moved) {
			t.Error("the second wrapping has ended, and the token inside lives")
		}
		for key := range rows(t, l.st) {
			if strings.HasPrefix(key, "wrapped/") {
				t.Errorf("%s is left", key)
			}
		}
	})
}

// TestExpiryIsJudgedAtTheEffect: a token that was good when the request's head came, and is not
// when its body has come, does nothing.
func TestExpiryIsJudgedAtTheEffect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLife(t)
		l.must(t, route.Write, "sys/mounts/issuer", l.root, `{"type":"issuer"}`)
		l.must(t, route.Write, "sys/policies/acl/all", l.root,
			`{"policy":"path \"*\" { capabilities = [\"create\", \"update\", \"read\"] }"}`)
		for _, kind := range []string{"service", "batch"} {
			for _, parent := range []string{"create", "create-orphan"} {
				tok := l.must(t, route.Write, "auth/token/"+parent, l.root,
					fmt.Sprintf(`{"policies":["all","default"],"ttl":"10s","type":%q}`,
						kind)).Auth["client_token"].(string)
				for _, c := range []struct {
					op         route.Op
					path, body string
				}{
					{route.Write, "cubbyhole/x", `{"a":"b"}`}, {route.Write, "issuer/creds/theirs", `{}`},
					{route.Read, "auth/token/lookup-self", ""},
					{route.Write, "auth/token/renew-self", ""}, {route.Write, "sys/wrapping/wrap", `{"a":"b"}`},
				} {
					r := l.request(t, c.op, c.path, tok, c.body)
					r.Time = time.Now() // the head comes
					if c.path == "cubbyhole/x" {
						time.Sleep(11 * time.Second) // and then the body, slowly
					}
					if a, err := l.Handle(t.Context(), r); !fault.Is(err, fault.Denied) &&
						!fault.Is(err, fault.Invalid) {
						t.Errorf("%s %s with an expired %s token: %+v, %v", c.op, c.path, kind, a, err)
					}
				}
			}
		}
	})
}

// TestTokensAsDocumented: what clients of the reference rely on.
func TestTokensAsDocumented(t *testing.T) {
	s := start(t, memory.Open())
	s.must(t, route.Write, "auth/token/roles/ordered", s.root,
		`{"allowed_policies":["zeta","alpha","default"],"path_suffix":"v1","token_bound_cidrs":["127.0.0.1"]}`)
	role := s.must(t, route.Read, "auth/token/roles/ordered", s.root, "").Data
	if got := fmt.Sprint(role["allowed_policies"]); got != "[zeta alpha default]" {
		t.Errorf("a list comes back as %s", got)
	}
	for _, absent := range []string{"allowed_policies_glob", "disallowed_policies", "disallowed_policies_glob",
		"allowed_entity_aliases"} {
		if v, there := role[absent]; !there || v != nil {
			t.Errorf("%s is %v, want null", absent, v)
		}
	}
	s.must(t, route.Write, "auth/token/roles/empty", s.root, `{"allowed_policies":[]}`)
	if v := s.must(t, route.Read, "auth/token/roles/empty", s.root, "").Data["allowed_policies"]; v == nil {
		t.Error("a list that was written empty is null")
	}
	made := s.must(t, route.Write, "auth/token/create/ordered", s.root, `{}`).Auth
	if got := s.must(t, route.Write, "auth/token/lookup-accessor", s.root,
		fmt.Sprintf(`{"accessor":%q}`, made["accessor"])).Data["path"]; got != "auth/token/create/ordered/v1" {
		t.Errorf("path %v", got)
	}
	for _, bad := range []string{"/x", "x/", "a//b", "../x", "a\\u0000"} {
		if _, err := s.ask(t, route.Write, "auth/token/roles/bad", s.root, `{"path_suffix":"`+bad+`"}`); !fault.Is(err,
			fault.Invalid) {
			t.Errorf("path_suffix %q: %v", bad, err)
		}
	}
	a := s.must(t, route.Write, "auth/token/revoke-accessor", s.root, `{"accessor":"gone"}`)
	if a.Status != 200 || len(a.Warnings) != 1 {
		t.Errorf("revoking by an accessor that is gone: %+v", a)
	}
	if _, err := s.ask(t, route.Write, "auth/token/revoke-accessor", s.root, `{}`); !fault.Is(err, fault.Invalid) {
		t.Errorf("no accessor: %v", err)
	}
	orphan := s.clerk(t, "orphans", `path "auth/token/create-orphan" { capabilities = ["update"] }`)
	if got := s.must(t, route.Write, "auth/token/create-orphan", orphan, `{}`).Auth; got["orphan"] != true {
		t.Errorf("create-orphan: %v", got)
	}
	if !slices.Contains(role["token_bound_cidrs"].([]any), any("127.0.0.1")) {
		t.Errorf("%v", role["token_bound_cidrs"])
	}
}
