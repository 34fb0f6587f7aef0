package database

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/cron"
	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/glob"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
)

// A connection is a configuration: how one database is reached, and by whom.
type connection struct {
	ID        string        `json:"id"`
	Name      string        `json:"name"`
	Plugin    string        `json:"plugin"`
	Version   string        `json:"plugin_version,omitempty"` // as it was given: every plugin is built in
	Allowed   []string      `json:"allowed,omitempty"`
	Username  string        `json:"username,omitempty"`
	Policy    string        `json:"policy,omitempty"` // of the passwords of users
	Template  string        `json:"template,omitempty"`
	RootSQL   []string      `json:"root_sql,omitempty"`
	Form      statementForm `json:"form,omitempty"`
	Self      bool          `json:"self,omitempty"`      // has no administrator: users change their own passwords
	Terminate bool          `json:"terminate,omitempty"` // revoking ends the user's sessions
	Access    access        `json:"access"`
	Revision  int           `json:"revision"` // goes up where a pool must be opened anew
	DeletedAt time.Time     `json:"gone,omitzero"`
	CleanupAt time.Time     `json:"bury,omitzero"` // where the tombstone's due item is
	Root      rootState     `json:"root,omitzero"`

	URL             secret.Value `json:"-"` // these are in the stored form alone
	Password        secret.Value `json:"-"`
	Key             secret.Value `json:"-"`
	PendingPassword secret.Value `json:"-"` // of a rotation that an earlier version has begun

	Extra  map[string]string       `json:"extra,omitempty"` // settings of the kind
	Hidden map[string]secret.Value `json:"-"`

	stored storage.Version
	kind   *Provider // of Plugin
}

// access is how connections are made, but for who makes them.
type access struct {
	NoEscape bool          `json:"no_escape,omitempty"`
	Auth     string        `json:"auth,omitempty"`
	MaxOpen  int           `json:"max_open,omitempty"`
	MaxIdle  int           `json:"max_idle,omitempty"`
	Lifetime time.Duration `json:"lifetime,omitempty"`
	CA       string        `json:"ca,omitempty"`
	Cert     string        `json:"cert,omitempty"`
}

// storedConnection is what the barrier encrypts.
type storedConnection struct {
	*connection
	URL             []byte `json:"url"`
	Password        []byte `json:"pw,omitempty"`
	Key             []byte `json:"key,omitempty"`
	PendingPassword []byte `json:"fresh,omitempty"`

	Hidden map[string][]byte `json:"hidden,omitempty"`
}

func (c *connection) storeOp() (storage.Op, error) {
	s := storedConnection{connection: c, URL: c.URL.Reveal(), Password: c.Password.Reveal(), Key: c.Key.Reveal(), PendingPassword: c.PendingPassword.Reveal()}
	for name, v := range c.Hidden {
		if s.Hidden == nil {
			s.Hidden = map[string][]byte{}
		}
		s.Hidden[name] = v.Reveal()
	}
	b, err := json.Marshal(s)
	return storage.Set(connPrefix+c.ID, b).If(c.stored), fault.Wrap("database.put", fault.Internal, err)
}

// byID finds a configuration, a tombstone too; nil for none.
func (b *backend) byID(ctx context.Context, id string) (*connection, error) {
	e, err := b.m.Store.Get(ctx, connPrefix+id)
	if err != nil || e.Version == 0 {
		return nil, err
	}
	c, err := decodeConnection(e)
	if err != nil {
		return nil, err
	}
	c.kind, _ = b.provider(c.Plugin) // none: what needs it says so
	return c, nil
}

// decodeConnection reads a configuration's row, without its kind.
func decodeConnection(e storage.Entry) (*connection, error) {
	s := storedConnection{connection: &connection{stored: e.Version}}
	if err := json.Unmarshal(e.Value, &s); err != nil {
		return nil, fault.Wrap("database.byID", fault.Internal, err)
	}
	c := s.connection
	c.URL, c.Password, c.Key, c.PendingPassword = secret.New(s.URL), secret.New(s.Password), secret.New(s.Key), secret.New(s.PendingPassword)
	for name, b := range s.Hidden {
		if c.Hidden == nil {
			c.Hidden = map[string]secret.Value{}
		}
		c.Hidden[name] = secret.New(b)
	}
	return c, nil
}

// byName finds the configuration that a name means now; nil for none.
func (b *backend) byName(ctx context.Context, name string) (*connection, error) {
	e, err := b.m.Store.Get(ctx, namePrefix+name)
	if err != nil || e.Version == 0 {
		return nil, err
	}
	c, err := b.byID(ctx, string(e.Value))
	if err != nil || c == nil || !c.DeletedAt.IsZero() {
		return nil, err // deleted between the two reads
	}
	return c, nil
}

// defaultLifetime is how old a connection gets that nobody set a limit for. An address may come to mean another server,
// and a connection that is never closed goes on with the old one. A new one costs milliseconds.
const defaultLifetime = 10 * time.Minute

func (c *connection) config(m *engine.Mount) Config {
	out := c.baseConfig()
	out.Dial, out.Files, out.Log = m.Host.Dial, m.Host.Files, m.Log.With("connection", c.Name)
	return out
}

// baseConfig is how the database is reached, without the means.
func (c *connection) baseConfig() Config {
	a := c.Access
	return Config{
		URL: c.URL, Username: c.Username, Password: c.Password, DisableEscaping: a.NoEscape,
		MaxOpen: a.MaxOpen, MaxIdle: a.MaxIdle, ConnLifetime: cmp.Or(a.Lifetime, defaultLifetime), PasswordAuthentication: a.Auth,
		TLSCA: PEM(a.CA), TLSCertificate: PEM(a.Cert), PrivateKey: c.Key, Extra: c.Extra, Hidden: c.Hidden,
	}
}

// redactor knows the connection's secrets, and others.
func (c *connection) redactor(more ...secret.Value) *secret.Redactor {
	r := new(secret.Redactor)
	r.Know(append(more, c.URL, c.Password, c.Key, c.PendingPassword)...)
	for _, v := range c.Hidden {
		r.Know(v)
	}
	return r
}

// leaseTarget is what leases say that they are undone at.
func (c *connection) leaseTarget() string { return "config/" + c.ID }

// allows reports whether a role may use the connection.
func (c *connection) allows(role string) bool {
	return slices.ContainsFunc(c.Allowed, func(pattern string) bool { return glob.Match(pattern, role) })
}

// samePool reports whether the pool of one does for the other.
func (c *connection) samePool(d *connection) bool {
	return c.Plugin == d.Plugin && c.Username == d.Username && c.Access == d.Access &&
		c.URL.Equal(d.URL) && c.Password.Equal(d.Password) && c.Key.Equal(d.Key) &&
		maps.Equal(c.Extra, d.Extra) && maps.EqualFunc(c.Hidden, d.Hidden, secret.Value.Equal)
}

// movedFields names what differs between two that decides where a password is sent,
// or to whom it is shown there.
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

// changedFields names what differs between two in connection_url and in the fields of the kind.
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

// serverID tells apart where connections lead, so that what was sent to one place is not sent to another.
func (c *connection) serverID() string {
	where := []string{c.Plugin, c.Access.CA, strconv.FormatBool(c.Access.NoEscape)}
	if d, told := c.destination(); told {
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

// destination is where the password is sent, if the kind can tell.
func (c *connection) destination() (d Destination, told bool) {
	if c.kind == nil || c.kind.Destination == nil {
		return d, false
	}
	return c.kind.Destination(c.baseConfig())
}

// rawDestination is all that may decide where the password is sent.
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

// newID is for configurations and roles: another one for each life of a name.
func newID() string { return strings.ToLower(rand.Text())[:16] }

// as is the configuration for one connection as another user.
func (c *connection) configAs(m *engine.Mount, user string, password secret.Value) Config {
	s := c.config(m)
	s.Username, s.Password, s.MaxOpen, s.MaxIdle = user, password, 1, -1
	return s
}

// rootState is what a connection keeps of the rotation of its administrator's password.
type rootState struct {
	When cron.When `json:"when,omitzero"`
	// Replaced are digests of the passwords that were written and rotated away, newest last: a
	// configuration that is written again from a file must not bring one back. Those that were made here nobody can write.
	Replaced  [][]byte `json:"replaced,omitempty"`
	Generated bool     `json:"made,omitempty"` // the password of now was made here
	legacyRoot
}

// legacyRoot is the state of a rotation as an earlier version has kept it: it counts until there is a record.
type legacyRoot struct {
	Last   time.Time `json:"last,omitzero"`
	Next   time.Time `json:"next,omitzero"`
	Due    time.Time `json:"due,omitzero"` // where the due item is
	Turn   bool      `json:"turn,omitempty"`
	Failed int       `json:"failed,omitempty"`
	Why    string    `json:"why,omitempty"`
}
