package token

import (
	"fmt"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/internal/fault"
)

// However a token comes by its policies, their number is bounded: 40,000 names were taken.
func TestPoliciesOfATokenAreBounded(t *testing.T) {
	names := func(n int) (all []string) {
		for i := range n {
			all = append(all, fmt.Sprintf("p%d", i))
		}
		return all
	}
	root := Maker{Policies: []string{rootPolicy}}
	for name, tt := range map[string]struct {
		m Maker
		a Ask
		n int
	}{
		"by root":             {m: root, a: Ask{Names: names(MaxPolicies + 1)}},
		"with default":        {m: root, a: Ask{Names: names(MaxPolicies)}},
		"without default":     {m: root, a: Ask{Names: names(MaxPolicies), NoDefault: true}, n: MaxPolicies},
		"one many times":      {m: root, a: Ask{Names: append(names(10), names(10)...)}, n: 11},
		"by a login":          {m: Maker{Login: true}, a: Ask{Names: names(MaxPolicies + 1)}},
		"by a role":           {m: Maker{Policies: []string{"default"}}, a: Ask{Role: &Rules{Name: "r", Allowed: names(MaxPolicies + 1)}}},
		"by those it has":     {m: Maker{Policies: names(MaxPolicies + 1)}},
		"by sudo on the path": {m: Maker{Policies: []string{"default"}, Sudo: true}, a: Ask{Names: names(40_000)}},
	} {
		g, err := Give(tt.m, tt.a)
		if tt.n == 0 && (!fault.Is(err, fault.Invalid) || !strings.Contains(fault.Message(err), "256 at most")) {
			t.Errorf("%s: %d policies, %v; want it refused", name, len(g.Policies()), err)
		}
		if tt.n > 0 && (err != nil || len(g.Policies()) != tt.n) {
			t.Errorf("%s: %d policies, %v; want %d", name, len(g.Policies()), err, tt.n)
		}
	}
}
