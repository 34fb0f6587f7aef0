package database

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
)

// staticUsers acts on the users of static roles in their databases.
type staticUsers struct {
	m        *engine.Mount
	conns    *connections
	pools    *pools
	upstream *upstream
}

// connection returns the connection of a role, if the role may use it.
func (s *staticUsers) connection(ctx context.Context, name string, d *staticData) (*connection, error) {
	c, err := s.conns.byName(ctx, d.DB)
	switch {
	case err != nil:
		return nil, err
	case c == nil:
		return nil, invalid("field \"db_name\": there is no connection %q; write config/%s first", d.DB, d.DB)
	case c.Self != d.SelfManaged && c.Self:
		return nil, invalid("field \"self_managed_password\" is required: connection %q has no administrator, so "+
			"the user changes its own password; give the one that it has now", c.Name)
	case c.Self != d.SelfManaged:
		return nil, invalid("field \"self_managed_password\": connection %q has an administrator, who sets "+
			"passwords; leave it out, or write config/%s with self_managed=true and no username", c.Name, c.Name)
	case !c.allows(name):
		return nil, fault.New("database.static", fault.Upstream,
			"%q is not an allowed role of connection %q; add it to allowed_roles", name, c.Name)
	case slices.Contains(d.Users, c.Username) && c.Username != "":
		return nil, invalid(
			"field \"username\": %q is the administrator of the connection; change its password with rotate-root/%s",
			c.Username, c.Name)
	}
	for _, u := range d.Users {
		e, err := s.m.Store.Get(ctx, ownedKey(d.DB, u))
		if err != nil {
			return nil, err
		}
		if e.Version != 0 && string(e.Value) != name {
			return nil, alreadyOwned(u, string(e.Value))
		}
	}
	return c, nil
}

// checkOwners refuses users of c whose password another connection to the same server needs, or
// another static role rotates.
func (s *staticUsers) checkOwners(ctx context.Context, c *connection, users []string) error {
	siblings, err := s.conns.siblings(ctx, c)
	if err != nil {
		return err
	}
	for _, other := range siblings {
		for _, u := range users {
			if u == other.Username {
				return invalid("field \"username\": %q is the administrator of the connection %q to the same "+
					"database; change its password with rotate-root/%s", u, other.Name, other.Name)
			}
			e, err := s.m.Store.Get(ctx, ownedKey(other.Name, u))
			if err != nil {
				return err
			}
			if e.Version != 0 {
				return alreadyOwned(u, string(e.Value))
			}
		}
	}
	return nil
}

func alreadyOwned(user, role string) error {
	return invalid("field \"username\": the password of %q is changed by the static role %q already; a second role "+
		"would cut off the readers of the first", user, role)
}

// absent reports whether there surely is no such user.
func (s *staticUsers) absent(ctx context.Context, c *connection, user string) bool {
	if c.Self || !ValidName(user) {
		return false
	}
	exists := true
	err := s.upstream.do(ctx, "database.static", c, nil, func(conn Conn) (err error) {
		exists, err = conn.Exists(ctx, user)
		return err
	})
	return err == nil && !exists
}

// login tests a login; false: the database has refused it.
func (s *staticUsers) login(ctx context.Context, c *connection, user string, l login) (ok bool, err error) {
	const op = "database.login"
	conn, done, err := s.loginConn(ctx, c, user, l.secret)
	if err == nil {
		if l.kind == typePassword {
			ok, err = conn.Login(ctx, user, l.secret)
		} else {
			ok, err = loginByKey(ctx, conn, user, l)
		}
		done()
	}
	if err == nil {
		return ok, nil
	}
	f := upstreamError(op, err, c.redactor(l.secret))
	if fault.Is(err, fault.Unsupported) {
		f.Kind = fault.Unsupported
	}
	return false, f
}

// loginConn returns a Conn for testing a login. It does not resolve the administrator's password
// first, because a login does not need it.
func (s *staticUsers) loginConn(ctx context.Context, c *connection, user string, password secret.Value) (Conn, func(),
	error) {
	if c.Self {
		return s.userConn(ctx, c, user, password)
	}
	p, err := s.conns.provider(c)
	if err != nil {
		return nil, nil, err
	}
	return s.pools.use(ctx, p, c)
}

// userConn returns a Conn that logs in as the user itself.
func (s *staticUsers) userConn(ctx context.Context, c *connection, user string, password secret.Value) (Conn, func(),
	error) {
	p, err := s.conns.provider(c)
	if err != nil {
		return nil, nil, err
	}
	conn, err := p.Connect(ctx, c.configAs(s.m, user, password))
	if err != nil {
		return nil, nil, err
	}
	return conn, func() { s.pools.closeConn(conn) }, nil
}

// loginByKey tests a login without password.
func loginByKey(ctx context.Context, conn Conn, user string, l login) (bool, error) {
	const op = "database.login"
	keyed, ok := conn.(KeyConn)
	if !ok || l.kind != typeCertificate {
		return false,
			MarkUnchanged(
				fault.New(op, fault.Unsupported, "this server cannot test a login with %s; test one by hand", l.kind))
	}
	pair, err := tls.X509KeyPair(l.secret.Reveal(), l.secret.Reveal())
	if err != nil {
		return false, MarkUnchanged(fault.New(op, fault.Internal, "the stored certificate cannot be read"))
	}
	return keyed.LoginCertificate(ctx, user, pair)
}

// newSecret generates the secret that a rotation sets.
func (s *staticUsers) newSecret(ctx context.Context, d *staticData, c *connection, user string) (secret.Value, error) {
	l, err := newLogin(ctx, s.m, &d.credentialConfig, c)
	if err != nil || l.kind != typeCertificate {
		return l.secret, err
	}
	now := time.Now()
	next := d.When.Next(now, now)
	second := d.When.Next(next, next) // the times of a schedule may be unequally far apart
	l, err = d.certify(l, user, strings.ToLower(rand.Text()), second.Add(certificateMargin))
	return l.secret, err
}

// setSecret changes what a user logs in with, as the administrator or as the user itself.
func (s *staticUsers) setSecret(ctx context.Context, d *staticData, c *connection, user string, from,
	to secret.Value) error {
	const op = "database.rotate"
	p, err := s.conns.provider(c)
	if err == nil {
		err = d.checkRotation(p, staticStatements, d.Statements)
	}
	if err != nil { // nothing was sent to the database
		return MarkUnchanged(&fault.Error{Op: op, Kind: fault.KindOf(err), Msg: fault.Message(err), Err: err})
	}
	set := func(conn Conn) error {
		if d.kind() != typePassword {
			return setKey(ctx, conn, d, user, d.login(to))
		}
		return conn.SetPassword(ctx, user, to, d.Statements)
	}
	if !c.Self {
		return s.upstream.do(ctx, op, c, []secret.Value{from, to}, set)
	}
	conn, done, err := s.userConn(ctx, c, user, from)
	if err == nil {
		err = set(conn)
		done()
	}
	if err != nil {
		return upstreamError(op, err, c.redactor(from, to))
	}
	return nil
}

// setKey registers a key or a certificate with the database.
func setKey(ctx context.Context, conn Conn, d *staticData, user string, to login) error {
	const op = "database.rotate"
	keyed, ok := conn.(KeyConn)
	if !ok {
		return MarkUnchanged(fault.New(op, fault.Invalid, "users of this kind of database cannot log in with %s; "+
			"delete the role, and write it with credential_type=password", to.kind))
	}
	key, err := to.publicKey()
	if err != nil {
		return MarkUnchanged(&fault.Error{Op: op, Kind: fault.Internal, Err: err})
	}
	return keyed.SetKey(ctx, user, key, d.Statements)
}
