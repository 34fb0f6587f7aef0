package database

import (
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/cron"
	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/glob"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
)

// A connection says how one database is reached, and by which administrator.
type connection struct {
	ID        string        `json:"id"`
	Name      string        `json:"name"`
	Plugin    string        `json:"plugin"`
	Version   string        `json:"plugin_version,omitempty"` // as written, without effect: every plugin is built in
	Allowed   []string      `json:"allowed,omitempty"`
	Username  string        `json:"username,omitempty"`
	Policy    string        `json:"policy,omitempty"` // for passwords of users
	Template  string        `json:"template,omitempty"`
	RootSQL   []string      `json:"root_sql,omitempty"`
	Form      statementForm `json:"form,omitempty"`
	Self      bool          `json:"self,omitempty"`      // has no administrator: users change their own passwords
	Terminate bool          `json:"terminate,omitempty"` // revoking ends the user's sessions
	Access    access        `json:"access"`
	Revision  int           `json:"revision"` // higher with each change that needs a new pool
	DeletedAt time.Time     `json:"gone,omitzero"`
	CleanupAt time.Time     `json:"bury,omitzero"` // time of the tombstone's due item
	Root      rootState     `json:"root,omitzero"`

	URL             secret.Value `json:"-"` // only storedConnection encodes these
	Password        secret.Value `json:"-"`
	Key             secret.Value `json:"-"`
	PendingPassword secret.Value `json:"-"` // set by a rotation that an earlier version started

	Extra  map[string]string       `json:"extra,omitempty"` // the kind's own settings
	Hidden map[string]secret.Value `json:"-"`

	stored storage.Version
	kind   *Provider // of Plugin
}

// access says how the database is reached, without the administrator's credentials.
type access struct {
	NoEscape bool          `json:"no_escape,omitempty"`
	Auth     string        `json:"auth,omitempty"`
	MaxOpen  int           `json:"max_open,omitempty"`
	MaxIdle  int           `json:"max_idle,omitempty"`
	Lifetime time.Duration `json:"lifetime,omitempty"`
	CA       string        `json:"ca,omitempty"`
	Cert     string        `json:"cert,omitempty"`
}

// storedConnection is the stored form of a connection. The barrier encrypts it.
type storedConnection struct {
	connection
	URL             []byte `json:"url"`
	Password        []byte `json:"pw,omitempty"`
	Key             []byte `json:"key,omitempty"`
	PendingPassword []byte `json:"fresh,omitempty"`

	Hidden map[string][]byte `json:"hidden,omitempty"`
}

func (c *connection) storeOp() (storage.Op, error) {
	s := storedConnection{
		connection: *c, URL: c.URL.Reveal(), Password: c.Password.Reveal(), Key: c.Key.Reveal(),
		PendingPassword: c.PendingPassword.Reveal(),
	}
	for name, v := range c.Hidden {
		if s.Hidden == nil {
			s.Hidden = map[string][]byte{}
		}
		s.Hidden[name] = v.Reveal()
	}
	op, err := connRows.Set(c.ID, s)
	return op.If(c.stored), err
}

// defaultLifetime closes connections even if no limit is set, because an address may be moved to
// another server, and an open connection stays with the old one. A new one costs milliseconds.
const defaultLifetime = 10 * time.Minute

func (c *connection) config(m *engine.Mount) Config {
	out := c.baseConfig()
	out.Dial, out.Files, out.Log = m.Host.Dial, m.Host.Files, m.Log.With("connection", c.Name)
	return out
}

// baseConfig is the configuration without what the mount adds.
func (c *connection) baseConfig() Config {
	a := c.Access
	return Config{
		URL: c.URL, Username: c.Username, Password: c.Password, DisableEscaping: a.NoEscape,
		MaxOpen: a.MaxOpen, MaxIdle: a.MaxIdle, ConnLifetime: cmp.Or(a.Lifetime, defaultLifetime),
		PasswordAuthentication: a.Auth,
		TLSCA:                  PEM(a.CA), TLSCertificate: PEM(a.Cert), PrivateKey: c.Key, Extra: c.Extra,
		Hidden: c.Hidden,
	}
}

// redactor knows the connection's secrets, and more.
func (c *connection) redactor(more ...secret.Value) *secret.Redactor {
	r := new(secret.Redactor)
	r.Know(append(more, c.URL, c.Password, c.Key, c.PendingPassword)...)
	for _, v := range c.Hidden {
		r.Know(v)
	}
	return r
}

// leaseTarget is the undo target of the connection's leases.
func (c *connection) leaseTarget() string { return "config/" + c.ID }

// allows reports whether a role may use the connection.
func (c *connection) allows(role string) bool {
	return slices.ContainsFunc(c.Allowed, func(pattern string) bool { return glob.Match(pattern, role) })
}

// samePool reports whether one pool serves both.
func (c *connection) samePool(d *connection) bool {
	return c.Plugin == d.Plugin && c.Username == d.Username && c.Access == d.Access &&
		c.URL.Equal(d.URL) && c.Password.Equal(d.Password) && c.Key.Equal(d.Key) &&
		maps.Equal(c.Extra, d.Extra) && maps.EqualFunc(c.Hidden, d.Hidden, secret.Value.Equal)
}

// movedFields names the fields that differ and that decide where a password is sent, or who may
// read it there.
func (c *connection) movedFields(d *connection) (fields []string) {
	for field, same := range map[string]bool{
		"username": c.Username == d.Username, "plugin_name": c.Plugin == d.Plugin,
		"disable_escaping": c.Access.NoEscape == d.Access.NoEscape, "tls_ca": c.Access.CA == d.Access.CA,
	} {
		if !same {
			fields = append(fields, field)
		}
	}
	if c.kind == nil || c.kind != d.kind || !c.kind.sameDestination(c.baseConfig(), d.baseConfig()) {
		fields = append(fields, c.changedFields(d)...)
	}
	slices.Sort(fields)
	return fields
}

// changedFields names the fields that differ: connection_url and the kind's own settings.
func (c *connection) changedFields(d *connection) (fields []string) {
	if !c.URL.Equal(d.URL) {
		fields = append(fields, "connection_url")
	}
	for name, v := range c.Extra {
		if v != d.Extra[name] {
			fields = append(fields, name)
		}
	}
	for name := range d.Extra {
		if _, known := c.Extra[name]; !known {
			fields = append(fields, name)
		}
	}
	for _, both := range [][2]map[string]secret.Value{{c.Hidden, d.Hidden}, {d.Hidden, c.Hidden}} {
		for name, v := range both[0] {
			if !v.Equal(both[1][name]) && !slices.Contains(fields, name) {
				fields = append(fields, name)
			}
		}
	}
	return fields
}

// serverID differs between connections to different servers, so that the password for one server
// is not sent to another.
func (c *connection) serverID() string {
	where := []string{c.Plugin, c.Access.CA, strconv.FormatBool(c.Access.NoEscape)}
	if d, known := c.destination(); known {
		where = append(where, d.Place)
	} else {
		where = append(where, c.rawDestination()...)
	}
	h := sha256.New()
	for _, s := range where {
		fmt.Fprintf(h, "%d:%s", len(s), s)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// destination is where the password is sent, if the kind of database knows.
func (c *connection) destination() (d Destination, known bool) {
	if c.kind == nil || c.kind.Destination == nil {
		return d, false
	}
	return c.kind.Destination(c.baseConfig())
}

// rawDestination has all that may decide where the password is sent.
func (c *connection) rawDestination() []string {
	where := []string{c.URL.RevealString()}
	for _, name := range slices.Sorted(maps.Keys(c.Extra)) {
		where = append(where, name, c.Extra[name])
	}
	for _, name := range slices.Sorted(maps.Keys(c.Hidden)) {
		where = append(where, name, c.Hidden[name].RevealString())
	}
	return where
}

// newID is an id for a connection or a role. One that is deleted and written again gets a new id.
func newID() string { return strings.ToLower(rand.Text())[:16] }

// configAs is the configuration of a single connection as another user.
func (c *connection) configAs(m *engine.Mount, user string, password secret.Value) Config {
	s := c.config(m)
	s.Username, s.Password, s.MaxOpen, s.MaxIdle = user, password, 1, -1
	return s
}

// rootState is the state of the rotation of the administrator's password.
type rootState struct {
	When cron.When `json:"when,omitzero"`
	// Replaced are digests of written passwords that a rotation has replaced, newest last. A file
	// that is applied again must not bring one back. Nobody can write a generated password, so it
	// has none.
	Replaced  [][]byte `json:"replaced,omitempty"`
	Generated bool     `json:"made,omitempty"` // a rotation has generated the current password
	legacyRoot
}

// legacyRoot is the state as an earlier version stored it. It counts until there is a record.
type legacyRoot struct {
	Last   time.Time `json:"last,omitzero"`
	Next   time.Time `json:"next,omitzero"`
	Due    time.Time `json:"due,omitzero"` // time of the due item
	Turn   bool      `json:"turn,omitempty"`
	Failed int       `json:"failed,omitempty"`
	Why    string    `json:"why,omitempty"`
}
