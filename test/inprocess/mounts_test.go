package inprocess_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/due"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/mount"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/storage/faulty"
	"github.com/keyturn/keyturn/internal/storage/memory"
)

// behind changes rows of a store without its server.
func behind(t testing.TB, st storage.Store, ops ...storage.Op) {
	t.Helper()
	b := opened(t, st)
	defer b.Close()
	if _, err := b.Commit(context.WithoutCancel(t.Context()), ops...); err != nil {
		t.Fatal(err)
	}
}

// TestMountThatMayBeThere checks a store that leaves open whether a mount was stored, and cannot
// be read either. The server finds out before the next change.
func TestMountThatMayBeThere(t *testing.T) {
	for name, mode := range map[string]faulty.Mode{"it was stored": faulty.Stored, "it was not": faulty.NotStored} {
		for _, change := range []string{"enable", "disable", "move", "tune"} {
			t.Run(name+" "+change, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					l := issuing(t)
					id := l.issue("a", "issuer/creds/r")
					l.st.Inject(faulty.Fault{Prefix: mount.Prefix, Mode: mode})
					l.st.Inject(faulty.Fault{Prefix: mount.Prefix, Calls: faulty.Gets | faulty.Scans, Times: 2})
					for range 4 { // the client retries
						switch change {
						case "enable":
							_, _ = l.ask(t, route.Write, "sys/mounts/other", l.root, `{"type":"issuer"}`)
						case "disable":
							_, _ = l.ask(t, route.Delete, "sys/mounts/issuer", l.root, "")
						case "move":
							_, _ = l.ask(t, route.Write, "sys/remount", l.root, `{"from":"issuer","to":"other"}`)
						case "tune":
							_, _ = l.ask(t, route.Write, "sys/mounts/issuer/tune", l.root, `{"description":"new"}`)
						}
					}
					inspect(t, l.st, l.out).demand(t, "at once")
					got := l.must(t, route.Read, "sys/mounts", l.root, "").Data
					_, issuer := got["issuer/"]
					_, other := got["other/"]
					if issuer != (change == "enable" || change == "tune") ||
						other != (change == "enable" || change == "move") {
						t.Errorf("mounted are %v", got)
					}
					if change == "tune" && got["issuer/"].(map[string]any)["description"] != "new" {
						t.Errorf("tuned: %v", got["issuer/"])
					}
					if change != "disable" {
						path := map[bool]string{true: "other", false: "issuer"}[other]
						if l.issue("a", path+"/creds/r") == "" {
							t.Error("it does not issue")
						}
						l.must(t, route.Write, "sys/leases/renew", l.root, `{"increment":"1m","lease_id":"`+id+`"}`)
					}
					l.restart()
					inspect(t, l.st, l.out).demand(t, "after a restart")
					l.finally(2 * time.Minute)
				})
			})
		}
	}
}

// TestTwoMountsAtOnePath checks that a store with two mounts at one path still opens, and that
// both can be reached.
func TestTwoMountsAtOnePath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := issuing(t)
		l.issue("a", "issuer/creds/r")
		older := mount.Entry{
			UUID: "00000000-0000-4000-8000-000000000000", Accessor: "lend_1", Path: "issuer/",
			Class: mount.ClassSecret, Type: "issuer",
			Created: time.Now().Add(-time.Hour),
		}
		below := older
		below.UUID, below.Path = "00000000-0000-4000-8000-000000000001", "issuer/deeper/"
		for _, e := range []mount.Entry{older, below} {
			b, err := e.Encode()
			if err != nil {
				t.Fatal(err)
			}
			behind(t, l.st, storage.Set(e.Key(), b))
		}
		l.restart()
		for _, path := range []string{"issuer", "issuer-" + older.UUID, "issuer-deeper-" + below.UUID} {
			if l.issue("a", path+"/creds/r") == "" {
				t.Errorf("nothing issues at %s", path)
			}
		}
		l.must(t, route.Write, "sys/remount", l.root, `{"from":"issuer-`+older.UUID+`","to":"found"}`)
		l.restart()
		if l.issue("a", "found/creds/r") == "" {
			t.Error("the moved mount does not issue")
		}
		l.finally(2 * time.Minute)
	})
}

// TestDisabledWhileBusy checks that a mount and its leases stay while its engine has work in
// flight that nothing else would finish, unless force is set.
func TestDisabledWhileBusy(t *testing.T) {
	for _, forced := range []bool{false, true} {
		t.Run(fmt.Sprint(forced), func(t *testing.T) { disableWhileBusy(t, forced) })
	}
}

func disableWhileBusy(t *testing.T, forced bool) {
	synctest.Test(t, func(t *testing.T) {
		l := issuing(t)
		l.must(t, route.Write, "issuer/creds/r", l.told["a"], `{"ttl":"10h"}`)
		l.out.Busy(fault.New("issuer", fault.Conflict, "a turn is in flight; wait for its end"))
		if _, err := l.ask(t, route.Delete, "sys/mounts/issuer", l.root, ""); !fault.Is(err, fault.Conflict) {
			t.Errorf("disabled while busy: %v", err)
		}
		time.Sleep(time.Minute)
		if n := len(l.out.Attempts()); n != 1 {
			t.Errorf("%d things live, want the one that was issued", n)
		}
		l.must(t, route.Write, "issuer/creds/r", l.told["a"], `{"ttl":"10h"}`)
		how := ""
		if forced {
			how = `{"force":true}`
		} else {
			l.out.Busy(nil)
		}
		l.must(t, route.Delete, "sys/mounts/issuer", l.root, how)
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := len(l.out.Attempts()); n != 0 {
			t.Errorf("%d things live", n)
		}
	})
}

// TestDisabledWithoutAJob checks that a mount that was disabled by a server that died before
// creating the job gets the job at the next start.
func TestDisabledWithoutAJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := issuing(t)
		l.must(t, route.Write, "issuer/creds/r", l.told["a"], `{"ttl":"10h"}`)
		l.st.CrashAfter(1, faulty.NotStored)
		_, _ = l.ask(t, route.Delete, "sys/mounts/issuer", l.root, "")
		time.Sleep(2 * time.Second)
		l.stop()
		l.st.Revive()
		for key, e := range inspect(t, l.st, l.out).rows {
			if id, ok := strings.CutPrefix(key, "job/"); ok {
				var j struct{ Due time.Time }
				if err := json.Unmarshal(e.Value, &j); err != nil {
					t.Fatal(err)
				}
				behind(t, l.st, storage.Remove(key),
					storage.Remove(due.Item{Lane: "jobs", Kind: "job", ID: id, At: j.Due}.Key()))
			}
		}
		l.restart()
		l.finally(time.Minute)
	})
}

// TestCrashTwice crashes in the history, and again while the next server starts and recovers.
//
// https://github.com/openbao/openbao/issues/3921
func TestCrashTwice(t *testing.T) {
	for seed := range uint64(40 / *every) + 3 {
		t.Run("", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rng := rand.New(rand.NewPCG(seed, 1))
				l := newLife(t)
				l.st.CrashAfter(rng.IntN(150), faulty.Mode(rng.IntN(2)))
				for _, step := range l.history() {
					if step(); l.crashed() {
						break
					}
				}
				for range 3 {
					l.stop()
					synctest.Wait()
					l.st.Revive()
					l.st.CrashAfter(rng.IntN(12), faulty.Mode(rng.IntN(2)))
					c, ctx, stop := run(t, l.out.config(l.st))
					l.server, l.stop = &server{Core: c, root: l.root}, stop
					_ = c.AutoUnseal(ctx)
					time.Sleep(time.Duration(rng.IntN(5000)) * time.Millisecond)
				}
				l.restart()
				l.promises("after the restarts")
				time.Sleep(3 * time.Second)
				synctest.Wait()
				inspect(t, l.st, l.out).demand(t, "a little later")
				l.finally(10 * time.Minute)
			})
		})
	}
}

// TestGenericMount checks that the old name of kv mounts it without versions, and stays the type
// that the mount shows, because clients compare it.
func TestGenericMount(t *testing.T) {
	st := memory.Open()
	s := start(t, st)
	s.must(t, route.Write, "sys/mounts/old", s.root, `{"type":"generic"}`)
	s.must(t, route.Write, "old/a", s.root, `{"x":"1"}`)
	for _, again := range []*server{s, start(t, st)} {
		if a := again.must(t, route.Read, "old/a", s.root, ""); a.Data["x"] != "1" {
			t.Errorf("read %v", a.Data)
		}
		if a := again.must(t, route.Read, "sys/mounts/old", s.root, ""); a.Data["type"] != "generic" {
			t.Errorf("the mount is %v", a.Data)
		}
	}
}
