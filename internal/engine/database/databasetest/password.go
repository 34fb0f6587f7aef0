package databasetest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
)

func setPassword(t *testing.T, b *bench) {
	u := b.user()
	b.create(u)
	old := u
	u.Password = secret.Text(`new'pass"word\` + random())
	for range 2 {
		if err := b.conn.SetPassword(b.ctx(), u.Name, u.Password, nil); err != nil {
			t.Fatal(err)
		}
	}
	b.wantLogin(u, true)
	b.wantLogin(old, false)
	if b.Password != nil {
		older := u
		u.Password = secret.Text("Pw-" + random())
		for range 2 {
			if err := b.conn.SetPassword(b.ctx(), u.Name, u.Password, b.Password); err != nil {
				t.Fatalf("by statements: %v", err)
			}
		}
		b.wantLogin(u, true)
		b.wantLogin(older, false)
		err := b.conn.SetPassword(b.ctx(), u.Name, secret.Text("Canary"+random()), b.BadPassword)
		if !fault.Is(err, fault.Upstream) ||
			strings.Contains(fmt.Sprintf("%+v %s", err, fault.Message(err)), "Canary") {
			t.Errorf("by statements that fail: %v, want Upstream without the password", err)
		}
		b.wantLogin(u, true)
	}
	b.wantKind("an empty password", b.conn.SetPassword(b.ctx(), u.Name, secret.Value{}, nil), true, fault.Invalid)
	b.drop(u.Name)
}

func login(t *testing.T, b *bench) {
	u := b.user()
	try := func(name string, password secret.Value, want bool) {
		t.Helper()
		if ok, err := b.conn.Login(b.ctx(), name, password); err != nil || ok != want {
			t.Errorf("login of %s: %v, %v; want %v", name, ok, err, want)
		}
	}
	try(u.Name, u.Password, false)
	b.create(u)
	try(u.Name, u.Password, true)
	try(u.Name, secret.Text("wrong-"+random()), false)
	next := secret.Text(`it's "new"\` + random())
	if err := b.conn.SetPassword(b.ctx(), u.Name, next, nil); err != nil {
		t.Fatal(err)
	}
	try(u.Name, u.Password, false)
	try(u.Name, next, true)
	b.drop(u.Name)
	try(u.Name, next, false)
	if b.Stop == nil {
		return
	}
	if err := b.Stop(); err != nil {
		t.Fatal(err)
	}
	if ok, err := b.conn.Login(b.ctx(), u.Name, next); ok || !fault.Is(err, fault.Upstream) {
		t.Errorf("login without a server: %v, %v; want Upstream", ok, err)
	}
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
}

// ownPassword checks what rotating the administrator's password requires: its sessions continue,
// new sessions accept only the new password, and a session with the new password can change it
// again.
func ownPassword(t *testing.T, b *bench) {
	name, old, next := b.Config.Username, b.Config.Password, secret.Text("Pw-"+random())
	if is, err := b.Exists(b.ctx(), name); err != nil || !is {
		t.Skipf("%s is no user of the server: %v", name, err)
	}
	for range 2 {
		if err := b.conn.SetPassword(b.ctx(), name, next, nil); err != nil {
			t.Fatal(err)
		}
	}
	config := b.Config
	config.Password = next
	renewed := b.connect(config)
	defer func() {
		if err := renewed.SetPassword(b.ctx(), name, old, nil); err != nil {
			t.Errorf("setting it back: %v", err)
		}
	}()
	if err := renewed.Verify(b.ctx()); err != nil {
		t.Errorf("with the new password: %v", err)
	}
	if _, err := b.conn.Exists(b.ctx(), name); err != nil {
		t.Errorf("a session from before: %v", err)
	}
	b.wantKind("the old password", b.connect(b.Config).Verify(b.ctx()), true, fault.Upstream)
	for password, want := range map[*secret.Value]bool{&old: false, &next: true} {
		if ok, err := b.conn.Login(b.ctx(), name, *password); err != nil || ok != want {
			t.Errorf("login: %v, %v; want %v", ok, err, want)
		}
	}
}

// setPasswordLost sets a password again after a lost reply.
func setPasswordLost(t *testing.T, b *bench) {
	if !b.Network {
		t.Skip("there is no connection to cut")
	}
	w, conn := b.wired()
	u := b.user()
	b.create(u)
	old := u
	u.Password = secret.Text("Pw-" + random())
	w.arm(loseReply)
	if err := conn.SetPassword(b.ctx(), u.Name, u.Password, nil); err != nil {
		b.wantKind("a password whose reply is lost", err, false, fault.Upstream)
	}
	b.wantLogin(u, true)
	w.arm(cutAfterSend)
	next := secret.Text("Pw-" + random())
	// no error if the call was retried on another connection
	if err := conn.SetPassword(b.ctx(), u.Name, next, nil); err != nil {
		b.wantKind("a password whose client died", err, false, fault.Upstream)
	}
	w.arm(pass)
	for range 2 {
		if err := conn.SetPassword(b.ctx(), u.Name, next, nil); err != nil {
			t.Fatalf("setting it again: %v", err)
		}
	}
	b.wantLogin(u, false)
	b.wantLogin(old, false)
	u.Password = next
	b.wantLogin(u, true)
	b.drop(u.Name)
}

// shut checks a user that cannot log in from here with any password: a login proves nothing. A
// password can still be set, and is valid when the user can log in again.
func shut(t *testing.T, b *bench) {
	if len(b.Shut) == 0 {
		t.Error("the target has no way to prevent a login; every database has one")
	}
	for how, shutOut := range b.Shut {
		u := b.user()
		b.create(u)
		shutOut(t, u.Name)
		old := u
		u.Password = secret.Text("Pw-" + random())
		if err := b.conn.SetPassword(b.ctx(), u.Name, u.Password, nil); err != nil {
			t.Errorf("%s: setting a password: %v", how, err)
			continue
		}
		ok, err := b.conn.Login(b.ctx(), u.Name, u.Password)
		if ok || !fault.Is(err, fault.Unsupported) || !strings.Contains(fault.Message(err), u.Name) {
			t.Errorf("%s: logging in with the right password: %v, %v; want Unsupported, with the user's name", how, ok,
				err)
		}
		if ok, err := b.conn.Login(b.ctx(), u.Name, old.Password); ok || err != nil &&
			!fault.Is(err, fault.Unsupported) {
			t.Errorf("%s: logging in with another: %v, %v", how, ok, err)
		}
		if bring := b.Bring[how]; bring != nil {
			bring(t, u.Name)
			b.wantLogin(u, true)
			b.wantLogin(old, false)
		}
		b.drop(u.Name)
	}
}
