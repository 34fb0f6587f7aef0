package databasetest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
)

// Run runs the suite against the target.
func Run(t *testing.T, target Target) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, *bench)
	}{
		{"create and drop", createAndDrop},
		{"create twice", createTwice},
		{"disable", disable},
		{"drop what is gone", dropGone},
		{"a failed drop is a refusal", failedDrop},
		{"a failed create leaves nothing", failedCreate},
		{"renew", renew},
		{"set password", setPassword},
		{"set password, reply lost", setPasswordLost},
		{"login", login},
		{"login that proves nothing", shut},
		{"keys", keys},
		{"set key, reply lost", setKeyLost},
		{"the administrator's own password", ownPassword},
		{"what is absent is not found", absent},
		{"passwords of all kinds", passwords},
		{"hostile names", hostileNames},
		{"errors show no secret", canaries},
		{"a deadline is kept", deadlines},
		{"close", closing},
		{"settle what never ran", settleNothing},
		{"reply lost", replyLost},
		{"late create after the client died", lateCreate},
		{"message held by the network", heldMessage},
		{"server away and back", awayAndBack},
		{"crowd", crowd},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := &bench{Target: target, t: t}
			b.conn = b.connect(target.Config)
			test.run(t, b)
		})
	}
}

func createAndDrop(t *testing.T, b *bench) {
	if err := b.conn.Verify(b.ctx()); err != nil {
		t.Fatalf("verifying: %v", err)
	}
	for _, statements := range [][]string{b.Revocation, nil} {
		u := b.user()
		b.create(u)
		b.wantExists(u.Name, true)
		b.wantLogin(u, true)
		r, err := b.conn.Drop(b.ctx(), u.Name, database.DropOptions{Statements: statements})
		if err != nil || r.Remains || len(r.Notes) != 0 {
			t.Fatalf("dropping with %q: %+v, %v; want nothing to report", statements, r, err)
		}
		b.wantExists(u.Name, false)
		b.wantLogin(u, false)
	}
}

func createTwice(t *testing.T, b *bench) {
	u := b.user()
	b.create(u)
	again := u
	again.Password, again.Attempt.ID = secret.Text("another-"+random()), random()
	b.wantKind("second create", b.conn.Create(b.ctx(), again, b.Creation, nil), true, fault.Conflict)
	b.wantLogin(u, true)
	b.wantLogin(again, false)
	b.drop(u.Name)
}

// disable checks that a disabled user cannot log in, still exists, and can be dropped.
func disable(t *testing.T, b *bench) {
	u := b.user()
	for range 2 {
		if err := b.conn.Disable(b.ctx(), u.Name); err != nil {
			t.Errorf("disabling a user that never existed: %v", err)
		}
	}
	b.wantExists(u.Name, false)
	for _, statements := range [][]string{b.Revocation, nil} {
		b.create(u)
		for range 2 {
			if err := b.conn.Disable(b.ctx(), u.Name); err != nil {
				t.Fatal(err)
			}
			b.wantLogin(u, false)
			b.wantExists(u.Name, true)
		}
		r, err := b.conn.Drop(b.ctx(), u.Name, database.DropOptions{Statements: statements, TerminateSessions: true})
		if err != nil || r.Remains {
			t.Errorf("dropping a disabled user with %q: %+v, %v", statements, r, err)
		}
		b.wantExists(u.Name, false)
		u = b.user()
	}
}

func dropGone(t *testing.T, b *bench) {
	for _, statements := range [][]string{b.Revocation, nil} {
		for _, terminate := range []bool{false, true} {
			u := b.user()
			o := database.DropOptions{Statements: statements, TerminateSessions: terminate}
			if _, err := b.conn.Drop(b.ctx(), u.Name, o); err != nil {
				t.Errorf("dropping a user that never existed (%+v): %v", o, err)
			}
			b.create(u)
			for range 2 {
				if r, err := b.conn.Drop(b.ctx(), u.Name, o); err != nil || r.Remains {
					t.Errorf("dropping (%+v): %+v, %v", o, r, err)
				}
			}
			b.wantExists(u.Name, false)
		}
	}
}

// failedDrop checks that refused statements of one role are told from a server that cannot be
// used.
func failedDrop(t *testing.T, b *bench) {
	if len(b.Revocation) == 0 {
		t.Skip("roles have no revocation statements")
	}
	u := b.user()
	b.create(u)
	_, err := b.conn.Drop(b.ctx(), u.Name, database.DropOptions{Statements: b.Broken})
	if !fault.Is(err, fault.Upstream) || !database.Refused(err) {
		t.Errorf("statements that fail: %v, refused %v; want an Upstream error that is a refusal", err,
			database.Refused(err))
	}
	b.wantExists(u.Name, true)
	b.drop(u.Name)
	wrong := b.Config
	wrong.Password = secret.Text("wrong")
	if _, err = b.connect(wrong).Drop(b.ctx(), u.Name, database.DropOptions{}); err == nil || database.Refused(err) {
		t.Errorf("a server that refuses the login: %v, refused %v; want an error that is no refusal", err,
			database.Refused(err))
	}
}

func failedCreate(t *testing.T, b *bench) {
	u := b.user()
	b.wantKind("broken create", b.conn.Create(b.ctx(), u, b.Broken, nil), true, fault.Upstream)
	b.wantExists(u.Name, false)
	b.wantKind("create without statements", b.conn.Create(b.ctx(), u, nil, nil), true, fault.Invalid)
	u.Attempt.ID = random() // an attempt is one call
	b.create(u)
	b.drop(u.Name)
}

func renew(t *testing.T, b *bench) {
	kept, left := b.user(), b.user()
	first := time.Now().Add(2 * time.Second)
	kept.Expires, left.Expires = first, first
	b.create(kept)
	b.create(left)
	for range 2 {
		if err := b.conn.Renew(b.ctx(), kept.Name, time.Now().Add(time.Hour), nil); err != nil {
			t.Fatalf("renewing: %v", err)
		}
	}
	if b.Expires {
		pause(time.Until(first) + 1200*time.Millisecond)
		b.wantLogin(left, false)
	}
	b.wantLogin(kept, true)
	b.drop(kept.Name)
	b.drop(left.Name)
}

func absent(t *testing.T, b *bench) {
	u := b.user()
	b.wantExists(u.Name, false)
	b.wantKind("renewing", b.conn.Renew(b.ctx(), u.Name, u.Expires, nil), true, fault.NotFound)
	b.wantKind("changing the password", b.conn.SetPassword(b.ctx(), u.Name, u.Password, nil), true, fault.NotFound)
}

func passwords(t *testing.T, b *bench) {
	for _, p := range []string{
		`it's`, `a"b`, `a\b`, `a\'b`, `$$`, `$1$a`, `a;b--c`, `/* x */`, `{{name}}`, `{{password}}`, `%s%d%41`,
		` lead and trail `, "`x`", `:name?`, strings.Repeat("x", 200), `' OR '1'='1`,
	} {
		u := b.user()
		u.Password = secret.Text(p)
		if err := b.conn.Create(b.ctx(), u, b.Creation, nil); err != nil {
			t.Errorf("creating with the password %q: %v", p, err)
			continue
		}
		b.wantLogin(u, true)
		b.drop(u.Name)
	}
}

func hostileNames(t *testing.T, b *bench) {
	for _, name := range []string{
		"", " ", "a b", `a"b`, `a'b`, `a";DROP ROLE x;--`, "a\x00b", "ä", "a/b", "a\nb", strings.Repeat("a", 64),
		"a{{password}}", `a\b`, "a;b", "%s", "public ", "a$b", "a@b", "*",
	} {
		u := b.user()
		u.Name = name
		b.wantKind(fmt.Sprintf("Create(%q)", name), b.conn.Create(b.ctx(), u, b.Creation, nil), true, fault.Invalid)
		b.wantKind(fmt.Sprintf("Renew(%q)", name), b.conn.Renew(b.ctx(), name, u.Expires, nil), true, fault.Invalid)
		_, err := b.conn.Drop(b.ctx(), name, database.DropOptions{Statements: b.Revocation, TerminateSessions: true})
		b.wantKind(fmt.Sprintf("Drop(%q)", name), err, true, fault.Invalid)
		b.wantKind(fmt.Sprintf("Disable(%q)", name), b.conn.Disable(b.ctx(), name), true, fault.Invalid)
		_, err = b.conn.Exists(b.ctx(), name)
		b.wantKind(fmt.Sprintf("Exists(%q)", name), err, true, fault.Invalid)
	}
	for _, name := range []string{
		"", " ", "a b", `a"b`, `a'b`, "a\x00b", "a\nb", strings.Repeat("a", 129), "a{{password}}", `a\b`, "a;b", "%s",
		"a`b", "\xff",
	} {
		pw := b.user().Password
		b.wantKind(fmt.Sprintf("SetPassword(%q)",
			name), b.conn.SetPassword(b.ctx(), name, pw, nil), true, fault.Invalid)
		_, err := b.conn.Login(b.ctx(), name, pw)
		b.wantKind(fmt.Sprintf("Login(%q)", name), err, true, fault.Invalid)
	}
	for _, id := range []string{"", "a b", "a'b", strings.Repeat("a", 49)} {
		u := b.user()
		u.Attempt.ID = id
		b.wantKind(fmt.Sprintf("Create of attempt %q",
			id), b.conn.Create(b.ctx(), u, b.Creation, nil), true, fault.Invalid)
		_, err := b.conn.SettleAttempt(b.ctx(), u.Attempt)
		b.wantKind(fmt.Sprintf("SettleAttempt(%q)", id), err, true, fault.Invalid)
	}
	// Valid names with unusual characters.
	for _, name := range []string{"-" + random(), "." + random(), "v-1.2_" + strings.Repeat("x", 40) + random(),
		random() + "--"} {
		u := b.user()
		u.Name = name
		b.create(u)
		b.wantExists(name, true)
		b.drop(name)
		b.wantExists(name, false)
	}
}

// canaries causes errors of the server that quote its input.
func canaries(t *testing.T, b *bench) {
	u := b.user()
	u.Password = secret.Text("Canary" + random())
	wrong := b.Config
	wrong.Password = secret.Text("WrongCanary" + random())
	conn := b.connect(wrong)
	for what, err := range map[string]error{
		"a broken statement":       b.conn.Create(b.ctx(), u, b.Broken, nil),
		"a wrong password":         conn.Verify(b.ctx()),
		"a create that cannot log": conn.Create(b.ctx(), u, b.Creation, nil),
	} {
		if err == nil {
			t.Errorf("%s: no error", what)
			continue
		}
		if all := fmt.Sprintf("%v %+v %#v %s", err, err, err, fault.Message(err)); strings.Contains(all, "Canary") {
			t.Errorf("%s: the error shows a password: %s", what, all)
		}
	}
}
