package token_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/token"
)

func TestAssign(t *testing.T) {
	root := token.Creator{Policies: []string{"root"}, Sudo: true}
	app := token.Creator{Policies: []string{"app", "default"}}
	bare := token.Creator{Policies: []string{"app", "ops"}}
	admin := token.Creator{Policies: []string{"admin"}, Sudo: true}
	login := token.Creator{Login: true}
	role := func(allowed, globs, not, notGlobs string) *token.Rules {
		return &token.Rules{
			Name: "r", Allowed: strings.Fields(allowed), AllowedGlob: strings.Fields(globs),
			Disallowed: strings.Fields(not), DisallowedGlob: strings.Fields(notGlobs),
		}
	}
	ask := func(names ...string) token.Request { return token.Request{Names: names} }
	for name, tt := range map[string]struct {
		maker token.Creator
		ask   token.Request
		want  string // "": refused
	}{
		"what the maker has":                   {app, ask(), "app default"},
		"without default":                      {app, token.Request{NoDefault: true}, "app"},
		"a part":                               {bare, ask("app"), "app"},
		"default comes with one who has it":    {app, ask("app"), "app default"},
		"default of one who has it not":        {bare, ask("default"), ""},
		"what the maker has not":               {app, ask("app", "other"), ""},
		"sorted, once each":                    {bare, ask("ops", "app", "ops"), "app ops"},
		"sudo gives others":                    {admin, ask("other"), "default other"},
		"sudo gives no root":                   {admin, ask("root"), ""},
		"root gives all":                       {root, ask("other", "default"), "default other"},
		"root gives root, alone":               {root, ask("root", "other"), "root"},
		"root gives root unasked":              {root, ask(), "root"},
		"a role's":                             {app, token.Request{Role: role("x y", "", "", "")}, "default x y"},
		"a role's, without default":            {app, token.Request{Role: role("x", "", "", ""), NoDefault: true}, "x"},
		"a role's, without disallowed default": {app, token.Request{Role: role("x", "", "", "def*")}, "x"},
		"of a role's":                          {app, token.Request{Names: []string{"x"}, Role: role("x y", "", "", "")}, "default x"},
		"not a role's":                         {app, token.Request{Names: []string{"z"}, Role: role("x y", "", "", "")}, ""},
		"a glob": {app,
			token.Request{Names: []string{"team/pa"}, Role: role("", "team/*", "", "")}, "default team/pa"},
		"disallowed": {app, token.Request{Names: []string{"x"}, Role: role("x", "", "x", "")}, ""},
		"disallowed by a glob": {app,
			token.Request{Names: []string{"admin[x"}, Role: role("", "*", "", "admin[*")}, ""},
		"default, which a role does not name": {app,
			token.Request{Names: []string{"x", "default"}, Role: role("x", "", "", "")}, "default x"},
		"disallowed alone, another asked": {app, token.Request{Names: []string{"z"}, Role: role("", "", "x", "")},
			"default z"},
		"disallowed alone, nothing asked": {app, token.Request{Role: role("", "", "x", "")}, ""},
		"a glob alone, nothing asked":     {app, token.Request{Role: role("", "*", "", "")}, "default"},
		"sudo within a role":              {admin, token.Request{Names: []string{"z"}, Role: role("x", "", "", "")}, ""},
		"a role that says nothing":        {bare, token.Request{Names: []string{"z"}, Role: role("", "", "", "")}, ""},
		"a role that says nothing, a part": {bare,
			token.Request{Names: []string{"app"}, Role: role("", "", "", "")}, "app"},
		"root by a role":             {app, token.Request{Names: []string{"root"}, Role: role("root", "", "", "")}, ""},
		"root by a role, unasked":    {app, token.Request{Role: role("root", "", "", "")}, ""},
		"root by a role, with sudo":  {admin, token.Request{Role: role("root x", "", "", "")}, ""},
		"root by a glob":             {admin, token.Request{Names: []string{"root"}, Role: role("", "*", "", "")}, ""},
		"root by what a role leaves": {admin, token.Request{Names: []string{"root"}, Role: role("", "", "x", "")}, ""},
		"root by root and role": {root,
			token.Request{Names: []string{"root"}, Role: role("root", "", "", "")}, "root"},
		"root by root, not of the role": {root,
			token.Request{Names: []string{"root"}, Role: role("x", "*", "", "")}, ""},
		"a login":                      {login, ask("app"), "app default"},
		"a login without default":      {login, token.Request{Names: []string{"app"}, NoDefault: true}, "app"},
		"a login of nothing":           {login, ask(), "default"},
		"a login as root":              {login, ask("root"), ""},
		"a login as root by a role":    {login, token.Request{Role: role("root", "", "", "")}, ""},
		"a login that says it is root": {token.Creator{Login: true, Policies: []string{"root"}}, ask("root"), ""},
	} {
		g, err := token.Assign(tt.maker, tt.ask)
		if tt.want == "" {
			if err == nil {
				t.Errorf("%s: %q were given", name, g.Policies())
			}
			continue
		}
		if d := cmp.Diff(strings.Fields(tt.want), g.Policies()); err != nil || d != "" {
			t.Errorf("%s: %v\n%s", name, err, d)
		}
	}
}

// TestAssignNeverExceedsCreator: only root assigns root, by any role; without a role or sudo,
// nobody assigns a policy that they do not have.
func TestAssignNeverExceedsCreator(t *testing.T) {
	lists := [][]string{nil, {"root"}, {"a"}, {"a", "default"}, {"a", "root"}, {"b", "c"}}
	globs := [][]string{nil, {"*"}, {"r*t"}, {"b*"}}
	n := 0
	for _, held := range lists {
		for _, asked := range lists {
			for _, allowed := range lists {
				for _, allowGlob := range globs {
					for _, not := range globs {
						for flags := range 16 {
							m := token.Creator{Policies: held, Sudo: flags&1 != 0, Login: flags&2 != 0}
							a := token.Request{Names: asked, NoDefault: flags&4 != 0}
							if flags&8 != 0 {
								a.Role = &token.Rules{
									Name: "r", Allowed: allowed, AllowedGlob: allowGlob, DisallowedGlob: not,
								}
							}
							n++
							g, err := token.Assign(m, a)
							if err != nil {
								if !fault.Is(err, fault.Denied) && !fault.Is(err, fault.Invalid) {
									t.Fatalf("%+v %+v: %v", m, a, err)
								}
								mayNot := m.Login || !slices.Contains(held, "root")
								if slices.Contains(asked, "root") && mayNot && !fault.Is(err, fault.Denied) {
									t.Fatalf("%+v %+v: asking for root is %v, want a denial", m, a, err)
								}
								continue
							}
							got, isRoot := g.Policies(), slices.Contains(held, "root")
							if g.Root() && (!isRoot || m.Login || len(got) != 1) {
								t.Fatalf("%+v %+v: root was given: %q", m, a, got)
							}
							rules := a.Role != nil && len(allowed)+len(allowGlob)+len(not) > 0
							if m.Login || m.Sudo || isRoot || rules {
								continue
							}
							for _, p := range got {
								if !slices.Contains(held, p) {
									t.Fatalf("%+v %+v: %q was given, which the maker does not hold", m, a, p)
								}
							}
						}
					}
				}
			}
		}
	}
	t.Logf("%d cases", n)
}

// TestGrantsAreNotShared: changing the slices that were passed in does not change the grant.
func TestGrantsAreNotShared(t *testing.T) {
	held := []string{"app", "default"}
	g, err := token.Assign(token.Creator{Policies: held}, token.Request{})
	if err != nil {
		t.Fatal(err)
	}
	held[0] = "root"
	if g.Root() {
		t.Error("a grant became root behind its own back")
	}
}

func TestFixedGrants(t *testing.T) {
	if !token.FirstRoot().Root() || token.ForWrapping().Root() || len(token.ForWrapping().Policies()) != 1 {
		t.Errorf("%q, %q", token.FirstRoot().Policies(), token.ForWrapping().Policies())
	}
}
