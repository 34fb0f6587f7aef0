package databasetest

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/fault"
)

// deadlines checks that calls return soon after their context ends, and that their work at the
// server ends too.
func deadlines(t *testing.T, b *bench) {
	u := b.user()
	u.Attempt.Deadline = time.Now().Add(time.Second)
	conn, statements := b.slow(2 * time.Second)
	short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	began := time.Now()
	err := conn.Create(short, u, statements, nil)
	if took := time.Since(began); took > 1500*time.Millisecond {
		t.Errorf("a create with a deadline of 0.3 s took %v", took)
	}
	if !fault.Is(err, fault.Timeout) {
		t.Errorf("got %v, want Timeout", err)
	}
	b.settleHeld(u.Attempt)
	pause(2200*time.Millisecond - time.Since(began))
	b.wantExists(u.Name, false)

	// No connection free.
	b.Config.MaxOpen = 1
	conn, statements = b.slow(1500 * time.Millisecond)
	busy := make(chan error, 1)
	v := b.user()
	go func() { busy <- conn.Create(b.ctx(), v, statements, nil) }()
	pause(300 * time.Millisecond)
	short, cancel = context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	began = time.Now()
	_, err = conn.Exists(short, v.Name)
	if b.Network {
		b.wantKind("a call without a free connection", err, true, fault.Timeout)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("waiting for a connection with a deadline of 0.2 s took %v", took)
	}
	if err := <-busy; err != nil {
		t.Errorf("the slow create: %v", err)
	}
	b.drop(v.Name)
}

func closing(t *testing.T, b *bench) {
	u := b.user()
	u.Attempt.Deadline = time.Now().Add(time.Second)
	conn, statements := b.slow(3 * time.Second)
	slow := make(chan error, 1)
	go func() { slow <- conn.Create(b.ctx(), u, statements, nil) }()
	pause(300 * time.Millisecond)
	began := time.Now()
	for range 2 {
		if err := conn.Close(); err != nil {
			t.Errorf("closing: %v", err)
		}
	}
	if took := time.Since(began); took > 1500*time.Millisecond {
		t.Errorf("closing took %v", took)
	}
	if err := <-slow; !fault.Is(err, fault.Unavailable) {
		t.Errorf("the call that Close canceled: %v, want Unavailable", err)
	}
	b.wantKind("a call after closing", conn.Verify(b.ctx()), true, fault.Unavailable)
	b.settleHeld(u.Attempt)
	pause(3200*time.Millisecond - time.Since(began))
	b.wantExists(u.Name, false)
}

func settleNothing(t *testing.T, b *bench) {
	a := b.user().Attempt
	if settled, err := b.conn.SettleAttempt(b.ctx(), a); err != nil || settled {
		t.Errorf("an attempt before its deadline: %v, %v; want false, because it may be running", settled, err)
	}
	a.Deadline = time.Now().Add(-time.Minute)
	for range 2 {
		if settled, err := b.conn.SettleAttempt(b.ctx(), a); err != nil || !settled {
			t.Errorf("an attempt whose deadline has passed: %v, %v; want true", settled, err)
		}
	}
	// A create after its deadline fails.
	u := b.user()
	u.Attempt.Deadline = time.Now().Add(-time.Second)
	b.wantKind("a create after its deadline", b.conn.Create(b.ctx(), u, b.Creation, nil), true, fault.Timeout)
	b.wantExists(u.Name, false)
}

// replyLost cuts the connection after the server has done its work.
func replyLost(t *testing.T, b *bench) {
	if !b.Network {
		t.Skip("there is no connection to cut")
	}
	w, conn := b.wired()
	u := b.user()
	u.Attempt.Deadline = time.Now().Add(2 * time.Second)
	w.arm(loseReply)
	b.wantKind("a create whose reply is lost", conn.Create(b.ctx(), u, b.Creation, nil), false, fault.Upstream)
	b.wantExists(u.Name, true)
	b.settle(u.Attempt)
	w.arm(loseReply)
	if _, err := conn.Drop(b.ctx(), u.Name, database.DropOptions{Statements: b.Revocation}); err != nil {
		t.Logf("a drop whose reply is lost: %v", err)
	}
	w.arm(pass)
	if r, err := conn.Drop(b.ctx(), u.Name, database.DropOptions{Statements: b.Revocation}); err != nil || r.Remains {
		t.Errorf("the drop after it: %+v, %v", r, err)
	}
	b.wantExists(u.Name, false)
}

// lateCreate checks that a missing user proves nothing: the create of a client that died may still
// be running at the server when the revocation looks for the user.
func lateCreate(t *testing.T, b *bench) {
	if !b.Network || b.Slow == nil {
		t.Skip("there is no connection to cut, or nothing takes long after it")
	}
	const slow = 3 * time.Second
	forgotten, undone := b.user(), b.user()
	began := time.Now()
	for _, u := range []*database.User{&forgotten, &undone} {
		w, conn := b.wired()
		u.Attempt.Deadline = time.Now().Add(time.Second)
		w.arm(cutAfterSend)
		b.wantKind("a create whose client died", conn.Create(b.ctx(), *u, b.Slow(slow), nil), false, fault.Upstream)
		b.drop(u.Name) // finds no user
	}
	b.settle(undone.Attempt)
	b.drop(undone.Name)
	if took := time.Since(began); took > slow {
		t.Errorf("settling took %v: it waited for the create instead of ending it", took)
	}
	b.wantExists(undone.Name, false)
	pause(slow + 700*time.Millisecond - time.Since(began))
	b.wantExists(undone.Name, false)
	b.wantExists(forgotten.Name, true) // otherwise this test would prove nothing
	b.drop(forgotten.Name)
}

// heldMessage checks a create that has not reached the server yet. There is no session to end, and
// only the deadline prevents the effect.
func heldMessage(t *testing.T, b *bench) {
	if !b.Network {
		t.Skip("there is no connection to hold")
	}
	for _, early := range []bool{false, true} {
		w, conn := b.wired()
		u := b.user()
		u.Attempt.Deadline = time.Now().Add(3 * time.Second)
		short, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		w.arm(hold)
		err := conn.Create(short, u, b.Creation, nil)
		cancel()
		b.wantKind("a create whose message is held", err, false, fault.Timeout)
		if early {
			// The message arrives in time, before the attempt is settled, and takes effect.
			if settled, err := b.conn.SettleAttempt(b.ctx(), u.Attempt); err != nil || settled {
				t.Errorf("settled before its deadline: %v, %v", settled, err)
			}
			w.release()
			pause(300 * time.Millisecond)
			// If an earlier message has named the session, SettleAttempt has ended it.
			for b.Effect == nil && time.Now().Before(u.Attempt.Deadline) { // the server may be busy
				if is, err := b.Exists(b.ctx(), u.Name); is || err != nil {
					break
				}
				pause(100 * time.Millisecond)
			}
			b.wantExists(u.Name, b.Effect == nil)
		}
		b.settle(u.Attempt)
		b.drop(u.Name)
		w.release()
		pause(300 * time.Millisecond)
		b.wantExists(u.Name, false)
	}
}

func awayAndBack(t *testing.T, b *bench) {
	if b.Stop == nil {
		t.Skip("the server cannot be stopped")
	}
	kept := b.user()
	b.create(kept)
	if err := b.Stop(); err != nil {
		t.Fatal(err)
	}
	u := b.user()
	for range 3 {
		began := time.Now()
		_, err := b.conn.Drop(b.ctx(), kept.Name, database.DropOptions{Statements: b.Revocation})
		if !fault.Is(err, fault.Upstream) || time.Since(began) > 5*time.Second {
			t.Errorf("dropping without a server: %v after %v; want Upstream, soon", err, time.Since(began))
		}
		if err := b.conn.Create(b.ctx(), u, b.Creation, nil); !fault.Is(err, fault.Upstream) {
			t.Errorf("creating without a server: %v, want Upstream", err)
		}
		if settled, err := b.conn.SettleAttempt(b.ctx(), u.Attempt); settled || err == nil {
			t.Errorf("settling without a server: %v, %v", settled, err)
		}
	}
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	// The first call after the restart succeeds.
	b.drop(kept.Name)
	b.wantExists(kept.Name, false)
	b.create(u)
	b.wantLogin(u, true)
	b.drop(u.Name)
}

// crowd creates and drops many users at once through one small pool.
func crowd(t *testing.T, b *bench) {
	n := b.Crowd
	if n == 0 {
		n = 500
	}
	users := make([]database.User, n)
	var all sync.WaitGroup
	began := time.Now()
	for i := range users {
		users[i] = b.user()
		users[i].Attempt.Deadline = time.Now().Add(time.Minute)
		all.Go(func() {
			u := users[i]
			if err := b.conn.Create(b.ctx(), u, b.Creation, nil); err != nil {
				t.Errorf("creating: %v", err)
			}
			if r, err := b.conn.Drop(b.ctx(), u.Name, database.DropOptions{Statements: b.Revocation}); err != nil ||
				r.Remains {
				t.Errorf("dropping: %+v, %v", r, err)
			}
		})
	}
	all.Wait()
	t.Logf("%d users in %v", n, time.Since(began))
	for _, u := range users {
		is, err := b.Exists(b.ctx(), u.Name)
		if err != nil || is {
			t.Fatalf("%s exists: %v, %v", u.Name, is, err)
		}
	}
}
