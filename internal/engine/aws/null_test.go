package aws_test

import (
	"slices"
	"testing"

	"github.com/keyturn/keyturn/internal/engine/aws/awstest"
	"github.com/keyturn/keyturn/internal/engine/enginetest"
	"github.com/keyturn/keyturn/internal/route"
)

// TestNullTakesPoliciesAway: removing policy_arns from a Terraform file sends null. That was
// answered 200, and who read credentials afterwards still got the old policy.
func TestNullTakesPoliciesAway(t *testing.T) {
	w := open(t, awstest.Options{}, enginetest.Config{})
	w.Must(t, route.Write, "config/root", fields{"propagation_checks": 0})
	w.Must(t, route.Write, "roles/r", with(deploy, fields{"policy_document": document}))
	attached := func() []string {
		before := w.aws.Users(awstest.Account)
		w.Must(t, route.Read, "creds/r", nil)
		for _, user := range w.aws.Users(awstest.Account) {
			if !slices.Contains(before, user) {
				held, _ := w.aws.Held(awstest.Account, user)
				return held.Attached
			}
		}
		t.Fatal("no user was created")
		return nil
	}
	if got := attached(); !slices.Contains(got, policyARN) {
		t.Fatalf("attached are %q", got)
	}
	w.Must(t, route.Write, "roles/r", fields{"policy_arns": nil})
	if got := attached(); len(got) != 0 {
		t.Errorf("after null, attached are %q", got)
	}
}
