package token_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/token"
)

func TestGive(t *testing.T) {
	root := token.Maker{Policies: []string{"root"}, Sudo: true}
	app := token.Maker{Policies: []string{"app", "default"}}
	bare := token.Maker{Policies: []string{"app", "ops"}}
	admin := token.Maker{Policies: []string{"admin"}, Sudo: true}
	login := token.Maker{Login: true}
	role := func(allowed, globs, not, notGlobs string) *token.Rules {
		return &token.Rules{
			Name: "r", Allowed: strings.Fields(allowed), AllowedGlob: strings.Fields(globs),
			Disallowed: strings.Fields(not), DisallowedGlob: strings.Fields(notGlobs),
		}
	}
	ask := func(names ...string) token.Ask { return token.Ask{Names: names} }
	for name, tt := range map[string]struct {
		maker token.Maker
		ask   token.Ask
		want  string // "": refused
	}{
		"what the maker has":                   {app, ask(), "app default"},
		"without default":                      {app, token.Ask{NoDefault: true}, "app"},
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
		"a role's":                             {app, token.Ask{Role: role("x y", "", "", "")}, "default x y"},
		"a role's, without default":            {app, token.Ask{Role: role("x", "", "", ""), NoDefault: true}, "x"},
		"a role's, without disallowed default": {app, token.Ask{Role: role("x", "", "", "def*")}, "x"},
		"of a role's":                          {app, token.Ask{Names: []string{"x"}, Role: role("x y", "", "", "")}, "default x"},
		"not a role's":                         {app, token.Ask{Names: []string{"z"}, Role: role("x y", "", "", "")}, ""},
		"a glob":                               {app, token.Ask{Names: []string{"team/pa"}, Role: role("", "team/*", "", "")}, "default team/pa"},
		"disallowed":                           {app, token.Ask{Names: []string{"x"}, Role: role("x", "", "x", "")}, ""},
		"disallowed by a glob":                 {app, token.Ask{Names: []string{"admin[x"}, Role: role("", "*", "", "admin[*")}, ""},
		"default, which a role does not name":  {app, token.Ask{Names: []string{"x", "default"}, Role: role("x", "", "", "")}, "default x"},
		"disallowed alone, another asked":      {app, token.Ask{Names: []string{"z"}, Role: role("", "", "x", "")}, "default z"},
		"disallowed alone, nothing asked":      {app, token.Ask{Role: role("", "", "x", "")}, ""},
		"a glob alone, nothing asked":          {app, token.Ask{Role: role("", "*", "", "")}, "default"},
		"sudo within a role":                   {admin, token.Ask{Names: []string{"z"}, Role: role("x", "", "", "")}, ""},
		"a role that says nothing":             {bare, token.Ask{Names: []string{"z"}, Role: role("", "", "", "")}, ""},
		"a role that says nothing, a part":     {bare, token.Ask{Names: []string{"app"}, Role: role("", "", "", "")}, "app"},
		"root by a role":                       {app, token.Ask{Names: []string{"root"}, Role: role("root", "", "", "")}, ""},
		"root by a role, unasked":              {app, token.Ask{Role: role("root", "", "", "")}, ""},
		"root by a role, with sudo":            {admin, token.Ask{Role: role("root x", "", "", "")}, ""},
		"root by a glob":                       {admin, token.Ask{Names: []string{"root"}, Role: role("", "*", "", "")}, ""},
		"root by what a role leaves":           {admin, token.Ask{Names: []string{"root"}, Role: role("", "", "x", "")}, ""},
		"root by root and role":                {root, token.Ask{Names: []string{"root"}, Role: role("root", "", "", "")}, "root"},
		"root by root, not of the role":        {root, token.Ask{Names: []string{"root"}, Role: role("x", "*", "", "")}, ""},
		"a login":                              {login, ask("app"), "app default"},
		"a login without default":              {login, token.Ask{Names: []string{"app"}, NoDefault: true}, "app"},
		"a login of nothing":                   {login, ask(), "default"},
		"a login as root":                      {login, ask("root"), ""},
		"a login as root by a role":            {login, token.Ask{Role: role("root", "", "", "")}, ""},
		"a login that says it is root":         {token.Maker{Login: true, Policies: []string{"root"}}, ask("root"), ""},
	} {
		g, err := token.Give(tt.maker, tt.ask)
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

// TestGiveKeepsItsWord: whoever makes a token, by whatever role, has root for root alone, and
// without a role or sudo gives nothing that it does not hold.
func TestGiveKeepsItsWord(t *testing.T) {
	lists := [][]string{nil, {"root"}, {"a"}, {"a", "default"}, {"a", "root"}, {"b", "c"}}
	globs := [][]string{nil, {"*"}, {"r*t"}, {"b*"}}
	n := 0
	for _, held := range lists {
		for _, asked := range lists {
			for _, allowed := range lists {
				for _, allowGlob := range globs {
					for _, not := range globs {
						for flags := range 16 {
							m := token.Maker{Policies: held, Sudo: flags&1 != 0, Login: flags&2 != 0}
							a := token.Ask{Names: asked, NoDefault: flags&4 != 0}
							if flags&8 != 0 {
								a.Role = &token.Rules{Name: "r", Allowed: allowed, AllowedGlob: allowGlob, DisallowedGlob: not}
							}
							n++
							g, err := token.Give(m, a)
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

// TestGrantsAreNotShared: who changes what came in changes nothing that was granted.
func TestGrantsAreNotShared(t *testing.T) {
	held := []string{"app", "default"}
	g, err := token.Give(token.Maker{Policies: held}, token.Ask{})
	if err != nil {
		t.Fatal(err)
	}
	held[0] = "root"
	if g.Root() {
		t.Error("a grant became root behind its own back")
	}
}

func TestGrantsOfNobody(t *testing.T) {
	if !token.FirstRoot().Root() || token.ForWrapping().Root() || len(token.ForWrapping().Policies()) != 1 {
		t.Errorf("%q, %q", token.FirstRoot().Policies(), token.ForWrapping().Policies())
	}
}
