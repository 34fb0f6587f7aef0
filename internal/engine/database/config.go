package database

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/wire"
)

// configRoutes are the routes below config/, reset/, reload/ and rotate-root/.
type configRoutes struct {
	m          *engine.Mount
	conns      *connections
	pools      *pools
	records    *rotate.Manager
	roots      *rootRotation
	tombstones *tombstones
	writes     *writeLocks
}

// write stores a connection. It refuses contradictions and, unless verify_connection is false, a
// connection that does not work.
func (s *configRoutes) write(ctx context.Context, r *route.Request, in configIn) (route.None, error) {
	if err := checkObjectName("connection", in.Name); err != nil {
		return route.None{}, err
	}
	if err := in.refuse(); err != nil {
		return route.None{}, err
	}
	decoding := r.Reply().Warnings
	return route.None{}, s.writes.do(ctx, namePrefix+in.Name, func() error {
		old, err := s.finishRotation(ctx, in.Name)
		if err != nil {
			return err
		}
		r.Reply().Warnings = slices.Clip(decoding) // without those of an attempt that another server's write made void
		c, err := s.merge(ctx, r, old, &in)
		if err != nil {
			return err
		}
		return s.records.Change(ctx, rootKind, c.ID, nil,
			func(e *rotate.Edit) error { return s.store(ctx, e, old, c, &in) })
	})
}

// store stores a merged connection, and changes the rotation of its password accordingly.
func (s *configRoutes) store(ctx context.Context, e *rotate.Edit, old, c *connection, in *configIn) error {
	if err := e.Unlock(ctx); err != nil {
		return err
	}
	endsRotation := in.endsRotation(old, c, e.Rec)
	if err := s.checkReplacedPassword(ctx, old, c, in, e.Rec); err != nil {
		return err
	}
	verify := true
	wire.Default(&verify, in.Verify, true)
	if err := s.verify(ctx, c, verify); err != nil {
		return err
	}
	var ops []storage.Op
	was := connection{}
	if old == nil {
		ops = append(ops, storage.Set(namePrefix+c.Name, []byte(c.ID)).If(0))
	} else {
		was = *old
	}
	// the rotation stays as it is
	if !endsRotation && was.Root.When == c.Root.When && (e.New() || was.Username == c.Username) {
		op, err := c.storeOp()
		if err == nil {
			_, err = s.m.Store.Commit(ctx, append(append(ops, op), expectNew(e)...)...)
		}
		return err
	}
	c.Root.legacyRoot, c.PendingPassword = legacyRoot{}, secret.Value{} // the record has it
	op, err := c.storeOp()
	if err != nil {
		return err
	}
	e.Ops = append(append(e.Ops, ops...), op) // a new connection gets its name by this commit, too
	if e.Rec.Data, err = c.rotationData(); err != nil {
		return err
	}
	if endsRotation {
		if err := e.Control().SetCurrent(ctx, c.writtenPassword(e.Rec),
			"a password that works was written"); err != nil {
			return err
		}
	}
	if was.Root.When != c.Root.When {
		e.Rec.Next, e.Rec.Retry = c.Root.When.Next(e.Rec.LastRotated, e.Now), time.Time{}
	}
	return e.Commit(ctx, "configured", e.Planned())
}

// merge returns old as a write changes it. It is checked in full, but no login is tested.
func (s *configRoutes) merge(ctx context.Context, r *route.Request, old *connection, in *configIn) (*connection,
	error) {
	c := &connection{ID: newID(), Name: in.Name}
	if old != nil {
		copied := *old
		c = &copied
	}
	in.apply(c)
	if err := c.Form.set(rootStatements, &c.RootSQL, in.RootSQL); err != nil {
		return nil, err
	}
	if c.Plugin == "" {
		return nil, invalid("field \"plugin_name\" is required: name the kind of database, such as %q",
			s.conns.providers.examplePlugin())
	}
	p, err := s.conns.provider(c)
	if err != nil {
		return nil, err
	}
	c.kind = p
	if err := in.applySettings(r, p, c); err != nil {
		return nil, err
	}
	if err := c.checkStatements(r, p); err != nil {
		return nil, err
	}
	if old != nil {
		if err := s.checkMove(ctx, r, old, c, in); err != nil {
			return nil, err
		}
		if !c.samePool(old) {
			c.Revision++
		}
	}
	if c.Self && (c.Username != "" || !c.Password.Empty()) {
		return nil, invalid("field \"self_managed\": such a connection has no username and password; each static " +
			"role provides those of its user; leave both out")
	}
	if err := c.Root.When.Check(minPeriod); err != nil {
		return nil, err
	}
	if !c.Root.When.Never() {
		if err := s.roots.checkRotatable(c); err != nil {
			return nil, err
		}
	}
	config := c.config(s.m)
	if c.Self { // each static role has a user and a password
		config = c.configAs(s.m, "user", secret.Text("password"))
	}
	if err := p.Check(config); err != nil {
		return nil, upstreamError("database.config", err, c.redactor())
	}
	if err := checkTemplate(r, "username_template", c.Template, p.LongestName(c.Plugin)); err != nil {
		return nil, err
	}
	return c, s.warn(ctx, r, p, c, in)
}

// checkStatements checks the statements that change the administrator's password.
func (c *connection) checkStatements(r *route.Request, p *Provider) error {
	found, err := p.inspect(rootStatements, c.RootSQL)
	if err == nil {
		err = found.checkPlaceholders()
	}
	new(credentialConfig).warnRotation(r, p, found, c.RootSQL)
	return err
}

// finishRotation returns the connection of a name. It first finishes a rotation in flight, if
// possible, because otherwise it is unknown whether a written password is the old or the new one.
func (s *configRoutes) finishRotation(ctx context.Context, name string) (*connection, error) {
	c, err := s.conns.byName(ctx, name)
	if err != nil || c == nil {
		return nil, err
	}
	if n, err := s.roots.inFlight(ctx, c); err != nil || n == 0 {
		return c, err
	}
	err = s.records.Change(ctx, rootKind, c.ID, nil, func(e *rotate.Edit) error {
		return e.Control().Drive(ctx, func(*rotate.Record) bool { return false })
	})
	s.pools.retire(c.ID)
	// A failed attempt is in the record, which decides what may be written. Any other error is of
	// our own store, or another server is at work: then no attempt has shown which password works.
	if _, attempted := errors.AsType[*rotate.Failure](err); err != nil && !attempted {
		return nil, err
	}
	return s.conns.byName(ctx, name)
}

// endsRotation reports whether a write has a password that replaces both passwords of a rotation
// in flight. The old password does not, because a file that is applied again has no other.
func (in *configIn) endsRotation(old, c *connection, r *rotate.Record) bool {
	return old != nil && r.Turn != nil && in.Password != nil &&
		(old.serverID() != c.serverID() || old.Username != c.Username || !in.Password.Equal(old.Password))
}

// checkReplacedPassword refuses a password that a rotation has replaced, if the new one works: it
// comes from a file that was applied again.
func (s *configRoutes) checkReplacedPassword(ctx context.Context, old, c *connection, in *configIn,
	rec *rotate.Record) error {
	if in.endsRotation(old, c, rec) { // the generated password is forgotten, so the written one must work
		return s.verify(ctx, c, true)
	}
	if old == nil || in.Password == nil || !old.wasReplaced(*in.Password) {
		return nil
	}
	probe := *old
	if rec.Turn != nil || s.verify(ctx, &probe, true) == nil {
		return invalid("field \"password\": rotate-root has replaced this password at %s, and the stored password "+
			"works; leave password out to keep it", rec.LastRotated.Format(time.RFC3339))
	}
	return s.verify(ctx, c, true)
}

func (in *configIn) apply(c *connection) {
	set(&c.Plugin, in.Plugin)
	set(&c.Version, in.Version)
	set(&c.Allowed, in.Allowed)
	set(&c.URL, in.URL)
	set(&c.Username, in.Username)
	set(&c.Password, in.Password)
	c.Root.Generated = c.Root.Generated && in.Password == nil
	set(&c.Policy, in.Policy)
	set(&c.Template, in.Template)
	set(&c.Access.Auth, in.Auth)
	set(&c.Access.NoEscape, in.NoEscape)
	set(&c.Access.MaxOpen, in.MaxOpen)
	set(&c.Access.MaxIdle, in.MaxIdle)
	set(&c.Access.Lifetime, in.Lifetime)
	set(&c.Access.CA, in.CA)
	set(&c.Access.Cert, in.Cert)
	set(&c.Key, in.Key)
	set(&c.Terminate, in.Terminate)
	set(&c.Self, in.Self)
	in.rootScheduleIn.apply(&c.Root.When)
}

// terraformHint says how to make HashiCorp's Terraform provider send a password, which it does
// only after a change.
const terraformHint = "from Terraform: change password, without ignore_changes on it, or raise password_wo_version"

// checkMove refuses a write that would send a stored secret to another server, because a client
// that may write the connection must not learn its password.
func (s *configRoutes) checkMove(ctx context.Context, r *route.Request, old, c *connection, in *configIn) error {
	moved := old.movedFields(c)
	if len(moved) == 0 {
		return nil
	}
	was, err := s.conns.provider(old)
	if err != nil {
		return err
	}
	is, err := s.conns.provider(c)
	if err != nil {
		return err
	}
	changes := strings.Join(moved, ", ")
	switch inURL := was.Display(old.URL) != old.URL.RevealString(); {
	case was.Name != is.Name:
		return invalid("field \"plugin_name\": the connection is of %s; delete it and write it again as one of %s, "+
			"so that what was issued is revoked where it was issued", was.Name, is.Name)
	case !old.Password.Empty() && in.Password == nil && old.Root.Generated:
		return invalid("field \"password\": this write changes where or how the stored password is sent (%s), so it "+
			"must give the password again, which nobody knows since it was rotated; set a new one in the database "+
			"as its superuser, give that one, and rotate it with rotate-root/%s; %s", changes, old.Name, terraformHint)
	case !old.Password.Empty() && in.Password == nil:
		return invalid("field \"password\": this write changes where or how the stored password is sent (%s), so it "+
			"must give the password again; %s", changes, terraformHint)
	case inURL && in.URL == nil:
		return invalid("field \"connection_url\": this write changes where or how the password in the stored "+
			"connection_url is sent (%s), so it must give connection_url again", changes)
	}
	if slices.Contains(moved, "connection_url") {
		n, err := s.m.Host.LeaseCount(ctx, old.leaseTarget(), 1)
		if err != nil {
			return err
		}
		if n > 0 {
			r.Warn("users that were issued before will be revoked at the new connection_url; if that is another " +
				"database, put the old URL back, delete the connection and write it again")
		}
	}
	return nil
}

// warn warns of what is valid but probably a mistake.
func (s *configRoutes) warn(ctx context.Context, r *route.Request, p *Provider, c *connection, in *configIn) error {
	if p.Display(c.URL) != c.URL.RevealString() {
		r.Warn("connection_url holds a password; write {{username}} and {{password}} there and give the two as " +
			"fields of their own, so that they can be changed and rotated")
	}
	if in.Version != nil && *in.Version != "" {
		r.Warn("plugin_version %q is kept and has no effect: plugins are built in", *in.Version)
	}
	if in.Policy != nil && *in.Policy != "" {
		if _, err := s.m.Host.Password(ctx, *in.Policy); fault.Is(err, fault.Invalid) ||
			fault.Is(err, fault.NotFound) {
			r.Warn("password_policy: %s; no user can be made until it is there", fault.Message(err))
		} else if err != nil {
			return err
		}
	}
	return nil
}

// verifyWithin bounds how long a write waits for a database that does not answer.
const verifyWithin = 20 * time.Second

// verify tests whether the connection works, if verify is true.
func (s *configRoutes) verify(ctx context.Context, c *connection, verify bool) error {
	if !verify || c.Self {
		return nil
	}
	p, err := s.conns.provider(c)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, verifyWithin)
	defer cancel()
	conn, err := p.Connect(ctx, c.config(s.m))
	if err != nil {
		return upstreamError("database.config", err, c.redactor())
	}
	defer s.pools.closeConn(conn)
	if err := conn.Verify(ctx); err != nil {
		f := upstreamError("database.verify", err, c.redactor())
		f.Kind, f.Msg = fault.Invalid, "the connection does not work: "+f.Msg+
			"; nothing was stored; to store it untested, send verify_connection=false"
		return f
	}
	return nil
}

func (s *configRoutes) read(ctx context.Context, _ *route.Request, in nameIn) (*configOut, error) {
	c, err := s.conns.byName(ctx, in.Name)
	if err != nil || c == nil {
		return nil, err
	}
	p, err := s.conns.provider(c)
	if err != nil {
		return nil, err
	}
	e, err := s.records.View(ctx, rootKind, c.ID)
	if err != nil || e == nil {
		return nil, err
	}
	return &configOut{
		Allowed: nonNil(c.Allowed), Details: connectionDetails(p, c), Policy: c.Policy, Plugin: c.Plugin,
		Version: c.Version,
		RootSQL: c.Form.out(rootStatements, c.RootSQL),
		Off:     c.Root.When.Off, Last: e.Rec.LastRotated, Next: e.Rec.Next, LastError: e.Rec.LastError,
		timing: timingOf(c.Root.When),
	}, nil
}

func (s *configRoutes) exists(ctx context.Context, r *route.Request) (bool, error) {
	return s.m.Store.Has(ctx, namePrefix+r.Param("name"))
}

func (s *configRoutes) list(ctx context.Context, _ *route.Request, _ route.None) (route.Keys, error) {
	names, err := s.conns.names(ctx)
	return route.Keys{Keys: names}, err
}

func (s *configRoutes) reset(ctx context.Context, _ *route.Request, in nameIn) (route.None, error) {
	found, err := s.reopen(ctx, in.Name)
	if err == nil && !found {
		err = fault.New("database.reset", fault.Invalid, "there is no connection %q; list config/", in.Name)
	}
	return route.None{}, err
}

// reopen makes every server open a new pool for a connection.
func (s *configRoutes) reopen(ctx context.Context, name string) (found bool, err error) {
	err = s.writes.do(ctx, namePrefix+name, func() error {
		c, err := s.conns.byName(ctx, name)
		if err != nil || c == nil {
			return err
		}
		c.Revision++
		op, err := c.storeOp()
		if err != nil {
			return err
		}
		if _, err = s.m.Store.Commit(ctx, op); err != nil {
			return err
		}
		found = true
		s.pools.retire(c.ID)
		return nil
	})
	return found, err
}

type reloadIn struct {
	Plugin string `path:"plugin" doc:"The kind of database whose connections are reopened."`
}

type reloadOut struct {
	Connections []string `json:"connections"`
	Count       int      `json:"count"`
}

func (s *configRoutes) reload(ctx context.Context, r *route.Request, in reloadIn) (reloadOut, error) {
	out := reloadOut{Connections: []string{}}
	if _, err := s.conns.providers.find(in.Plugin); err != nil {
		return out, err
	}
	names, err := s.conns.names(ctx)
	if err != nil {
		return out, err
	}
	for _, name := range names {
		c, err := s.conns.byName(ctx, name)
		if err != nil {
			return out, err
		}
		if c == nil || c.Plugin != in.Plugin {
			continue
		}
		if _, err := s.reopen(ctx, name); err != nil {
			return out, err
		}
		out.Connections = append(out.Connections, name)
	}
	if out.Count = len(out.Connections); out.Count == 0 {
		r.Warn("no connection is of plugin %q", in.Plugin)
	}
	return out, nil
}
