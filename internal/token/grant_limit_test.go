package token

import (
	"fmt"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/internal/fault"
)

// TestPoliciesOfATokenAreBounded: the number of policies is limited in every way of assigning
// them. Once, 40,000 names were accepted.
func TestPoliciesOfATokenAreBounded(t *testing.T) {
	names := func(n int) (all []string) {
		for i := range n {
			all = append(all, fmt.Sprintf("p%d", i))
		}
		return all
	}
	root := Creator{Policies: []string{rootPolicy}}
	for name, tt := range map[string]struct {
		m Creator
		a Request
		n int
	}{
		"by root":         {m: root, a: Request{Names: names(MaxPolicies + 1)}},
		"with default":    {m: root, a: Request{Names: names(MaxPolicies)}},
		"without default": {m: root, a: Request{Names: names(MaxPolicies), NoDefault: true}, n: MaxPolicies},
		"one many times":  {m: root, a: Request{Names: append(names(10), names(10)...)}, n: 11},
		"by a login":      {m: Creator{Login: true}, a: Request{Names: names(MaxPolicies + 1)}},
		"by a role": {m: Creator{Policies: []string{"default"}}, a: Request{
			Role: &Rules{Name: "r", Allowed: names(MaxPolicies + 1)},
		}},
		"by those it has": {m: Creator{Policies: names(MaxPolicies + 1)}},
		"by sudo on the path": {
			m: Creator{Policies: []string{"default"}, Sudo: true}, a: Request{Names: names(40_000)},
		},
	} {
		g, err := Assign(tt.m, tt.a)
		if tt.n == 0 && (!fault.Is(err, fault.Invalid) || !strings.Contains(fault.Message(err), "256 at most")) {
			t.Errorf("%s: %d policies, %v; want it refused", name, len(g.Policies()), err)
		}
		if tt.n > 0 && (err != nil || len(g.Policies()) != tt.n) {
			t.Errorf("%s: %d policies, %v; want %d", name, len(g.Policies()), err, tt.n)
		}
	}
}
