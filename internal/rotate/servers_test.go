package rotate_test

import (
	"context"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/storage/faulty"
)

// onOtherServer runs f as another server, before the next call of a kind.
func (w *world) onOtherServer(call string, f func()) {
	ours, other := w.m, w.manager()
	w.p.on = func(c string) {
		if c != call {
			return
		}
		w.p.on, w.m = nil, other
		f()
		w.m = ours
	}
}

// TestSecondServerSetsNothing: two servers resume the same attempt. The second one makes no call,
// because the secret that it has read may have been replaced since.
func TestSecondServerSetsNothing(t *testing.T) {
	bubble(t, func(w *world) {
		w.create("a")
		w.failNextCall("set", cut)
		_ = w.rotate()
		w.p.behave = nil
		w.sleepUntilDue()
		w.onOtherServer("verify", func() {
			for range 2 { // the rotation ends, and another one is made
				if err := w.rotate(); err != nil {
					w.Error(err)
				}
			}
		})
		if err := w.m.Work(w.Context(), kind, "one"); err == nil {
			w.Error("the second server's step succeeded")
		}
		if n := w.p.count("set "); n != 3 {
			w.Errorf("%d calls have set a secret, want three: one without a reply, and two that succeeded", n)
		}
		w.checkEnd()
	})
}

// TestSlowSetIsWaitedFor: while a call of one server is under way, another server sets nothing and
// ends nothing that the call may still change.
func TestSlowSetIsWaitedFor(t *testing.T) {
	ask := func(w *world, f func(c rotate.Control) error) error {
		return w.m.Change(context.Background(), kind, "one", nil, func(e *rotate.Edit) error { return f(e.Control()) })
	}
	for name, tt := range map[string]struct {
		lands   bool // the secret of the first call is in force by then
		request func(w *world, c rotate.Control) error
		allowed bool
	}{
		"rotate again": {false, func(_ *world, c rotate.Control) error {
			return c.Drive(context.Background(), func(*rotate.Record) bool { return false })
		}, false},
		"give a secret": {false, func(_ *world, c rotate.Control) error {
			return c.SetCurrent(context.Background(), rotate.Credential{ID: "a#given", Account: "a"}, "")
		}, false},
		"roll back": {false,
			func(_ *world, c rotate.Control) error { return c.RollBack(context.Background(), "asked", false) }, true},
		"read": {true, func(_ *world, c rotate.Control) error { return c.ResolveSecret(context.Background()) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(w *world) {
				w.create("a")
				w.failNextCall("set", cut)
				_ = w.rotate()
				w.p.behave = nil
				w.sleepUntilDue()
				w.onOtherServer("set", func() {
					if tt.lands {
						e := w.edit()
						w.p.has["a"] = e.Sec.Keys[e.Rec.Turn.New.ID].Secret["word"].RevealString()
					}
					err := ask(w, func(c rotate.Control) error { return tt.request(w, c) })
					if allowed := err == nil; allowed != tt.allowed || !allowed && !fault.Is(err, fault.Unavailable) {
						w.Errorf("the request ends with %v", err)
					}
					if err := w.rotate(); !fault.Is(err, fault.Unavailable) {
						w.Errorf("another rotation ends with %v", err)
					}
					if name == "roll back" { // it is still open whether the old one is in force
						resolve := func(c rotate.Control) error { return c.ResolveSecret(context.Background()) }
						if err := ask(w, resolve); !fault.Is(err, fault.Unavailable) {
							w.Errorf("finding out ends with %v", err)
						}
					}
				})
				_ = w.m.Work(w.Context(), kind, "one")
				w.runFor(time.Minute)
				w.checkEnd()
				if err := w.rotate(); err != nil {
					w.Error(err)
				}
				w.checkEnd()
			})
		})
	}
}

// TestSecondServerMakesNoDestructiveCall: a server makes no destructive call if the record has
// changed since the server read it.
func TestSecondServerMakesNoDestructiveCall(t *testing.T) {
	for name, ready := range map[string]func(i *issuer){
		"retire":  func(*issuer) {},
		"disable": func(i *issuer) { i.disables = true },
		"sweep": func(i *issuer) {
			i.createErr, i.createsAnyway = errLost, true
			_ = i.rotate()
			i.createErr = nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			withIssuer(t, 0, func(i *issuer) {
				_ = i.rotate()
				ready(i)
				if name != "sweep" {
					_ = i.rotate()
				}
				due := func() bool {
					r := i.record()
					if name == "sweep" {
						return r.Turn != nil && len(r.Turn.Attempts[0].IDs) > 0
					}
					return r.State() == rotate.Grace
				}
				for !due() {
					i.step()
				}
				i.sleepUntilDue()
				gone, disabled := i.retireCalls, i.disableCalls
				i.opening = func() { // another server, without this one's lock
					e, err := i.m.View(i.Context(), kind, "one")
					if err == nil {
						err = e.Control().Pause(i.Context(), "a person looks")
					}
					if err != nil {
						i.Error(err)
					}
				}
				if err := i.m.Work(i.Context(), kind, "one"); err == nil {
					i.Error("the second server's step succeeded")
				}
				if i.retireCalls != gone || i.disableCalls != disabled {
					i.Errorf("%d calls have retired a key and %d have disabled one", i.retireCalls-gone,
						i.disableCalls-disabled)
				}
				i.change(func(e *rotate.Edit) error { return e.Control().Resume(i.Context()) })
				if i.pass(12 * time.Hour); i.retireCalls == gone || (i.disableCalls > disabled) != i.disables {
					i.Errorf("after resume %d calls have retired a key and %d have disabled one", i.retireCalls-gone,
						i.disableCalls-disabled)
				}
			})
		})
	}
}

// TestOwnCallIsNotWaitedFor: a server knows that its own call has returned, even if the commit
// that should record that has failed.
func TestOwnCallIsNotWaitedFor(t *testing.T) {
	bubble(t, func(w *world) {
		w.create("a")
		w.p.on = func(call string) {
			if call == "set" {
				w.store.Inject(faulty.Fault{})
			}
		}
		if err := w.rotate(); err == nil {
			w.Error("the rotation succeeded, although a commit failed")
		}
		w.p.on = nil
		if err := w.rotate(); err != nil {
			w.Error(err)
		}
		w.checkEnd()
	})
}
