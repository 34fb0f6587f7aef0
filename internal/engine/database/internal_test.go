package database

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/secret"
)

// What an error says beyond its words survives its way to the client, whatever it wraps.
func TestUpstreamErrorsKeepTheirMarks(t *testing.T) {
	red := new(secret.Redactor)
	red.Know(secret.Text("canary-secret"))
	inner := fault.New("inner", fault.Upstream, "inner words")
	for _, unchanged := range []bool{false, true} {
		for _, refused := range []bool{false, true} {
			var err error = &fault.Error{Op: "outer", Kind: fault.Upstream, Msg: "outer words", Err: inner}
			if refused {
				err = MarkRefused(err.(*fault.Error))
			}
			if unchanged {
				err = MarkUnchanged(err.(*fault.Error))
			}
			if got := upstreamError("op", err, red); Unchanged(got) != unchanged || Refused(got) != refused ||
				fault.Message(got) != "outer words" {
				t.Errorf("marked %v and %v, it became %v and %v, %q", unchanged, refused, Unchanged(got), Refused(got),
					fault.Message(got))
			}
		}
	}
	bare := upstreamError("op",
		MarkUnchanged(&fault.Error{Op: "outer", Kind: fault.Upstream, Err: errors.New("with canary-secret in it")}),
		red)
	if strings.Contains(bare.Error(), "canary") || !Unchanged(bare.Err) ||
		!strings.Contains(fault.Message(bare), "the server's log") {
		t.Errorf("it became %v, %q", bare, fault.Message(bare))
	}
	if cause := bare.Err; !strings.Contains(cause.Error(), "with [secret] in it") {
		t.Errorf("the cause became %v", cause)
	}
	hidden := &connection{Hidden: map[string]secret.Value{"bundle": secret.Text("canary-secret")}}
	if got := hidden.redactor().Error(errors.New("with canary-secret")); strings.Contains(got.Error(), "canary") {
		t.Errorf("a secret setting is shown: %v", got)
	}
	if scrubbed := (markedCause{mark: errRefused}).Redacted(red.Error); scrubbed == nil ||
		!errors.Is(scrubbed, errRefused) || scrubbed.Error() != "" {
		t.Errorf("a mark without a cause became %v", scrubbed)
	}
}

// What is known after a change that failed decides whether it is begun again, or looked for.
func TestRotationFailures(t *testing.T) {
	plain := &fault.Error{Op: "fake", Kind: fault.Upstream, Msg: "words"}
	for _, tt := range []struct {
		name string
		err  error
		want rotate.Outcome
	}{
		{"unmarked", plain, rotate.Unknown},
		{"refused, and who knows", MarkRefused(plain), rotate.Unknown},
		{"invalid, and who knows", fault.New("fake", fault.Invalid, "words"), rotate.Unknown},
		{"unchanged", MarkUnchanged(plain), rotate.Transient},
		{"unchanged, refused", MarkUnchanged(MarkRefused(plain)), rotate.Permanent},
		{"unchanged, invalid", MarkUnchanged(fault.New("fake", fault.Invalid, "words")), rotate.Permanent},
	} {
		if got := rotate.OutcomeOf(rotationFailure(tt.err)); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

// Each secret of a user has an ID of its own, also the second one of a rotation.
func TestCredentialIDs(t *testing.T) {
	r := &rotate.Record{Turns: 2}
	if got := credentialID("svc", r); got != "svc#2" {
		t.Errorf("with no rotation in flight: %s", got)
	}
	r.Turns, r.Turn = 3, &rotate.Turn{N: 3}
	if got := credentialID("svc", r); got != "svc#3" {
		t.Errorf("the first secret of the third rotation: %s", got)
	}
	r.Turn.Attempts = []rotate.Attempt{{N: 1}, {N: 4}}
	if got := credentialID("svc", r); got != "svc#3.5" {
		t.Errorf("after the fourth secret: %s", got)
	}
}

// Of a role whose revocations hang one at a time is tried, until they have not hung for a while,
// or one has succeeded.
func TestSlowRevocations(t *testing.T) {
	var slow slowRevocations
	now := time.Now()
	enters := func(at time.Time, want bool) func() {
		t.Helper()
		leave, ok := slow.begin("ro", at)
		if ok != want {
			t.Errorf("%v after it hung, one may begin: %v, want %v", at.Sub(now), ok, want)
		}
		return leave
	}
	enters(now, true)
	enters(now, true) // any number, as long as none has hung
	slow.markSlow("ro", now)
	if _, ok := slow.begin("other", now); !ok {
		t.Error("a role waits for another's revocations")
	}
	leave := enters(now.Add(slowFor), true)
	enters(now.Add(slowFor), false)
	enters(now.Add(2*slowFor), false) // the one that runs hangs for long
	leave()
	enters(now.Add(2*slowFor), true)
	if len(slow.roles) != 0 {
		t.Errorf("%d roles are still known to hang", len(slow.roles))
	}
	enters(now.Add(2*slowFor), true)
	slow.markSlow("ro", now)
	enters(now, true)
	enters(now, false)
	slow.clear("ro")
	enters(now, true)
	enters(now, true)
}

// closing is a Conn that counts how often it is closed.
type closing struct {
	Conn
	closed int
}

func (c *closing) Close() error { c.closed++; return nil }

// poolWorld has pools over one kind of database, and the connections that they have opened.
func poolWorld() (s *pools, p *Provider, conns *[]*closing) {
	conns = new([]*closing)
	p = &Provider{Name: "fake", Plugins: []string{"fake"}, Connect: func(context.Context, Config) (Conn, error) {
		*conns = append(*conns, new(closing))
		return (*conns)[len(*conns)-1], nil
	}}
	return newPools(&engine.Mount{Log: slog.New(slog.DiscardHandler)}), p, conns
}

// A pool that is replaced is closed by the last call that uses it, once.
func TestPoolIsClosedByItsLastCall(t *testing.T) {
	s, p, conns := poolWorld()
	c := &connection{ID: "id", Plugin: "fake"}
	use := func() func() {
		_, done, err := s.use(t.Context(), p, c)
		if err != nil {
			t.Fatal(err)
		}
		return done
	}
	first, second := use(), use()
	c.Revision++
	third := use()
	first()
	if n := (*conns)[0].closed; n != 0 {
		t.Error("a pool was closed under a call")
	}
	second()
	third()
	if (*conns)[0].closed != 1 || (*conns)[1].closed != 0 || len(s.retired) != 0 {
		t.Errorf("the old pool was closed %d times, the new one %d times; %d are kept", (*conns)[0].closed,
			(*conns)[1].closed, len(s.retired))
	}
	use()()
	s.retire("id")
	if (*conns)[1].closed != 1 || len(*conns) != 2 {
		t.Errorf("retired, it was closed %d times, and %d pools were opened", (*conns)[1].closed, len(*conns))
	}
	fourth := use()
	s.retire("id")
	use()
	s.close()
	if (*conns)[2].closed != 1 || (*conns)[3].closed != 1 {
		t.Errorf("with the mount, the one that was in use was closed %d times, and the other %d times",
			(*conns)[2].closed, (*conns)[3].closed)
	}
	fourth()
	if (*conns)[2].closed != 1 {
		t.Error("it was closed again by its last call")
	}
	if _, _, err := s.use(t.Context(), p, c); !fault.Is(err, fault.Unavailable) {
		t.Errorf("after the mount's end: %v", err)
	}
}

// A refusal counts for a while, longer each time that it is seen again, and expires sooner when
// the previous password fails.
func TestRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(refusals)
		knows := func(turn uint32, want bool) {
			t.Helper()
			if got := s.recent("row", turn); got != want {
				t.Errorf("the new password of rotation %d was refused recently: %v, want %v", turn, got, want)
			}
		}
		knows(0, false) // nothing was found out
		s.expire("row")
		knows(0, false)
		s.add("row", 7)
		knows(7, true)
		knows(8, false)
		time.Sleep(2 * refusalCounts)
		knows(7, false)
		s.add("row", 7)
		s.expire("row") // it was found again a moment ago
		knows(7, true)
		s.add("row", 8) // another rotation begins anew
		s.expire("row")
		knows(8, false)
		for range 20 {
			s.add("row", 8)
		}
		time.Sleep(refusalCheckedAfter * 7 / 10)
		knows(8, true)
		time.Sleep(refusalCheckedAfter)
		knows(8, true)
		s.expire("row")
		knows(8, false)
		s.add("row", 8)
		knows(8, true)
		s.add("row", 0)
		knows(8, false)
		if len(s.byRecord) != 0 {
			t.Errorf("%d rotations are still known", len(s.byRecord))
		}
	})
}

// Where connections lead is told apart by all that decides on it, and by nothing else.
func TestServersAreToldApart(t *testing.T) {
	tells := &Provider{Destination: func(c Config) (Destination, bool) {
		place, guard, _ := strings.Cut(c.URL.RevealString(), "?")
		return Destination{Place: place, Guard: len(guard)}, place != "untold" && guard != "lost"
	}}
	with := func(kind *Provider, edit func(c *connection)) string {
		c := &connection{
			ID: "id", Plugin: "fake", kind: kind, URL: secret.Text("here?tls"),
			Extra: map[string]string{"host": "h"}, Hidden: map[string]secret.Value{"bundle": secret.Text("b")},
		}
		edit(c)
		return c.serverID()
	}
	for name, tt := range map[string]struct {
		edit       func(c *connection)
		same, told bool // without, and with a kind that can tell
	}{
		"nothing":   {func(*connection) {}, true, true},
		"the user":  {func(c *connection) { c.Username = "other" }, true, true},
		"the guard": {func(c *connection) { c.URL = secret.Text("here?more") }, false, true},
		"the place": {func(c *connection) { c.URL = secret.Text("there?tls") }, false, false},
		"a setting": {func(c *connection) { c.Extra["host"] = "i" }, false, true},
		"a secret":  {func(c *connection) { c.Hidden["bundle"] = secret.Text("c") }, false, true},
		"the CA":    {func(c *connection) { c.Access.CA = "PEM" }, false, false},
		"escaping":  {func(c *connection) { c.Access.NoEscape = true }, false, false},
		"the kind":  {func(c *connection) { c.Plugin = "other" }, false, false},
	} {
		for kind, same := range map[*Provider]bool{nil: tt.same, {}: tt.same, tells: tt.told} {
			if got := with(kind, tt.edit) == with(kind, func(*connection) {}); got != same {
				t.Errorf("another value of %s, and the kind can tell %v: the same server %v, want %v", name,
					kind == tells, got, same)
			}
		}
	}
	lost := func(c *connection) { c.URL = secret.Text("untold?tls") }
	if with(tells, lost) == with(tells, func(c *connection) { lost(c); c.Extra["host"] = "i" }) {
		t.Error("two places that the kind cannot tell are taken for one")
	}
	for guard, want := range map[string]bool{"here?tl": false, "here?tls": true, "here?tlss": true, "there?tls": false,
		"untold?tls": false, "here?lost": false} {
		if got := tells.sameDestination(Config{URL: secret.Text("here?tls")},
			Config{URL: secret.Text(guard)}); got != want {
			t.Errorf("from here?tls to %s: %v, want %v", guard, got, want)
		}
	}
}

// The record says which password a connection has, after a write of any part of it.
func TestRecordFollowsItsConnection(t *testing.T) {
	c := &connection{ID: "id", Plugin: "fake", Username: "admin", Password: secret.Text("first"),
		URL: secret.Text("here")}
	record := func() (*rotate.Record, *rotate.Secrets) {
		now := c.rotationCredential("admin#1", c.Password)
		return &rotate.Record{Turns: 1, Current: &rotate.Ref{ID: now.ID, Account: "admin"}},
			&rotate.Secrets{Keys: map[string]rotate.Credential{now.ID: now}}
	}
	r, s := record()
	c.syncCurrent(r, s)
	if r.Current.ID != "admin#1" || r.Current.Adopted || len(s.Keys) != 1 {
		t.Errorf("with nothing written, the record says %+v", r.Current)
	}
	for what, write := range map[string]func(c *connection){
		"the user":     func(c *connection) { c.Username = "other" },
		"the password": func(c *connection) { c.Password = secret.Text("second") },
		"the server":   func(c *connection) { c.URL = secret.Text("there") },
	} {
		r, s := record()
		written := *c
		write(&written)
		written.syncCurrent(r, s)
		if k := s.Keys[r.Current.ID]; !r.Current.Adopted || r.Current.Account != written.Username ||
			!k.Secret[secretField].Equal(written.Password) || len(s.Keys) != 1 {
			t.Errorf("after a write of %s, the record says %+v, and has %d secrets", what, r.Current, len(s.Keys))
		}
	}
	c.syncCurrent(new(rotate.Record), s) // of which nothing is known yet
}

// Whether a login was refused is known only where the database was asked.
func TestConnectFailureIsNoRefusal(t *testing.T) {
	down := Provider{Plugins: []string{"fake"},
		Connect: func(context.Context, Config) (Conn, error) { return nil, errors.New("down") }}
	m := &engine.Mount{Log: slog.New(slog.DiscardHandler)}
	conns := &connections{m: m, providers: providers{down}}
	c := &connection{Plugin: "fake", Username: "admin", Password: secret.Text("first")}
	root := &rootTarget{roots: &rootRotation{m: m, conns: conns}, r: new(rotate.Record), c: c,
		recorder: recorder{red: new(secret.Redactor)}}
	if err := root.Verify(t.Context(),
		c.rotationCredential("admin#1", c.Password)); rotate.OutcomeOf(err) != rotate.Transient {
		t.Errorf("the administrator's: %v, %v", rotate.OutcomeOf(err), err)
	}
	self := &connection{Plugin: "fake", Self: true}
	if _, err := (&staticUsers{m: m, conns: conns}).login(t.Context(), self, "svc",
		login{kind: typePassword, secret: secret.Text("first")}); err == nil || fault.Is(err, fault.Unsupported) {
		t.Errorf("a user's: %v", err)
	}
}

// Nobody but such a user could set another password, if one were forgotten that is in force.
func TestSelfManagedPasswordsAreNotForgotten(t *testing.T) {
	for self, want := range map[bool]rotate.Retry{false: rotate.Capabilities{}.Retry, true: rotate.RetryNever} {
		if got := (&staticTarget{staticData: staticData{SelfManaged: self}}).Capabilities().Retry; got != want {
			t.Errorf("self-managed %v: %v, want %v", self, got, want)
		}
	}
}

// Rows of an earlier version are adopted with all that they say, and damaged ones are refused.
func TestAdoptedStaticRoles(t *testing.T) {
	adopt := func(row string) (*rotate.Record, *rotate.Secrets, error) {
		r := &rotate.Record{Name: "svc"}
		s, err := upgradeStatic([]byte(row), r)
		return r, s, err
	}
	for _, row := range []string{
		`{`, `{"users":[]}`, `{"users":["a"],"pw":["eA==","eA=="]}`, `{"users":["a"],"current":-1}`,
		`{"users":["a"],"current":1}`, `{"users":["a","b"],"current":2}`,
	} {
		if _, _, err := adopt(row); !fault.Is(err, fault.Internal) {
			t.Errorf("%s: %v", row, err)
		}
	}
	r, s, err := adopt(
		`{"users":["a","b"],"current":1,"pw":["eA==","eQ=="],"unproven":"why","place":"here","failed":1,"due":"2000-01-02T00:00:00Z","next":"2000-01-03T00:00:00Z"}`)
	if err != nil {
		t.Fatal(err)
	}
	if k := s.Keys[r.Current.ID]; k.Account != "b" || k.Secret[secretField].RevealString() != "y" ||
		k.Public[serverField] != "here" {
		t.Errorf("the current one is %+v", k)
	}
	if len(r.Idle) != 1 || s.Keys[r.Idle[0].ID].Account != "a" ||
		s.Keys[r.Idle[0].ID].Secret[secretField].RevealString() != "x" {
		t.Errorf("the other one is %+v", r.Idle)
	}
	if !slices.Equal(r.Unproven, []string{"why"}) || !r.Retry.Equal(r.Due) || r.Due.IsZero() || len(s.Admin) != 0 {
		t.Errorf("unproven %q, retry at %v, due at %v, %d secrets", r.Unproven, r.Retry, r.Due, len(s.Admin))
	}
	r, s, err = adopt(`{"users":["a"],"pw":["eA=="],"due":"2000-01-02T00:00:00Z"}`)
	if err != nil || len(r.Unproven) != 0 || !r.Retry.IsZero() || s.Keys[r.Current.ID].Public != nil {
		t.Errorf("without them: unproven %q, retry at %v, made at %v, %v", r.Unproven, r.Retry,
			s.Keys[r.Current.ID].Public, err)
	}
	for _, tt := range []struct {
		turn, fresh string
		goesOn      bool
		reason      string
	}{
		{`{"sent":true,"by":"schedule"}`, "eg==", true, "schedule"},
		{`{"sent":true,"by":"request"}`, "eg==", true, "manual"},
		{`{"sent":false,"by":"request"}`, "eg==", false, ""}, // the database has not heard of it
		{`{"sent":true,"by":"request"}`, "", false, ""},
		{`{"sent":true,"by":"request","user":-1}`, "eg==", false, ""},
		{`{"sent":true,"by":"request","user":1}`, "eg==", false, ""},
	} {
		r, s, err := adopt(`{"users":["a"],"pw":["eA=="],"due":"2000-01-02T00:00:00Z","fresh":"` + tt.fresh +
			`","turn":` + tt.turn + `}`)
		if err != nil || (r.Turn != nil) != tt.goesOn || r.Retry.IsZero() != tt.goesOn {
			t.Errorf("%s with %q: goes on %v, retry at %v, %v", tt.turn, tt.fresh, r.Turn != nil, r.Retry, err)
		} else if tt.goesOn &&
			(r.Turn.Start.Reason != tt.reason || s.Keys[r.Turn.New.ID].Secret[secretField].RevealString() != "z") {
			t.Errorf("%s: it goes on as %+v", tt.turn, r.Turn)
		}
	}
}

// What is stored of a certificate, and is not one, is an error and no empty answer.
func TestDamagedLogins(t *testing.T) {
	key, err := newKey("ec", "256")
	if err != nil {
		t.Fatal(err)
	}
	junk := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("junk")}))
	for name, word := range map[string]string{"nothing": "", "a key": key.RevealString(), "junk": junk,
		"junk and a key": junk + key.RevealString()} {
		l := login{typeCertificate, secret.Text(word)}
		if _, err := l.publicKey(); err == nil {
			t.Errorf("%s: the database was told of it", name)
		}
		if _, err := l.expires(); (err == nil) != (word == "") {
			t.Errorf("%s: it has an end, %v", name, err)
		}
		if _, err := l.out(); (err == nil) != (name == "junk and a key") {
			t.Errorf("%s: given out, %v", name, err)
		}
	}
}

// A key that cannot sign is named as such.
func TestKeyThatCannotSign(t *testing.T) {
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := privateKey(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})); err == nil ||
		!strings.Contains(err.Error(), "cannot sign") {
		t.Errorf("got %v", err)
	}
}

// An undo that cannot be sure comes back when nothing can come any more, or soon after.
func TestSettleAt(t *testing.T) {
	now := time.Now()
	if got := settleAt(now.Add(time.Minute), now); !got.Equal(now.Add(time.Minute)) {
		t.Errorf("before the end of an attempt: in %v", got.Sub(now))
	}
	if got := settleAt(now.Add(-time.Minute), now); !got.Equal(now.Add(settleRetry)) {
		t.Errorf("after it: in %v", got.Sub(now))
	}
}

// A user is refused where its creation could not be undone, or would let in nobody.
func TestUsersThatAreRefused(t *testing.T) {
	good := User{Name: "v-x", Password: secret.Text("pw"), Expires: time.Now(),
		Attempt: Attempt{ID: "a", Deadline: time.Now()}}
	for name, edit := range map[string]func(u *User){
		"user":       func(*User) {},
		"key":        func(u *User) { u.Password, u.Key = secret.Value{}, Key{Public: "k"} },
		"username":   func(u *User) { u.Name = "a b" },
		"password":   func(u *User) { u.Password = secret.Value{} },
		"expiration": func(u *User) { u.Expires = time.Time{} },
		"attempt":    func(u *User) { u.Attempt.Deadline = time.Time{} },
	} {
		u := good
		edit(&u)
		err := CheckUser("fake", u)
		if fine := name == "user" || name == "key"; (err == nil) != fine {
			t.Errorf("%s: %v", name, err)
		} else if !fine &&
			(!Unchanged(err) || !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Message(err), name)) {
			t.Errorf("%s: %v, want Invalid, unchanged", name, err)
		}
	}
	for text, want := range map[string]string{"": "", "0": "", " 0\n": "", "1": "1", "PEM": "PEM"} {
		if got := PEM(text); got != want {
			t.Errorf("PEM of %q: %q, want %q", text, got, want)
		}
	}
}

// Running is how many calls are kept.
func Running(c *Calls) int { c.mu.Lock(); defer c.mu.Unlock(); return len(c.running) }
