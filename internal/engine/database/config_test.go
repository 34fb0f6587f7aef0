package database_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/engine/database/databasetest"
	"github.com/keyturn/keyturn/internal/engine/enginetest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/storage/faulty"
)

func TestConfigReadsAsRecorded(t *testing.T) {
	w := open(t, enginetest.Config{})
	w.Must(t, route.Write, "config/prod", with(prod, fields{"allowed_roles": "ro,rw"}))
	a := w.Must(t, route.Read, "config/prod", nil)
	want := fields{
		"allowed_roles": []any{"ro", "rw"},
		"connection_details": fields{
			"connection_url": "fake://{{username}}:{{password}}@db", "username": databasetest.FakeAdmin,
		},
		"password_policy": "", "plugin_name": "fake-database-plugin", "plugin_version": "",
		"root_credentials_rotate_statements": []any{},
	}
	if d := cmp.Diff(want, a.Data); d != "" || a.Warnings != nil {
		t.Errorf("read (-want +got):\n%s\nwarnings %q", d, a.Warnings)
	}
	if got := w.Must(t, route.List, "config", nil).Data["keys"]; !cmp.Equal(got, []any{"prod"}) {
		t.Errorf("list = %v", got)
	}
	if _, err := w.Do(route.Read, "config/none", nil); !fault.Is(err, fault.NotFound) {
		t.Errorf("reading an absent connection: %v, want not found", err)
	}
}

// Every field that is written can be read, but for the secrets; and what a
// write does not name stays.
func TestConfigKeepsWhatIsAbsent(t *testing.T) {
	w := open(t, enginetest.Config{})
	w.Must(t, route.Write, "config/prod", with(prod, fields{
		"root_rotation_statements": []string{"ALTER a, b"}, "password_policy": "strong",
		"username_template": "u-{{random 20}}", "plugin_version": "v1",
		"password_authentication": "scram-sha-256", "disable_escaping": "true", "max_open_connections": "7",
		"max_idle_connections":    2,
		"max_connection_lifetime": "90s", "tls_ca": "CA", "tls_certificate": "CERT", "private_key": "canary-key",
		"terminate_sessions": true,
	}))
	before := w.Must(t, route.Read, "config/prod", nil)
	want := fields{
		"connection_url": "fake://{{username}}:{{password}}@db", "username": databasetest.FakeAdmin,
		"username_template":       "u-{{random 20}}",
		"password_authentication": "scram-sha-256", "disable_escaping": true, "max_open_connections": 7.0,
		"max_idle_connections":    2.0,
		"max_connection_lifetime": "1m30s", "tls_ca": "CA", "tls_certificate": "CERT", "terminate_sessions": true,
	}
	if d := cmp.Diff(want, before.Data["connection_details"]); d != "" {
		t.Errorf("details (-want +got):\n%s", d)
	}
	for _, secret := range []string{databasetest.FakePassword, "canary-key"} {
		if strings.Contains(before.Text, secret) {
			t.Errorf("the read shows %q", secret)
		}
	}
	w.Must(t, route.Write, "config/prod", fields{"allowed_roles": "*"})
	after := w.Must(t, route.Read, "config/prod", nil)
	before.Data["allowed_roles"] = []any{"*"}
	if d := cmp.Diff(before.Data, after.Data); d != "" {
		t.Errorf("a write of allowed_roles changed more (-before +after):\n%s", d)
	}
}

func TestConfigRefuses(t *testing.T) {
	w := open(t, enginetest.Config{})
	for _, tt := range []struct {
		name string
		body fields
		want string
	}{
		{"bad", with(prod, fields{"plugin_name": "nonesuch"}),
			`field "plugin_name": there is no "nonesuch"; there are ["fake-database-plugin" "other-database-plugin"]`},
		{"bad", with(prod, fields{"plugin_name": nil}), `field "plugin_name" is required`},
		{"bad", with(prod, fields{"connection_url": nil}), "connection_url is empty"},
		{"bad", with(prod, fields{"password": "wrong-canary"}), "the connection does not work: the fake database " +
			"refuses username or password; nothing was stored; to store it untested, send verify_connection=false"},
		{"bad", with(prod, fields{"password": "wrong-canary", "verify_connection": nil}),
			"the connection does not work"}, // null is the default, true
		{"bad", with(prod, fields{"max_open_connections": "many"}),
			`field "max_open_connections": want a whole number`},
		{"bad", with(prod, fields{"auth_type": "gcp_iam"}), `field "auth_type": it is not implemented yet`},
		{"bad", with(prod, fields{"self_managed": true}), `field "self_managed"`},
		{"bad", with(prod, fields{"rotation_period": "1s"}), `field "rotation_period": 1s is less than 5s`},
		{"bad", with(prod, fields{"rotation_period": "24h", "rotation_schedule": "0 3 * * *"}), "exclude each other"},
		{"bad", with(prod, fields{"rotation_period": "24h", "rotation_window": "2h"}),
			`field "rotation_window" needs rotation_schedule`},
		{"bad", with(prod, fields{"rotation_schedule": "0 3 * * *", "rotation_window": "2m"}),
			`field "rotation_window": 2m0s is less than`},
		{"bad", with(prod, fields{"rotation_schedule": "not cron"}), `field "rotation_schedule"`},
		{"bad", with(prod, fields{"rotation_period": "24h", "rotation_schedule": nil,
			"connection_url": "fake://admin:" + inURL + "@db"}), "written into connection_url"},
		{"bad", with(prod, fields{"username_template": "{{.Nonesuch}}-{{random 20}}"}), `field "username_template"`},
		{"-bad", prod, "name"},
		{"a b", prod, "name"},
	} {
		w.Refused(t, route.Write, "config/"+tt.name, tt.body, fault.Invalid, tt.want)
	}
	if _, err := w.Do(route.List, "config", nil); !fault.Is(err, fault.NotFound) {
		t.Errorf("list after refusals: %v, want none stored", err)
	}
	// Unset values of fields that are not built are no values.
	w.Must(t, route.Write, "config/prod",
		with(prod, fields{"auth_type": "", "self_managed": false, "rotation_period": 0}))
	// Without verifying, what does not work is stored.
	w.Must(t, route.Write, "config/later", with(prod, fields{"password": "wrong-canary", "verify_connection": false}))
}

func TestConfigWarns(t *testing.T) {
	w := open(t, enginetest.Config{Host: knownPasswords})
	a := w.Must(t, route.Write, "config/prod", with(prod, fields{
		"connection_url": "fake://admin:" + inURL + "@db", "plugin_version": "v9", "password_policy": "absent",
		"nonesuch": 1,
	}))
	for _, want := range []string{"connection_url holds a password", `plugin_version "v9"`,
		`password_policy: there is no password policy "absent"`, `unknown parameter "nonesuch"`} {
		if !strings.Contains(strings.Join(a.Warnings, "\n"), want) {
			t.Errorf("warnings %q, want one with %q", a.Warnings, want)
		}
	}
	if got := w.Must(t, route.Read, "config/prod", nil).Text; strings.Contains(got, inURL) ||
		!strings.Contains(got, "*****") {
		t.Errorf("read %s, want the URL's password masked", got)
	}
}

// Who may write a configuration cannot have its password sent elsewhere.
func TestConfigMovesNoSecret(t *testing.T) {
	w := open(t, enginetest.Config{})
	w.Must(t, route.Write, "config/prod", prod)
	for _, body := range []fields{
		{"connection_url": "fake://{{username}}:{{password}}@evil"},
		{"username": "x:y@evil/"},
		{"tls_ca": "EVIL"},
		{"disable_escaping": true},
		{"connection_url": "fake://{{username}}:{{password}}@evil", "verify_connection": false},
	} {
		w.Refused(t, route.Write, "config/prod", body, fault.Invalid,
			`field "password": this write changes where or how the stored password is sent (`)
	}
	w.Refused(t, route.Write, "config/prod",
		fields{"plugin_name": "other-database-plugin", "password": databasetest.FakePassword}, fault.Invalid,
		"delete it and write it again")
	w.Must(t, route.Write, "config/prod",
		fields{"connection_url": "fake://{{username}}:{{password}}@db2", "password": databasetest.FakePassword})
	w.Must(t, route.Write, "config/prod",
		fields{"connection_url": "fake://{{username}}:{{password}}@db2", "max_open_connections": 3}) // as it is

	w.Must(t, route.Write, "config/rotated", prod)
	w.Must(t, route.Write, "rotate-root/rotated", nil)
	w.Refused(t, route.Write, "config/rotated", fields{"tls_ca": "EVIL"}, fault.Invalid,
		"nobody knows since it was rotated; set a new one in the database")

	w.Must(t, route.Write, "config/literal",
		with(prod, fields{"connection_url": "fake://admin:" + inURL + "@db", "password": "",
			"verify_connection": false}))
	w.Refused(t, route.Write, "config/literal", fields{"tls_ca": "EVIL"}, fault.Invalid,
		`field "connection_url": this write changes`)
}

func TestConfigWarnsOfMovingLeases(t *testing.T) {
	w := ready(t, enginetest.Config{})
	moved := fields{"connection_url": "fake://{{username}}:{{password}}@db2", "password": databasetest.FakePassword}
	w.issue("ro")
	if a := w.Must(t, route.Write, "config/prod", moved); !strings.Contains(strings.Join(a.Warnings, ""),
		"issued before will be revoked at the new connection_url") {
		t.Errorf("warnings = %q", a.Warnings)
	}
}

// TestOwnWordsAreKept: a password that is a word of ours, or all that our hint has, does not eat
// it. What a database said is redacted.
func TestOwnWordsAreKept(t *testing.T) {
	w := ready(t, enginetest.Config{})
	w.setHook(func(string) error {
		return &fault.Error{Op: "fake", Kind: fault.Upstream,
			Msg: "wrong password; write {{username}}:{{password}}@host", Err: errors.New("they say: wrong!")}
	})
	for _, password := range []string{"wrong", "password", "{{password}}", "write", "stored"} {
		_, err := w.Do(route.Write, "config/mine", with(prod, fields{"password": password}))
		if want := "the connection does not work: wrong password; write {{username}}:{{password}}@host; nothing was " +
			"stored"; !strings.HasPrefix(fault.Message(err), want) {
			t.Errorf("password %q: %v, want %q", password, err, want)
		}
		if password == "wrong" && strings.Contains(err.Error(), "say: wrong!") {
			t.Errorf("the database's words are not redacted: %v", err)
		}
	}
}

// A database's words may hold any secret that was sent to it.
func TestErrorsAreRedacted(t *testing.T) {
	w := ready(t, enginetest.Config{Host: knownPasswords})
	var made atomic.Value // the new user's password, which creating knows
	made.Store("")
	leak := func(call string) error {
		return &fault.Error{
			Op: "fake", Kind: fault.Upstream, Msg: call + " was refused",
			Err: errors.New("dial admin:" + databasetest.FakePassword + " for " + made.Load().(string) + " failed"),
		}
	}
	_, _, id := w.issue("ro")
	w.setHook(leak)
	check := func(what string, err error, k fault.Kind) {
		t.Helper()
		if fault.KindOf(err) != k {
			t.Errorf("%s: %v, want kind %v", what, err, k)
		}
		for _, canary := range []string{databasetest.FakePassword, "generated-canary"} {
			if strings.Contains(err.Error(), canary) {
				t.Errorf("%s shows %q: %v", what, canary, err)
			}
		}
		if !strings.Contains(err.Error(), "[secret]") {
			t.Errorf("%s: %v, want the rest of the words kept", what, err)
		}
	}
	made.Store("Pw-generated-canary-")
	_, err := w.Do(route.Read, "creds/ro", nil)
	made.Store("")
	check("creds", err, fault.Upstream)
	_, err = w.Renew(id, time.Minute)
	check("renew", err, fault.Upstream)
	_, err = w.Do(route.Write, "config/prod", fields{"max_open_connections": 2})
	check("config", err, fault.Invalid)
	w.setHook(func(call string) error {
		if call == "drop" {
			return errors.New("bare: " + databasetest.FakePassword)
		}
		return nil
	})
	check("revoke", w.Revoke(id), fault.Upstream)
	l, err := w.Leases.Lookup(t.Context(), id)
	if err != nil || l.Error == "" || strings.Contains(l.Error, databasetest.FakePassword) {
		t.Errorf("the lease says %q, %v; want the redacted error", l.Error, err)
	}
	if strings.Contains(w.log.String(), databasetest.FakePassword) {
		t.Errorf("the log shows the password: %s", w.log)
	}
}

// What the outbound rules forbid is not about policies, and does not look like it.
func TestKindsOfErrors(t *testing.T) {
	w := ready(t, enginetest.Config{})
	for kind, want := range map[fault.Kind]fault.Kind{
		fault.Denied: fault.Upstream, fault.Conflict: fault.Upstream, fault.NotFound: fault.Upstream,
		fault.Internal: fault.Upstream,
		fault.Invalid:  fault.Invalid, fault.Upstream: fault.Upstream, fault.Timeout: fault.Timeout,
		fault.Unavailable: fault.Unavailable,
	} {
		w.setHook(func(string) error { return database.MarkUnchanged(fault.New("fake", kind, "the words")) })
		w.Refused(t, route.Read, "creds/ro", nil, want, "the words")
	}
}

func TestResetAndReload(t *testing.T) {
	w := ready(t, enginetest.Config{})
	w.Must(t, route.Write, "config/second", prod)
	w.issue("ro")
	opens := w.opens.Load()
	w.issue("ro")
	if w.opens.Load() != opens {
		t.Error("a pool is opened for each use")
	}
	w.Must(t, route.Write, "reset/prod", nil)
	if got, want := w.shuts.Load(), opens; got != want {
		t.Errorf("%d pools closed after a reset, want all %d that were opened", got, want)
	}
	w.issue("ro")
	if w.opens.Load() != opens+1 {
		t.Errorf("%d pools opened after a reset, want one more than %d", w.opens.Load(), opens)
	}
	w.Refused(t, route.Write, "reset/none", nil, fault.Invalid, `there is no connection "none"`)

	a := w.Must(t, route.Write, "reload/fake-database-plugin", nil)
	if want := (fields{"connections": []any{"prod", "second"}, "count": 2.0}); !cmp.Equal(a.Data, want) {
		t.Errorf("reload = %v, want %v", a.Data, want)
	}
	if w.shuts.Load() != w.opens.Load() {
		t.Errorf("%d of %d pools closed after a reload", w.shuts.Load(), w.opens.Load())
	}
	if a := w.Must(t, route.Write, "reload/other-database-plugin", nil); len(a.Warnings) != 1 {
		t.Errorf("reload of an unused plugin: %+v", a)
	}
	w.Refused(t, route.Write, "reload/nonesuch", nil, fault.Invalid, "nonesuch")
}

// A change gives the connection another pool; one that does not concern the pool leaves it.
func TestChangesAndPools(t *testing.T) {
	w := ready(t, enginetest.Config{})
	w.issue("ro")
	opens := w.opens.Load() // those of verifying, too
	w.Must(t, route.Write, "config/prod", fields{"allowed_roles": "*", "verify_connection": false})
	w.issue("ro")
	if w.opens.Load() != opens {
		t.Error("a change of allowed_roles opened another pool")
	}
	w.Must(t, route.Write, "config/prod", fields{"max_open_connections": 2, "verify_connection": false})
	w.issue("ro")
	if w.opens.Load() != opens+1 || w.shuts.Load() != opens {
		t.Errorf("after a change of the pool: %d opened, %d closed, want %d and %d", w.opens.Load(), w.shuts.Load(),
			opens+1, opens)
	}
	if err := w.Engine.Close(); err != nil || w.shuts.Load() != w.opens.Load() {
		t.Errorf("Close = %v with %d of %d pools closed", err, w.shuts.Load(), w.opens.Load())
	}
	w.Refused(t, route.Read, "creds/ro", nil, fault.Unavailable, "being closed")
}

// What is not said is verified, and so is null.
func TestConfigIsVerifiedUnlessItSaysNot(t *testing.T) {
	w := open(t, enginetest.Config{})
	wrong := with(prod, fields{"password": "wrong"})
	w.Refused(t, route.Write, "config/prod", wrong, fault.Invalid, "does not work")
	w.Refused(t, route.Write, "config/prod",
		`{"verify_connection":null,"plugin_name":"fake-database-plugin","connection_url":"x","username":"admin","password":"wrong"}`, fault.Invalid, "does not work")
	w.Must(t, route.Write, "config/prod", with(wrong, fields{"verify_connection": false}))
}

// A connection is made with all that was written, by the means of this server.
func TestConnectionsAreMadeAsWritten(t *testing.T) {
	var last atomic.Pointer[database.Config]
	p := new(databasetest.Fake).Provider()
	connect := p.Connect
	p.Connect = func(ctx context.Context, c database.Config) (database.Conn, error) {
		last.Store(&c)
		return connect(ctx, c)
	}
	dials := func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("dialed") }
	w := enginetest.Open(t, database.New(p), enginetest.Config{Host: func(h *engine.Host) { h.Dial = dials }})
	w.Must(t, route.Write, "config/prod",
		with(prod, fields{"private_key": "canary-key", "tls_certificate": "canary-cert", "plugin_version": "v7"}))
	c := last.Load()
	if c.PrivateKey.RevealString() != "canary-key" || c.TLSCertificate != "canary-cert" || c.Dial == nil ||
		c.Log == nil {
		t.Errorf("connected with the key %v, the certificate %q, a dialer %v and a log %v", !c.PrivateKey.Empty(),
			c.TLSCertificate, c.Dial != nil, c.Log != nil)
	}
	if a := w.Must(t, route.Read, "config/prod", nil); a.Data["plugin_version"] != "v7" {
		t.Errorf("plugin_version is shown as %v", a.Data["plugin_version"])
	}
	// Another administrator is another pool, also with the same password.
	w.Must(t, route.Write, "roles/ro", ro)
	w.Must(t, route.Read, "creds/ro", nil)
	w.Must(t, route.Write, "config/prod",
		fields{"username": "other", "password": databasetest.FakePassword, "verify_connection": false})
	_, _ = w.Do(route.Read, "creds/ro", nil)
	if c := last.Load(); c.Username != "other" {
		t.Errorf("after the write of another administrator, users are created by %q", c.Username)
	}
}

// A connection without administrator is checked as the users of its static roles will use it.
func TestSelfManagedIsCheckedWithAUser(t *testing.T) {
	p := new(databasetest.Fake).Provider()
	p.Check = func(c database.Config) error {
		if c.Username == "" || c.Password.Empty() {
			return fault.New("fake.Check", fault.Invalid, "a URL with {{username}} needs one")
		}
		return nil
	}
	w := enginetest.Open(t, database.New(p), enginetest.Config{})
	w.Must(t, route.Write, "config/own", ownConfig)
	w.Refused(t, route.Write, "config/prod", with(prod, fields{"username": nil, "password": nil}), fault.Invalid,
		"needs one")
}

// Statements for the administrator's password are judged when they are written, and those that are
// none are not warned of.
func TestRootStatementsAreJudged(t *testing.T) {
	p := new(databasetest.Fake).Provider()
	p.Rules = false
	w := enginetest.Open(t, database.New(p), enginetest.Config{})
	if a := w.Must(t, route.Write, "config/prod", prod); len(a.Warnings) != 0 {
		t.Errorf("warnings %q", a.Warnings)
	}
	w.Refused(t, route.Write, "config/prod", fields{"root_rotation_statements": "BROKEN"}, fault.Invalid,
		"root_rotation_statements is broken")
	w.Refused(t, route.Write, "config/prod", fields{"root_rotation_statements": "{{password}} {{nme}}"}, fault.Invalid,
		"{{nme}} is not a placeholder")
	w.Must(t, route.Write, "config/prod", fields{"root_rotation_statements": "{{password}}"})
}

// The fields that a refusal names come in one order.
func TestMovedFieldsAreNamedInOrder(t *testing.T) {
	w := ready(t, enginetest.Config{})
	for range 5 {
		w.Refused(t, route.Write, "config/prod",
			fields{"username": "other", "tls_ca": "PEM", "disable_escaping": true}, fault.Invalid,
			"(disable_escaping, tls_ca, username)")
	}
}

// A connection whose plugin is not built in any more is an error wherever it is used, and can be
// deleted.
func TestConnectionOfAnUnknownPlugin(t *testing.T) {
	w := withUsers(t, enginetest.Config{}, "svc")
	w.Must(t, route.Write, "roles/ro", ro)
	w.Must(t, route.Write, "static-roles/svc", with(svc, fields{"rotation_statements": "SET {{password}}"}))
	w.rewrite(func(row map[string]any) { row["plugin"] = "gone-database-plugin" })
	for path, body := range map[string]any{
		"config/prod": fields{"plugin_name": "fake-database-plugin"}, "roles/ro": fields{},
		"static-roles/svc": fields{}, "rotate-root/prod": nil, "rotate-role/svc": nil,
	} {
		w.Refused(t, route.Write, path, body, fault.Invalid, `there is no "gone-database-plugin"`)
	}
	w.Refused(t, route.Read, "creds/ro", nil, fault.Invalid, `there is no "gone-database-plugin"`)
	w.Refused(t, route.Read, "config/prod", nil, fault.Invalid, `there is no "gone-database-plugin"`)
	w.Must(t, route.Read, "static-creds/svc", nil)
	w.Must(t, route.Delete, "config/prod", nil)
}

// What is stored and damaged is an error, and never as good as absent.
func TestDamagedRows(t *testing.T) {
	w := ready(t, enginetest.Config{})
	w.Must(t, route.Write, "roles/ro", fields{"reuse": "token"})
	w.Must(t, route.Write, "config/prod", fields{"username_template": "v-{{.RoleName}}"})
	a := w.Must(t, route.Read, "creds/ro", nil)
	undoer := w.Engine.(engine.Undoer)
	undo := engine.Undo{LeaseID: a.Lease.ID, Attempt: a.Lease.Attempt, Granted: true, Data: a.Lease.Data}
	creds := func() error { _, err := w.Do(route.Read, "creds/ro", nil); return err }
	revoke := func() error { _, err := undoer.Undo(t.Context(), undo); return err }
	for _, tt := range []struct {
		prefix string
		do     []func() error
	}{
		{"again/ro/", []func() error{creds}},
		{"taken/", []func() error{revoke}},
		{"note/", []func() error{func() error { _, err := w.Do(route.Read, "roles/ro", nil); return err }}},
		{"role/", []func() error{creds, revoke,
			func() error { _, err := w.Do(route.Read, "roles/ro", nil); return err }}},
		{"conn/", []func() error{revoke, func() error { _, err := w.Do(route.Read, "config/prod", nil); return err }}},
	} {
		if tt.prefix == "note/" {
			w.damage("mount/" + enginetest.UUID + "/note/ro")
		}
		w.damage("mount/" + enginetest.UUID + "/" + tt.prefix)
		for i, do := range tt.do {
			if err := do(); !fault.Is(err, fault.Internal) && !fault.Is(err, fault.Upstream) {
				t.Errorf("a damaged row below %s, request %d: %v", tt.prefix, i, err)
			}
		}
	}
	undo.Data = []byte("{")
	if err := revoke(); !engine.IsLeaseOnly(err) {
		t.Errorf("undoing a damaged lease: %v", err)
	}
	if _, _, err := undoer.Bounds(t.Context(), undo); !fault.Is(err, fault.Internal) {
		t.Errorf("the bounds of a damaged lease: %v", err)
	}
}

// damage overwrites the first row below a prefix, or makes it.
func (w *world) damage(prefix string) {
	w.t.Helper()
	key := prefix
	for e, err := range w.View.Scan(context.Background(), prefix, storage.PrefixEnd(prefix)) {
		if err != nil {
			w.t.Fatal(err)
		}
		key = e.Key
		break
	}
	if _, err := w.View.Commit(context.Background(), storage.Set(key, []byte("{"))); err != nil {
		w.t.Fatal(err)
	}
}

// A write that others defeat again and again gives up, and says so.
func TestWriteThatIsDefeated(t *testing.T) {
	st := faulty.New(enginetest.Memory(), 1)
	w := ready(t, enginetest.Config{Store: st})
	st.Inject(faulty.Fault{Prefix: "mount/" + enginetest.UUID + "/role/", Err: storage.ErrConflict, Times: -1})
	w.Refused(t, route.Write, "roles/ro", fields{"max_ttl": "3h"}, fault.Unavailable,
		"is being written by many requests")
}

// Statements that are too long together are refused wherever they are written.
func TestStatementsThatAreTooLong(t *testing.T) {
	w := withUsers(t, enginetest.Config{}, "svc")
	long := strings.Repeat("x", database.MaxStatements+1)
	for path, body := range map[string]fields{
		"config/prod": {"root_rotation_statements": long}, "roles/ro": with(ro, fields{"rollback_statements": long}),
		"static-roles/svc": with(svc, fields{"rotation_statements": long}),
	} {
		w.Refused(t, route.Write, path, body, fault.Invalid, "more than 64 KiB together")
	}
}

// A name that leads to no configuration any more is as good as none.
func TestNameOfADeletedConfig(t *testing.T) {
	w := ready(t, enginetest.Config{})
	if _, err := w.View.Commit(t.Context(),
		storage.Set("mount/"+enginetest.UUID+"/config/ghost", []byte("none"))); err != nil {
		t.Fatal(err)
	}
	if a, err := w.Do(route.Read, "config/ghost", nil); err == nil {
		t.Errorf("it is shown as %s", a.Text)
	}
	w.Must(t, route.Delete, "config/ghost", nil)
	w.Must(t, route.Write, "rotate-root/prod", nil)
	if err := w.Engine.(engine.Worker).Work(t.Context(), "bury", "none"); err != nil {
		t.Errorf("its tombstone: %v", err)
	}
	if err := w.Engine.(engine.Worker).Work(t.Context(), "strange", "none"); err == nil {
		t.Error("work of a strange kind was done")
	}
}

// A write that another server's write defeats is done again, and warns once.
func TestWarningsOfARepeatedWrite(t *testing.T) {
	st := faulty.New(enginetest.Memory(), 1)
	w := ready(t, enginetest.Config{Store: st})
	for _, tt := range []struct {
		path, prefix string
		body         fields
	}{
		{"config/prod", "conn/", fields{"plugin_version": "v7"}}, {"roles/ro", "role/", fields{"db_name": "absent"}},
	} {
		st.Inject(faulty.Fault{Prefix: "mount/" + enginetest.UUID + "/" + tt.prefix, Err: storage.ErrConflict})
		if a := w.Must(t, route.Write, tt.path, tt.body); len(a.Warnings) != 1 {
			t.Errorf("%s: warnings %q", tt.path, a.Warnings)
		}
	}
}

// A reset reaches the pools of other servers.
func TestResetReachesOtherServers(t *testing.T) {
	st := enginetest.Memory()
	w := ready(t, enginetest.Config{Store: st})
	other := (&world{t: t, fake: w.fake, log: new(enginetest.Log)}).open(enginetest.Config{Store: st})
	other.issue("ro")
	before := other.opens.Load()
	other.issue("ro")
	if n := other.opens.Load() - before; n != 0 {
		t.Fatalf("%d pools were opened for a second use", n)
	}
	w.Must(t, route.Write, "reset/prod", nil)
	other.issue("ro")
	if n := other.opens.Load() - before; n != 1 {
		t.Errorf("after the reset on another server, %d pools were opened", n)
	}
}

// No static role is left without a word when its connection is deleted.
func TestDeletedConfigNamesItsStaticRoles(t *testing.T) {
	w := withUsers(t, enginetest.Config{}, "one", "two")
	w.Must(t, route.Write, "static-roles/one", with(svc, fields{"username": "one"}))
	w.Must(t, route.Write, "static-roles/two", with(svc, fields{"username": "two"}))
	if a := w.Must(t, route.Delete, "config/prod", nil); len(a.Warnings) != 1 ||
		!strings.Contains(a.Warnings[0], `["one" "two"]`) {
		t.Errorf("warnings %q", a.Warnings)
	}
}

// Of a deleted connection nothing is left, whatever of its password has rotated. Each runs in a
// bubble.
func TestNothingIsLeftOfADeletedConfig(t *testing.T) {
	for name, before := range map[string]func(w *world){
		"as it was written": func(*world) {},
		"once rotated":      func(w *world) { w.Must(w.t, route.Write, "rotate-root/prod", nil) },
		"by a schedule": func(w *world) {
			w.Must(w.t, route.Write, "config/prod", fields{"rotation_period": "1h"})
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := ready(t, enginetest.Config{})
			before(w)
			_, _, lease := w.issue("ro")
			w.Must(t, route.Delete, "config/prod", nil)
			if name == "as it was written" && w.keys("root/") != 0 {
				t.Error("a connection that never rotates got a record")
			}
			if err := w.Revoke(lease); err != nil {
				t.Fatal(err)
			}
			// A request that read the configuration before may reserve a lease until then.
			time.Sleep(time.Minute)
			if n := w.keys("conn/"); n != 1 {
				t.Errorf("%s: after a minute, %d connections", name, n)
			}
			time.Sleep(time.Hour)
			for _, prefix := range []string{"conn/", "config/", "root/", "rts/", "rth/", "rtj/"} {
				if n := w.keys(prefix); n != 0 {
					t.Errorf("%s: %d keys below %s are left", name, n, prefix)
				}
			}
			if n := w.Work(t); n != 0 {
				t.Errorf("%s: %d due items are left", name, n)
			}
		})
	}
}
