package databasetest

import (
	"fmt"
	"testing"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
)

// keyed returns a user without password.
func (b *bench) keyed() database.User {
	u := b.user()
	u.Password, u.Key = secret.Value{}, database.Key{Public: "MFkw+/" + random() + "==", Subject: "/CN=" + u.Name}
	return u
}

// keys checks that users without password are created and dropped like others, and that no
// password is accepted for them.
func keys(t *testing.T, b *bench) {
	nobody := b.keyed()
	nobody.Key = database.Key{}
	b.wantKind("a user with neither password nor key", b.conn.Create(b.ctx(), nobody, b.Creation, nil), true,
		fault.Invalid)
	if b.Keyed == nil {
		if len(b.Provider.Logins) > 0 {
			t.Error("the provider supports logins without password, but the target has no statements for them")
		}
		t.Skip("users can only have passwords")
	}
	u, conn := b.keyed(), b.conn.(database.KeyConn)
	if err := conn.Create(b.ctx(), u, b.Keyed, nil); err != nil {
		t.Fatalf("creating: %v", err)
	}
	b.wantExists(u.Name, true)
	b.wantLogin(u, false)
	b.wantKind("second create", conn.Create(b.ctx(), u, b.Keyed, nil), true, fault.Conflict)
	if err := conn.Renew(b.ctx(), u.Name, u.Expires, nil); err != nil {
		t.Errorf("renewing: %v", err)
	}
	next := database.Key{Public: u.Key.Public, Subject: u.Key.Subject + "/serialNumber=" + random()}
	for range 2 {
		if err := conn.SetKey(b.ctx(), u.Name, next, b.Rekeyed); err != nil {
			t.Errorf("another key: %v", err)
		}
	}
	if err := conn.SetKey(b.ctx(), u.Name, next, nil); err != nil {
		t.Errorf("without statements: %v", err)
	}
	b.drop(u.Name)
	b.wantExists(u.Name, false)
	for _, statements := range [][]string{nil, b.Rekeyed} {
		b.wantKind(fmt.Sprintf("a key of a missing user by %q",
			statements), conn.SetKey(b.ctx(), u.Name, next, statements), true, fault.NotFound)
	}
	b.wantKind("a key of an invalid name", conn.SetKey(b.ctx(), "a b", next, nil), true, fault.Invalid)
}

// setKeyLost sets a key again after a lost reply.
func setKeyLost(t *testing.T, b *bench) {
	if !b.Network || b.Keyed == nil {
		t.Skip("there is no connection to cut, or no key to set")
	}
	w, conn := b.wired()
	u := b.keyed()
	if err := b.conn.Create(b.ctx(), u, b.Keyed, nil); err != nil {
		t.Fatal(err)
	}
	keyed := conn.(database.KeyConn)
	w.arm(cutAfterSend)
	b.wantKind("a key whose client died", keyed.SetKey(b.ctx(), u.Name, u.Key, b.Rekeyed), false, fault.Upstream)
	w.arm(pass)
	for range 2 {
		if err := keyed.SetKey(b.ctx(), u.Name, u.Key, b.Rekeyed); err != nil {
			t.Errorf("setting it again: %v", err)
		}
	}
	b.drop(u.Name)
}
