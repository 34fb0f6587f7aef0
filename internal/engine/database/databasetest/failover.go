package databasetest

import (
	"context"
	"net"
	"sync"
	"testing"

	"github.com/keyturn/keyturn/internal/engine/database"
)

// RunFailover simulates a fail-over. demote makes the target's server read-only, keeps its
// sessions open, and returns when they are affected. Then the server at promoted, which has the
// same administrator, takes over its address. The next call of every kind must succeed on the new
// server.
func RunFailover(t *testing.T, target Target, promoted string, demote func()) {
	under := target.Config.Dial
	if under == nil {
		under = new(net.Dialer).DialContext
	}
	var mu sync.Mutex
	moved := false
	target.Config.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		mu.Lock()
		defer mu.Unlock()
		if moved {
			address = promoted
		}
		return under(ctx, network, address)
	}
	b := &bench{Target: target, t: t}
	conns := map[string]database.Conn{}
	for _, call := range []string{"create", "drop", "set password", "settle", "verify"} {
		conns[call] = b.connect(target.Config)
		if err := conns[call].Verify(b.ctx()); err != nil {
			t.Fatal(err)
		}
	}
	demote()
	mu.Lock()
	moved = true
	mu.Unlock()
	u := b.user()
	if err := conns["create"].Create(b.ctx(), u, b.Creation, nil); err != nil {
		t.Fatalf("creating after a fail-over: %v", err)
	}
	if there, err := b.Exists(b.ctx(), u.Name); err != nil || there {
		t.Errorf("the user was created on the old server: %v, %v", there, err)
	}
	if err := conns["set password"].SetPassword(b.ctx(), u.Name, NewUser().Password, nil); err != nil {
		t.Errorf("changing a password after a fail-over: %v", err)
	}
	if err := conns["verify"].Verify(b.ctx()); err != nil {
		t.Errorf("verifying after a fail-over: %v", err)
	}
	b.conn = conns["settle"]
	b.settle(database.Attempt{ID: random(), Deadline: u.Attempt.Deadline.AddDate(-1, 0, 0)})
	r, err := conns["drop"].Drop(b.ctx(), u.Name, database.DropOptions{Statements: b.Revocation})
	if err != nil || r.Remains {
		t.Errorf("dropping after a fail-over: %+v, %v", r, err)
	}
	if there, err := b.conn.Exists(b.ctx(), u.Name); err != nil || there {
		t.Errorf("the user is still on the new server: %v, %v", there, err)
	}
}
