package aws_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/engine/aws"
	"github.com/keyturn/keyturn/internal/engine/aws/awstest"
	"github.com/keyturn/keyturn/internal/engine/enginetest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage/faulty"
)

// deny makes a call fail until Clear.
func (w *world) deny(action string) {
	w.aws.Inject(awstest.Fault{Action: action, Mode: awstest.Denied})
}

// trouble is what config/root says of the last failure; "" for none.
func (w *world) trouble() string {
	w.t.Helper()
	why, _ := w.root("last_root_error").(string)
	return why
}

// TestStaleSecretStaysRefused: the secret that was written first is refused however often the key
// was replaced since.
func TestStaleSecretStaysRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := rotating(t, awstest.Options{}, enginetest.Config{}, fields{"rotation_period": "1h"})
		time.Sleep(40 * time.Hour)
		if n := w.aws.Calls("CreateAccessKey"); n < 35 {
			t.Fatalf("%d keys were made", n)
		}
		w.Refused(t, route.Write, "config/root", rootConfig, fault.Invalid, "rotate-root has replaced")
		w.issue("creds/r", nil)
	})
}

// TestRootTroubleIsTold: whatever keeps the schedule from going on stands in config/root, is tried
// again ever more rarely, and is over once its cause is.
func TestRootTroubleIsTold(t *testing.T) {
	for name, tt := range map[string]struct {
		why    string
		before func(w *world, store *faulty.Store) // a second before the first rotation
		after  func(w *world)                      // a minute after it
		cure   func(w *world)
	}{
		"the old key cannot be deleted": {
			why:    "deleting access key " + awstest.ID,
			before: func(w *world, _ *faulty.Store) { w.deny("DeleteAccessKey") },
			cure:   func(w *world) { w.aws.Clear() },
		},
		"another account": {
			why:    "has left the key",
			before: func(w *world, _ *faulty.Store) { w.deny("DeleteAccessKey") },
			after: func(w *world) {
				w.aws.Clear()
				w.aws.AddAdmin("999999999999", "boss", "AKIAOTHERACCOUNT0000", "their/secret")
				w.Must(w.t, route.Write, "config/root",
					with(rootConfig, fields{"access_key": "AKIAOTHERACCOUNT0000", "secret_key": "their/secret"}))
			},
			cure: func(w *world) { w.Must(w.t, route.Write, "config/rotate-root", fields{"replace_key": awstest.ID}) },
		},
		"a key that was lost and used": {
			why:    "a scheduled rotation deletes none of them",
			before: func(_ *world, store *faulty.Store) { store.CrashAfter(1, faulty.NotStored) },
			after: func(w *world) {
				for _, k := range w.aws.Keys(awstest.Account, awstest.Admin) {
					if k.ID != awstest.ID {
						w.aws.Use(k.ID)
					}
				}
			},
			cure: func(w *world) {
				for _, k := range w.aws.Keys(awstest.Account, awstest.Admin) {
					if k.ID != awstest.ID {
						w.aws.DropKey(awstest.Account, awstest.Admin, k.ID)
					}
				}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := faulty.New(enginetest.Memory(), 1)
				w := rotating(t, awstest.Options{}, enginetest.Config{Store: store}, fields{"rotation_period": "4h"})
				time.Sleep(4*time.Hour - time.Second)
				tt.before(w, store)
				time.Sleep(time.Minute)
				w.Stop()
				store.Revive()
				if tt.after != nil && name != "another account" {
					tt.after(w)
				}
				w.Reopen(t)
				if name == "another account" {
					tt.after(w)
				}
				time.Sleep(12 * time.Hour)
				if why := w.trouble(); !strings.Contains(why, tt.why) {
					t.Errorf("config/root says %q", why)
				}
				if n := strings.Count(w.log.String(), "a step of a rotation failed"); n < 8 || n > 30 {
					t.Errorf("%d lines in half a day", n)
				}
				tt.cure(w)
				id := w.root("access_key")
				time.Sleep(6 * time.Hour)
				if why := w.trouble(); why != "" || w.root("access_key") == id {
					t.Errorf("hours after its cause was removed config/root says %q, and the key is %v", why,
						w.root("access_key"))
				}
				w.issue("creds/r", nil)
			})
		})
	}
}

// TestNewRootKeyIsDeletedByHand: a person deletes the new key before it was proven. Another one is
// made.
func TestNewRootKeyIsDeletedByHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := rotating(t, awstest.Options{KeyLag: 70 * time.Second}, enginetest.Config{},
			fields{"rotation_period": "4h"})
		time.Sleep(4*time.Hour + 10*time.Second)
		for _, k := range w.aws.Keys(awstest.Account, awstest.Admin) {
			if k.ID != awstest.ID {
				w.aws.DropKey(awstest.Account, awstest.Admin, k.ID)
			}
		}
		time.Sleep(10 * time.Minute)
		if why := w.trouble(); why == "" {
			t.Error("config/root says nothing of it")
		}
		time.Sleep(3 * time.Hour)
		if why := w.trouble(); why != "" || w.root("access_key") == awstest.ID {
			t.Errorf("config/root says %q, and the key is %v", why, w.root("access_key"))
		}
	})
}

// TestWritesPutNothingOff: who writes config/root does not thereby put off a try.
func TestWritesPutNothingOff(t *testing.T) {
	window := fields{"rotation_schedule": "0 3 * * SAT", "rotation_window": "1h"}
	for name, tt := range map[string]struct {
		schedule fields
		fails    time.Duration
		write    fields
		times    int
		pause    time.Duration
	}{
		"often": {fields{"rotation_period": "4h"}, 10 * time.Hour, rootWithoutPair, 4, 30 * time.Minute},
		"late in a window": {window, 3*time.Hour + 40*time.Minute, with(rootWithoutPair, fields{"max_retries": 2}), 1,
			25 * time.Minute},
		"a wider window": {window, 3*time.Hour + 30*time.Minute, fields{"rotation_window": "4h"}, 1, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := rotating(t, awstest.Options{}, enginetest.Config{}, tt.schedule)
				w.deny("CreateAccessKey")
				time.Sleep(tt.fails)
				w.aws.Clear()
				for range tt.times {
					w.Must(t, route.Write, "config/root", tt.write)
					time.Sleep(tt.pause)
				}
				if w.root("access_key") == awstest.ID {
					t.Error("it is put off")
				}
			})
		})
	}
	t.Run("a new pair", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := rotating(t, awstest.Options{}, enginetest.Config{}, fields{"rotation_period": "4h"})
			w.aws.DropKey(awstest.Account, awstest.Admin, awstest.ID)
			time.Sleep(8 * time.Hour)
			id, secret := w.aws.AddKey(awstest.Account, awstest.Admin)
			w.Must(t, route.Write, "config/root", with(rootConfig, fields{"access_key": id, "secret_key": secret}))
			time.Sleep(time.Minute)
			if w.root("access_key") == id || w.trouble() != "" {
				t.Errorf("the key is %v, and config/root says %q", w.root("access_key"), w.trouble())
			}
		})
	})
}

// TestDoneIsNotFailed: the store fails after the new key is in use. That is no failed rotation.
func TestDoneIsNotFailed(t *testing.T) {
	for _, after := range []int{2, 3} {
		for _, mode := range []faulty.Mode{faulty.NotStored, faulty.Stored} {
			t.Run(fmt.Sprint(after, "/", mode), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					store := faulty.New(enginetest.Memory(), 1)
					w := rotating(t, awstest.Options{}, enginetest.Config{Store: store},
						fields{"rotation_period": "4h"})
					time.Sleep(4*time.Hour - time.Second)
					store.Inject(faulty.Fault{Calls: faulty.Commits, After: after, Times: 1, Mode: mode})
					time.Sleep(time.Hour)
					if why := w.trouble(); why != "" || w.root("access_key") == awstest.ID {
						t.Errorf("the key is %v, and config/root says %q", w.root("access_key"), why)
					}
				})
			})
		}
	}
}

// TestForgottenRootKeyIsNamed: who writes a new pair over one that was made here is told which key
// lives on.
func TestForgottenRootKeyIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := rotating(t, awstest.Options{}, enginetest.Config{}, fields{"rotation_period": "4h"})
		time.Sleep(5 * time.Hour)
		ours := w.root("access_key").(string)
		id, secret := w.aws.AddKey(awstest.Account, awstest.Admin)
		a := w.Must(t, route.Write, "config/root", with(rootConfig, fields{"access_key": id, "secret_key": secret}))
		if len(a.Warnings) != 1 || !strings.Contains(a.Warnings[0], ours) {
			t.Errorf("warnings %q", a.Warnings)
		}
		a = w.Must(t, route.Write, "config/root", with(rootConfig, fields{"access_key": id, "secret_key": secret}))
		if len(a.Warnings) != 0 {
			t.Errorf("the same again: warnings %q", a.Warnings)
		}
	})
}

// TestEmptiedRootCanBeSettled: a rotation that has left a key can be ended after the pair was
// emptied.
func TestEmptiedRootCanBeSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := rotating(t, awstest.Options{}, enginetest.Config{}, fields{"rotation_period": "4h"})
		w.deny("DeleteAccessKey")
		time.Sleep(4*time.Hour + time.Minute)
		w.aws.Clear()
		t.Setenv("AWS_ACCESS_KEY_ID", w.root("access_key").(string))
		w.Must(t, route.Write, "config/root",
			fields{"access_key": "", "secret_key": "", "disable_automated_rotation": true})
		_, err := w.Do(route.Write, "config/rotate-root", fields{"replace_key": awstest.ID})
		if err == nil || strings.Contains(fault.Message(err), "no access_key") {
			t.Errorf("it is refused before what was begun is looked at: %v", err)
		}
	})
}

// TestStoppedWhileRotationBegins: a mount that is stopped before a rotation has written anything
// down creates no key.
func TestStoppedWhileRotationBegins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := rotating(t, awstest.Options{}, enginetest.Config{}, fields{"rotation_period": "4h"})
		time.Sleep(4*time.Hour - time.Second)
		w.aws.Inject(awstest.Fault{Action: "ListAccessKeys", Mode: awstest.Slow, Wait: 5 * time.Second, Times: 1})
		time.Sleep(3 * time.Second)
		if w.aws.Calls("ListAccessKeys") == 0 {
			t.Fatal("the rotation has not begun")
		}
		w.Stop()
		time.Sleep(time.Minute)
		if n := w.aws.Calls("CreateAccessKey"); n != 0 {
			t.Errorf("%d keys were created", n)
		}
		w.Reopen(t)
		time.Sleep(time.Hour)
		if n := w.aws.Calls("CreateAccessKey"); n != 1 {
			t.Errorf("%d keys were created after the next start", n)
		}
		if err := w.Engine.(engine.Keeper).Unfinished(t.Context()); err != nil {
			t.Errorf("after its end: %v", err)
		}
	})
}

// TestSecondServerMakesNoRoom: a server that has read config/root before another one rotated it
// takes the new key, which nobody has used yet, for one that may go. It is late, and deletes
// nothing.
func TestSecondServerMakesNoRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := enginetest.Memory()
		w := open(t, awstest.Options{UsedLag: time.Hour}, enginetest.Config{Store: store})
		other := &world{t: t, aws: w.aws, log: new(enginetest.Log)}
		other.World = enginetest.Open(t, aws.Type,
			enginetest.Config{Store: store, Host: func(h *engine.Host) { h.Dial = w.aws.Dial }})
		other.Must(t, route.Read, "config/root", nil)
		w.aws.Inject(awstest.Fault{Action: "ListAccessKeys", Mode: awstest.Slow, Wait: 25 * time.Second, Times: 1})
		listed := time.Now().Add(25 * time.Second)
		late := make(chan error, 1)
		go func() {
			_, err := other.Do(route.Write, "config/rotate-root", nil)
			late <- err
		}()
		time.Sleep(time.Second)
		w.aws.Inject(awstest.Fault{Action: "DeleteAccessKey", Mode: awstest.Before, Times: 100})
		w.Must(t, route.Write, "config/rotate-root", nil)
		time.Sleep(time.Until(listed) - time.Second)
		w.aws.Clear() // it is tried again after the second server has listed both
		if n := len(w.aws.Keys(awstest.Account, awstest.Admin)); n != 2 {
			t.Fatalf("%d keys while the old one cannot be deleted", n)
		}
		if err := <-late; err == nil {
			t.Error("the second server was not told that it is late")
		}
		time.Sleep(time.Hour)
		keys := w.aws.Keys(awstest.Account, awstest.Admin)
		if len(keys) != 1 || keys[0].ID != w.root("access_key") {
			t.Errorf("keys %+v, and config/root has %v", keys, w.root("access_key"))
		}
	})
}
