package databasetest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
)

// A Fake is a database server in memory. Its administrator is "admin" with the password
// "admin-password". Its statements are "CREATE", "DROP", "SLEEP 1s", "WARN text" and "FAIL"; any
// other does nothing. The zero value is a running server without users. It works in a synctest
// bubble.
type Fake struct {
	mu      sync.Mutex // guards the rest
	users   map[string]database.User
	off     map[string]bool               // disabled users
	shut    map[string]bool               // users that cannot log in from here
	running map[string]context.CancelFunc // by attempt
	down    bool
	lose    int
	root    string // the administrator's password, if it was changed
	created int
	dropped int
}

// FakeAdmin and FakePassword are the administrator's credentials.
const (
	FakeAdmin    = "admin"
	FakePassword = "admin-password"
)

// Provider returns a provider named "fake" whose every connection is to f.
func (f *Fake) Provider() database.Provider {
	return database.Provider{
		Name: "fake", Plugins: []string{"fake-database-plugin"}, NameMax: 63,
		Logins: []string{"rsa_private_key", "client_certificate"},
		Check: func(c database.Config) error {
			if c.URL.Empty() {
				return fault.New("fake.Check", fault.Invalid, "connection_url is empty")
			}
			return nil
		},
		Rules: true, // CREATE needs no name
		CheckStatements: func(field string, statements []string) (found database.Found, err error) {
			if slices.Contains(statements, "BROKEN") {
				return found, fault.New("fake.CheckStatements", fault.Invalid, "%s is broken", field)
			}
			for _, text := range statements {
				for at := range text {
					if name, ok := database.Placeholder(text[at:]); ok {
						found.Placeholders = append(found.Placeholders, name)
					}
				}
			}
			return found, nil
		},
		Display: func(url secret.Value) string { return url.RevealString() },
		Connect: func(_ context.Context, c database.Config) (database.Conn, error) {
			return &fakeConn{fake: f, user: c.Username, password: c.Password.RevealString(),
				done: make(chan struct{})}, nil
		},
	}
}

// SetDown makes every call fail, or stops that.
func (f *Fake) SetDown(down bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = down
}

// LoseReplies makes the next n changing calls take effect and then fail.
func (f *Fake) LoseReplies(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lose = n
}

// Users returns the names of all users, sorted.
func (f *Fake) Users() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var names []string
	for name := range f.users {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Counts returns how many users were created and dropped so far.
func (f *Fake) Counts() (created, dropped int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.created, f.dropped
}

// SetRoot changes the administrator's password, as a person might.
func (f *Fake) SetRoot(password string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.root = password
}

// Login logs in as a user.
func (f *Fake) Login(name, password string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if name == FakeAdmin {
		if root := f.rootLocked(); password != root {
			return errors.New("login refused")
		}
		return nil
	}
	u, ok := f.users[name]
	if !ok || f.off[name] || f.shut[name] || u.Password.Empty() || u.Password.RevealString() != password ||
		time.Now().After(u.Expires) {
		return errors.New("login refused")
	}
	return nil
}

// Key returns the key of a user that has no password.
func (f *Fake) Key(name string) database.Key {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.users[name].Key
}

func (f *Fake) rootLocked() string {
	if f.root == "" {
		return FakePassword
	}
	return f.root
}

// AddUser creates a user that does not expire, as a person might.
func (f *Fake) AddUser(name, password string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.users == nil {
		f.users = map[string]database.User{}
	}
	f.users[name] = database.User{Name: name, Password: secret.Text(password), Expires: time.Unix(1<<40, 0)}
}

// Shut prevents a user from logging in from here, or allows it again. Meanwhile a login proves
// nothing about its password.
func (f *Fake) Shut(name string, shut bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.shut == nil {
		f.shut = map[string]bool{}
	}
	f.shut[name] = shut
}

// Password returns the password of a user.
func (f *Fake) Password(name string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.users[name].Password.RevealString()
}

// Root returns the administrator's password.
func (f *Fake) Root() string { f.mu.Lock(); defer f.mu.Unlock(); return f.rootLocked() }

// Has reports whether a password is the user's, even if the user cannot log in.
func (f *Fake) Has(name, password string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	u, there := f.users[name]
	return there && u.Password.RevealString() == password
}

// RemoveUser removes a user, as a person might.
func (f *Fake) RemoveUser(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.users, name)
}

// change calls do with the lock, unless the server is down. It may lose the reply.
func (f *Fake) change(op string, do func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down {
		return database.MarkUnchanged(fault.New(op, fault.Upstream, "the fake database is down"))
	}
	if err := do(); err != nil {
		return err
	}
	if f.lose > 0 {
		f.lose--
		return fault.New(op, fault.Upstream, "the reply of the fake database was lost")
	}
	return nil
}

type fakeConn struct {
	fake           *Fake
	user, password string
	once           sync.Once
	done           chan struct{}
}

// ready returns an error if the user of the connection cannot make a call. Every call logs in.
func (c *fakeConn) ready(ctx context.Context, op string) error {
	if err := c.reach(ctx, op); err != nil {
		return err
	}
	if err := c.fake.Login(c.user, c.password); err != nil {
		return database.MarkUnchanged(fault.New(op, fault.Upstream, "the fake database refuses username or password"))
	}
	return nil
}

// reach returns an error if the server cannot be reached.
func (c *fakeConn) reach(ctx context.Context, op string) error {
	select {
	case <-c.done:
		return database.MarkUnchanged(fault.New(op, fault.Unavailable, "the connection was closed"))
	default:
	}
	if ctx.Err() != nil {
		return database.MarkUnchanged(fault.New(op, fault.Timeout, "the deadline passed"))
	}
	c.fake.mu.Lock()
	defer c.fake.mu.Unlock()
	if c.fake.down {
		return database.MarkUnchanged(fault.New(op, fault.Upstream, "the fake database is down"))
	}
	return nil
}

func (c *fakeConn) Verify(ctx context.Context) error { return c.ready(ctx, "fake.Verify") }

func (c *fakeConn) Create(ctx context.Context, u database.User, statements, _ []string) error {
	const op = "fake.Create"
	if err := database.CheckUser(op, u); err != nil {
		return err
	}
	if len(statements) == 0 {
		return database.MarkUnchanged(fault.New(op, fault.Invalid, "creation_statements are missing"))
	}
	if err := c.ready(ctx, op); err != nil {
		return err
	}
	if !time.Now().Before(u.Attempt.Deadline) {
		return database.MarkUnchanged(fault.New(op, fault.Timeout, "the create came after its deadline"))
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c.fake.track(u.Attempt.ID, cancel)
	defer c.fake.track(u.Attempt.ID, nil)
	for _, s := range statements {
		if err := c.sleep(ctx, op, s); err != nil {
			return err
		}
	}
	return c.fake.change(op, func() error {
		switch _, taken := c.fake.users[u.Name]; {
		case ctx.Err() != nil:
			return database.MarkUnchanged(fault.New(op, fault.Timeout, "the create was canceled"))
		case slices.Contains(statements, "FAIL"):
			return database.MarkUnchanged(fault.New(op, fault.Upstream, "the fake database refused a statement"))
		case taken:
			return database.MarkUnchanged(fault.New(op, fault.Conflict, "there is such a user already"))
		case !slices.Contains(statements, "CREATE"):
			return nil
		}
		if c.fake.users == nil {
			c.fake.users = map[string]database.User{}
		}
		c.fake.users[u.Name] = u
		c.fake.created++
		warn(ctx, statements)
		return nil
	})
}

// warn runs WARN statements.
func warn(ctx context.Context, statements []string) {
	for _, s := range statements {
		if text, ok := strings.CutPrefix(s, "WARN "); ok {
			database.Warn(ctx, text)
		}
	}
}

// track records how to cancel an attempt; nil removes it.
func (f *Fake) track(id string, cancel context.CancelFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.running == nil {
		f.running = map[string]context.CancelFunc{}
	}
	if f.running[id] = cancel; cancel == nil {
		delete(f.running, id)
	}
}

// sleep runs a SLEEP statement.
func (c *fakeConn) sleep(ctx context.Context, op, statement string) error {
	word, ok := strings.CutPrefix(statement, "SLEEP ")
	if !ok {
		return nil
	}
	d, err := time.ParseDuration(word)
	if err != nil {
		return database.MarkUnchanged(fault.New(op, fault.Upstream, "the fake database cannot read %q", statement))
	}
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return database.MarkUnchanged(fault.New(op, fault.Timeout, "the deadline passed"))
	case <-c.done:
		return database.MarkUnchanged(fault.New(op, fault.Unavailable, "the connection was closed"))
	}
}

func (c *fakeConn) Renew(ctx context.Context, name string, expires time.Time, _ []string) error {
	return c.alter(ctx, "fake.Renew", name, func(u *database.User) { u.Expires = expires })
}

func (c *fakeConn) SetPassword(ctx context.Context, name string, password secret.Value, statements []string) error {
	const op = "fake.SetPassword"
	switch {
	case password.Empty():
		return database.MarkUnchanged(fault.New(op, fault.Invalid, "the new password is empty"))
	case slices.Contains(statements, "FAIL"):
		return database.MarkUnchanged(fault.New(op, fault.Upstream, "the fake database refused a statement"))
	case slices.Contains(statements, "NOTHING"): // reports success
		return c.ready(ctx, op)
	case name == FakeAdmin:
		if err := c.ready(ctx, op); err != nil {
			return err
		}
		return c.fake.change(op, func() error { c.fake.root = password.RevealString(); return nil })
	}
	return c.alterGiven(ctx, op, name, func(u *database.User) { u.Password = password; warn(ctx, statements) })
}

func (c *fakeConn) Login(ctx context.Context, name string, password secret.Value) (bool, error) {
	const op = "fake.Login"
	if err := database.CheckGivenName(op, name); err != nil {
		return false, err
	}
	if err := c.reach(ctx, op); err != nil {
		return false, err
	}
	c.fake.mu.Lock()
	_, there := c.fake.users[name]
	shut := c.fake.shut[name] && there
	c.fake.mu.Unlock()
	if shut {
		return false, database.MarkUnchanged(fault.New(op, fault.Unsupported,
			"the fake database does not let %s log in from here", name))
	}
	return c.fake.Login(name, password.RevealString()) == nil, nil
}

func (c *fakeConn) SetKey(ctx context.Context, name string, key database.Key, statements []string) error {
	const op = "fake.SetKey"
	switch {
	case slices.Contains(statements, "FAIL {{public_key}}"):
		return database.MarkUnchanged(fault.New(op, fault.Upstream, "the fake database refused a statement"))
	case len(statements) == 0:
		return c.alterGiven(ctx, op, name, func(*database.User) {})
	}
	return c.alterGiven(ctx, op, name, func(u *database.User) { u.Key = key })
}

// LoginCertificate accepts a certificate that has not expired and, if the user has a subject, has
// that subject.
func (c *fakeConn) LoginCertificate(ctx context.Context, name string, certificate tls.Certificate) (bool, error) {
	const op = "fake.LoginCertificate"
	if err := c.reach(ctx, op); err != nil {
		return false, err
	}
	leaf, err := x509.ParseCertificate(certificate.Certificate[0])
	if err != nil {
		return false, fault.Wrap(op, fault.Internal, err)
	}
	c.fake.mu.Lock()
	defer c.fake.mu.Unlock()
	u, there := c.fake.users[name]
	bound := u.Key.Subject == "" || u.Key.Subject == "/CN="+name+"/serialNumber="+leaf.Subject.SerialNumber
	return there && bound && leaf.Subject.CommonName == name && time.Now().Before(leaf.NotAfter), nil
}

func (c *fakeConn) alter(ctx context.Context, op, name string, edit func(*database.User)) error {
	if err := database.CheckName(op, name); err != nil {
		return err
	}
	return c.alterGiven(ctx, op, name, edit)
}

func (c *fakeConn) alterGiven(ctx context.Context, op, name string, edit func(*database.User)) error {
	if err := database.CheckGivenName(op, name); err != nil {
		return err
	}
	if err := c.ready(ctx, op); err != nil {
		return err
	}
	return c.fake.change(op, func() error {
		u, ok := c.fake.users[name]
		if !ok {
			return database.MarkUnchanged(fault.New(op, fault.NotFound, "there is no user %s", name))
		}
		edit(&u)
		c.fake.users[name] = u
		return nil
	})
}

func (c *fakeConn) Disable(ctx context.Context, name string) error {
	const op = "fake.Disable"
	if err := database.CheckName(op, name); err != nil {
		return err
	}
	if err := c.ready(ctx, op); err != nil {
		return err
	}
	return c.fake.change(op, func() error {
		if _, there := c.fake.users[name]; !there {
			return nil
		}
		if c.fake.off == nil {
			c.fake.off = map[string]bool{}
		}
		c.fake.off[name] = true
		return nil
	})
}

func (c *fakeConn) Drop(ctx context.Context, name string, o database.DropOptions) (r database.Report, err error) {
	const op = "fake.Drop"
	if err := database.CheckName(op, name); err != nil {
		return r, err
	}
	if err := c.ready(ctx, op); err != nil {
		return r, err
	}
	return r, c.fake.change(op, func() error {
		_, there := c.fake.users[name]
		if there && slices.Contains(o.Statements, "FAIL") {
			return database.MarkRefused(fault.New(op, fault.Upstream, "the fake database refused a statement"))
		}
		if len(o.Statements) > 0 && !slices.Contains(o.Statements, "DROP") {
			r.Remains = there
			return nil
		}
		if there {
			c.fake.dropped++
		}
		delete(c.fake.users, name)
		delete(c.fake.off, name)
		return nil
	})
}

func (c *fakeConn) Exists(ctx context.Context, name string) (there bool, err error) {
	const op = "fake.Exists"
	if err := database.CheckName(op, name); err != nil {
		return false, err
	}
	if err := c.ready(ctx, op); err != nil {
		return false, err
	}
	c.fake.mu.Lock()
	defer c.fake.mu.Unlock()
	_, there = c.fake.users[name]
	return there, nil
}

func (c *fakeConn) SettleAttempt(ctx context.Context, a database.Attempt) (bool, error) {
	const op = "fake.SettleAttempt"
	if !a.Valid() {
		return false, database.MarkUnchanged(fault.New(op, fault.Invalid,
			"the attempt has no deadline or no valid id"))
	}
	if err := c.ready(ctx, op); err != nil {
		return false, err
	}
	c.fake.mu.Lock()
	defer c.fake.mu.Unlock()
	if cancel := c.fake.running[a.ID]; cancel != nil {
		cancel()
		return false, nil
	}
	return !time.Now().Before(a.Deadline), nil
}

func (c *fakeConn) Close() error {
	c.once.Do(func() { close(c.done) })
	return nil
}
