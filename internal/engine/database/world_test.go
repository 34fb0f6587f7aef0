package database_test

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/engine/database/databasetest"
	"github.com/keyturn/keyturn/internal/engine/enginetest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
)

// world is the engine over a database in memory.
type world struct {
	*enginetest.World
	t     *testing.T
	fake  *databasetest.Fake
	log   *enginetest.Log
	opens atomic.Int32 // pools opened
	shuts atomic.Int32 // pools closed

	mu    sync.Mutex
	hook  func(call string) error                      // before each call of a Conn
	note  func(o database.DropOptions) database.Report // what Drop reports
	drops []database.DropOptions
	told  map[string][]string                // passwords that were sent, by connection_url
	hangs bool                               // every call waits for its deadline
	slow  func(o database.DropOptions) error // in place of Drop, where it is an error
	// set is asked before each change of a password; an error is the answer, and nothing was
	// changed.
	set func(name, password string) error

	fate func(call string) databasetest.Fate // nil: all is well. Set before anything is opened
}

func open(t *testing.T, c enginetest.Config) *world {
	t.Helper()
	return (&world{t: t, fake: new(databasetest.Fake), log: new(enginetest.Log)}).open(c)
}

func (w *world) open(c enginetest.Config) *world {
	w.t.Helper()
	c.Log = slog.New(slog.NewJSONHandler(w.log, nil))
	p := w.fake.Provider()
	connect := p.Connect
	p.Connect = func(ctx context.Context, c database.Config) (database.Conn, error) {
		conn, err := connect(ctx, c)
		if w.fate != nil && err == nil {
			conn = &databasetest.Fated{Conn: conn, Fate: w.fate}
		}
		w.opens.Add(1)
		return &hooked{Conn: conn, w: w, url: c.URL.RevealString(), own: c.Password.RevealString()}, err
	}
	p.Display = func(url secret.Value) string { return strings.ReplaceAll(url.RevealString(), inURL, "*****") }
	other := w.fake.Provider()
	other.Name, other.Plugins, other.Logins = "other", []string{"other-database-plugin"}, nil
	w.World = enginetest.Open(w.t, database.New(p, other), c)
	return w
}

// inURL is a password that a user writes into a URL.
const inURL = "canary-in-url"

// hooked is a connection whose calls pass the world's hook.
type hooked struct {
	database.Conn
	w        *world
	url, own string
}

// tell records what a call sends, and hangs where the world does.
func (h *hooked) tell(ctx context.Context, secrets ...secret.Value) error {
	h.w.mu.Lock()
	if h.w.told == nil {
		h.w.told = map[string][]string{}
	}
	h.w.told[h.url] = append(h.w.told[h.url], h.own)
	for _, s := range secrets {
		h.w.told[h.url] = append(h.w.told[h.url], s.RevealString())
	}
	hangs := h.w.hangs
	h.w.mu.Unlock()
	if !hangs {
		return nil
	}
	<-ctx.Done()
	return fault.New("world", fault.Timeout, "the database hangs")
}

func (w *world) hang(hangs bool) { w.mu.Lock(); defer w.mu.Unlock(); w.hangs = hangs }

// wasTold reports whether a password was sent to a connection_url.
func (w *world) wasTold(url, password string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Contains(w.told[url], password)
}

func (h *hooked) Login(ctx context.Context, name string, password secret.Value) (bool, error) {
	if err := h.tell(ctx, password); err != nil {
		return false, err
	}
	return h.Conn.Login(ctx, name, password)
}

func (h *hooked) ask(call string) error {
	h.w.mu.Lock()
	hook := h.w.hook
	h.w.mu.Unlock()
	if hook == nil {
		return nil
	}
	return hook(call)
}

func (w *world) setHook(f func(call string) error) { w.mu.Lock(); defer w.mu.Unlock(); w.hook = f }

func (w *world) setNote(f func(o database.DropOptions) database.Report) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.note = f
}

func (h *hooked) Verify(ctx context.Context) error {
	if err := h.ask("verify"); err != nil {
		return err
	}
	if err := h.tell(ctx); err != nil {
		return err
	}
	return h.Conn.Verify(ctx)
}

func (h *hooked) Create(ctx context.Context, u database.User, sql, rollback []string) error {
	if err := h.ask("create"); err != nil {
		return err
	}
	return h.Conn.Create(ctx, u, sql, rollback)
}

func (h *hooked) Renew(ctx context.Context, name string, expires time.Time, sql []string) error {
	if err := h.ask("renew"); err != nil {
		return err
	}
	return h.Conn.Renew(ctx, name, expires, sql)
}

func (h *hooked) Disable(ctx context.Context, name string) error {
	if err := h.ask("disable"); err != nil {
		return err
	}
	return h.Conn.Disable(ctx, name)
}

func (h *hooked) Drop(ctx context.Context, name string, o database.DropOptions) (database.Report, error) {
	if err := h.ask("drop"); err != nil {
		return database.Report{}, err
	}
	if h.w.slow != nil {
		if err := h.w.slow(o); err != nil {
			return database.Report{}, err
		}
	}
	r, err := h.Conn.Drop(ctx, name, o)
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	h.w.drops = append(h.w.drops, o)
	if h.w.note != nil {
		r = h.w.note(o)
	}
	return r, err
}

func (h *hooked) SetPassword(ctx context.Context, name string, password secret.Value, sql []string) error {
	if err := h.tell(ctx, password); err != nil {
		return err
	}
	h.w.mu.Lock()
	set := h.w.set
	h.w.mu.Unlock()
	if set != nil {
		err := set(name, password.RevealString())
		if f, ok := errors.AsType[*fault.Error](err); ok {
			return database.MarkUnchanged(f)
		}
		if err != nil {
			return database.MarkUnchanged(&fault.Error{Op: "fake.SetPassword", Kind: fault.Upstream, Msg: err.Error()})
		}
	}
	return h.Conn.SetPassword(ctx, name, password, sql)
}

// setRules makes f decide whether the database takes a password; nil lets it take all. Calls of f
// never overlap.
func (w *world) setRules(f func(name, password string) error) {
	var one sync.Mutex
	w.mu.Lock()
	defer w.mu.Unlock()
	w.set = func(name, password string) error {
		one.Lock()
		defer one.Unlock()
		if f == nil {
			return nil
		}
		return f(name, password)
	}
}

func (h *hooked) SetKey(ctx context.Context, name string, key database.Key, sql []string) error {
	if err := h.ask("set key"); err != nil {
		return err
	}
	return h.Conn.(database.KeyConn).SetKey(ctx, name, key, sql)
}

func (h *hooked) LoginCertificate(ctx context.Context, name string, c tls.Certificate) (bool, error) {
	if err := h.ask("login certificate"); err != nil {
		return false, err
	}
	return h.Conn.(database.KeyConn).LoginCertificate(ctx, name, c)
}

func (w *world) lastDrop() database.DropOptions {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.drops) == 0 {
		return database.DropOptions{}
	}
	return w.drops[len(w.drops)-1]
}

func (h *hooked) SettleAttempt(ctx context.Context, a database.Attempt) (bool, error) {
	if err := h.ask("settle"); err != nil {
		return false, err
	}
	return h.Conn.SettleAttempt(ctx, a)
}

func (h *hooked) Close() error {
	h.w.shuts.Add(1)
	return h.Conn.Close()
}

type fields = map[string]any

func with(base, more fields) fields { return enginetest.With(base, more) }

var prod = fields{
	"plugin_name": "fake-database-plugin", "allowed_roles": "ro,app-*",
	"connection_url": "fake://{{username}}:{{password}}@db",
	"username":       databasetest.FakeAdmin, "password": databasetest.FakePassword,
}

// ownConfig is a connection of users that change their own passwords.
var ownConfig = fields{"plugin_name": "fake-database-plugin", "connection_url": prod["connection_url"],
	"allowed_roles": "*", "self_managed": true}

var ro = fields{
	"db_name": "prod", "creation_statements": "CREATE", "revocation_statements": "DROP", "default_ttl": "30m",
	"max_ttl": "2h",
}

// ready has the connection prod and the role ro.
func ready(t *testing.T, c enginetest.Config) *world {
	t.Helper()
	w := open(t, c)
	w.Must(t, route.Write, "config/prod", prod)
	w.Must(t, route.Write, "roles/ro", ro)
	return w
}

// issue reads credentials that must work.
func (w *world) issue(role string) (name, password, lease string) {
	w.t.Helper()
	a := w.Must(w.t, route.Read, "creds/"+role, nil)
	name, _ = a.Data["username"].(string)
	password, _ = a.Data["password"].(string)
	if err := w.fake.Login(name, password); err != nil {
		w.t.Fatalf("login with what was lent: %v", err)
	}
	return name, password, a.Lease.ID
}

// users wants so many users in the database and so many leases.
func (w *world) want(users, leases int) {
	w.t.Helper()
	if got := w.fake.Users(); len(got) != users {
		w.t.Errorf("users in the database: %q, want %d", got, users)
	}
	if got := w.IDs(w.t); len(got) != leases {
		w.t.Errorf("leases: %q, want %d", got, leases)
	}
}

// keys counts what the engine stores below a prefix.
func (w *world) keys(prefix string) (n int) {
	w.t.Helper()
	from := "mount/" + enginetest.UUID + "/" + prefix
	for _, err := range w.View.Scan(context.Background(), from, from+"\xff") {
		if err != nil {
			w.t.Fatal(err)
		}
		n++
	}
	return n
}

var errDied = errors.New("the process died")

// knownPasswords makes passwords that are no secret, and none by one policy.
func knownPasswords(h *engine.Host) {
	h.Password = func(_ context.Context, policy string) (secret.Value, error) {
		if policy == "absent" {
			return secret.Value{}, fault.New("policies", fault.Invalid, "there is no password policy %q", policy)
		}
		return secret.Text("Pw-generated-canary-" + policy), nil
	}
}
