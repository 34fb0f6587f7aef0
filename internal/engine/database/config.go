package database

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/wire"
)

// writeConfig stores a configuration. Nothing is stored that cannot be right, or – unless
// the writer knows better – that does not reach its database.
func (b configs) writeConfig(ctx context.Context, r *route.Request, in configIn) (route.None, error) {
	if err := checkObjectName("connection", in.Name); err != nil {
		return route.None{}, err
	}
	if err := in.refuse(); err != nil {
		return route.None{}, err
	}
	decoding := r.Reply().Warnings
	err := b.exclusively(ctx, namePrefix+in.Name, func() error {
		old, err := b.finishRotation(ctx, in.Name)
		if err != nil {
			return err
		}
		r.Reply().Warnings = slices.Clip(decoding) // without those of a try that lost against another node
		c, err := b.merge(ctx, r, old, &in)
		if err != nil {
			return err
		}
		return b.rotations.Change(ctx, rootKind, c.ID, nil, func(e *rotate.Edit) error { return b.store(ctx, e, old, c, &in) })
	})
	return route.None{}, err
}

// store stores a configuration that was merged, and what follows from it for the rotation of its password.
func (b configs) store(ctx context.Context, e *rotate.Edit, old, c *connection, in *configIn) error {
	if err := e.Unlock(ctx); err != nil {
		return err
	}
	settles := in.endsRotation(old, c, e.Rec)
	if err := b.checkReplacedPassword(ctx, old, c, in, e.Rec); err != nil {
		return err
	}
	verify := true
	wire.Default(&verify, in.Verify, true)
	if err := b.verify(ctx, c, verify); err != nil {
		return err
	}
	var ops []storage.Op
	if old == nil {
		ops = append(ops, storage.Set(namePrefix+c.Name, []byte(c.ID)).If(0))
	}
	was := connection{}
	if old != nil {
		was = *old
	}
	if !settles && was.Root.When == c.Root.When && (e.New() || was.Username == c.Username) { // nothing of the rotation has changed
		op, err := c.storeOp()
		if err == nil {
			_, err = b.m.Store.Commit(ctx, append(append(ops, op), roots(b).still(e)...)...)
		}
		return err
	}
	c.Root.legacyRoot, c.PendingPassword = legacyRoot{}, secret.Value{} // the record has it
	op, err := c.storeOp()
	if err != nil {
		return err
	}
	e.Ops = append(ops, op)
	if e.Rec.Data, err = c.rotationData(); err != nil {
		return err
	}
	if settles {
		given := c.rotationCredential(fmt.Sprintf("%s#%d.given", c.Username, e.Rec.Turns), c.Password)
		if err := e.Control().Take(ctx, given, "a password that works was written"); err != nil {
			return err
		}
	}
	if was.Root.When != c.Root.When {
		e.Rec.Next, e.Rec.Retry = c.Root.When.Next(e.Rec.LastRotated, e.Now), time.Time{}
	}
	return e.Commit(ctx, "configured", e.Planned())
}

// merge returns what old becomes by a write, checked in full but not tried.
func (b configs) merge(ctx context.Context, r *route.Request, old *connection, in *configIn) (*connection, error) {
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
		return nil, invalid("field \"plugin_name\" is required: name the kind of database, such as %q", b.examplePlugin())
	}
	p, err := b.provider(c.Plugin)
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
		if err := b.checkMove(ctx, r, old, c, in); err != nil {
			return nil, err
		}
		if !c.samePool(old) {
			c.Revision++
		}
	}
	if c.Self && (c.Username != "" || !c.Password.Empty()) {
		return nil, invalid("field \"self_managed\": such a connection has no username and password; each static role brings its user's; leave both out")
	}
	if err := c.Root.When.Check(minPeriod); err != nil {
		return nil, err
	}
	if !c.Root.When.Never() {
		if err := roots(b).checkRotatable(c); err != nil {
			return nil, err
		}
	}
	given := c.config(b.m)
	if c.Self { // each static role brings them
		given = c.configAs(b.m, "user", secret.Text("password"))
	}
	if err := p.Check(given); err != nil {
		return nil, upstreamError("database.config", err, c.redactor())
	}
	if err := checkTemplate(r, "username_template", c.Template, p.LongestName(c.Plugin)); err != nil {
		return nil, err
	}
	return c, b.warn(ctx, r, p, c, in)
}

const rootStatements = "root_rotation_statements"

// checkStatements finds what is wrong with the statements by which the administrator's password is changed.
func (c *connection) checkStatements(r *route.Request, p *Provider) error {
	found, err := p.inspect(rootStatements, c.RootSQL)
	if err == nil {
		err = found.checkPlaceholders()
	}
	new(credentialConfig).warnRotation(r, p, found, c.RootSQL)
	return err
}

// finishRotation is the configuration of a name. A rotation of its password that is under way is ended first, if it can be:
// otherwise nobody could tell which password it is that a writer gives.
func (b configs) finishRotation(ctx context.Context, name string) (*connection, error) {
	c, err := b.byName(ctx, name)
	if err != nil || c == nil {
		return nil, err
	}
	if under, err := roots(b).rotating(ctx, c); err != nil || !under {
		return c, err
	}
	// Its failure is kept with it, and counts for what may be written.
	_ = b.rotations.Change(ctx, rootKind, c.ID, nil, func(e *rotate.Edit) error {
		return e.Control().Drive(ctx, func(*rotate.Record) bool { return false })
	})
	b.pools.retire(c.ID)
	return b.byName(ctx, name)
}

// endsRotation reports whether a write brings a password that is right whatever a rotation under way has done. The one from
// before the rotation is none: who applies a file again knows no other.
func (in *configIn) endsRotation(old, c *connection, r *rotate.Record) bool {
	return old != nil && r.Turn != nil && in.Password != nil &&
		(old.serverID() != c.serverID() || old.Username != c.Username || !in.Password.Equal(old.Password))
}

// checkReplacedPassword refuses a password that was rotated away while the rotated one works: files
// that hold it are written again by those who do not know.
func (b configs) checkReplacedPassword(ctx context.Context, old, c *connection, in *configIn, rec *rotate.Record) error {
	if in.endsRotation(old, c, rec) { // the one that was made is forgotten then, so that this one must work
		return b.verify(ctx, c, true)
	}
	if old == nil || in.Password == nil || !old.wasReplaced(*in.Password) {
		return nil
	}
	probe := *old
	if rec.Turn != nil || b.verify(ctx, &probe, true) == nil {
		return invalid("field \"password\": it is one that rotate-root has replaced at %s, and the one that is stored now works; leave password out to keep that", rec.LastRotated.Format(time.RFC3339))
	}
	return b.verify(ctx, c, true)
}

func (b configs) examplePlugin() string {
	for _, p := range b.providers {
		if len(p.Plugins) > 0 {
			return p.Plugins[0]
		}
	}
	return ""
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

// terraformHint is how HashiCorp's Terraform provider is made to give a password: it sends one only where it has changed.
const terraformHint = "from Terraform: change password, without ignore_changes on it, or raise password_wo_version"

// checkMove refuses a write that would send a stored secret elsewhere: who may write
// a configuration must not thereby learn its password.
func (b configs) checkMove(ctx context.Context, r *route.Request, old, c *connection, in *configIn) error {
	moved := old.movedFields(c)
	if len(moved) == 0 {
		return nil
	}
	was, err := b.provider(old.Plugin)
	if err != nil {
		return err
	}
	is, err := b.provider(c.Plugin)
	if err != nil {
		return err
	}
	changes := strings.Join(moved, ", ")
	switch inURL := was.Display(old.URL) != old.URL.RevealString(); {
	case was.Name != is.Name:
		return invalid("field \"plugin_name\": the connection is of %s; delete it and write it again as one of %s, so that what was issued is revoked where it was issued", was.Name, is.Name)
	case !old.Password.Empty() && in.Password == nil && old.Root.Generated:
		return invalid("field \"password\": this write changes where or how the stored password is sent (%s), so it must give the password again, which nobody knows since it was rotated; set one in the database as its superuser, give that, and rotate it by rotate-root/%s; %s", changes, old.Name, terraformHint)
	case !old.Password.Empty() && in.Password == nil:
		return invalid("field \"password\": this write changes where or how the stored password is sent (%s), so it must give the password again; %s", changes, terraformHint)
	case inURL && in.URL == nil:
		return invalid("field \"connection_url\": this write changes where or how the password in the stored connection_url is sent (%s), so it must give connection_url again", changes)
	}
	if slices.Contains(moved, "connection_url") {
		n, err := b.m.Host.LeaseCount(ctx, old.leaseTarget(), 1)
		if err != nil {
			return err
		}
		if n > 0 {
			r.Warn("users that were issued before will be revoked at the new connection_url; if that is another database, put the old URL back, delete the connection and write it again")
		}
	}
	return nil
}

// warn warns of what can be stored and will probably disappoint.
func (b configs) warn(ctx context.Context, r *route.Request, p *Provider, c *connection, in *configIn) error {
	if p.Display(c.URL) != c.URL.RevealString() {
		r.Warn("connection_url holds a password; write {{username}} and {{password}} there and give the two as fields of their own, so that they can be changed and rotated")
	}
	if in.Version != nil && *in.Version != "" {
		r.Warn("plugin_version %q is kept and has no effect: plugins are built in", *in.Version)
	}
	if in.Policy != nil && *in.Policy != "" {
		if _, err := b.m.Host.Password(ctx, *in.Policy); fault.Is(err, fault.Invalid) || fault.Is(err, fault.NotFound) {
			r.Warn("password_policy: %s; no user can be made until it is there", fault.Message(err))
		} else if err != nil {
			return err
		}
	}
	return nil
}

// verifyWithin bounds how long a write waits for a database that does not answer.
const verifyWithin = 20 * time.Second

// verify reaches the database with a configuration, where asked.
func (b configs) verify(ctx context.Context, c *connection, verify bool) error {
	if !verify || c.Self {
		return nil
	}
	p, err := b.provider(c.Plugin)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, verifyWithin)
	defer cancel()
	conn, err := p.Connect(ctx, c.config(b.m))
	if err != nil {
		return upstreamError("database.config", err, c.redactor())
	}
	defer b.pools.shut(&pool{conn: conn})
	if err := conn.Verify(ctx); err != nil {
		f := upstreamError("database.verify", err, c.redactor())
		f.Kind, f.Msg = fault.Invalid, "the connection does not work: "+f.Msg+"; nothing was stored; to store it untested, send verify_connection=false"
		return f
	}
	return nil
}

func (b configs) readConfig(ctx context.Context, _ *route.Request, in nameIn) (*configOut, error) {
	c, err := b.byName(ctx, in.Name)
	if err != nil || c == nil {
		return nil, err
	}
	p, err := b.provider(c.Plugin)
	if err != nil {
		return nil, err
	}
	e, err := b.rotations.View(ctx, rootKind, c.ID)
	if err != nil || e == nil {
		return nil, err
	}
	return &configOut{
		Allowed: list(c.Allowed), Details: connectionDetails(p, c), Policy: c.Policy, Plugin: c.Plugin, Version: c.Version, RootSQL: c.Form.out(rootStatements, c.RootSQL),
		Off: c.Root.When.Off, Last: e.Rec.LastRotated, Next: e.Rec.Next, LastError: e.Rec.LastError, timing: timingOf(c.Root.When),
	}, nil
}

func (b configs) configExists(ctx context.Context, r *route.Request) (bool, error) {
	e, err := b.m.Store.Get(ctx, namePrefix+r.Param("name"))
	return e.Version != 0, err
}

func (b configs) listConfigs(ctx context.Context, _ *route.Request, _ route.None) (route.Keys, error) {
	names, err := b.names(ctx, namePrefix)
	return route.Keys{Keys: names}, err
}

func (b configs) reset(ctx context.Context, _ *route.Request, in nameIn) (route.None, error) {
	found, err := b.reopen(ctx, in.Name)
	if err == nil && !found {
		err = fault.New("database.reset", fault.Invalid, "there is no connection %q; list config/", in.Name)
	}
	return route.None{}, err
}

// reopen makes every node open a connection's pool anew.
func (b configs) reopen(ctx context.Context, name string) (found bool, err error) {
	err = b.exclusively(ctx, namePrefix+name, func() error {
		c, err := b.byName(ctx, name)
		if err != nil || c == nil {
			return err
		}
		c.Revision++
		op, err := c.storeOp()
		if err != nil {
			return err
		}
		if _, err = b.m.Store.Commit(ctx, op); err != nil {
			return err
		}
		found = true
		b.pools.retire(c.ID)
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

func (b configs) reload(ctx context.Context, r *route.Request, in reloadIn) (reloadOut, error) {
	out := reloadOut{Connections: []string{}}
	if _, err := b.provider(in.Plugin); err != nil {
		return out, err
	}
	names, err := b.names(ctx, namePrefix)
	if err != nil {
		return out, err
	}
	for _, name := range names {
		c, err := b.byName(ctx, name)
		if err != nil {
			return out, err
		}
		if c == nil || c.Plugin != in.Plugin {
			continue
		}
		if _, err := b.reopen(ctx, name); err != nil {
			return out, err
		}
		out.Connections = append(out.Connections, name)
	}
	if out.Count = len(out.Connections); out.Count == 0 {
		r.Warn("no connection is of plugin %q", in.Plugin)
	}
	return out, nil
}
