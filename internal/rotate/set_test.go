package rotate_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/cron"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/storage/faulty"
)

func bubble(t *testing.T, f func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(newWorld(t)) })
}

// failNextCall makes the next call of a kind behave as f.
func (w *world) failNextCall(call string, f behavior) { w.failCalls(call, f, 1) }

func (w *world) failCalls(call string, f behavior, n int) {
	w.p.behave = func(c, _ string) behavior {
		if c != call || n == 0 {
			return succeeds
		}
		n--
		return f
	}
}

// TestInPlace: a secret in place is replaced on schedule and on request. The previous secret is
// forgotten. If two accounts alternate, the secret of the idle account stays valid.
func TestInPlace(t *testing.T) {
	for _, accounts := range [][]string{{"a"}, {"a", "b"}} {
		bubble(t, func(w *world) {
			w.create(accounts...)
			_, before := w.currentSecret()
			for n := range 4 {
				w.runFor(58 * time.Minute)
				account, word := w.currentSecret()
				if word != before || !w.p.works(account, word) {
					t.Errorf("rotation %d came early", n+1)
				}
				w.runFor(2 * time.Minute)
				now, fresh := w.currentSecret()
				if fresh == before || len(accounts) == 2 == (now == account) {
					t.Errorf("rotation %d: %s after %s", n+1, now, account)
				}
				if w.p.works(account, word) != (len(accounts) == 2) {
					t.Errorf("%v: the previous secret works: %v", accounts, w.p.works(account, word))
				}
				before = fresh
			}
			w.checkEnd()
			if err := w.rotate(); err != nil {
				t.Error(err)
			}
			w.checkEnd()
			if e := w.edit(); e.Rec.Next.Sub(time.Now()) != time.Hour ||
				!strings.Contains(string(e.Rec.Data), "joined "+e.Rec.Current.ID) {
				t.Errorf("after a rotation on request the next is at %s, the data is %s", e.Rec.Next, e.Rec.Data)
			}
		})
	}
}

// TestInPlaceFailures: failures come in pairs: no effect, and an effect with a lost reply. A call
// that surely changed nothing ends the rotation, and another rotation is planned if there is a
// schedule. A call that may have changed something is retried with the same secret until its
// outcome is known.
func TestInPlaceFailures(t *testing.T) {
	for _, tt := range []struct {
		call  string
		fate  behavior
		ends  bool // the rotation
		works bool // the current secret, right after the failure
		makes int  // secrets, in all
	}{
		{"set", away, true, true, 2},
		{"set", refuse, true, true, 2},
		{"set", cut, false, true, 1},
		{"set", lost, false, false, 1},
		{"set", hang, false, true, 1},
		{"set", late, false, true, 1},
		{"set", lies, true, true, 2}, // the old one is still in force
		{"verify", away, false, false, 1},
		{"verify", cut, false, false, 1},
		{"verify", hang, false, false, 1},
	} {
		t.Run(tt.call+" "+string(tt.fate), func(t *testing.T) {
			bubble(t, func(w *world) {
				w.create("a")
				w.failNextCall(tt.call, tt.fate)
				if err := w.rotate(); err == nil {
					t.Fatal("the rotation succeeded")
				}
				e := w.edit()
				if ended := e.Rec.Turn == nil; ended != tt.ends {
					t.Errorf("the rotation ended: %v, want %v", ended, tt.ends)
				}
				if account, word := w.currentSecret(); w.p.works(account, word) != tt.works {
					t.Errorf("the current secret works: %v, want %v", !tt.works, tt.works)
				}
				if e.Rec.LastError == "" || e.Rec.Unsettled("a") == tt.ends || e.Rec.Unsettled("b") {
					t.Errorf("error %q, unsettled %v", e.Rec.LastError, e.Rec.Unsettled("a"))
				}
				if w.runFor(10 * time.Minute); tt.ends { // the next scheduled rotation succeeds
					w.runFor(time.Hour)
				}
				if w.checkEnd(); w.made != tt.makes {
					t.Errorf("%d secrets were made, want %d", w.made, tt.makes)
				}
			})
		})
	}
}

// TestInPlaceByRequestAlone: without a schedule, a requested rotation that surely failed is not
// repeated.
func TestInPlaceByRequestAlone(t *testing.T) {
	bubble(t, func(w *world) {
		w.create("a")
		w.change(func(e *rotate.Edit) error {
			e.Rec.Data, _ = json.Marshal(data{Accounts: []string{"a"}})
			e.Rec.Next = time.Time{}
			return e.Commit(context.Background(), "configured", e.Planned())
		})
		w.failNextCall("set", refuse)
		if err := w.rotate(); !fault.Is(err, fault.Upstream) {
			t.Errorf("the client gets %v", err)
		}
		if at := w.due(); !at.IsZero() {
			t.Errorf("it is due at %s", at)
		}
		w.wantWorks("after the failure")
		w.failNextCall("set", lost)
		if err := w.rotate(); err == nil {
			t.Error("a rotation with a lost reply succeeded")
		}
		w.runFor(time.Hour) // the server still finds out which secret is in force
		w.checkEnd()
		if at := w.due(); !at.IsZero() {
			t.Errorf("it is due at %s", at)
		}
	})
}

// TestInPlaceCrashes: the process dies before and after every commit and every call, and a second
// time at the next ones. In the end the current secret works, and the history has each rotation.
func TestInPlaceCrashes(t *testing.T) {
	for _, accounts := range [][]string{{"a"}, {"a", "b"}} {
		for at := range 8 {
			for _, how := range []string{"not stored", "stored", "before call", "after call"} {
				for again := range 4 {
					for _, first := range []behavior{succeeds, lost, lies} {
						name := fmt.Sprint(accounts, "/", at, "/", how, "/", again, "/", first)
						bubble(t, func(w *world) { w.crash(name, accounts, at, how, again, first) })
					}
				}
			}
		}
	}
}

func (w *world) crash(name string, accounts []string, at int, how string, again int, first behavior) {
	w.create(accounts...)
	arm := func(n int) {
		calls := 0
		w.p.behave = func(call, _ string) behavior {
			calls++
			switch {
			case calls == n+1 && how == "before call":
				return diesBefore
			case calls == n+1 && how == "after call":
				return diesAfter
			case call == "set" && first != succeeds:
				f := first
				first = succeeds
				return f
			}
			return succeeds
		}
		switch how {
		case "not stored":
			w.store.CrashAfter(n, faulty.NotStored)
		case "stored":
			w.store.CrashAfter(n, faulty.Stored)
		}
	}
	arm(at)
	_ = w.rotate()
	w.runUntil(time.Now().Add(61 * time.Minute))
	if w.crashed() {
		w.boot()
	}
	arm(again)
	w.runUntil(time.Now().Add(3 * time.Hour))
	w.p.behave = nil
	w.boot()
	w.runFor(3 * time.Hour)
	w.checkEnd()
	if w.Failed() {
		w.Fatal(name)
	}
}

// TestInPlaceRefusedIsReplaced: a secret that the provider refuses repeatedly is generated again.
// A secret whose reply was lost is not replaced while it may be in force.
func TestInPlaceRefusedIsReplaced(t *testing.T) {
	bubble(t, func(w *world) {
		w.create("a")
		w.failNextCall("set", cut)
		_ = w.rotate()
		w.failCalls("set", refuse, -1)
		w.runFor(12 * time.Hour)
		e := w.edit()
		if w.made < 4 || e.Rec.Turn == nil || e.Rec.Alert == nil {
			t.Errorf("%d secrets were made, turn %v, alert %v", w.made, e.Rec.Turn, e.Rec.Alert)
		}
		if n := w.p.count("set " + e.Rec.Turn.New.ID); n > 3 {
			t.Errorf("one secret was sent %d times", n)
		}
		if len(e.Sec.Keys) != 2 {
			t.Errorf("%d secrets are kept", len(e.Sec.Keys))
		}
		if late := e.Rec.Due.Sub(time.Now()); late > 72*time.Minute {
			t.Errorf("the next attempt is in %s, want an hour at most, because it is unknown which secret is in force",
				late)
		}
		w.p.behave = nil
		w.runFor(2 * time.Hour)
		w.checkEnd()
	})
}

// TestInPlaceIsNeverReplaced: where replacing a sent secret could leave nobody knowing the secret
// in force, no other secret is generated, however often the provider refuses the sent one. A
// request finds out that the old secret is in force.
func TestInPlaceIsNeverReplaced(t *testing.T) {
	bubble(t, func(w *world) {
		w.create("a")
		w.retry = rotate.RetryNever
		w.failNextCall("set", cut)
		_ = w.rotate()
		w.failCalls("set", refuse, -1)
		w.runFor(12 * time.Hour)
		if w.made != 1 || w.edit().Rec.Turn == nil {
			t.Errorf("%d secrets were made, turn %v", w.made, w.edit().Rec.Turn)
		}
		err := w.m.Change(context.Background(), kind, "one", nil,
			func(e *rotate.Edit) error { return e.Control().ResolveSecret(context.Background()) })
		if w.wantWorks("found out"); err != nil {
			t.Error(err)
		}
		w.p.behave = nil
		w.runFor(2 * time.Hour)
		w.checkEnd()
	})
}

// TestInPlaceUnreachableIsNoRefusal: a provider that is not reached has refused nothing. A secret
// that may be in force, and that cannot be tested, is not replaced.
func TestInPlaceUnreachableIsNoRefusal(t *testing.T) {
	bubble(t, func(w *world) {
		w.create("a")
		sets := 0
		w.p.behave = func(call, _ string) behavior {
			if call == "verify" {
				return untestable
			}
			if sets++; sets == 1 {
				return lost
			}
			return away
		}
		_ = w.rotate()
		w.runFor(3 * time.Hour)
		if w.made != 1 {
			t.Errorf("%d secrets were made, and the first is in force", w.made)
		}
		w.p.behave = nil
		w.runFor(2 * time.Hour)
		w.checkEnd()
	})
}

// TestInPlaceFailsForMonths: a rotation that fails for months does not fill the store.
func TestInPlaceFailsForMonths(t *testing.T) {
	bubble(t, func(w *world) {
		w.create("a")
		w.failNextCall("set", cut)
		_ = w.rotate()
		w.failCalls("verify", away, -1)
		w.runFor(2800 * time.Hour)
		if n := w.stored("j/"); n < 2000 || n > 2020 {
			t.Errorf("%d rows of the journal are kept", n)
		}
		w.p.behave = nil
		w.runFor(2 * time.Hour)
		w.checkEnd()
	})
}

// TestInPlaceUntested: a secret that cannot be tested from here becomes current, and its record
// says that it is unproven.
func TestInPlaceUntested(t *testing.T) {
	bubble(t, func(w *world) {
		w.create("a")
		w.failCalls("verify", untestable, -1)
		if err := w.rotate(); err != nil {
			t.Fatal(err)
		}
		w.wantWorks("untested")
		if r := w.edit().Rec; len(r.Unproven) != 1 || !strings.Contains(r.Unproven[0], "not from here") {
			t.Errorf("unproven: %q", r.Unproven)
		}
		n := 0
		w.p.behave = func(call, _ string) behavior {
			if call == "verify" {
				return untestable
			}
			if n++; n == 1 {
				return lost
			}
			return succeeds
		}
		_ = w.rotate()
		made := w.made
		w.runFor(5 * time.Minute)
		if w.checkEnd(); w.made != made {
			t.Error("another secret was generated, although the first may have been in force")
		}
		w.p.behave = nil
		if err := w.rotate(); err != nil || len(w.edit().Rec.Unproven) != 0 {
			t.Errorf("proven: %v, %q", err, w.edit().Rec.Unproven)
		}
	})
}

// TestInPlaceRestores: the provider confirms a secret, but refuses it. The old secret is set
// again, or is still in force. Users that change their own secrets cannot set it again, and need
// not.
func TestInPlaceRestores(t *testing.T) {
	for _, own := range []bool{false, true} {
		for _, again := range []behavior{succeeds, away, lies} { // what becomes of setting the old one
			broken := again != succeeds
			bubble(t, func(w *world) {
				w.create("a")
				w.ownPassword = own
				sets := 0
				w.p.behave = func(call, _ string) behavior {
					if call == "set" {
						if sets++; sets == 1 {
							if broken && !own { // it breaks the account
								w.p.has["a"] = "neither"
							}
							return lies
						}
						if sets == 2 {
							return again
						}
					}
					return succeeds
				}
				if err := w.rotate(); err == nil || !strings.Contains(err.Error(), "refuses it") {
					t.Errorf("the client gets %v", err)
				}
				if r := w.edit().Rec; broken && !own && (r.State() != rotate.RollingBack || !r.Unsettled("a")) {
					t.Errorf("it is %s, unsettled %v", r.State(), r.Unsettled("a"))
				}
				w.runUntil(time.Now().Add(time.Minute))
				w.wantWorks("restored")
				if _, word := w.currentSecret(); word != "by hand" {
					t.Errorf("the current secret is %s", word)
				}
				past, err := w.m.Past(context.Background(), kind, "one")
				if err != nil || len(past) != 1 || past[0].State != rotate.Failed {
					t.Errorf("history %v, %v", past, err)
				}
				w.runFor(2 * time.Hour)
				w.checkEnd()
			})
		}
	}
}

// TestInPlaceFirstIsRefused: the provider confirms the first known secret of an account, but
// refuses it. The rotation continues.
func TestInPlaceFirstIsRefused(t *testing.T) {
	bubble(t, func(w *world) {
		err := w.m.Change(context.Background(), kind, "one", nil, func(e *rotate.Edit) error {
			e.Rec.Data, _ = json.Marshal(data{Accounts: []string{"a"}, When: cron.When{Period: time.Hour}})
			w.failNextCall("set", lies)
			if _, err := e.Control().RotateNow(context.Background(), rotate.RotateRequest{}); err != nil {
				return err
			}
			return e.Control().Drive(context.Background(), func(*rotate.Record) bool { return false })
		})
		if err == nil {
			t.Error("it succeeded")
		}
		e := w.edit()
		if e.Rec.Current != nil || e.Rec.State() != rotate.Setting {
			t.Errorf("current %v, %s", e.Rec.Current, e.Rec.State())
		}
		err = w.m.Change(context.Background(), kind, "one", nil, func(e *rotate.Edit) error {
			if err := e.Control().ResolveSecret(context.Background()); err == nil {
				t.Error("a working secret was found, although none works")
			}
			return e.Control().RollBack(context.Background(), "asked", false)
		})
		if !fault.Is(err, fault.Conflict) {
			t.Errorf("it was rolled back to a secret that nobody knows: %v", err)
		}
		w.runFor(time.Minute)
		w.checkEnd()
	})
}

// TestInPlaceExpired: a credential that would expire before it is used is replaced before it is
// set.
func TestInPlaceExpired(t *testing.T) {
	bubble(t, func(w *world) {
		w.create("a")
		w.lifetime = 4 * time.Hour
		w.failNextCall("set", cut)
		_ = w.rotate()
		w.failCalls("set", away, -1)
		w.runFor(9 * time.Hour)
		w.p.behave = nil
		w.runFor(2 * time.Hour)
		w.checkEnd()
		if end := w.edit().Rec.Current.Expires; time.Until(end) < 0 {
			t.Errorf("the credential that was set expired at %s", end)
		}
	})
	bubble(t, func(w *world) { // the old one expires before it is set again
		w.create("a")
		w.lifetime = 70 * time.Minute
		if err := w.rotate(); err != nil {
			t.Fatal(err)
		}
		old := w.edit().Rec.Current.ID
		n := 0
		w.p.behave = func(call, _ string) behavior {
			switch n++; n {
			case 1:
				w.p.has["a"] = "neither"
				return lies
			case 2, 3:
				return succeeds
			}
			return away
		}
		_ = w.rotate()
		w.runFor(2 * time.Hour)
		w.p.behave = nil
		w.runFor(2 * time.Hour)
		if w.checkEnd(); w.edit().Rec.Current.ID == old {
			t.Error("the record keeps a credential that has expired")
		}
	})
}

// TestInPlaceOtherServer: the target points to another server. Neither secret is sent there, and
// the account there gets a new secret.
func TestInPlaceOtherServer(t *testing.T) {
	for _, first := range []behavior{cut, lies, away} {
		bubble(t, func(w *world) {
			w.create("a")
			w.p.behave = func(call, _ string) behavior {
				if call == "set" || call == "verify" && first == lies && w.p.has["a"] != "neither" {
					if first == lies { // and the old one is not in force
						w.p.has["a"] = "neither"
					}
					return first
				}
				return succeeds
			}
			_ = w.rotate()
			before := w.edit()
			w.p.behave = nil
			w.place = "there"
			w.p.mu.Lock()
			w.p.has["a"], w.p.calls = "of there", nil
			w.p.mu.Unlock()
			if before.Rec.Turn != nil {
				err := w.m.Change(context.Background(), kind, "one", nil,
					func(e *rotate.Edit) error { return e.Control().ResolveSecret(context.Background()) })
				if (err == nil) != (before.Rec.State() == rotate.RollingBack) {
					t.Errorf("%s: finding out: %v", first, err)
				}
			}
			w.runFor(3 * time.Hour)
			w.checkEnd()
			for id := range before.Sec.Keys {
				if n := w.p.count("set "+id) + w.p.count("verify "+id); n != 0 {
					t.Errorf("%s: %s was sent there %d times", first, id, n)
				}
			}
		})
	}
}

// TestInPlaceOpenFails: if opening fails because of the configuration, nothing is begun, and
// another rotation is planned. If the store does not answer, the rotation does not count as
// failed.
func TestInPlaceOpenFails(t *testing.T) {
	bubble(t, func(w *world) {
		w.create("a")
		w.openErr = fault.New("fake", fault.Invalid, "the connection is gone")
		if err := w.rotate(); !fault.Is(err, fault.Invalid) {
			t.Errorf("the client gets %v", err)
		}
		if r := w.edit().Rec; r.Turn != nil || r.Failures != 1 || !strings.Contains(r.LastError, "gone") {
			t.Errorf("turn %v, %d failures, %q", r.Turn, r.Failures, r.LastError)
		}
		w.openErr = fault.New("fake", fault.Unavailable, "the store does not answer")
		if err := w.rotate(); !fault.Is(err, fault.Unavailable) {
			t.Errorf("the client gets %v", err)
		}
		if r := w.edit().Rec; r.Turns != 1 || r.Failures != 1 {
			t.Errorf("%d rotations, %d failures", r.Turns, r.Failures)
		}
		w.openErr = nil
		w.generateErr = fault.New("fake", fault.Invalid, "there is no such policy")
		if err := w.rotate(); !fault.Is(err, fault.Invalid) || w.edit().Rec.Turn != nil {
			t.Errorf("the client gets %v, turn %v", err, w.edit().Rec.Turn)
		}
		w.generateErr = nil
		w.failNextCall("set", cut)
		_ = w.rotate()
		w.openErr = fault.New("fake", fault.Invalid, "the connection is gone")
		w.runFor(time.Hour)
		if r := w.edit().Rec; r.Turn == nil || r.Alert == nil {
			t.Errorf("an attempt of unknown outcome has ended: %v, alert %v", r.Turn, r.Alert)
		}
		w.openErr = nil
		w.runFor(2 * time.Hour)
		w.checkEnd()
	})
}

// TestResolveSecret: a read may find out which secret is in force, and sets none.
func TestResolveSecret(t *testing.T) {
	for _, tt := range []struct {
		set, verify behavior
		known, done bool
	}{
		{lost, succeeds, true, true},
		{cut, succeeds, true, false},
		{lost, away, false, false},
		{cut, hang, false, false},
		{lost, untestable, false, false},
	} {
		bubble(t, func(w *world) {
			w.create("a")
			w.failNextCall("set", tt.set)
			_ = w.rotate()
			w.failCalls("verify", tt.verify, 1)
			sets := w.p.count("set")
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			defer cancel()
			err := w.m.Change(ctx, kind, "one", nil,
				func(e *rotate.Edit) error { return e.Control().ResolveSecret(ctx) })
			if (err == nil) != tt.known || (w.edit().Rec.Turn == nil) != tt.done || w.p.count("set") != sets {
				t.Errorf("%s, %s: %v, turn %v", tt.set, tt.verify, err, w.edit().Rec.Turn)
			}
			if tt.known {
				w.wantWorks("found out")
			}
			w.runFor(10 * time.Minute)
			w.checkEnd()
		})
	}
	bubble(t, func(w *world) { // while the old one is set again
		w.create("a")
		n := 0
		w.p.behave = func(call, _ string) behavior {
			if n++; n == 1 {
				return lies
			}
			if n == 3 {
				return away
			}
			return succeeds
		}
		_ = w.rotate()
		if s := w.edit().Rec.State(); s != rotate.RollingBack {
			t.Fatalf("it is %s", s)
		}
		err := w.m.Change(context.Background(), kind, "one", nil,
			func(e *rotate.Edit) error { return e.Control().ResolveSecret(context.Background()) })
		if w.wantWorks("found out"); err != nil || w.edit().Rec.Turn != nil {
			t.Errorf("%v, turn %v", err, w.edit().Rec.Turn)
		}
	})
}

// TestSetCurrent: a credential that an administrator declares current ends a rotation of unknown
// outcome.
func TestSetCurrent(t *testing.T) {
	bubble(t, func(w *world) {
		w.create("a", "b")
		w.failNextCall("set", lost)
		_ = w.rotate()
		w.p.has["b"] = "by a person"
		w.change(func(e *rotate.Edit) error {
			c := rotate.Credential{ID: "b#hand", Account: "b",
				Secret: map[string]secret.Value{"word": secret.Text("by a person")},
				Public: map[string]string{"place": "here"}}
			if err := e.Control().SetCurrent(context.Background(), c, "set by hand"); err != nil {
				return err
			}
			return e.Commit(context.Background(), "taken", e.Planned())
		})
		w.checkEnd()
		w.runFor(61 * time.Minute)
		w.checkEnd()
	})
}

// TestMigrateOtherTypes: the engine converts a row of an earlier version whose fields have other
// types. A damaged row is an error.
func TestMigrateOtherTypes(t *testing.T) {
	bubble(t, func(w *world) {
		put := func(name, row string) {
			t.Helper()
			if _, err := w.view.Commit(context.Background(), storage.Set("r/"+name, []byte(row))); err != nil {
				t.Fatal(err)
			}
		}
		put("one", `{"current":1,"user":"a","word":"by hand"}`)
		w.wantWorks("as it was stored")
		if err := w.rotate(); err != nil {
			t.Fatal(err)
		}
		w.checkEnd()
		put("damaged", `{"current":1}`)
		if _, err := w.m.View(context.Background(), kind, "damaged"); !fault.Is(err, fault.Internal) {
			t.Errorf("a damaged row: %v", err)
		}
		for r, err := range w.m.Records(context.Background(), kind) {
			if r.Name == "" || (err != nil) != (r.Name == "damaged") {
				t.Errorf("%q: %v", r.Name, err)
			}
		}
	})
}

// TestInPlaceTwoServers: two servers act on the same record. Neither undoes the other's commits,
// and the current secret works.
func TestInPlaceTwoServers(t *testing.T) {
	for _, first := range []behavior{succeeds, lost, cut} {
		bubble(t, func(w *world) {
			w.create("a")
			other := w.manager()
			entered := false
			w.p.behave = func(call, _ string) behavior {
				if call == "set" && !entered { // during one server's call the other does all due work
					entered = true
					w.p.mu.Unlock()
					w.sleepUntilDue()
					_ = other.Work(context.Background(), kind, "one")
					w.p.mu.Lock()
					return first
				}
				return succeeds
			}
			err := w.rotate()
			if first == succeeds && err == nil {
				t.Error("the slower server's rotation succeeded")
			}
			w.p.behave = nil
			w.runFor(10 * time.Minute)
			w.checkEnd()
		})
	}
}

// TestStatusesWithoutStore: an error of the store is not reported as a damaged record, which would
// be hidden from callers that may not read it.
func TestStatusesWithoutStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.create("a")
		w.store.Inject(faulty.Fault{Calls: faulty.Scans, Times: -1, Mode: faulty.NotStored})
		n := 0
		for s, err := range w.m.Statuses(t.Context()) {
			if n++; s.Path != "" || err == nil {
				t.Errorf("status %+v, %v", s, err)
			}
		}
		if n != 1 {
			t.Errorf("%d statuses", n)
		}
	})
}

// TestAlertKeepsItsTime: an alert that carries over to the next failed rotation keeps its time.
func TestAlertKeepsItsTime(t *testing.T) {
	bubble(t, func(w *world) {
		w.create("a")
		w.failCalls("set", refuse, -1)
		w.runFor(61 * time.Minute)
		first := w.edit().Rec
		w.runFor(6 * time.Hour)
		if now := w.edit().Rec; first.Alert == nil || now.Turns <= first.Turns || now.Alert == nil ||
			!now.Alert.At.Equal(first.Alert.At) {
			w.Errorf("after %d failed rotations the alert is %+v, and it was %+v", now.Turns, now.Alert, first.Alert)
		}
		w.p.behave = nil
		w.runFor(3 * time.Hour)
		w.checkEnd()
	})
}
