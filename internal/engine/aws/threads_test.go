package aws_test

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/engine/aws/awstest"
	"github.com/keyturn/keyturn/internal/engine/enginetest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage/faulty"
	"github.com/keyturn/keyturn/internal/storage/memory"
)

// What has hurt users of other servers; docs/lessons.md is the whole list.

// TestFailingTurnOutlivesRestarts: a rotation that fails is tried again, and goes on to be, whoever restarts the server
// meanwhile, and however often. Nothing of the queue is in memory alone.
//
// https://github.com/hashicorp/vault/pull/23673
// https://github.com/hashicorp/vault/issues/21857
func TestFailingTurnOutlivesRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := static(t, awstest.Options{}, nil)
		first, _ := w.given("svc")
		w.aws.Inject(awstest.Fault{Action: "CreateAccessKey", Mode: awstest.Denied})
		time.Sleep(24*time.Hour + time.Minute)
		for range 20 {
			w.Reopen(t)
			time.Sleep(50 * time.Minute)
		}
		if a := w.Must(t, route.Read, "static-roles/svc", nil); a.Data["failures"].(float64) < 15 || w.Work(t) != 1 {
			t.Errorf("the role reads %s, %d due items", a.Text, w.Work(t))
		}
		w.aws.Clear()
		time.Sleep(61 * time.Minute)
		if id, _ := w.given("svc"); id == first {
			t.Error("it is not tried any more")
		}
	})
}

// TestAdoptedKeyRestsUntilItsTime: a key that was brought along, and was never rotated here, is not overdue by that.
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

// TestNewTimesCountAtOnce: whatever is written about when a key is rotated has its effect at once, longer
// periods and schedules too, without writing the role anew.
//
// https://github.com/hashicorp/vault/issues/21967
// https://github.com/hashicorp/vault/issues/27774
func TestNewTimesCountAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // begins at midnight
		w := static(t, awstest.Options{}, nil)
		made := func(when string, want int) {
			t.Helper()
			if got := w.aws.Calls("CreateAccessKey"); got != want {
				t.Errorf("%s: %d keys were made, want %d", when, got, want)
			}
		}
		made("at first", 1)
		time.Sleep(23 * time.Hour)
		w.Must(t, route.Write, "static-roles/svc", fields{"rotation_period": "48h"})
		time.Sleep(24 * time.Hour)
		made("an hour before the longer period's end", 1)
		time.Sleep(61 * time.Minute)
		made("after the longer period", 2)
		time.Sleep(8 * time.Hour) // the key before is gone
		w.Must(t, route.Write, "static-roles/svc", fields{"rotation_schedule": "0 12 * * *"})
		time.Sleep(2 * time.Hour) // one minute past ten
		made("before the schedule's time", 2)
		time.Sleep(2 * time.Hour)
		made("at the schedule's time", 3)
		time.Sleep(8 * time.Hour)
		w.Must(t, route.Write, "static-roles/svc", fields{"disable_automated_rotation": true})
		time.Sleep(72 * time.Hour)
		made("by request alone", 3)
		w.Must(t, route.Write, "static-roles/svc", fields{"disable_automated_rotation": false, "rotation_period": "12h"})
		time.Sleep(time.Minute)
		made("overdue by the new period", 4)
	})
}

// TestOldKeyEndsAfterGrace: an old key that nobody uses is dead soon after its grace, in the middle of the period,
// and at no moment does it live for two.
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
				t.Errorf("turn %d: %s after %s, which works: %v; want it to, in its grace", turn, next, id, w.aws.Works(id, secret))
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

// TestNoTurnIsLeftOver: of a rotation that failed, and was then made on request, nothing comes later: the next one
// comes at its time.
//
// https://github.com/hashicorp/vault/pull/12563
// https://github.com/hashicorp/vault-plugin-secrets-openldap/pull/28
func TestNoTurnIsLeftOver(t *testing.T) {
	for _, mode := range []awstest.Mode{awstest.Denied, awstest.Before, awstest.Lost} {
		t.Run(string(mode), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := static(t, awstest.Options{ListLag: 3 * time.Second}, nil)
				w.aws.Inject(awstest.Fault{Action: "CreateAccessKey", Mode: mode})
				time.Sleep(24*time.Hour + 10*time.Second)
				w.aws.Clear()
				for range 40 { // what AWS may have made is settled first
					if _, err := w.Do(route.Write, "rotate-role/svc", nil); err == nil {
						break
					}
					time.Sleep(time.Minute)
				}
				id, _ := w.given("svc")
				n := w.aws.Calls("CreateAccessKey")
				time.Sleep(23 * time.Hour)
				if now, _ := w.given("svc"); now != id || w.aws.Calls("CreateAccessKey") != n || w.Work(t) != 1 {
					t.Errorf("a rotation came early: %s after %s, %d due items", now, id, w.Work(t))
				}
				if got := w.keys(); !slices.Equal(got, []string{id}) {
					t.Errorf("keys %q, want %s alone", got, id)
				}
				time.Sleep(2 * time.Hour)
				if now, _ := w.given("svc"); now == id {
					t.Error("the next one did not come")
				}
			})
		})
	}
}

var update = flag.Bool("update", false, "write testdata anew")

// TestRecordsOfBefore: what earlier versions have stored is read by this one, and its keys are rotated at their
// times, not at the start of a newer version; one that was brought along and never rotated, too.
// A record that a version reads otherwise than it was meant fails here; testdata is added to, never changed.
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
			w.Must(t, route.Write, "static-roles/brought", with(quick, fields{"username": "brought", "access_key": id, "secret_key": secret}))
			if err := os.WriteFile(file, w.rows(), 0o644); err != nil {
				t.Fatal(err)
			}
			w.Stop()
			return
		}
		rows, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		w.Stop()
		w.Load(t, rows)
		w.Reopen(t)
		for _, role := range []string{"svc", "brought"} {
			a := w.Must(t, route.Read, "static-creds/"+role, nil)
			if id, _ := a.Data["access_key"].(string); !strings.Contains(string(rows), id) || a.Data["secret_key"] == "" || a.Data["expiration"] != "2000-01-02T00:00:00Z" {
				t.Errorf("%s gives out %s", role, a.Text)
			}
		}
		w.lend("creds/r", nil)
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

// rows are all that the mount stores, and what of it is due.
func (w *world) rows() []byte { return w.Rows(w.t, "mount/"+enginetest.UUID+"/", "due/work-") }

// TestRotationsAtOnce: many ask for the same at the same moment. Each rotation comes after the other, what is
// given out works, and no key is left that nobody knows of.
//
// https://github.com/hashicorp/vault-plugin-secrets-azure/pull/266
func TestRotationsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := static(t, awstest.Options{KeyLag: 2 * time.Second, ListLag: 3 * time.Second}, fields{"propagation_checks": 0})
		w.Must(t, route.Write, "config/root", fields{"propagation_settle": "0s", "propagation_checks": 1})
		w.Must(t, route.Write, "roles/r", deploy)
		w.aws.Inject(awstest.Fault{Action: "AttachUserPolicy", Mode: awstest.Slow, Wait: 4 * time.Second}) // longer than a rotation
		var all sync.WaitGroup
		for i := range 12 {
			all.Go(func() {
				time.Sleep(time.Duration(i%3) * time.Second)
				switch i % 4 {
				case 0:
					w.Must(t, route.Write, "config/rotate-root", nil)
				case 1: // while the key before lives there is no place
					_, err := w.Do(route.Write, "rotate-role/svc", nil)
					if err != nil && !fault.Is(err, fault.Unavailable) {
						t.Errorf("rotating the role: %v", err)
					}
				default:
					w.lend("creds/r", nil)
				}
			})
		}
		all.Wait()
		id, _ := w.given("svc")
		time.Sleep(10 * time.Hour)
		if got := w.keys(); !slices.Equal(got, []string{id}) {
			t.Errorf("keys %q, given out is %s", got, id)
		}
		if got := w.aws.Keys(awstest.Account, awstest.Admin); len(got) != 1 || w.Work(t) != 1 {
			t.Errorf("the administrator has %+v; %d due items", got, w.Work(t))
		}
		w.lend("creds/r", nil)
	})
}

// TestRotateRootWhileTheStoreIsDown: the store fails at any commit of a rotation, stored or not, and for good. Without
// the first commit AWS hears of nothing; and whenever the store is back, the mount has a key that works, and
// one is left in the end.
//
// https://github.com/hashicorp/vault/issues/6042
// https://github.com/hashicorp/vault/pull/8782
func TestRotateRootWhileTheStoreIsDown(t *testing.T) {
	for _, mode := range []faulty.Mode{faulty.NotStored, faulty.Stored} {
		for after := range 4 {
			for _, dies := range []bool{false, true} {
				t.Run(fmt.Sprint(mode, "/", after, "/", dies), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						store := faulty.New(memory.Open(), 1)
						w := open(t, awstest.Options{ListLag: 3 * time.Second}, enginetest.Config{Store: store})
						w.Must(t, route.Write, "roles/r", with(deploy, fields{"propagation_checks": 0}))
						store.Inject(faulty.Fault{Calls: faulty.Commits, After: after, Times: -1, Mode: mode})
						if _, err := w.Do(route.Write, "config/rotate-root", nil); err == nil {
							t.Error("a rotation that is not stored succeeds")
						}
						if n := w.aws.Calls("CreateAccessKey"); after == 0 && n != 0 {
							t.Errorf("%d keys were made, which is not durable", n)
						}
						if dies {
							w.Stop()
						}
						store.Clear()
						if dies {
							w.Reopen(t)
						}
						w.lend("creds/r", nil)
						time.Sleep(30 * time.Minute)
						w.lend("creds/r", nil)
						if got := w.aws.Keys(awstest.Account, awstest.Admin); len(got) != 1 || w.Work(t) != 0 {
							t.Errorf("keys %+v, %d due items", got, w.Work(t))
						}
						w.Must(t, route.Write, "config/rotate-root", nil)
					})
				})
			}
		}
	}
}

// TestNothingIsIgnoredInSilence: a field that a role or the configuration does not have is warned of, and one that is not
// built is refused, so that nobody relies on what has no effect.
//
// https://github.com/hashicorp/vault/issues/30610
// https://github.com/hashicorp/vault/pull/29093
func TestNothingIsIgnoredInSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := static(t, awstest.Options{}, nil)
		for path, body := range map[string]fields{"config/root": rootConfig, "roles/r": deploy, "static-roles/svc": {"rotation_period": "25h"}} {
			a := w.Must(t, route.Write, path, with(body, fields{"skip_import_rotation": true}))
			if !strings.Contains(strings.Join(a.Warnings, "\n"), `unknown parameter "skip_import_rotation"`) {
				t.Errorf("%s: warnings %q", path, a.Warnings)
			}
		}
		for _, field := range []string{"role_arn", "identity_token_audience", "identity_token_ttl"} {
			w.Refused(t, route.Write, "config/root", with(rootConfig, fields{field: "24h"}), fault.Invalid, "not built yet")
		}
	})
}

// TestUserThatIsGoneIsRevoked: somebody has deleted a user by hand. Its lease ends at once when it is revoked, and
// at its time.
//
// https://github.com/hashicorp/vault/issues/6058
// https://github.com/hashicorp/vault/issues/3410
func TestUserThatIsGoneIsRevoked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, awstest.Options{}, enginetest.Config{})
		w.Must(t, route.Write, "roles/r", with(deploy, fields{"propagation_checks": 0}))
		a := w.lend("creds/r", nil)
		w.aws.DropUser(awstest.Account, w.users()[0])
		began := time.Now()
		if err := w.Revoke(a.Lease.ID); err != nil || time.Since(began) > 5*time.Second {
			t.Errorf("revoking took %s, %v", time.Since(began), err)
		}
		w.lend("creds/r", nil)
		w.aws.DropUser(awstest.Account, w.users()[0])
		time.Sleep(time.Hour + 2*time.Second)
		if len(w.IDs(t)) != 0 {
			t.Errorf("leases %q", w.IDs(t))
		}
	})
}
