package token_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/internal/barrier"
	"github.com/keyturn/keyturn/internal/barrier/barriertest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/storage/faulty"
	"github.com/keyturn/keyturn/internal/token"
)

// runDue handles the due items of tokens, like the due loop, until none is left.
func runDue(t *testing.T, s *token.Store, v *barrier.View) {
	t.Helper()
	for again := true; again; {
		again = false
		for _, key := range keysLeft(t, v) {
			parts := strings.Split(key, "/")
			if parts[0] != "due" {
				continue
			}
			n, err := strconv.ParseInt(parts[1], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			now, at := time.Now(), time.UnixMilli(n)
			if at.After(now) {
				continue
			}
			if err := s.Expire(t.Context(), parts[2], now, at, []storage.Op{storage.Remove(key)}); err != nil {
				t.Fatal(err)
			}
			again = true
		}
	}
}

// TestCrashWhileRevoking: the server dies at each commit of a revocation, with and without storing
// it. Either the revocation has not begun, and all tokens are valid, or the next server revokes
// exactly the tokens that it was for, and leaves nothing of them.
func TestCrashWhileRevoking(t *testing.T) {
	// a has the children b and d, b has the child c.
	for name, tt := range map[string]struct {
		first  func(ctx context.Context, s *token.Store, a, b string) error // what the crash interrupts
		second func(ctx context.Context, s *token.Store, a, b string) error // what follows; nil: nothing
		begun  string                                                       // the token that is marked first
		// valid tokens with their parents, once it is marked
		want string
	}{
		"revoked": {
			first: func(ctx context.Context, s *token.Store, a, _ string) error { return s.Revoke(ctx, a) },
			begun: "a", want: "",
		},
		"alone": {
			first: func(ctx context.Context, s *token.Store, a, _ string) error { return s.RevokeOrphan(ctx, a) },
			begun: "a", want: "b c<b d",
		},
		"revoked, then alone": { // a revocation that has begun is completed
			first:  func(ctx context.Context, s *token.Store, a, _ string) error { return s.Revoke(ctx, a) },
			second: func(ctx context.Context, s *token.Store, a, _ string) error { return s.RevokeOrphan(ctx, a) },
			begun:  "a", want: "",
		},
		"alone, then revoked": {
			first:  func(ctx context.Context, s *token.Store, a, _ string) error { return s.RevokeOrphan(ctx, a) },
			second: func(ctx context.Context, s *token.Store, a, _ string) error { return s.Revoke(ctx, a) },
			begun:  "a", want: "b c<b d",
		},
		"a child alone, then its parent": {
			first:  func(ctx context.Context, s *token.Store, _, b string) error { return s.RevokeOrphan(ctx, b) },
			second: func(ctx context.Context, s *token.Store, a, _ string) error { return s.Revoke(ctx, a) },
			begun:  "b", want: "c",
		},
	} {
		for _, mode := range []faulty.Mode{faulty.NotStored, faulty.Stored} {
			for n, crashed := 0, true; crashed; n++ {
				t.Run(fmt.Sprintf("%s/%d/%d", name, mode, n), func(t *testing.T) {
					st := faulty.New(newStore(t), 1)
					s := onBarrier(barriertest.Open(t, st))
					a := create(t, s, nil)
					b, d := create(t, s, a), create(t, s, a)
					c := create(t, s, b)
					names := map[string]string{a.ID: "a", b.ID: "b", c.ID: "c", d.ID: "d"}
					before := st.Commits()
					st.CrashAfter(n, mode)
					err := tt.first(t.Context(), s, a.ID, b.ID)
					crashed = st.Commits()-before >= n && err != nil
					st.Revive()

					bar := barriertest.Open(t, st)
					s, v := onBarrier(bar), bar.View("")
					marked, err := s.ByID(t.Context(), map[string]string{"a": a.ID, "b": b.ID}[tt.begun])
					begun := err != nil || marked.Revoking
					if tt.second != nil && begun {
						if err := tt.second(t.Context(), s, a.ID, b.ID); err != nil {
							t.Fatal(err)
						}
					}
					runDue(t, s, v)

					var lives []string
					want := map[string]bool{}
					for _, id := range []string{a.ID, b.ID, c.ID, d.ID} {
						e, err := s.ByID(t.Context(), id)
						if fault.Is(err, fault.Denied) {
							continue
						}
						if err != nil || e.Revoking {
							t.Fatalf("%s: %+v, %v", names[id], e, err)
						}
						is := names[id]
						want[token.Prefix+id], want[token.AccessorPrefix+e.Accessor], want[item(id,
							e.Expires)] = true, true, true
						if e.Parent != "" {
							is += "<" + names[e.Parent]
							want[token.ChildPrefix+e.Parent+"/"+id] = true
						}
						lives = append(lives, is)
					}
					wantLives := tt.want
					if !begun {
						wantLives = "a b<a c<b d<a"
					}
					if got := strings.Join(lives, " "); got != wantLives {
						t.Errorf("%q live, want %q", got, wantLives)
					}
					got := map[string]bool{}
					for _, key := range keysLeft(t, v) {
						got[key] = true
					}
					if diff := cmp.Diff(want, got); diff != "" {
						t.Errorf("rows (-of what lives +found):\n%s", diff)
					}
				})
				if n > 30 {
					t.Fatal("no run without a crash")
				}
			}
		}
	}
}

// TestRevokeWithManyLeases: once no token of a tree can be used, the revocation does not wait for
// the leases. If it fails or its caller cancels it, it returns an error.
func TestRevokeWithManyLeases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fails error
		cfg := config(barriertest.Open(t, newStore(t)))
		cfg.EndLeases = func(ctx context.Context, _ string) error {
			if fails != nil {
				return fails
			}
			<-ctx.Done()
			return fault.Wrap("test", fault.Timeout, ctx.Err())
		}
		s := token.NewStore(cfg)
		e := create(t, s, nil)
		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := s.Revoke(impatient, e.ID); !fault.Is(err, fault.Timeout) {
			t.Errorf("given up by its caller: %v", err)
		}
		fails = fault.New("test", fault.Upstream, "away")
		if err := s.Revoke(t.Context(), e.ID); !fault.Is(err, fault.Upstream) {
			t.Errorf("leases cannot be ended: %v", err)
		}
		fails = nil
		if err := s.Revoke(t.Context(), e.ID); err != nil {
			t.Errorf("leases take long to end: %v", err)
		}
		if e, err := s.ByID(t.Context(), e.ID); err != nil || !e.Revoking {
			t.Errorf("the token is %+v, %v; want it to wait for its leases, and not to be usable", e, err)
		}
	})
}

// TestStrayItemStoreFails: a stray item is removed only if its token has not changed. Errors of
// the store are returned.
func TestStrayItemStoreFails(t *testing.T) {
	st := faulty.New(newStore(t), 1)
	s := onBarrier(barriertest.Open(t, st))
	e := create(t, s, nil)
	at := time.Now().Truncate(time.Second)
	for err, want := range map[error]bool{storage.ErrConflict: true, nil: false} {
		st.Inject(faulty.Fault{Calls: faulty.Commits, Mode: faulty.NotStored, Err: err})
		got := s.Expire(t.Context(), e.ID, at, at, []storage.Op{storage.Remove(item(e.ID, at))})
		if want != (got == nil) || !want && !fault.Is(got, fault.Unavailable) {
			t.Errorf("the store answers %v: %v", err, got)
		}
		st.Clear()
	}
}

// TestLastCommitFails: an error of the store is returned, but the token cannot be used any more.
// If another server finishes the revocation at the same time, that is no error.
func TestLastCommitFails(t *testing.T) {
	for err, fine := range map[error]bool{storage.ErrConflict: true, nil: false} {
		st := faulty.New(newStore(t), 1)
		s := onBarrier(barriertest.Open(t, st))
		e := create(t, s, nil)
		st.Inject(faulty.Fault{Calls: faulty.Commits, After: 1, Mode: faulty.NotStored, Err: err})
		if got := s.Revoke(t.Context(), e.ID); fine != (got == nil) || !fine && !fault.Is(got, fault.Unavailable) {
			t.Errorf("the store answers %v: %v", err, got)
		}
		st.Clear()
		if got, err := s.ByID(t.Context(), e.ID); err != nil || !got.Revoking {
			t.Errorf("the token: %+v, %v", got, err)
		}
	}
}
