package databasetest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
)

// A bench is one test of a target, with a connection to it.
type bench struct {
	Target
	t    *testing.T
	conn database.Conn
}

func (b *bench) connect(c database.Config) database.Conn {
	b.t.Helper()
	conn, err := b.Provider.Connect(b.ctx(), c)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// ctx returns a context that is long enough for calls that should succeed.
func (b *bench) ctx() context.Context {
	ctx, cancel := context.WithTimeout(b.t.Context(), time.Minute)
	b.t.Cleanup(cancel)
	return ctx
}

func (b *bench) user() database.User { return NewUser() }

// NewUser returns a user with a random name and a deadline that is long enough to create it.
func NewUser() database.User {
	return database.User{
		Name: "v-kt-" + random(), Password: secret.Text("Pw-" + random()), Expires: time.Now().Add(time.Hour),
		Attempt: database.Attempt{ID: random(), Deadline: time.Now().Add(30 * time.Second)},
	}
}

func random() string {
	b := make([]byte, 8)
	_, _ = rand.Read(b)
	return hex.EncodeToString(b)
}

func (b *bench) create(u database.User) {
	b.t.Helper()
	if err := b.conn.Create(b.ctx(), u, b.Creation, nil); err != nil {
		b.t.Fatalf("creating %s: %v", u.Name, err)
	}
}

func (b *bench) drop(name string) {
	b.t.Helper()
	r, err := b.conn.Drop(b.ctx(), name, database.DropOptions{Statements: b.Revocation})
	if err != nil || r.Remains {
		b.t.Fatalf("dropping %s: %+v, %v", name, r, err)
	}
}

// wantExists checks whether the user exists, at the server and according to the provider.
func (b *bench) wantExists(name string, want bool) {
	b.t.Helper()
	is, err := b.Exists(b.ctx(), name)
	if err != nil {
		b.t.Fatal(err)
	}
	says, err := b.conn.Exists(b.ctx(), name)
	if err != nil || is != want || says != want {
		b.t.Fatalf("%s exists: %v, and the provider says %v, %v; want %v", name, is, says, err, want)
	}
}

func (b *bench) wantLogin(u database.User, want bool) {
	b.t.Helper()
	err := b.Login(b.ctx(), u.Name, u.Password.RevealString())
	if (err == nil) != want {
		b.t.Fatalf("login of %s: %v, want success: %v", u.Name, err, want)
	}
}

func (b *bench) wantKind(what string, err error, unchanged bool, kinds ...fault.Kind) {
	b.t.Helper()
	for _, k := range kinds {
		if fault.Is(err, k) {
			if fault.Message(err) == "" {
				b.t.Errorf("%s: %v has no message for the client", what, err)
			}
			if got := database.Unchanged(err); got != unchanged {
				b.t.Errorf("%s: %v: unchanged is %v, want %v", what, err, got, unchanged)
			}
			return
		}
	}
	b.t.Errorf("%s: got %v (%v), want one of %v", what, err, fault.KindOf(err), kinds)
}

// settle calls SettleAttempt until the attempt is settled, as the due loop does.
func (b *bench) settle(a database.Attempt) {
	b.t.Helper()
	ctx := b.ctx()
	for {
		settled, err := b.conn.SettleAttempt(ctx, a)
		if err != nil {
			b.t.Fatalf("settling: %v", err)
		}
		if settled {
			return
		}
		pause(50 * time.Millisecond)
	}
}

func pause(d time.Duration) { <-time.After(d) }

// wired returns an open connection and its wire.
func (b *bench) wired() (*wire, database.Conn) {
	b.t.Helper()
	w := newWire(b.Config.Dial, b.Effect)
	c := b.Config
	c.Dial = w.dial
	conn := b.connect(c)
	if err := conn.Verify(b.ctx()); err != nil {
		b.t.Fatal(err)
	}
	return w, conn
}

// slow returns a connection and statements that create a user only after d.
func (b *bench) slow(d time.Duration) (database.Conn, []string) {
	b.t.Helper()
	if b.Slow != nil {
		return b.connect(b.Config), b.Slow(d)
	}
	w, conn := b.wired()
	w.arm(hold)
	late := time.AfterFunc(d, w.release)
	b.t.Cleanup(func() { late.Stop() })
	return conn, b.Creation
}

// settleHeld settles an attempt if only the network is slow. Nothing reaches its session then, so
// that canceling the call cannot end it.
func (b *bench) settleHeld(a database.Attempt) {
	b.t.Helper()
	if b.Slow == nil {
		b.settle(a)
	}
}
