package policy_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/policy"
)

func set(t testing.TB, texts ...string) *policy.Set {
	t.Helper()
	var ps []*policy.Policy
	for i, text := range texts {
		p, err := policy.Parse(fmt.Sprintf("p%d", i), text)
		if err != nil {
			t.Fatal(err)
		}
		ps = append(ps, p)
	}
	return policy.Compile(ps)
}

func path(p string, caps ...string) string {
	return fmt.Sprintf("path %q { capabilities = [%s] }\n", p, `"`+strings.Join(caps, `", "`)+`"`)
}

// TestPrecedence: each line is one step of the documented order of rules.
func TestPrecedence(t *testing.T) {
	for _, tt := range []struct {
		name, winner, loser, query string
	}{
		{"exact over glob", "secret/foo", "secret/*", "secret/foo"},
		{"exact over plus", "secret/foo", "secret/+", "secret/foo"},
		{"later first wildcard", "secret/foo/+", "secret/+/bar", "secret/foo/bar"},
		{"later glob", "secret/foo*", "secret/*", "secret/foobar"},
		{"without a glob at the end", "secret/+/bar", "secret/+/*", "secret/foo/bar"},
		{"fewer plus", "secret/+/b/c*", "secret/+/+/c*", "secret/a/b/c"},
		{"longer", "secret/+/foo*", "secret/+/fo*", "secret/a/foo"},
		{"fewer plus over longer", "kv/*", "kv/+/team*", "kv/a/team1/x"},
		{"the documentation's rule 3", "secret/*", "secret/+/+/foo/*", "secret/a/b/foo/c"},
		{"the documentation's super-secret", "secret/super-secret", "secret/*", "secret/super-secret"},
		{"no glob, more plus", "secret/+/+/foo", "secret/+/*", "secret/a/b/foo"},
		{"no glob over a later end", "secret/+", "secret/*", "secret/a"},
		{"greater", "+/b/+", "+/+/c", "a/b/c"},
		{"longer prefix", "secret/foo/bar*", "secret/foo/*", "secret/foo/bar/x"},
		{"first segment", "sec*", "+/data", "secret/data"},
		{"first wildcard before the number of plus", "a/b/+/+/e", "a/+/c/d/e", "a/b/c/d/e"},
	} {
		s := set(t, path(tt.winner, "read")+path(tt.loser, "deny"))
		if !s.Decide(policy.Query{Path: tt.query, Op: policy.Read}).Allowed {
			t.Errorf("%s: %q allows and %q denies %q: denied", tt.name, tt.winner, tt.loser, tt.query)
		}
		s = set(t, path(tt.winner, "deny")+path(tt.loser, "read"))
		if s.Decide(policy.Query{Path: tt.query, Op: policy.Read}).Allowed {
			t.Errorf("%s: %q denies and %q allows %q: allowed", tt.name, tt.winner, tt.loser, tt.query)
		}
	}
}

func TestMatching(t *testing.T) {
	for _, tt := range []struct {
		pattern, query string
		want           bool
	}{
		{"a/b", "a/b", true}, {"a/b", "a/b/c", false}, {"a/b", "a", false}, {"a/*", "a/", true}, {"a/*", "a", false},
		{"a/*", "a/b/c", true},
		{"a*", "abc/d", true}, {"*", "anything/at/all", true}, {"+", "a", true}, {"+", "a/b", false},
		{"+/b", "a/b", true}, {"a/+/c", "a/b/c", true},
		{"a/+/c", "a/b/d", false}, {"a/+/c", "a/c", false}, {"a/+/c", "a/b/c/d", false}, {"a/+/c*", "a/b/cd/e", true},
		{"a/+/*", "a/b/c", true},
		{"a/+/*", "a/b", false}, {"+/+", "a/b", true}, {"a/+", "a/", false}, {"a b", "a b", true},
		{"a/.*", "a/.hidden", true}, {"a/..*", "a/..x", true},
	} {
		s := set(t, path(tt.pattern, "read"))
		if got := s.Decide(policy.Query{Path: tt.query, Op: policy.Read}).Allowed; got != tt.want {
			t.Errorf("%q matches %q: %v, want %v", tt.pattern, tt.query, got, tt.want)
		}
	}
}

func TestDenyWinsAcrossPolicies(t *testing.T) {
	s := set(t, path("a", "read", "update"), path("a", "deny"))
	if s.Decide(policy.Query{Path: "a", Op: policy.Read}).Allowed {
		t.Error("deny of one policy did not win over read of another")
	}
	if got := s.Capabilities("a"); !slices.Equal(got, []string{"deny"}) {
		t.Errorf("capabilities = %v, want deny", got)
	}
}

// CVE-2026-63131: a trailing slash on a listing must not step around a deny.
func TestCVE202663131TrailingSlash(t *testing.T) {
	for _, tt := range []struct {
		allow, deny string
		want        bool // whether listing secret/metadata/app is allowed
	}{
		{"secret/*", "secret/metadata/app", false},
		{"secret/*", "secret/metadata/app/", false},
		{"secret/*", "secret/metadata/app/*", false},
		{"secret/*", "secret/metadata/app*", false},
		{"secret/*", "secret/metadata/+", false},
		{"secret/*", "secret/metadata/+/", false},
		{"secret/*", "secret/METADATA/app", false},
		{"secret/*", "secret/+/app", false},
		{"secret/metadata/*", "secret/metadata/+", false},
		{"secret/metadata/app*", "secret/metadata/app", false},
		{"secret/metadata/app/*", "secret/metadata/app", false},
		{"secret/metadata/app/", "secret/metadata/app", false},
		{"secret/metadata/app", "secret/metadata/app/", false},
		{"secret/metadata/+/", "secret/metadata/+", false},
		{"secret/metadata/app", "secret/*", true},
		{"secret/metadata/app/", "secret/*", true},
		{"secret/metadata/app", "secret/metadata/app/*", true},
		{"secret/metadata/app/*", "secret/metadata/*", true},
		{"secret/metadata/+", "secret/metadata/*", true},
		{"secret/+/app", "secret/*", true},
	} {
		s := set(t, path(tt.allow, "list")+path(tt.deny, "deny"))
		for _, query := range []string{"secret/metadata/app", "secret/metadata/app/"} {
			if got := s.Decide(policy.Query{Path: query, Op: policy.List}); got.Allowed != tt.want {
				t.Errorf("list of %q and deny of %q: listing %q: %+v, want %v", tt.allow, tt.deny, query, got, tt.want)
			}
		}
	}
}

// CVE-2026-89322: a path in another case must not step around a deny.
func TestCVE202689322Case(t *testing.T) {
	s := set(t, path("secret/*", "read")+path("secret/Prod/*", "deny"))
	for _, query := range []string{"secret/Prod/x", "secret/prod/x", "secret/PROD/x"} {
		if s.Decide(policy.Query{Path: query, Op: policy.Read}).Allowed {
			t.Errorf("%q is allowed", query)
		}
	}
	if !s.Decide(policy.Query{Path: "secret/other", Op: policy.Read}).Allowed {
		t.Error("secret/other is denied")
	}
	// It is as specific as it is written, and neither more nor less.
	s = set(t, path("secret/*", "read", "delete")+path("secret/Prod/*", "deny")+path("secret/Prod/public", "read"))
	for query, want := range map[string]bool{
		"secret/Prod/public": true, "secret/prod/public": false, "secret/prod/x": false, "secret/dev": true,
	} {
		if got := s.Decide(policy.Query{Path: query, Op: policy.Read}); got.Allowed != want {
			t.Errorf("%q: %+v, want %v", query, got, want)
		}
	}
	s = set(t, path("auth/approle/role/+/secret-id", "update")+path("auth/approle/role/admin/*", "deny"))
	for _, role := range []string{"admin", "Admin", "ADMIN"} {
		if s.Decide(policy.Query{Path: "auth/approle/role/" + role + "/secret-id", Op: policy.Update}).Allowed {
			t.Errorf("the role %q is allowed", role)
		}
	}
	if s := set(t,
		path("a/K", "read")+path("a/\u212A", "deny")); s.Decide(policy.Query{Path: "a/K", Op: policy.Read}).Allowed {
		t.Error("the Kelvin sign is no K")
	}
	// Allowing is by exact case.
	s = set(t, path("secret/App", "read"))
	if s.Decide(policy.Query{Path: "secret/app", Op: policy.Read}).Allowed {
		t.Error("an allowing rule matched another case")
	}
}

// CVE-2025-5999, CVE-2025-54996, CVE-2025-64761: no name becomes root by
// folding case, by spaces or by look-alikes.
func TestCVE20255999Names(t *testing.T) {
	for _, bad := range []string{
		"", " ", "ro\u212Ft", "\u017Fys", "\u212Aind", "a//b", "/a", "a/", "a/ /b", "a/../b", "../x", ".", "..",
		"a\x00b", "a,b", "a*", "a\tb", "ROO\u0422",
		strings.Repeat("a", 129), "[a", "a`", "a{", "root\n", "\u00a0root",
	} {
		if got, err := policy.Name(bad); err == nil {
			t.Errorf("Name(%q) = %q", bad, got)
		}
	}
	for in, want := range map[string]string{
		"Root": "root", "ROOT": "root", " root": "root", "root ": "root", "team-A_1.x:y@z": "team-a_1.x:y@z",
		"Team/PA": "team/pa", "On call": "on call", "a": "a",
		"AZaz09": "azaz09", strings.Repeat("a", 128): strings.Repeat("a", 128),
	} {
		if got, err := policy.Name(in); err != nil || got != want {
			t.Errorf("Name(%q) = %q, %v", in, got, err)
		}
		if got := policy.Ref(in).Canonical(); got != want {
			t.Errorf("Ref(%q) = %q, want %q", in, got, want)
		}
		if err := policy.Canonical(in); (err == nil) != (in == want) ||
			err != nil && !strings.Contains(fault.Message(err), strconv.Quote(want)) {
			t.Errorf("Canonical(%q): %v", in, err)
		}
	}
	if got := policy.Refs([]policy.Ref{"a", "b"}); !cmp.Equal(got, []string{"a", "b"}) || policy.Refs(nil) != nil {
		t.Errorf("Refs: %q, %q", got, policy.Refs(nil))
	}
}

func TestSudo(t *testing.T) {
	q := policy.Query{Path: "sys/seal", Op: policy.Update, Sudo: true}
	if set(t, path("sys/*", "update")).Decide(q).Allowed {
		t.Error("sudo was not demanded")
	}
	if got := set(t, path("sys/*", "update", "sudo")).Decide(q); !got.Allowed || !got.Sudo {
		t.Errorf("sudo did not suffice: %+v", got)
	}
	q.Sudo = false
	if got := set(t, path("sys/*", "update")).Decide(q); !got.Allowed || got.Sudo {
		t.Errorf("without sudo, where it is not demanded: %+v", got)
	}
	q.Sudo = true
	if !policy.Compile([]*policy.Policy{policy.RootPolicy()}).Decide(q).Allowed {
		t.Error("root may not")
	}
}

func TestDefaultPolicyParses(t *testing.T) {
	s := set(t, policy.DefaultText)
	for p, op := range map[string]policy.Operation{
		"auth/token/lookup-self": policy.Read, "cubbyhole/a/b": policy.Create,
		"sys/tools/hash/sha2-256": policy.Update,
	} {
		if !s.Decide(policy.Query{Path: p, Op: op}).Allowed {
			t.Errorf("the default policy does not allow %s", p)
		}
	}
	if s.Decide(policy.Query{Path: "secret/x", Op: policy.Read}).Allowed || s.Touches("secret/") {
		t.Error("the default policy allows secret/")
	}
}
