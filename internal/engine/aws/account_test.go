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

// TestAnotherAccount: what was made in one account is not taken for gone, nor looked for under the same name, in
// another one that config/root is written to later.
func TestAnotherAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const other = "210987654321"
		w := open(t, awstest.Options{}, enginetest.Config{})
		w.aws.AddAdmin(other, "boss", "AKIAOTHERACCOUNT0001", "their/secret")
		w.aws.AddUser(awstest.Account, "svc")
		w.aws.AddUser(other, "svc")
		theirs, _ := w.aws.AddKey(other, "svc")
		w.Must(t, route.Write, "roles/r", with(deploy, fields{"propagation_checks": 0, "default_ttl": "1m"}))
		a := w.lend("creds/r", nil)
		w.Must(t, route.Write, "static-roles/svc", fields{"username": "svc", "rotation_period": "1h", "propagation_checks": 0})

		w.Must(t, route.Write, "config/root", with(rootConfig, fields{"access_key": "AKIAOTHERACCOUNT0001", "secret_key": "their/secret"}))
		if err := w.Revoke(a.Lease.ID); err == nil || !strings.Contains(fault.Message(err), "is in account "+awstest.Account) {
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
