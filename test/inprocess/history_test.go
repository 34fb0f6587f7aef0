package inprocess_test

import (
	"flag"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/audit"
	"github.com/keyturn/keyturn/internal/core"
	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/engine/cubbyhole"
	"github.com/keyturn/keyturn/internal/engine/kv"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/storage/faulty"
	"github.com/keyturn/keyturn/internal/storage/memory"
)

// life is one installation through several servers, with its acknowledged answers.
type life struct {
	*server
	t    *testing.T
	st   *faulty.Store
	out  *outside
	stop func()

	told  map[string]string // acknowledged tokens, by name
	owner map[string]string // lease → name of the token to which it was issued
	until map[string]time.Time
	ended map[string]bool // names and leases whose end was requested
	over  map[string]bool // those whose end was acknowledged
	uses  map[string]int  // served requests of each token
}

func newLife(t *testing.T) *life {
	l := &life{
		t: t, st: faulty.New(memory.Open(), 1), out: newOutside(), told: map[string]string{},
		owner: map[string]string{},
		until: map[string]time.Time{}, ended: map[string]bool{}, over: map[string]bool{}, uses: map[string]int{},
	}
	l.restart()
	return l
}

// config is that of a core over st with an engine and an audit device of the target.
func (o *outside) config(st storage.Store) core.Config {
	return core.Config{
		Store: st, Types: core.Types{Engines: []engine.Type{kv.Type, cubbyhole.Type, o.issuerType()}},
		Audits: []audit.Type{o.tape.Type()},
	}
}

// restart stops the server, killed or not, and starts the next.
func (l *life) restart() {
	l.t.Helper()
	if l.stop != nil {
		l.stop()
		synctest.Wait()
	}
	l.st.Clear()
	l.st.Revive()
	l.server, l.stop = launch(l.t, l.out.config(l.st))
}

func (l *life) crashed() bool {
	select {
	case <-l.st.Crashed():
		return true
	default:
		return false
	}
}

// try sends a request, and counts the uses of the token.
func (l *life) try(op route.Op, path, name, body string, wrap time.Duration) *answer {
	l.t.Helper()
	tok := l.root
	if name != "root" {
		if tok = l.told[name]; tok == "" {
			return nil // the token was never returned
		}
	}
	a, err := l.askWrapped(l.t, op, path, tok, body, wrap)
	if err != nil {
		return nil
	}
	l.uses[name]++
	return a
}

// make creates a token called name with the token by.
func (l *life) make(by, name, path, body string, ttl time.Duration) {
	l.t.Helper()
	a := l.try(route.Write, path, by, body, 0)
	if a == nil {
		return
	}
	l.told[name], l.until[name] = a.Auth["client_token"].(string), time.Now().Add(ttl)
}

// issue reads a lease of a minute from path with the token by.
func (l *life) issue(by, path string) string {
	l.t.Helper()
	a := l.try(route.Write, path, by, `{"ttl":"1m"}`, 0)
	if a == nil {
		return ""
	}
	l.owner[a.LeaseID], l.until[a.LeaseID] = by, time.Now().Add(time.Minute)
	return a.LeaseID
}

// end requests the end of what is named.
func (l *life) end(by, path, body string, names ...string) {
	l.t.Helper()
	for _, n := range names {
		l.ended[n] = true
	}
	if l.try(route.Write, path, by, body, 0) != nil {
		for _, n := range names {
			l.over[n] = true
		}
	}
}

func (l *life) token(name string) string { return `{"token":"` + l.told[name] + `"}` }

const allowAll = `{"policy":"path \"*\" { capabilities = [\"create\",\"read\",\"update\",\"delete\",\"list\",\"sudo\"] }"}`

const spec = `{"policies":["all"],"ttl":"4m"}`

// history is the sequence of steps, each of which may fail. It runs in a bubble.
func (l *life) history() []func() {
	create := "auth/token/create"
	var first, wrapped string
	return []func(){
		func() { l.try(route.Write, "sys/policies/acl/all", "root", allowAll, 0) },
		func() { l.try(route.Write, "sys/mounts/issuer", "root", `{"type":"issuer"}`, 0) },
		func() { l.make("root", "a", create, spec, 4*time.Minute) },
		func() { l.make("a", "b", create, spec, 4*time.Minute) },
		func() { l.make("b", "c", create, spec, 4*time.Minute) },
		func() { l.make("a", "orphan", "auth/token/create-orphan", spec, 4*time.Minute) },
		func() { l.try(route.Write, "cubbyhole/x", "c", `{"x":"y"}`, 0) },
		func() { l.try(route.Write, "sys/rotate", "root", "", 0) },
		func() { first = l.issue("a", "issuer/creds/r") },
		func() { l.issue("c", "issuer/creds/r"); l.issue("orphan", "issuer/creds/other") },
		func() { l.out.next(failsBefore); l.issue("a", "issuer/creds/r") },
		func() { l.out.next(failsAfter); l.issue("a", "issuer/creds/r") },
		func() { l.out.next(hangs); l.issue("b", "issuer/creds/r") },
		func() { l.out.next(late); l.issue("b", "issuer/creds/r") },
		func() {
			if l.try(route.Write, "sys/leases/renew", "a", `{"lease_id":"`+first+`","increment":"2m"}`, 0) != nil {
				l.until[first] = time.Now().Add(2 * time.Minute)
			}
		},
		func() { l.try(route.Write, "auth/token/renew-self", "a", `{}`, 0) },
		func() {
			l.make("a", "batch", create, `{"policies":["all"],"ttl":"3m","type":"batch"}`, 3*time.Minute)
			l.issue("batch", "issuer/creds/batch")
		},
		func() {
			l.make("a", "two", create, `{"policies":["all"],"ttl":"4m","num_uses":2}`, 4*time.Minute)
			l.issue("two", "issuer/creds/r")
			l.try(route.Read, "auth/token/lookup-self", "two", "", 0)
			l.try(route.Read, "auth/token/lookup-self", "two", "", 0)
		},
		func() {
			l.make("a", "one", create, `{"policies":["all"],"ttl":"4m","num_uses":1}`, 4*time.Minute)
			l.issue("one", "issuer/creds/r")
		},
		func() {
			if a := l.try(route.Write, create, "a", spec, time.Minute); a != nil {
				wrapped = a.Wrap["token"].(string)
			}
			if a, err := l.ask(l.t, route.Write, "sys/wrapping/rewrap", wrapped, ""); err == nil {
				wrapped = a.Wrap["token"].(string)
			}
			l.try(route.Write, create, "a", spec, time.Minute) // it is never unwrapped
		},
		func() {
			a, err := l.ask(l.t, route.Write, "sys/wrapping/unwrap", wrapped, "")
			if err == nil {
				l.told["unwrapped"], l.until["unwrapped"] = a.Auth["client_token"].(string), time.Now().Add(
					4*time.Minute)
			}
		},
		func() {
			id := l.issue("a", "issuer/creds/r")
			l.end("a", "sys/leases/revoke", `{"lease_id":"`+id+`"}`, id)
			id = l.issue("a", "issuer/creds/r")
			l.end("a", "sys/leases/revoke", `{"lease_id":"`+id+`","sync":true}`, id)
		},
		func() {
			one, two := l.issue("a", "issuer/creds/prefix"), l.issue("orphan", "issuer/creds/prefix")
			l.end("root", "sys/leases/revoke-prefix/issuer/creds/prefix", `{"sync":true}`, one, two)
			one = l.issue("a", "issuer/creds/prefix")
			l.end("root", "sys/leases/revoke-force/issuer/creds/prefix", `{}`, one)
		},
		func() {
			l.make("a", "p", create, spec, 4*time.Minute)
			l.make("p", "p1", create, spec, 4*time.Minute)
			l.make("p", "p2", create, spec, 4*time.Minute)
			l.end("root", "auth/token/revoke-orphan", l.token("p"), "p")
		},
		func() { l.end("root", "auth/token/revoke", l.token("b"), "b", "c") },
		func() {
			l.try(route.Write, "sys/mounts/other", "root", `{"type":"issuer"}`, 0)
			id := l.issue("a", "other/creds/r")
			l.ended[id] = true
			l.try(route.Delete, "sys/mounts/other", "root", "", 0)
			l.try(route.Delete, "sys/mounts/other", "root", "", 0)
			l.try(route.Write, "sys/mounts/other", "root", `{"type":"issuer"}`, 0)
			l.try(route.Write, "sys/mounts/other", "root", `{"type":"issuer"}`, 0)
			l.issue("a", "other/creds/r")
		},
		func() {
			l.try(route.Write, "sys/remount", "root", `{"from":"issuer","to":"moved"}`, 0)
			l.try(route.Write, "sys/mounts/issuer", "root", `{"type":"issuer"}`, 0)
			l.try(route.Write, "sys/mounts/issued", "root", `{"type":"issuer"}`, 0)
			l.issue("a", "moved/creds/r")
			l.issue("a", "issuer/creds/r")
		},
		func() { time.Sleep(90 * time.Second) }, // in a bubble
		func() { l.end("root", "auth/token/revoke", l.token("a"), "a", "batch", "two", "one") },
	}
}

// ownersEnd reports whether the end of name, or of an ancestor, was requested.
func (l *life) ownersEnd(name string) bool {
	above := map[string]string{"b": "a", "c": "b", "batch": "a", "two": "a", "one": "a", "p": "a", "unwrapped": "a"}
	if !l.over["p"] { // its children may have become orphans
		above["p1"], above["p2"] = "a", "a"
	}
	for ; name != ""; name = above[name] {
		if l.ended[name] || name == "one" || name == "two" && l.uses["two"] > 1 {
			return true
		}
	}
	return false
}

// promises checks the stored state against the acknowledged answers.
func (l *life) promises(when string) {
	l.t.Helper()
	for name, tok := range l.told {
		_, err := l.ask(l.t, route.Write, "auth/token/lookup", l.root, `{"token":"`+tok+`"}`)
		switch {
		case l.over[name] && !fault.Is(err, fault.Denied):
			l.t.Errorf("%s: token %s is alive after its end was answered: %v", when, name, err)
		case err != nil && !l.ownersEnd(name) && time.Now().Before(l.until[name].Add(-time.Second)):
			l.t.Errorf("%s: token %s, which was answered, is gone: %v", when, name, err)
		}
	}
	for id, by := range l.owner {
		_, err := l.ask(l.t, route.Write, "sys/leases/lookup", l.root, `{"lease_id":"`+id+`"}`)
		if err != nil && !l.ended[id] && !l.ownersEnd(by) && time.Now().Before(l.until[id].Add(-time.Second)) {
			l.t.Errorf("%s: lease %s of %s, which was answered, is gone: %v", when, id, by, err)
		}
	}
	if l.uses["two"] > 2 || l.uses["one"] > 1 {
		l.t.Errorf("%s: tokens with one and two uses were served %d and %d times", when, l.uses["one"], l.uses["two"])
	}
}

// live runs the history up to a crash, and recovers. It reports whether the fault occurred.
func live(t *testing.T, arm func(st *faulty.Store), struck func(st *faulty.Store) bool) (hit bool) {
	synctest.Test(t, func(t *testing.T) {
		l := newLife(t)
		arm(l.st)
		for _, step := range l.history() {
			if step(); l.crashed() {
				break
			}
		}
		hit = struck(l.st)
		l.restart()
		l.promises("after the restart")
		synctest.Wait()
		inspect(t, l.st, l.out).demand(t, "after the restart")
		time.Sleep(3 * time.Second) // pending work continues
		synctest.Wait()
		l.promises("a little later")
		inspect(t, l.st, l.out).demand(t, "a little later")
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		end := inspect(t, l.st, l.out)
		end.demand(t, "in the end")
		end.countsAreTrue(t, "in the end", l.Stats())
		if n := len(l.out.Attempts()); n != 0 || len(end.leases) != 0 {
			t.Errorf("in the end: %d things live outside, %d leases are left", n, len(end.leases))
		}
		if len(end.tokens) != 1 {
			t.Errorf("in the end: %d tokens are left, want the root token alone", len(end.tokens))
		}
		l.stop()
		synctest.Wait()
	})
	return hit
}

var every = flag.Int("every", 7,
	"which commits of the history are made to fail: each of so many; with the race detector, of five times as many")

// stride is the distance of two commits that fail.
func stride() int {
	if raceEnabled {
		return 5 * *every
	}
	return *every
}

// TestCrashAtEveryCommit runs one history and crashes at each of its commits, before and after the
// commit is stored.
func TestCrashAtEveryCommit(t *testing.T) {
	for name, mode := range map[string]faulty.Mode{"not stored": faulty.NotStored, "stored": faulty.Stored} {
		t.Run(name, func(t *testing.T) {
			for n := 0; n < 5000; n += stride() {
				hit := false
				t.Run(fmt.Sprint(n), func(t *testing.T) {
					hit = live(t, func(st *faulty.Store) { st.CrashAfter(n, mode) }, func(st *faulty.Store) bool {
						select {
						case <-st.Crashed():
							return true
						default:
							return false
						}
					})
				})
				if !hit {
					t.Logf("%d commits", n)
					break
				}
			}
		})
	}
}

// TestUnknownCommits fails each commit of the history, stored and not stored, and continues in the
// same process.
func TestUnknownCommits(t *testing.T) {
	for name, mode := range map[string]faulty.Mode{"not stored": faulty.NotStored, "stored": faulty.Stored} {
		t.Run(name, func(t *testing.T) {
			most := 0
			for n := 0; most == 0 || n < most; n += stride() {
				t.Run(fmt.Sprint(n), func(t *testing.T) {
					live(t, func(st *faulty.Store) {
						most = st.Commits()
						st.Inject(faulty.Fault{After: n, Mode: mode})
					}, func(st *faulty.Store) bool { most = st.Commits() - most; return true })
				})
			}
		})
	}
}
