package database

import (
	"context"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/token"
	"github.com/keyturn/keyturn/internal/wire"
)

// conn is a stored configuration. Its stored form reveals the secrets, and the
// barrier encrypts it.
type conn struct {
	ID        string        `json:"id"`
	Name      string        `json:"name"`
	Plugin    string        `json:"plugin"`
	Allowed   []string      `json:"allowed"`
	URL       secret.Value  `json:"url"`
	Username  string        `json:"username"`
	Password  secret.Value  `json:"password"` // the administrator's
	NoEscape  bool          `json:"no_escape"`
	RootSQL   []string      `json:"root_sql"`
	Policy    string        `json:"policy"`
	Auth      string        `json:"auth"`
	MaxOpen   int           `json:"max_open"`
	MaxIdle   int           `json:"max_idle"`
	Lifetime  time.Duration `json:"lifetime"`
	CA        string        `json:"tls_ca"`
	Cert      string        `json:"tls_cert"`
	Key       secret.Value  `json:"tls_key"`
	Terminate bool          `json:"terminate"`
	Revision  int           `json:"revision"` // counts writes: a pool of an older one is replaced
	Gone      time.Time     `json:"gone"`     // when it became a tombstone
}

func (c *conn) settings(m *engine.Mount) Config {
	return Config{
		URL: c.URL, Username: c.Username, Password: c.Password, DisableEscaping: c.NoEscape,
		MaxOpen: c.MaxOpen, MaxIdle: c.MaxIdle, ConnLifetime: c.Lifetime, PasswordAuthentication: c.Auth,
		TLSCA: c.CA, TLSCertificate: c.Cert, PrivateKey: c.Key, Dial: m.Host.Dial, Log: m.Log,
	}
}

func (c *conn) allows(role string) bool {
	return slices.ContainsFunc(c.Allowed, func(g string) bool {
		ok, err := path.Match(g, role)
		return g == "*" || err == nil && ok
	})
}

// target is the undo target of what the configuration creates.
func (c *conn) target() string { return "config/" + c.ID }

// byName finds the configuration that a name means now; nil for none.
func (b *backend) byName(ctx context.Context, name string) (*conn, error) {
	e, err := b.m.Store.Get(ctx, configPrefix+name)
	if err != nil || e.Version == 0 {
		return nil, err
	}
	return b.byID(ctx, string(e.Value))
}

// byID finds a configuration, a tombstone too; nil for none.
func (b *backend) byID(ctx context.Context, id string) (*conn, error) {
	e, err := b.m.Store.Get(ctx, connPrefix+id)
	if err != nil || e.Version == 0 {
		return nil, err
	}
	c := new(conn)
	if _, err := wire.Decode(e.Value, c); err != nil {
		return nil, fault.Wrap("database.byID", fault.Internal, err)
	}
	return c, nil
}

// put stores the configuration with its secrets in the clear: below is the
// barrier.
func (c *conn) put() storage.Op { return storage.Set(connPrefix+c.ID, wire.Append(nil, c)) }

type nameIn struct {
	Name string `path:"name"`
}

// configIn is a configuration as it is written. What is absent stays.
type configIn struct {
	Name      string         `path:"name"`
	Plugin    *string        `json:"plugin_name"`
	Version   *string        `json:"plugin_version"`
	Verify    *bool          `json:"verify_connection"`
	Allowed   *[]string      `json:"allowed_roles"`
	URL       *secret.Value  `json:"connection_url"`
	Username  *string        `json:"username"`
	Password  *secret.Value  `json:"password"`
	RootSQL   *[]string      `json:"root_rotation_statements"`
	OldSQL    *[]string      `json:"root_credentials_rotate_statements"`
	Policy    *string        `json:"password_policy"`
	Auth      *string        `json:"password_authentication"`
	NoEscape  *bool          `json:"disable_escaping"`
	MaxOpen   *int           `json:"max_open_connections"`
	MaxIdle   *int           `json:"max_idle_connections"`
	Lifetime  *time.Duration `json:"max_connection_lifetime"`
	CA        *string        `json:"tls_ca"`
	Cert      *string        `json:"tls_certificate"`
	Key       *secret.Value  `json:"private_key"`
	Terminate *bool          `json:"terminate_sessions"`
	Template  *string        `json:"username_template"`
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

// apply changes c by what was written.
func (in *configIn) apply(c *conn) error {
	if in.Template != nil && *in.Template != "" {
		return fault.New("database.config", fault.Unsupported, "field \"username_template\" is not built yet; leave it out")
	}
	moved := in.URL != nil && !in.URL.Equal(c.URL) || in.CA != nil && *in.CA != c.CA
	if moved && !c.Password.Empty() && in.Password == nil {
		return fault.New("database.config", fault.Invalid, "field \"password\": a write that changes where the stored password is sent (connection_url, tls_ca) must carry it again")
	}
	set(&c.Plugin, in.Plugin)
	set(&c.Allowed, in.Allowed)
	set(&c.URL, in.URL)
	set(&c.Username, in.Username)
	set(&c.Password, in.Password)
	set(&c.RootSQL, in.OldSQL)
	set(&c.RootSQL, in.RootSQL)
	set(&c.Policy, in.Policy)
	set(&c.Auth, in.Auth)
	set(&c.NoEscape, in.NoEscape)
	set(&c.MaxOpen, in.MaxOpen)
	set(&c.MaxIdle, in.MaxIdle)
	set(&c.Lifetime, in.Lifetime)
	set(&c.CA, in.CA)
	set(&c.Cert, in.Cert)
	set(&c.Key, in.Key)
	set(&c.Terminate, in.Terminate)
	if c.Plugin == "" {
		return fault.New("database.config", fault.Invalid, "field \"plugin_name\": say which kind of database, for example \"postgresql-database-plugin\"")
	}
	if c.URL.Empty() {
		return fault.New("database.config", fault.Invalid, "field \"connection_url\" is missing, for example postgresql://{{username}}:{{password}}@db.example.com:5432/app")
	}
	return nil
}

func (b *backend) writeConfig(ctx context.Context, r *route.Request, in configIn) (route.None, error) {
	c, err := b.byName(ctx, in.Name)
	if err != nil {
		return route.None{}, err
	}
	var ops []storage.Op
	if c == nil {
		c = &conn{ID: strings.ToLower(token.Random(16)), Name: in.Name}
		ops = append(ops, storage.Set(configPrefix+in.Name, []byte(c.ID)).If(0))
	}
	if in.Plugin == nil && c.Plugin == "" {
		in.Plugin = new(string)
	}
	// An unknown plugin is told before what else may be missing.
	if in.Plugin != nil && *in.Plugin != "" {
		if _, err := b.provider(*in.Plugin); err != nil {
			return route.None{}, err
		}
	}
	if err := in.apply(c); err != nil {
		return route.None{}, err
	}
	c.Revision++
	if err := b.prove(ctx, c, in.Verify == nil || *in.Verify); err != nil {
		return route.None{}, err
	}
	if _, err := b.m.Store.Commit(ctx, append(ops, c.put())...); err != nil {
		return route.None{}, err
	}
	b.drop(c.ID)
	if !c.Password.Empty() && strings.Contains(c.URL.RevealString(), c.Password.RevealString()) {
		r.Warn("connection_url holds the password itself; write {{password}} there, so that it can be changed")
	}
	return route.None{}, nil
}

// prove checks a configuration, and where asked reaches the database with it.
func (b *backend) prove(ctx context.Context, c *conn, verify bool) error {
	p, err := b.provider(c.Plugin)
	if err != nil {
		return err
	}
	if err := p.Check(c.settings(b.m)); err != nil {
		return err
	}
	if !verify {
		return nil
	}
	try, err := p.Connect(ctx, c.settings(b.m))
	if err != nil {
		return err
	}
	defer try.Close()
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if err := try.Verify(ctx); err != nil {
		return &fault.Error{
			Op: "database.verify", Kind: fault.Invalid, Err: err,
			Msg: "error verifying connection: " + fault.Message(err) + "; nothing was stored. To store it all the same, send verify_connection=false",
		}
	}
	return nil
}

// configOut is a configuration in answers.
type configOut struct {
	Allowed []string       `json:"allowed_roles"`
	Details map[string]any `json:"connection_details"`
	Policy  string         `json:"password_policy"`
	Plugin  string         `json:"plugin_name"`
	Version string         `json:"plugin_version"`
	RootSQL []string       `json:"root_credentials_rotate_statements"`
	Verify  bool           `json:"verify_connection"`
}

func list(in []string) []string {
	if in == nil {
		return []string{}
	}
	return in
}

func (b *backend) readConfig(ctx context.Context, _ *route.Request, in nameIn) (*configOut, error) {
	c, err := b.byName(ctx, in.Name)
	if err != nil || c == nil {
		return nil, err
	}
	url := ""
	if p, err := b.provider(c.Plugin); err == nil {
		url = p.Display(c.URL)
	}
	details := map[string]any{"connection_url": url, "username": c.Username}
	if c.MaxOpen != 0 {
		details["max_open_connections"] = c.MaxOpen
	}
	if c.MaxIdle != 0 {
		details["max_idle_connections"] = c.MaxIdle
	}
	if c.Lifetime != 0 {
		details["max_connection_lifetime"] = c.Lifetime.String()
	}
	if c.Auth != "" {
		details["password_authentication"] = c.Auth
	}
	if c.NoEscape {
		details["disable_escaping"] = true
	}
	if c.CA != "" {
		details["tls_ca"] = c.CA
	}
	if c.Cert != "" {
		details["tls_certificate"] = c.Cert
	}
	return &configOut{Allowed: list(c.Allowed), Details: details, Policy: c.Policy, Plugin: c.Plugin, RootSQL: list(c.RootSQL), Verify: true}, nil
}

func (b *backend) configExists(ctx context.Context, r *route.Request) (bool, error) {
	e, err := b.m.Store.Get(ctx, configPrefix+r.Param("name"))
	return e.Version != 0, err
}

func (b *backend) listConfigs(ctx context.Context, _ *route.Request, _ route.None) (route.Keys, error) {
	return b.names(ctx, configPrefix)
}

func (b *backend) names(ctx context.Context, prefix string) (route.Keys, error) {
	var out []string
	for e, err := range b.m.Store.Scan(ctx, prefix, storage.PrefixEnd(prefix)) {
		if err != nil {
			return route.Keys{}, err
		}
		out = append(out, strings.TrimPrefix(e.Key, prefix))
	}
	return route.Keys{Keys: out}, nil
}

// deleteConfig frees the name at once. The configuration stays as a tombstone,
// for undo only, until its last lease ends.
func (b *backend) deleteConfig(ctx context.Context, _ *route.Request, in nameIn) (route.None, error) {
	c, err := b.byName(ctx, in.Name)
	if err != nil || c == nil {
		return route.None{}, err
	}
	c.Gone = time.Now().UTC()
	if _, err := b.m.Store.Commit(ctx, c.put(), storage.Remove(configPrefix+in.Name)); err != nil {
		return route.None{}, err
	}
	return route.None{}, b.bury(ctx, c)
}

// bury forgets a tombstone that no lease needs any more.
func (b *backend) bury(ctx context.Context, c *conn) error {
	if c.Gone.IsZero() {
		return nil
	}
	n, err := b.m.Host.LeaseCount(ctx, c.target(), 2)
	if err != nil || n > 0 {
		return err
	}
	b.drop(c.ID)
	_, err = b.m.Store.Commit(ctx, storage.Remove(connPrefix+c.ID))
	return err
}

func (b *backend) reset(ctx context.Context, _ *route.Request, in nameIn) (route.None, error) {
	c, err := b.byName(ctx, in.Name)
	if err != nil {
		return route.None{}, err
	}
	if c == nil {
		return route.None{}, fault.New("database.reset", fault.Invalid, "there is no connection %q", in.Name)
	}
	b.drop(c.ID)
	return route.None{}, b.prove(ctx, c, true)
}

func (b *backend) reload(ctx context.Context, r *route.Request, _ route.None) (route.None, error) {
	if _, err := b.provider(r.Param("plugin")); err != nil {
		return route.None{}, err
	}
	keys, err := b.names(ctx, connPrefix)
	if err != nil {
		return route.None{}, err
	}
	for _, id := range keys.Keys {
		c, err := b.byID(ctx, id)
		if err != nil {
			return route.None{}, err
		}
		if c != nil && c.Plugin == r.Param("plugin") {
			b.drop(id)
		}
	}
	return route.None{}, nil
}
