package aws_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/engine/aws"
	"github.com/keyturn/keyturn/internal/engine/aws/awstest"
	"github.com/keyturn/keyturn/internal/engine/aws/client"
	"github.com/keyturn/keyturn/internal/engine/enginetest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
)

const (
	otherAccount = "210987654321"
	otherID      = "AKIAOTHERACCOUNT0001"
	otherSecret  = "their/secret"
)

// TestEndpointsNeedTheSecret: a write that changes where AWS is reached gives the secret key
// again, and what is no name of a region is none.
func TestEndpointsNeedTheSecret(t *testing.T) {
	w := open(t, awstest.Options{}, enginetest.Config{})
	for field, value := range map[string]any{
		"iam_endpoint": "https://elsewhere.example", "sts_endpoint": "https://elsewhere.example",
		"sts_fallback_endpoints": []string{"https://elsewhere.example"},
	} {
		w.Refused(t, route.Write, "config/root", with(rootWithoutPair, fields{field: value}), fault.Invalid,
			`"`+field+`"`)
		w.Refused(t, route.Write, "config/root", with(rootConfig, fields{field: value, "secret_key": nil}),
			fault.Invalid, `secret_key`)
		w.Must(t, route.Write, "config/root", with(rootWithoutPair, fields{field: rootConfig[field]})) // as it is
	}
	for _, region := range []string{"x.evil.example/", "evil.example#", "US EAST", "a@b"} {
		w.Refused(t, route.Write, "config/root", with(rootConfig, fields{"region": region}), fault.Invalid,
			`field "region"`)
		w.Refused(t, route.Write, "config/root", with(rootConfig, fields{"sts_region": region}), fault.Invalid,
			`field "sts_region"`)
	}
	w.Must(t, route.Write, "config/root",
		with(rootConfig, fields{"sts_fallback_endpoints": []string{"https://elsewhere.example"}}))
	w.Must(t, route.Write, "config/root", with(rootWithoutPair, fields{"region": "eu-west-1", "max_retries": 2,
		"sts_fallback_endpoints": []string{"https://elsewhere.example"}}))
	// left out, it would be gone
	w.Refused(t, route.Write, "config/root", with(rootWithoutPair, nil), fault.Invalid, `"sts_fallback_endpoints"`)
}

// TestTakenName: a user that was there before, whose name a template happens to make, is no one's
// to remove: not when AWS says so, and not when the process dies before it is told.
func TestTakenName(t *testing.T) {
	for _, step := range []string{"", "reserved", "created"} {
		t.Run(step, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var w *world
				var wanted string
				dies := func(at string) error {
					if wanted == "" || at == "planned" {
						return nil
					}
					if at == "reserved" { // somebody was faster, long ago
						for _, id := range w.IDs(t) {
							l, err := w.Leases.Lookup(t.Context(), id)
							if err != nil {
								t.Fatal(err)
							}
							_, name, _ := strings.Cut(string(l.Data), `"u":"`)
							name, _, _ = strings.Cut(name, `"`)
							w.aws.AddUser(awstest.Account, name)
							wanted = name
						}
						time.Sleep(10 * time.Second)
					}
					if at == step {
						return errors.New("the process died")
					}
					return nil
				}
				w = open(t, awstest.Options{}, enginetest.Config{Between: dies})
				w.Must(t, route.Write, "roles/r", with(deploy, fields{"propagation_checks": 0}))
				wanted = "?"
				if _, err := w.Do(route.Write, "creds/r", nil); err == nil {
					t.Fatal("the taken name was lent")
				}
				if step != "" {
					w.Reopen(t)
				}
				time.Sleep(time.Hour)
				if users := w.users(); len(users) != 1 || users[0] != wanted {
					t.Errorf("users %q, want %q: it is somebody else's", users, wanted)
				}
				if ids := w.IDs(t); len(ids) != 0 {
					t.Errorf("leases %q are left", ids)
				}
			})
		})
	}
}

// TestMovedBetweenPlanAndCreate: config/root is written with a key of another account while a user
// is made. It is made where the reservation says, or not at all.
func TestMovedBetweenPlanAndCreate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w *world
		var move bool
		w = open(t, awstest.Options{}, enginetest.Config{Between: func(step string) error {
			if move && step == "reserved" {
				w.Must(t, route.Write, "config/root",
					with(rootConfig, fields{"access_key": otherID, "secret_key": otherSecret}))
			}
			return nil
		}})
		w.aws.AddAdmin(otherAccount, "boss", otherID, otherSecret)
		w.Must(t, route.Write, "roles/r", with(deploy, fields{"propagation_checks": 0}))
		move = true
		if a, err := w.Do(route.Write, "creds/r", nil); err == nil {
			t.Errorf("it was lent: %s", a.Text)
		}
		if users := w.aws.Users(otherAccount); len(users) != 1 {
			t.Errorf("users of the other account: %q", users)
		}
		w.Must(t, route.Write, "config/root", rootConfig)
		time.Sleep(time.Hour)
		if n := len(w.IDs(t)) + len(w.users()); n != 0 {
			t.Errorf("leases %q, users %q", w.IDs(t), w.users())
		}
	})
}

// TestRotatedKeyInItsAccount: the key that rotate-root has replaced is deleted where it is, and
// not taken for gone in another account that config/root was written to meanwhile.
func TestRotatedKeyInItsAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, awstest.Options{}, enginetest.Config{})
		w.aws.AddAdmin(otherAccount, awstest.Admin, otherID, otherSecret)
		w.aws.Inject(awstest.Fault{Action: "DeleteAccessKey", Mode: awstest.Before, Times: 50})
		w.Must(t, route.Write, "config/rotate-root", nil)
		w.Must(t, route.Write, "config/root",
			with(rootConfig, fields{"access_key": otherID, "secret_key": otherSecret}))
		w.aws.Clear()
		time.Sleep(time.Hour)
		if keys := w.aws.Keys(awstest.Account, awstest.Admin); len(keys) != 2 {
			t.Fatalf("keys %+v", keys)
		}
		if n := w.Work(t); n != 1 {
			t.Errorf("%d due items, want that of a key that is left in account %s", n, awstest.Account)
		}
		if err := w.Engine.(engine.Keeper).Unfinished(t.Context()); !fault.Is(err, fault.Conflict) ||
			!strings.Contains(fault.Message(err), "user "+awstest.Admin) {
			t.Errorf("the mount can be disabled: %v", err)
		}
		w.Refused(t, route.Write, "config/rotate-root", nil, fault.Upstream, awstest.ID)
		// Somebody has seen to it.
		w.Must(t, route.Write, "config/rotate-root", fields{"replace_key": awstest.ID})
		if n := w.Work(t); n != 0 {
			t.Errorf("%d due items are left", n)
		}
		if err := w.Engine.(engine.Keeper).Unfinished(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestReactivatedKey: a key before that was set active again while it rests is in use, and is not
// deleted.
func TestReactivatedKey(t *testing.T) {
	for _, foreign := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			w := open(t, awstest.Options{}, enginetest.Config{})
			w.aws.AddUser(awstest.Account, "svc")
			body := fields{"username": "svc", "rotation_period": "200h", "grace_period": "30h", "idle_period": "10h",
				"inactive_period": "10h", "propagation_checks": 0}
			var old, word string
			if foreign {
				old, word = w.aws.AddKey(awstest.Account, "svc")
			}
			w.Must(t, route.Write, "static-roles/svc", body)
			if !foreign {
				old, word = w.given("svc")
				w.Must(t, route.Write, "rotate-role/svc", nil)
			}
			time.Sleep(30*time.Hour + time.Minute)
			if w.aws.Works(old, word) {
				t.Fatal("the key before was not set inactive")
			}
			c, err := client.New(t.Context(),
				client.Config{KeyID: awstest.ID, Secret: secret.Text(awstest.Secret), IAM: awstest.URL,
					STS: client.Endpoint{URL: awstest.URL}, Dial: w.aws.Dial})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if err := c.SetActive(t.Context(), "svc", old, true); err != nil {
				t.Fatal(err)
			}
			for range 60 {
				w.aws.Use(old)
				time.Sleep(time.Hour)
				if !w.aws.Works(old, word) {
					t.Fatalf("foreign %v: a key that somebody has set active again, and uses, was taken away", foreign)
				}
			}
			if a := w.Must(t, route.Read, "static-roles/svc", nil); len(a.Warnings) == 0 {
				t.Errorf("nothing warns: %s", a.Text)
			}
			time.Sleep(60 * time.Hour)
			if keys := w.keys(); len(keys) != 1 || keys[0] == old {
				t.Errorf("keys %q: one that is out of use must be gone", keys)
			}
		})
	}
}

// TestEndpointsAreNotRepeated: an address with a user and a password is refused, and neither is
// shown.
func TestEndpointsAreNotRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, awstest.Options{}, enginetest.Config{})
		for _, field := range []string{"iam_endpoint", "sts_endpoint", "sts_fallback_endpoints"} {
			for _, address := range []string{"https://user:canary@iam.example.com", "https://canary@iam.example.com",
				"user:canary@iam.example.com", "https://iam.example.com/?token=canary",
				"https://iam.example.com/#canary", "https://%zzcanary"} {
				_, err := w.Do(route.Write, "config/root", with(rootConfig, fields{field: address}))
				if !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Message(err), field) ||
					strings.Contains(err.Error(), "canary") {
					t.Errorf("%s=%s: %v, want a refusal that does not repeat it", field, address, err)
				}
			}
		}
	})
}

// TestDefaultChain goes by the one way out, too: what it is refused there is not asked.
func TestDefaultChain(t *testing.T) {
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_PROFILE": "",
		"AWS_SHARED_CREDENTIALS_FILE": "/nowhere", "AWS_CONFIG_FILE": "/nowhere",
		"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://metadata.test", "AWS_EC2_METADATA_DISABLED": "",
	} {
		t.Setenv(name, value)
	}
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var dialed []string
		w := enginetest.Open(t, aws.Type, enginetest.Config{Host: func(h *engine.Host) {
			h.Dial = func(_ context.Context, _, address string) (net.Conn, error) {
				mu.Lock()
				defer mu.Unlock()
				dialed = append(dialed, address)
				return nil, fault.New("outbound.Dial", fault.Denied, "%s is guarded", address)
			}
		}})
		w.Must(t, route.Write, "config/root",
			fields{"access_key": "", "secret_key": "", "iam_endpoint": awstest.URL, "sts_endpoint": awstest.URL,
				"max_retries": 0})
		w.Must(t, route.Write, "roles/r", deploy)
		w.Refused(t, route.Write, "creds/r", nil, fault.Upstream, "metadata.test:80 is guarded")
		mu.Lock()
		defer mu.Unlock()
		if len(dialed) == 0 || dialed[0] != "metadata.test:80" {
			t.Errorf("dialed %q, want the metadata service by the one way out", dialed)
		}
	})
}

// TestDeletedStaticRoleIsNotListed, also while the key before is brought to its end.
func TestDeletedStaticRoleIsNotListed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := static(t, awstest.Options{}, nil)
		w.Must(t, route.Write, "rotate-role/svc", nil)
		w.Must(t, route.Delete, "static-roles/svc", nil)
		if a, err := w.Do(route.List, "static-roles", nil); err == nil && strings.Contains(a.Text, "svc") {
			t.Errorf("listed are %s", a.Text)
		}
	})
}

// TestAdoptedKeyRestsLong: a key that was there before the role may belong to what runs once a
// day, also when the role gave it out.
func TestAdoptedKeyRestsLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, awstest.Options{}, enginetest.Config{})
		w.aws.AddUser(awstest.Account, "svc")
		id, word := w.aws.AddKey(awstest.Account, "svc")
		w.Must(t, route.Write, "static-roles/svc",
			fields{"username": "svc", "rotation_period": "100h", "grace_period": "1h", "inactive_period": "1h",
				"propagation_checks": 0, "access_key": id, "secret_key": word})
		w.aws.Use(id)
		w.Must(t, route.Write, "rotate-role/svc", nil)
		time.Sleep(20 * time.Hour)
		if !w.aws.Works(id, word) {
			t.Error("a key from before the role was taken away within a day of its use")
		}
		second, secret := w.given("svc")
		time.Sleep(10 * time.Hour)
		if w.aws.Works(id, word) {
			t.Error("a key from before the role works on")
		}
		w.aws.Use(second)
		w.Must(t, route.Write, "rotate-role/svc", nil)
		time.Sleep(4 * time.Hour)
		if w.aws.Works(second, secret) {
			t.Error("a key of the role's own has the time of one from before")
		}
	})
}

// TestDroppedWhileResting: who deletes a role is told that a key of somebody else's stays as it
// was set.
func TestDroppedWhileResting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, awstest.Options{}, enginetest.Config{})
		w.aws.AddUser(awstest.Account, "svc")
		old, _ := w.aws.AddKey(awstest.Account, "svc")
		w.Must(t, route.Write, "static-roles/svc", with(svc, fields{"inactive_period": "2h"}))
		for range 40 {
			if time.Sleep(time.Hour); w.aws.Keys(awstest.Account, "svc")[0].Inactive {
				break
			}
		}
		if a := w.Must(t, route.Delete, "static-roles/svc", nil); len(a.Warnings) != 2 ||
			!strings.Contains(a.Warnings[1], old) {
			t.Errorf("warnings %q", a.Warnings)
		}
	})
}

// TestUnfinished: a mount of static roles is not to be disabled while a key that a role has
// replaced lives.
func TestUnfinished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, awstest.Options{}, enginetest.Config{})
		w.aws.AddUser(awstest.Account, "svc")
		unfinished := func() error { return w.Engine.(engine.Keeper).Unfinished(t.Context()) }
		w.Must(t, route.Write, "static-roles/svc", with(svc, fields{"grace_period": "1h", "propagation_checks": 0}))
		if err := unfinished(); err != nil {
			t.Error(err)
		}
		first, _ := w.given("svc")
		w.Must(t, route.Write, "rotate-role/svc", nil)
		if err := unfinished(); !fault.Is(err, fault.Conflict) || !strings.Contains(fault.Message(err), first) {
			t.Errorf("while %s lives: %v", first, err)
		}
		w.Must(t, route.Delete, "static-roles/svc", nil)
		if err := unfinished(); err != nil {
			t.Errorf("the role was deleted: %v", err)
		}
	})
}
