package aws_test

import (
	"flag"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/engine/aws/awstest"
	"github.com/keyturn/keyturn/internal/engine/enginetest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
)

// What has hurt users of other servers; docs/lessons.md is the whole list.

// TestAdoptedKeyRestsUntilItsTime: a key that was brought along, and was never rotated here, is
// not overdue by that.
//
// https://github.com/hashicorp/vault/pull/29537
// https://github.com/hashicorp/vault/issues/30610
// https://github.com/hashicorp/vault-plugin-secrets-openldap/pull/156
// https://developer.hashicorp.com/vault/docs/v1.19.x/updates/important-changes
func TestAdoptedKeyRestsUntilItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, awstest.Options{}, enginetest.Config{})
		w.aws.AddUser(awstest.Account, "svc")
		id, secret := w.aws.AddKey(awstest.Account, "svc")
		w.Must(t, route.Write, "static-roles/svc", with(svc, fields{"access_key": id, "secret_key": secret}))
		for range 23 {
			time.Sleep(time.Hour)
			w.Reopen(t)
		}
		time.Sleep(50 * time.Minute)
		if now, _ := w.given("svc"); now != id || w.aws.Calls("CreateAccessKey") != 0 {
			t.Errorf("%s is given out ten minutes before the first rotation, and %s was brought along", now, id)
		}
		time.Sleep(11 * time.Minute)
		if now, _ := w.given("svc"); now == id {
			t.Error("it was not rotated at its time")
		}
	})
}

// TestOldKeyEndsAfterGrace: an old key that nobody uses is dead soon after its grace, in the
// middle of the period, and at no moment does it live for two.
//
// https://github.com/hashicorp/vault/issues/27477
func TestOldKeyEndsAfterGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := static(t, awstest.Options{KeyLag: 3 * time.Second, ListLag: 3 * time.Second}, nil)
		id, secret := w.given("svc")
		for turn := range 4 {
			made := w.aws.Calls("CreateAccessKey")
			for w.aws.Calls("CreateAccessKey") == made {
				time.Sleep(time.Minute)
			}
			time.Sleep(time.Minute) // until it has settled
			next, fresh := w.given("svc")
			if next == id || !w.aws.Works(id, secret) {
				t.Errorf("turn %d: %s after %s, which works: %v; want it to, in its grace", turn, next, id,
					w.aws.Works(id, secret))
			}
			time.Sleep(3 * time.Hour)
			if !w.aws.Works(id, secret) {
				t.Errorf("turn %d: the key before died in its grace", turn)
			}
			time.Sleep(2 * time.Hour)
			if w.aws.Works(id, secret) {
				t.Errorf("turn %d: the key before works after its grace", turn)
			}
			time.Sleep(time.Hour)
			if got := w.keys(); !slices.Equal(got, []string{next}) {
				t.Errorf("turn %d: keys %q, want %s alone", turn, got, next)
			}
			id, secret = next, fresh
		}
	})
}

var update = flag.Bool("update", false, "write testdata anew")

// TestRecordsOfBefore: what earlier versions have stored is read by this one, and its keys are
// rotated at their times, not at the start of a newer version; one that was brought along and
// never rotated, too. A record that a version reads otherwise than it was meant fails here;
// testdata is added to, never changed.
//
// https://github.com/hashicorp/vault-plugin-secrets-openldap/pull/156
// https://github.com/hashicorp/vault/pull/29537
// https://developer.hashicorp.com/vault/docs/v1.19.x/updates/important-changes
func TestRecordsOfBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // always begins at the same moment
		const file = "testdata/records-1.txt"
		w := open(t, awstest.Options{}, enginetest.Config{})
		for _, user := range []string{"svc", "brought"} {
			w.aws.AddUser(awstest.Account, user)
		}
		if *update {
			id, secret := w.aws.AddKey(awstest.Account, "brought")
			w.Must(t, route.Write, "roles/r", deploy)
			w.Must(t, route.Write, "config/lease", fields{"lease": "2h", "lease_max": "8h"})
			quick := with(svc, fields{"propagation_checks": 0})
			w.Must(t, route.Write, "static-roles/svc", quick)
			w.Must(t, route.Write, "static-roles/brought",
				with(quick, fields{"username": "brought", "access_key": id, "secret_key": secret}))
			w.Save(t, file, "mount/"+enginetest.UUID+"/", "due/work-")
			return
		}
		rows := w.Restore(t, file)
		w.Reopen(t)
		for _, role := range []string{"svc", "brought"} {
			a := w.Must(t, route.Read, "static-creds/"+role, nil)
			if id, _ := a.Data["access_key"].(string); !strings.Contains(rows, id) || a.Data["secret_key"] == "" ||
				a.Data["expiration"] != "2000-01-02T00:00:00Z" {
				t.Errorf("%s gives out %s", role, a.Text)
			}
		}
		w.issue("creds/r", nil)
		made := w.aws.Calls("CreateAccessKey")
		time.Sleep(23 * time.Hour)
		if n := w.aws.Calls("CreateAccessKey"); n != made {
			t.Errorf("%d keys were made early", n-made)
		}
		time.Sleep(61 * time.Minute)
		for _, role := range []string{"svc", "brought"} {
			w.given(role)
		}
		if n := w.aws.Calls("CreateAccessKey"); n != made+2 {
			t.Errorf("%d keys were made at their time, want two", n-made)
		}
	})
}

// TestNothingIsIgnoredInSilence: a field that a role or the configuration does not have is warned
// of, and one that is not built is refused, so that nobody relies on what has no effect.
//
// https://github.com/hashicorp/vault/issues/30610
// https://github.com/hashicorp/vault/pull/29093
func TestNothingIsIgnoredInSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := static(t, awstest.Options{}, nil)
		w.WarnsOfUnknown(t, "skip_import_rotation", map[string]fields{"config/root": rootConfig, "roles/r": deploy,
			"static-roles/svc": {"rotation_period": "25h"}})
		for _, field := range []string{"role_arn", "identity_token_audience", "identity_token_ttl"} {
			w.Refused(t, route.Write, "config/root", with(rootConfig, fields{field: "24h"}), fault.Invalid,
				"not implemented yet")
		}
	})
}

// TestUserThatIsGoneIsRevoked: somebody has deleted a user by hand. Its lease ends at once when it
// is revoked, and at its time.
//
// https://github.com/hashicorp/vault/issues/6058
// https://github.com/hashicorp/vault/issues/3410
func TestUserThatIsGoneIsRevoked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, awstest.Options{}, enginetest.Config{})
		w.Must(t, route.Write, "roles/r", with(deploy, fields{"propagation_checks": 0}))
		a := w.issue("creds/r", nil)
		w.aws.DropUser(awstest.Account, w.users()[0])
		began := time.Now()
		if err := w.Revoke(a.Lease.ID); err != nil || time.Since(began) > 5*time.Second {
			t.Errorf("revoking took %s, %v", time.Since(began), err)
		}
		w.issue("creds/r", nil)
		w.aws.DropUser(awstest.Account, w.users()[0])
		time.Sleep(time.Hour + 2*time.Second)
		if len(w.IDs(t)) != 0 {
			t.Errorf("leases %q", w.IDs(t))
		}
	})
}
