package inprocess_test

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/core"
	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/engine/cubbyhole"
	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/engine/database/databasetest"
	"github.com/keyturn/keyturn/internal/engine/kv"
	"github.com/keyturn/keyturn/internal/lease"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/storage/faulty"
	"github.com/keyturn/keyturn/internal/storage/memory"
)

// These tests are about problems of users of other servers; docs/lessons.md lists all of them.

// shop is a server with a database, and its log. It runs in a bubble.
type shop struct {
	*server
	t    *testing.T
	st   storage.Store
	fake *databasetest.Fake
	stop func()

	mu  sync.Mutex // guards log
	log bytes.Buffer
}

// Write receives the log.
func (s *shop) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.Write(p)
}

func (s *shop) logged(what string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Count(s.log.String(), what)
}

func openShop(t *testing.T, st storage.Store) *shop {
	t.Helper()
	s := &shop{t: t, st: st, fake: new(databasetest.Fake)}
	s.restart()
	s.must(t, route.Write, "sys/mounts/database", s.root, `{"type":"database"}`)
	s.must(t, route.Write, "database/config/prod", s.root,
		`{"plugin_name":"fake-database-plugin","allowed_roles":"*","connection_url":"fake://{{username}}:{{password}}@db","username":"`+databasetest.FakeAdmin+`","password":"`+databasetest.FakePassword+`"}`)
	s.must(t, route.Write, "database/roles/ro", s.root,
		`{"db_name":"prod","creation_statements":"CREATE","default_ttl":"1h","max_ttl":"24h"}`)
	return s
}

// restart stops the server and starts the next, unsealed.
func (s *shop) restart() {
	s.t.Helper()
	if s.stop != nil {
		s.stop()
	}
	s.server, s.stop = launch(s.t, core.Config{
		Store: s.st, Log: slog.New(slog.NewTextHandler(s, nil)),
		Types: core.Types{Engines: []engine.Type{kv.Type, cubbyhole.Type, database.New(s.fake.Provider())}},
	})
}

// password returns the password of the static role svc below path, and checks that it works.
func (s *shop) password(path string) string {
	s.t.Helper()
	p, _ := s.must(s.t, route.Read, path+"/static-creds/svc", s.root, "").Data["password"].(string)
	if err := s.fake.Login("svc", p); err != nil {
		s.t.Errorf("what %s gives out: %v", path, err)
	}
	return p
}

// TestRotationsSurviveSealMoveAndRestart checks that a static role is rotated once at each of its
// times, whatever happens to the server and the path of the mount. No schedule is only in memory
// or bound to a path.
//
// https://github.com/hashicorp/vault/issues/7222
// https://github.com/hashicorp/vault/issues/7502
// https://github.com/hashicorp/vault/issues/21857
// https://github.com/hashicorp/vault/pull/29537
// https://github.com/hashicorp/vault-plugin-secrets-openldap/pull/156
// https://developer.hashicorp.com/vault/docs/v1.19.x/updates/important-changes
func TestRotationsSurviveSealMoveAndRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openShop(t, memory.Open())
		s.fake.AddUser("svc", "before")
		s.must(t, route.Write, "database/static-roles/svc", s.root,
			`{"db_name":"prod","username":"svc","rotation_period":"1h"}`)
		path := "database"
		time.Sleep(time.Minute)
		for what, change := range map[string]func(){
			"seal": func() {
				if err := s.Seal(t.Context()); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				if err := s.AutoUnseal(t.Context()); err != nil {
					t.Fatal(err)
				}
			},
			"restart": func() { s.restart() },
			"move": func() {
				s.must(t, route.Write, "sys/remount", s.root, `{"from":"`+path+`","to":"moved"}`)
				path = "moved"
			},
			"tune": func() { s.must(t, route.Write, "sys/mounts/"+path+"/tune", s.root, `{"description":"x"}`) },
		} {
			before := s.password(path)
			time.Sleep(30 * time.Minute)
			change()
			time.Sleep(28 * time.Minute)
			if now := s.password(path); now != before {
				t.Errorf("%s: it turned early", what)
			}
			time.Sleep(2 * time.Minute)
			if now := s.password(path); now == before {
				t.Errorf("%s: it did not turn", what)
			}
		}
		s.stop()
	})
}

// TestFailuresAreRateLimitedInLog checks five hundred users that cannot be revoked for a day. The
// log repeats the error, but at most once a minute, and each lease has the reason.
//
// https://github.com/hashicorp/vault/issues/8117
func TestFailuresAreRateLimitedInLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openShop(t, memory.Open())
		s.must(t, route.Write, "database/roles/bad", s.root,
			`{"db_name":"prod","creation_statements":"CREATE","revocation_statements":"SELECT 1","default_ttl":"1h"}`)
		var id string
		for range 500 {
			id = s.must(t, route.Read, "database/creds/bad", s.root, "").LeaseID
		}
		time.Sleep(25 * time.Hour)
		if n := s.logged("\n"); n < 24 || n > 24*60+50 {
			t.Errorf("%d lines were logged in a day", n)
		}
		if s.logged("others_since_the_last_line=4") == 0 {
			t.Error("the lines do not say how many others there are")
		}
		a := s.must(t, route.Write, "sys/leases/lookup", s.root, `{"lease_id":"`+id+`"}`)
		if !strings.Contains(fmt.Sprint(a.Data["revoke_error"]), "still in the database") ||
			a.Data["revoke_tries"].(float64) < 20 {
			t.Errorf("the lease reads %v", a.Data)
		}
		s.must(t, route.Write, "database/roles/bad", s.root, `{"revocation_statements":"DROP"}`)
		time.Sleep(2 * time.Hour)
		if n := len(s.fake.Users()); n != 0 {
			t.Errorf("%d users are left", n)
		}
		s.stop()
	})
}

// TestLeaseThatEndsWithItsToken checks that issuing and renewing warn if the token expires before
// the lease, and that the lease shows its real end.
//
// https://github.com/hashicorp/vault/issues/10026
// https://github.com/external-secrets/external-secrets/issues/2198
// https://github.com/hashicorp/hello-vault-go/pull/27
func TestLeaseThatEndsWithItsToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openShop(t, memory.Open())
		s.must(t, route.Write, "sys/policies/acl/all", s.root, allowAll)
		tok := func(body string) string {
			return s.must(t, route.Write, "auth/token/create", s.root, body).Auth["client_token"].(string)
		}
		told := func(what string, a *answer, want bool) {
			t.Helper()
			if got := strings.Contains(strings.Join(a.Warnings, "\n"), "will end with its token, in "); got != want {
				t.Errorf("%s: warnings %q; want one of the token's end: %v", what, a.Warnings, want)
			}
		}
		short, long := tok(`{"policies":["all"],"ttl":"30m"}`), tok(`{"policies":["all"],"ttl":"48h"}`)
		a := s.must(t, route.Read, "database/creds/ro", short, "")
		told("issued", a, true)
		told("renewed",
			s.must(t, route.Write, "sys/leases/renew", s.root, `{"lease_id":"`+a.LeaseID+`","increment":"2h"}`), true)
		told("renewed for less",
			s.must(t, route.Write, "sys/leases/renew", s.root, `{"lease_id":"`+a.LeaseID+`","increment":"10m"}`),
			false)
		end := s.must(t, route.Write, "sys/leases/lookup", s.root,
			`{"lease_id":"`+a.LeaseID+`"}`).Data["token_expire_time"]
		if at, err := time.Parse(time.RFC3339, fmt.Sprint(end)); err != nil ||
			time.Until(at).Round(time.Minute) != 30*time.Minute {
			t.Errorf("the lease's token ends at %v, %v", end, err)
		}
		told("issued to a longer token", s.must(t, route.Read, "database/creds/ro", long, ""), false)
		root := s.must(t, route.Read, "database/creds/ro", s.root, "")
		told("issued to a token that never expires", root, false)
		if d := s.must(t, route.Write, "sys/leases/lookup", s.root,
			`{"lease_id":"`+root.LeaseID+`"}`).Data; d["token_expire_time"] != nil {
			t.Errorf("the end of a token that lives for ever: %v", d)
		}
		time.Sleep(31 * time.Minute)
		if n := len(s.fake.Users()); n != 2 {
			t.Errorf("%d users are left, want the two of tokens that live", n)
		}
		s.stop()
	})
}

// TestCommitsOfARequest checks that the most frequent requests cost no commit, a write one, and a
// credential two: one before the call of the database and one after. A batch token stores nothing.
//
// https://github.com/openbao/openbao/issues/3843
// https://github.com/hashicorp/vault/issues/11072
// https://github.com/hashicorp/vault/issues/14635
// https://github.com/openbao/openbao/pull/3844
func TestCommitsOfARequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // time stands still, so that no other work commits
		st := faulty.New(memory.Open(), 1)
		s := openShop(t, st)
		s.must(t, route.Write, "sys/mounts/kv", s.root, `{"type":"kv","options":{"version":"2"}}`)
		s.must(t, route.Write, "sys/policies/acl/all", s.root, allowAll)
		service := s.must(t, route.Write, "auth/token/create", s.root,
			`{"policies":["all"],"ttl":"1h"}`).Auth["client_token"].(string)
		s.must(t, route.Write, "kv/data/a", service, `{"data":{"x":"y"}}`)
		var leaseID, batch string
		for _, tt := range []struct {
			name string
			want int
			do   func()
		}{
			{"read of a secret", 0, func() { s.must(t, route.Read, "kv/data/a", service, "") }},
			{"write of a secret", 1, func() { s.must(t, route.Write, "kv/data/a", service, `{"data":{"x":"z"}}`) }},
			{"lookup of a token", 0, func() { s.must(t, route.Read, "auth/token/lookup-self", service, "") }},
			{"token", 1, func() { s.must(t, route.Write, "auth/token/create", service, `{"ttl":"1m"}`) }},
			{"batch token", 0, func() {
				batch = s.must(t, route.Write, "auth/token/create", service,
					`{"ttl":"1m","type":"batch","policies":["all"]}`).Auth["client_token"].(string)
			}},
			{"read by a batch token", 0, func() { s.must(t, route.Read, "kv/data/a", batch, "") }},
			{"credential", 2, func() { leaseID = s.must(t, route.Read, "database/creds/ro", service, "").LeaseID }},
			{"renewal", 1,
				func() { s.must(t, route.Write, "sys/leases/renew", service, `{"lease_id":"`+leaseID+`"}`) }},
			{"lookup of a lease", 0,
				func() { s.must(t, route.Write, "sys/leases/lookup", service, `{"lease_id":"`+leaseID+`"}`) }},
		} {
			synctest.Wait()
			before := st.Commits()
			tt.do()
			if got := st.Commits() - before; got != tt.want {
				t.Errorf("%s: %d commits, want %d", tt.name, got, tt.want)
			}
		}
		s.stop()
	})
}

// reads counts the rows that are read from a store: those of leases, and all.
type reads struct {
	storage.Store
	mu          sync.Mutex
	leases, all int
}

func (r *reads) count(key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all++; strings.HasPrefix(key, lease.Prefix) {
		r.leases++
	}
}

// Get implements [storage.Store].
func (r *reads) Get(ctx context.Context, key string) (storage.Entry, error) {
	r.count(key)
	return r.Store.Get(ctx, key)
}

// Scan implements [storage.Store].
func (r *reads) Scan(ctx context.Context, from, to string) iter.Seq2[storage.Entry, error] {
	return func(yield func(storage.Entry, error) bool) {
		for e, err := range r.Store.Scan(ctx, from, to) {
			if r.count(e.Key); !yield(e, err) {
				return
			}
		}
	}
}

// TestStartReadsNotWhatIsStored checks that a start with thirty times the leases and tokens reads
// as much until the first answers as a start with few, except for leases that are counted in the
// background, and keeps nothing in memory for each.
//
// https://github.com/hashicorp/vault/issues/1124
// https://github.com/hashicorp/vault/issues/1788
// https://github.com/hashicorp/vault/issues/2144
// https://github.com/hashicorp/vault/issues/2182
// https://github.com/hashicorp/vault/issues/2312
// https://github.com/hashicorp/vault/issues/3860
// https://github.com/hashicorp/vault/issues/4803
// https://github.com/hashicorp/vault/issues/7018
func TestStartReadsNotWhatIsStored(t *testing.T) {
	const page = 1000 // rows that the count reads before it pauses
	started := func(n int) (other, leases, routines int) {
		synctest.Test(t, func(t *testing.T) {
			st := &reads{Store: memory.Open()}
			s := openShop(t, st)
			for range n {
				tok := s.must(t, route.Write, "auth/token/create", s.root,
					`{"policies":["root"],"ttl":"10h"}`).Auth["client_token"].(string)
				s.must(t, route.Read, "database/creds/ro", tok, "")
			}
			s.stop()
			synctest.Wait()
			st.leases, st.all = 0, 0
			s.stop = nil
			s.restart()
			s.must(t, route.Read, "auth/token/lookup-self", s.root, "")
			s.must(t, route.Read, "database/creds/ro", s.root, "")
			synctest.Wait()
			routines = runtime.NumGoroutine()
			st.mu.Lock()
			other, leases = st.all-st.leases, st.leases
			st.mu.Unlock()
			time.Sleep(2 * time.Hour)
			if got := len(s.fake.Users()); got != 0 {
				t.Errorf("%d users are left of %d", got, n)
			}
			s.stop()
		})
		return other, leases, routines
	}
	few, _, idle := started(100)
	many, leases, busy := started(3000)
	if many > few+20 || leases > page+20 || busy > idle+50 {
		t.Errorf("with 100: %d rows were read; with 3000: %d, and %d of leases; %d goroutines, and %d", few, many,
			leases, idle, busy)
	}
}

// TestMassExpiryIsBounded lets thousands of leases of three targets expire at once. Each target
// gets few revocations at a time, memory does not grow with the leases, other leases are issued
// and looked up without delay, and none is forgotten.
//
// https://github.com/hashicorp/vault/issues/5968
// https://github.com/hashicorp/vault/issues/13404
func TestMassExpiryIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t)
		const each = 1500
		most, busy := map[string]int{}, map[string]int{}
		w.fail = func(l *lease.Lease) error { // called with the lock
			busy[l.Target]++
			most[l.Target] = max(most[l.Target], busy[l.Target])
			w.mu.Unlock()
			time.Sleep(50 * time.Millisecond)
			w.mu.Lock()
			busy[l.Target]--
			return nil
		}
		for i := range each {
			for _, target := range []string{"a", "b", "c"} {
				w.grant(t, fmt.Sprintf("db/creds/%s/%05d", target, i), target, time.Hour)
			}
		}
		live := w.grant(t, "db/creds/live/1", "live", 9*time.Hour)
		w.run(t)
		time.Sleep(time.Hour - time.Millisecond)
		synctest.Wait()
		idle := runtime.NumGoroutine()
		for range 20 {
			time.Sleep(57 * time.Millisecond)
			synctest.Wait() // a worker that has finished may not have returned yet
			if n := runtime.NumGoroutine(); n > idle+3*40 {
				t.Errorf("%d goroutines, and %d before", n, idle)
			}
			began := time.Now()
			if _, err := w.m.Lookup(t.Context(), live.ID); err != nil {
				t.Fatal(err)
			}
			w.reserve(t, "db/creds/live/"+time.Now().Format("05.000"), "live", time.Hour)
			if d := time.Since(began); d != 0 {
				t.Errorf("issuing waited for %s", d)
			}
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if got := len(w.seen()); got < 3*each {
			t.Errorf("%d of %d are undone", got, 3*each)
		}
		for target, n := range most {
			if n > 32 {
				t.Errorf("%d were being undone at once at %s", n, target)
			}
		}
	})
}

// TestLeaseSurvivesALongOutage checks that a target that is down for twenty minutes or a week
// loses no revocation, and that none is given up.
//
// https://github.com/hashicorp/vault/issues/8602
func TestLeaseSurvivesALongOutage(t *testing.T) {
	for _, outage := range []time.Duration{20 * time.Minute, 8 * 24 * time.Hour} {
		t.Run(outage.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := openShop(t, memory.Open())
				for range 10 {
					s.must(t, route.Read, "database/creds/ro", s.root, "")
				}
				time.Sleep(time.Hour - time.Second)
				s.fake.SetDown(true)
				time.Sleep(outage)
				s.restart()
				time.Sleep(time.Second)
				if n := len(s.fake.Users()); n != 10 || s.Stats().UndoWaiting == 0 {
					t.Errorf("while it is away: %d users, %d waiting", n, s.Stats().UndoWaiting)
				}
				s.fake.SetDown(false)
				time.Sleep(67 * time.Minute) // the longest back-off is an hour and a tenth
				if n := len(s.fake.Users()); n != 0 || s.Stats().UndoWaiting != 0 {
					t.Errorf("after it is back: %d users, %d waiting", n, s.Stats().UndoWaiting)
				}
				s.stop()
			})
		})
	}
}

// TestConnectionThatIsNeededStays checks that deleting a connection with issued users, or
// disabling the mount, revokes the users and leaves nothing that cannot be revoked.
//
// https://github.com/hashicorp/vault/issues/9420
func TestConnectionThatIsNeededStays(t *testing.T) {
	for _, path := range []string{"database/config/prod", "sys/mounts/database"} {
		t.Run(path, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := openShop(t, memory.Open())
				s.must(t, route.Read, "database/creds/ro", s.root, "")
				s.fake.SetDown(true)
				s.must(t, route.Delete, path, s.root, "")
				if _, err := s.ask(t, route.Read, "database/creds/ro", s.root, ""); err == nil {
					t.Error("it still issues")
				}
				time.Sleep(3 * time.Hour)
				s.restart()
				s.fake.SetDown(false)
				time.Sleep(2 * time.Hour)
				if n := len(s.fake.Users()); n != 0 || s.Stats().Leases != 0 {
					t.Errorf("%d users and %d leases are left", n, s.Stats().Leases)
				}
				s.stop()
			})
		})
	}
}
