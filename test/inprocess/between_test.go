package inprocess_test

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/core"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage/faulty"
)

// issuing starts a life with a mount that issues leases, a policy for everything, and a token
// called a.
func issuing(t *testing.T) *life {
	t.Helper()
	l := newLife(t)
	l.must(t, route.Write, "sys/policies/acl/all", l.root, allowAll)
	l.must(t, route.Write, "sys/mounts/issuer", l.root, `{"type":"issuer"}`)
	l.make("root", "a", "auth/token/create", `{"policies":["all"],"ttl":"1h","num_uses":0}`, time.Hour)
	return l
}

// finally lets time pass and checks that no lease is left. It runs in a bubble.
func (l *life) finally(pass time.Duration) {
	l.t.Helper()
	time.Sleep(pass)
	synctest.Wait()
	s := inspect(l.t, l.st, l.out)
	s.demand(l.t, "in the end")
	if n := len(l.out.Attempts()); n != 0 || len(s.leases) != 0 {
		l.t.Errorf("in the end: %d things live outside, %d leases are left", n, len(s.leases))
	}
	l.stop()
	synctest.Wait()
}

// TestBetweenPlanAndGrant changes something during a request. The request is refused, or its lease
// is valid, and the target keeps nothing without a lease.
func TestBetweenPlanAndGrant(t *testing.T) {
	disable := func(l *life) { l.must(l.t, route.Delete, "sys/mounts/issuer", l.root, "") }
	for name, tt := range map[string]struct {
		plan, create func(l *life)
		issued       bool
	}{
		"nothing":                  {issued: true},
		"the token is renewed":     {plan: renewA, create: renewA, issued: true},
		"the mount is tuned":       {plan: tuneIssuer, create: tuneIssuer, issued: true},
		"the mount is moved":       {plan: moveIssuer, issued: true},
		"it is moved at the end":   {create: moveIssuer, issued: true},
		"the token is revoked":     {plan: revokeA},
		"it is revoked at the end": {create: revokeA},
		"the mount is disabled":    {plan: disable},
		"it is disabled later":     {create: func(l *life) { disable(l); l.pass() }},
		"it is disabled and gone":  {plan: func(l *life) { disable(l); l.pass() }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := issuing(t)
				if tt.plan != nil {
					l.out.atPlan = func() { tt.plan(l) }
				}
				if tt.create != nil {
					l.out.atCreate = func() { tt.create(l) }
				}
				id := l.issue("a", "issuer/creds/r")
				if (id != "") != tt.issued {
					t.Errorf("issued %q, want %v", id, tt.issued)
				}
				if id != "" {
					l.must(t, route.Write, "sys/leases/lookup", l.root, `{"lease_id":"`+id+`"}`)
				}
				l.finally(10 * time.Minute)
			})
		})
	}
}

func renewA(l *life)  { l.must(l.t, route.Write, "auth/token/renew-self", l.told["a"], `{}`) }
func revokeA(l *life) { l.must(l.t, route.Write, "auth/token/revoke-self", l.told["a"], "") }
func tuneIssuer(l *life) {
	l.must(l.t, route.Write, "sys/mounts/issuer/tune", l.root, `{"description":"x"}`)
}
func moveIssuer(l *life) {
	l.must(l.t, route.Write, "sys/remount", l.root, `{"from":"issuer","to":"moved"}`)
}

// pass lets the due loop run. It runs in a bubble.
func (*life) pass() { time.Sleep(2 * time.Second) }

// TestBatchTokensLeases checks that the leases of a batch token end with it, although nothing is
// stored of the token.
//
// https://github.com/hashicorp/vault/issues/14635
// https://github.com/hashicorp/vault/issues/11072
func TestBatchTokensLeases(t *testing.T) {
	for _, path := range []string{"auth/token/create", "auth/token/create-orphan"} {
		t.Run(path, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := issuing(t)
				l.make("a", "batch", path, `{"policies":["all"],"ttl":"2m","type":"batch"}`, 2*time.Minute)
				a := l.must(t, route.Write, "issuer/creds/batch", l.told["batch"], `{"ttl":"30m"}`)
				l.must(t, route.Write, "sys/leases/renew", l.told["batch"],
					`{"lease_id":"`+a.LeaseID+`","increment":"30m"}`)
				l.finally(2*time.Minute + 2*time.Second)
			})
		})
	}
}

// TestLastUseThenCrash checks that a token whose last use came just before a crash is revoked with
// its leases.
func TestLastUseThenCrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := issuing(t)
		l.make("root", "one", "auth/token/create", `{"policies":["root"],"num_uses":1}`, time.Hour)
		l.out.atCreate = func() { l.st.CrashAfter(1, faulty.NotStored) } // after the grant
		l.must(t, route.Write, "issuer/creds/r", l.told["one"], `{"ttl":"10h"}`)
		l.restart()
		if n := len(l.out.Attempts()); n != 1 {
			t.Fatalf("%d things live, want 1", n)
		}
		l.finally(11 * time.Minute)
	})
}

// TestClientThatHangsUp checks that what a request created for a client that hung up is revoked
// immediately, although the context of the request has ended.
func TestClientThatHangsUp(t *testing.T) {
	for name, when := range map[string]func(l *life, hangUp func()){
		"while it is created": func(l *life, hangUp func()) { l.out.atCreate = hangUp },
		"before the audit device fails": func(l *life, hangUp func()) {
			l.must(l.t, route.Write, "sys/audit/tape", l.root, `{"type":"tape"}`)
			l.out.tape.On(func(lines []byte) error {
				if bytes.Contains(lines, []byte(`"type":"response"`)) {
					hangUp()
					return errors.New("no tape")
				}
				return nil
			})
		},
	} {
		for _, path := range []string{"issuer/creds/r", "auth/token/create"} {
			t.Run(name+" "+path, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					l := issuing(t)
					l.make("root", "one", "auth/token/create", `{"policies":["all"],"ttl":"1h","num_uses":1}`,
						time.Hour)
					by := l.told["one"]
					if path != "issuer/creds/r" {
						by = l.told["a"]
					}
					ctx, hangUp := context.WithCancel(t.Context())
					when(l, hangUp)
					before := len(inspect(t, l.st, l.out).tokens)
					_, err := l.Handle(ctx, &route.Request{
						ID: core.NewRequestID(), Op: route.Write, Path: route.Path(path), Token: secret.Text(by),
						Body: []byte(`{"ttl":"50m"}`),
						Time: time.Now(), Remote: netip.MustParseAddrPort("127.0.0.1:1"),
					})
					if hangUp(); err == nil {
						l.stop() // no create was in flight
						synctest.Wait()
						return
					}
					l.out.tape.On(nil)
					time.Sleep(2 * time.Minute)
					synctest.Wait()
					s := inspect(t, l.st, l.out)
					s.demand(t, "afterwards")
					want := before
					if path == "issuer/creds/r" {
						want-- // its one use is spent
					}
					if len(s.tokens) != want || len(s.leases) != 0 || len(l.out.Attempts()) != 0 {
						t.Errorf("%d tokens (want %d), %d leases, %v outside", len(s.tokens), want, len(s.leases),
							l.out.Attempts())
					}
					l.stop()
					synctest.Wait()
				})
			})
		}
	}
}

// TestWaitingAfterARestart checks that the next server still counts the leases that cannot be
// revoked, for alerts, however the last one ended.
//
// https://github.com/JiRaska/open-bank-oss/issues/9689
// https://github.com/JiRaska/open-bank-oss/issues/9696
func TestWaitingAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := issuing(t)
		l.issue("a", "issuer/creds/r")
		l.issue("a", "issuer/creds/other")
		l.out.kill(true)
		time.Sleep(65 * time.Second)
		synctest.Wait()
		for _, crash := range []bool{false, true} {
			if crash {
				l.st.CrashAfter(0, faulty.NotStored)
				time.Sleep(2 * time.Second)
			}
			l.restart()
			time.Sleep(time.Second)
			synctest.Wait()
			inspect(t, l.st, l.out).countsAreTrue(t, "after a restart", l.Stats())
			if got := l.Stats().UndoWaiting; got != 2 {
				t.Errorf("%d leases wait for their undo, want 2", got)
			}
		}
		l.out.kill(false)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if got := l.Stats(); got.UndoWaiting != 0 || got.Leases != 0 {
			t.Errorf("in the end %d leases, %d of them waiting", got.Leases, got.UndoWaiting)
		}
		l.finally(time.Second)
	})
}

// TestUnwrappedAnswerIsNotLost fails each commit of unwrapping and rewrapping. The answer was
// returned, or can still be unwrapped. If the store leaves open whether it was returned, it is not
// returned again.
func TestUnwrappedAnswerIsNotLost(t *testing.T) {
	for _, path := range []string{"sys/wrapping/unwrap", "sys/wrapping/rewrap"} {
		for n := range 4 {
			t.Run(path+" "+string(rune('0'+n)), func(t *testing.T) {
				l := issuing(t)
				a, err := l.askWrapped(t, route.Write, "auth/token/create", l.root, `{"ttl":"1h","policies":["all"]}`,
					time.Hour)
				if err != nil {
					t.Fatal(err)
				}
				tok := a.Wrap["token"].(string)
				l.st.Inject(faulty.Fault{After: n, Mode: faulty.NotStored})
				got, err := l.ask(t, route.Write, path, tok, "")
				l.st.Clear()
				switch {
				case err != nil:
					got = l.must(t, route.Write, "sys/wrapping/unwrap", tok, "")
				case got.Wrap != nil:
					got = l.must(t, route.Write, "sys/wrapping/unwrap", got.Wrap["token"].(string), "")
				}
				if got.Auth["client_token"] == nil {
					t.Errorf("unwrapped %+v", got)
				}
				if _, err := l.ask(t, route.Write, "sys/wrapping/unwrap", tok, ""); err == nil {
					t.Error("it was unwrapped twice")
				}
			})
		}
	}
}

// TestUndoThatPanics checks that a panic in a revocation stops neither the server nor other
// revocations.
func TestUndoThatPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := issuing(t)
		l.out.panics = "bad"
		bad := l.issue("a", "issuer/creds/bad")
		l.issue("a", "issuer/creds/r")
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		got := l.must(t, route.Write, "sys/leases/lookup", l.root, `{"lease_id":"`+bad+`"}`)
		if n := len(l.out.Attempts()); n != 1 || got.Data["revoke_error"] == nil {
			t.Errorf("%d things live outside, want the one; its lease: %v", n, got.Data)
		}
		l.out.mu.Lock()
		l.out.panics = ""
		l.out.mu.Unlock()
		l.finally(10 * time.Minute)
	})
}

// TestListOfWhatCannotBeUndone checks that leases whose revocation fails are listed with the
// reason, in pages, and counted, until they are revoked.
func TestListOfWhatCannotBeUndone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := issuing(t)
		l.issue("a", "issuer/creds/r")
		l.issue("a", "issuer/creds/other")
		list := func(query string) map[string]any {
			return l.must(t, route.Read, "sys/leases", l.root, query).Data
		}
		count := func() any {
			return l.must(t, route.Read, "sys/leases/count", l.root, `{"type":"irrevocable"}`).Data["lease_count"]
		}
		if n := len(list("")["leases"].([]any)); n != 0 {
			t.Fatalf("%d leases are listed that nobody has revoked", n)
		}
		l.out.kill(true)
		time.Sleep(65 * time.Second)
		synctest.Wait()
		all := list("")["leases"].([]any)
		if len(all) != 2 || count() != 2.0 {
			t.Fatalf("listed %v, counted %v; want both leases", all, count())
		}
		first := all[0].(map[string]any)
		if first["error"] == "" || first["revoke_tries"].(float64) < 1 {
			t.Errorf("listed %v, without the reason", first)
		}
		rest := list(`{"limit":1,"after":"` + first["lease_id"].(string) + `"}`)["leases"].([]any)
		if len(rest) != 1 || rest[0].(map[string]any)["lease_id"] != all[1].(map[string]any)["lease_id"] {
			t.Errorf("the second page is %v", rest)
		}
		if _, err := l.ask(t, route.Read, "sys/leases", l.root, `{"type":"all"}`); !fault.Is(err, fault.Invalid) {
			t.Errorf("another type: %v", err)
		}
		l.out.kill(false)
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if left := list("")["leases"].([]any); len(left) != 0 || count() != 0.0 {
			t.Errorf("still listed: %v, counted %v", left, count())
		}
	})
}
