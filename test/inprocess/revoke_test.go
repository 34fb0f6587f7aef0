package inprocess_test

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/lease"
)

// TestRevokedOnce checks that an immediate revocation and the due loop together revoke a lease
// once, and that the caller is answered afterwards. PostgreSQL refuses one of two concurrent
// revocations.
func TestRevokedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t)
		w.takes = 2 * time.Second
		w.run(t)
		l := w.grant(t, "db/creds/a/1", "x", time.Hour)
		if err := w.m.End(t.Context(), l.ID, false, time.Now()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // the loop is revoking
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() {
				if err := w.m.RevokeNow(t.Context(), l.ID, false, time.Now()); err != nil {
					t.Errorf("revoking at once: %v", err)
				}
				if w.seen()[l.ID] != 1 {
					t.Errorf("answered after %d undos, want one", w.seen()[l.ID])
				}
			})
		}
		all.Wait()
		time.Sleep(time.Hour)
		if n := w.seen()[l.ID]; n != 1 || w.keysLeft(t) != 0 {
			t.Errorf("undone %d times, want once", n)
		}
	})
}

// TestRevokedAfterAnotherFailed checks that a caller that waited for a failed revocation retries
// it.
func TestRevokedAfterAnotherFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t)
		w.takes = 2 * time.Second
		tries := 0
		w.fail = func(*lease.Lease) error {
			if tries++; tries == 1 {
				return fault.Wrap("test", fault.Upstream, errors.New("the target hung up"))
			}
			return nil
		}
		l := w.grant(t, "db/creds/a/1", "x", time.Hour)
		first := make(chan error)
		go func() { first <- w.m.RevokeNow(t.Context(), l.ID, false, time.Now()) }()
		time.Sleep(time.Second)
		if err := w.m.RevokeNow(t.Context(), l.ID, false, time.Now()); err != nil {
			t.Errorf("the second: %v", err)
		}
		if err := <-first; !fault.Is(err, fault.Upstream) {
			t.Errorf("the first: %v, want what the target said", err)
		}
		if w.seen()[l.ID] != 1 || w.keysLeft(t) != 0 {
			t.Error("the lease is still there")
		}
	})
}

// TestRevokedAtOnce checks that a renewed lease can be revoked immediately, and is over for its
// user from then on, even while its target fails.
func TestRevokedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t)
		w.fail = func(*lease.Lease) error { return fault.Wrap("test", fault.Upstream, errors.New("away")) }
		l := w.grant(t, "db/creds/a/1", "x", time.Hour)
		renewed, _, err := w.m.Renew(t.Context(), l, time.Hour, lease.Bounds{}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if err := w.m.RevokeNow(t.Context(), l.ID, false, time.Now()); !fault.Is(err, fault.Upstream) {
			t.Errorf("revoking: %v, want what the target said", err)
		}
		if _, _, err := w.m.Renew(t.Context(), renewed, time.Hour, lease.Bounds{}, time.Now()); err == nil {
			t.Error("a lease was renewed that has been revoked")
		}
		left, err := w.m.Lookup(t.Context(), l.ID)
		if err != nil || left.State != lease.Ending || left.Error == "" {
			t.Errorf("the lease is %+v, %v; want it ending, with what the target said", left, err)
		}
		if err := w.m.RevokeNow(t.Context(), l.ID, true, time.Now()); err != nil || w.keysLeft(t) != 0 {
			t.Errorf("by force: %v", err)
		}
	})
}
