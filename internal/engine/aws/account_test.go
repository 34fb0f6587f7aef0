package aws_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/engine/aws/awstest"
	"github.com/keyturn/keyturn/internal/engine/enginetest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
)

// TestAnotherAccount: what was made in one account is not taken for gone, nor looked for under the
// same name, in another one that config/root is written to later.
func TestAnotherAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const other = "210987654321"
		w := open(t, awstest.Options{}, enginetest.Config{})
		w.aws.AddAdmin(other, "boss", "AKIAOTHERACCOUNT0001", "their/secret")
		w.aws.AddUser(awstest.Account, "svc")
		w.aws.AddUser(other, "svc")
		theirs, _ := w.aws.AddKey(other, "svc")
		w.Must(t, route.Write, "roles/r", with(deploy, fields{"propagation_checks": 0, "default_ttl": "1m"}))
		a := w.issue("creds/r", nil)
		w.Must(t, route.Write, "static-roles/svc",
			fields{"username": "svc", "rotation_period": "1h", "propagation_checks": 0})

		w.Must(t, route.Write, "config/root",
			with(rootConfig, fields{"access_key": "AKIAOTHERACCOUNT0001", "secret_key": "their/secret"}))
		if err := w.Revoke(a.Lease.ID); err == nil ||
			!strings.Contains(fault.Message(err), "is in account "+awstest.Account) {
			t.Errorf("revoking in another account: %v", err)
		}
		w.Refused(t, route.Write, "rotate-role/svc", nil, fault.Upstream, "config/root reaches account "+other)
		time.Sleep(3 * time.Hour)
		if keys := w.aws.Keys(other, "svc"); len(keys) != 1 || keys[0].ID != theirs {
			t.Errorf("a user of the same name has keys %+v", keys)
		}
		if len(w.users()) != 2 || len(w.IDs(t)) != 1 {
			t.Errorf("users %q, leases %q: want the user, and its lease", w.users(), w.IDs(t))
		}

		w.Must(t, route.Write, "config/root", rootConfig)
		time.Sleep(2 * time.Hour)
		if len(w.users()) != 1 || len(w.IDs(t)) != 0 {
			t.Errorf("users %q, leases %q: want them gone", w.users(), w.IDs(t))
		}
		w.given("svc")
		if a := w.Must(t, route.Read, "static-roles/svc", nil); a.Data["last_error"] != nil {
			t.Errorf("the static role has not recovered: %s", a.Text)
		}
	})
}

// TestRolesOfTerraform: what the provider's resources write, one field or another at a time, is
// taken and read back.
func TestRolesOfTerraform(t *testing.T) {
	w := open(t, awstest.Options{}, enginetest.Config{})
	w.Must(t, route.Write, "config/root", fields{"propagation_checks": 0})
	a := w.Must(t, route.Write, "roles/inline",
		fields{"credential_type": "assumed_role", "policy_document": document, "iam_tags": fields{"key1": "value1"}})
	if len(a.Warnings) != 2 {
		t.Errorf("warnings %q", a.Warnings)
	}
	w.Refused(t, route.Read, "creds/inline", nil, fault.Invalid, "no role_arns")
	w.Must(t, route.Write, "roles/inline",
		fields{"credential_type": "assumed_role", "default_sts_ttl": "3600", "max_sts_ttl": "21600",
			"iam_groups": []string{"group1", "group2"}, "iam_tags": fields{}})
	got := w.Must(t, route.Read, "roles/inline", nil)
	if got.Data["default_sts_ttl"] != float64(3600) || got.Data["max_sts_ttl"] != float64(21600) ||
		got.Data["policy_document"] != document || len(got.Data["iam_groups"].([]any)) != 2 {
		t.Errorf("it reads %s", got.Text)
	}
	w.Must(t, route.Write, "roles/inline",
		fields{"credential_type": "assumed_role", "policy_document": "", "policy_arns": []string{policyARN},
			"iam_groups": []string{}})
	if got := w.Must(t, route.Read, "roles/inline", nil); got.Data["policy_document"] != "" ||
		len(got.Data["policy_arns"].([]any)) != 1 {
		t.Errorf("it reads %s", got.Text)
	}
	// The resource of static roles sends the name in the body, too.
	w.aws.AddUser(awstest.Account, "svc")
	w.Must(t, route.Write, "static-roles/test", fields{"name": "test", "username": "svc", "rotation_period": 3600})
	if got := w.Must(t, route.Read, "static-roles/test", nil); got.Data["name"] != "test" ||
		got.Data["username"] != "svc" || got.Data["rotation_period"] != float64(3600) {
		t.Errorf("it reads %s", got.Text)
	}
}

// TestGroupsNarrowSessions: a session has the policies of the role and of its groups.
func TestGroupsNarrowSessions(t *testing.T) {
	w := open(t, awstest.Options{}, enginetest.Config{})
	w.aws.AddRole(awstest.Account, awstest.Role{Name: "ci"})
	w.aws.AddGroup(awstest.Account, "devs")
	w.aws.AddGroup(awstest.Account, "empty")
	w.aws.GiveGroup(awstest.Account, "devs", "own",
		`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"sqs:*","Resource":"*"}}`, policyARN)
	role := fields{"credential_type": "assumed_role", "role_arns": "arn:aws:iam::123456789012:role/ci"}
	w.Must(t, route.Write, "roles/r", with(role, fields{"iam_groups": "devs", "policy_document": document}))
	id := w.issue("creds/r", nil).Data["access_key"].(string)
	policy, arns := w.aws.Narrowed(id)
	if !strings.Contains(policy, "s3:*") || !strings.Contains(policy, "sqs:*") || len(arns) != 1 ||
		arns[0] != policyARN {
		t.Errorf("the session is narrowed to %s and %q", policy, arns)
	}
	w.Must(t, route.Write, "roles/none", with(role, fields{"iam_groups": "empty"}))
	w.Refused(t, route.Read, "creds/none", nil, fault.Invalid, "would not be limited")
	w.Must(t, route.Write, "roles/absent", with(role, fields{"iam_groups": "nobody"}))
	w.Refused(t, route.Read, "creds/absent", nil, fault.Upstream, "NoSuchEntity")
}
