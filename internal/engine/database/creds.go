package database

import (
	"context"
	"encoding/json"
	"time"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
)

// createWithin bounds a create at the database. It takes milliseconds there, and
// what a crash has left of one is settled after its deadline at the earliest, so that a
// longer bound would leave orphans for longer.
const createWithin = 8 * time.Second

// lateMargin is what the lease's record adds to the deadline for its Late. It is taken
// off again; zero would mean that nobody knows how late an effect can come.
const lateMargin = time.Millisecond

// attempt is what the database is told of a create, before and after: deadline is that of
// the call. It is cut to the precision of the due index, so that a reservation that falls
// due can be settled the first time.
func attempt(id string, deadline time.Time) Attempt {
	return Attempt{ID: id, Deadline: deadline.UTC().Truncate(time.Millisecond)}
}

// plan decides on a user, without any effect.
func (b issuing) plan(ctx context.Context, r *route.Request, in nameIn) (plan route.Plan, p issuePlan, err error) {
	ro, c, err := b.lendable(ctx, in.Name)
	if err != nil {
		return plan, p, err
	}
	kind, err := b.provider(c.Plugin)
	if err != nil {
		return plan, p, err
	}
	creation := ro.creationStatements(kind)
	if len(creation) == 0 {
		return plan, p, fault.New("database.creds", fault.Invalid, "role %q has no creation_statements; write them into the role", in.Name)
	}
	made, others, err := ro.inspectStatements(kind)
	if err != nil {
		return plan, p, err
	}
	if err := ro.checkIssuing(kind, made, others); err != nil {
		return plan, p, err
	}
	now := time.Now()
	n := naming{installation: b.m.Host.Installation, role: in.Name, longest: kind.LongestName(c.Plugin), now: now}
	if r.Caller != nil {
		n.display = r.Caller.DisplayName
	}
	name, repeats, err := ro.userName(n, c)
	if err != nil {
		return plan, p, err
	}
	longest, err := ro.longestTTL(r.Mount.MaxTTL, now)
	if err != nil {
		return plan, p, err
	}
	fresh, err := b.newLogin(ctx, &ro.credentialConfig, c)
	if err != nil {
		return plan, p, err
	}
	p = issuePlan{
		issuedUser: issuedUser{Config: c.ID, Role: in.Name, RoleID: ro.ID, User: name, Revocation: ro.Revocation, Terminate: ro.Terminate, Repeats: repeats},
		creation:   creation, rollback: ro.Rollback, credential: ro.credentialConfig, login: fresh,
		warn: func(text string) { r.Warn("%s", text) },
		by:   issuedWith{Role: ro.ID, Version: ro.stored, Config: c.ID, Place: c.serverID()},
	}
	again, err := b.again(ctx, r, ro, &p)
	if err != nil {
		return plan, p, err
	}
	return route.Plan{
		Again: again,
		Kind:  "user", Undo: p.issuedUser, TTL: ro.TTL, MaxTTL: longest, Renewable: true, Target: c.leaseTarget(),
		CreateWithin: createWithin, Late: lateMargin,
	}, p, nil
}

// userName is that of a new user, and whether the template makes it again. The user's certificate, if it has one, has it as
// common name.
func (ro *role) userName(n naming, c *connection) (name string, repeats bool, err error) {
	field, text := "common_name_template", ro.Config["common_name_template"]
	if text == "" {
		field, text = "username_template", c.Template
	}
	name, err = n.fromTemplate(field, text)
	return name, err == nil && n.repeats(text), err
}

// longestTTL bounds leases: no certificate outlives the authority's.
func (ro *role) longestTTL(mount time.Duration, now time.Time) (time.Duration, error) {
	longest := ro.MaxTTL
	end, err := ro.expiry(now)
	if err != nil || end.IsZero() {
		return longest, err
	}
	if longest == 0 {
		longest = mount
	}
	if left := end.Sub(now).Truncate(time.Second); longest == 0 || left < longest {
		longest = max(left, time.Second)
	}
	return longest, nil
}

// lendable finds a role and its connection, if users may be made by them.
func (b issuing) lendable(ctx context.Context, name string) (*role, *connection, error) {
	const op = "database.creds"
	ro, err := b.role(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	if ro == nil {
		return nil, nil, fault.New(op, fault.Invalid, "unknown role: %s; list roles/, or write it there first", name)
	}
	c, err := b.byName(ctx, ro.DB)
	switch {
	case err != nil:
		return nil, nil, err
	case c == nil:
		return nil, nil, fault.New(op, fault.Invalid, "role %q is for the connection %q, which does not exist; write config/%s", name, ro.DB, ro.DB)
	case c.Self:
		return nil, nil, fault.New(op, fault.Invalid, "connection %q is self-managed: without an administrator it can make no users; use a static role", c.Name)
	case !c.allows(name):
		return nil, nil, fault.New(op, fault.Upstream, "%q is not an allowed role of connection %q; add it to allowed_roles", name, c.Name)
	}
	return ro, c, nil
}

// create makes the user. What it needs is durable by now.
func (b issuing) create(ctx context.Context, a route.Attempt, p issuePlan) (*credsOut, error) {
	out, err := b.certified(a, &p)
	if err == nil {
		err = b.make(ctx, a, p)
	}
	if err == nil {
		b.keep(ctx, a, p)
		return out, nil
	}
	if Unchanged(err) {
		b.never.Add(a.ID)
	}
	return nil, err
}

// certified is the answer. A certificate is made here: it ends when the lease must have ended, however
// often it is renewed.
func (b issuing) certified(a route.Attempt, p *issuePlan) (*credsOut, error) {
	var err error
	if p.login.kind == typeCertificate {
		if p.login, err = p.credential.certify(p.login, p.User, "", a.Max); err != nil {
			return nil, MarkUnchanged(&fault.Error{Op: "database.create", Kind: fault.KindOf(err), Msg: fault.Message(err), Err: err})
		}
	}
	out := &credsOut{Username: p.User}
	if out.loginOut, err = p.login.out(); err != nil {
		return nil, MarkUnchanged(&fault.Error{Op: "database.create", Kind: fault.Internal, Err: err})
	}
	return out, nil
}

func (b issuing) make(ctx context.Context, a route.Attempt, p issuePlan) error {
	const op = "database.create"
	deadline, bounded := ctx.Deadline()
	if !bounded {
		return MarkUnchanged(fault.New(op, fault.Internal, "a create came without a deadline"))
	}
	c, err := b.byID(ctx, p.Config)
	if err != nil {
		return MarkUnchanged(&fault.Error{Op: op, Kind: fault.KindOf(err), Msg: fault.Message(err), Err: err})
	}
	if c == nil || !c.DeletedAt.IsZero() {
		return MarkUnchanged(fault.New(op, fault.Invalid, "the role's connection was deleted meanwhile; write it again"))
	}
	key, err := p.login.publicKey()
	if err != nil {
		return MarkUnchanged(&fault.Error{Op: op, Kind: fault.Internal, Err: err})
	}
	u := User{Name: p.User, Password: p.login.password(), Key: key, Expires: a.Expires, Attempt: attempt(a.ID, deadline)}
	return b.using(ctx, op, c, []secret.Value{p.login.secret}, func(conn Conn) error {
		if err := repeating(b).takes(ctx, conn, &p.issuedUser, u.Attempt); err != nil {
			return err
		}
		return conn.Create(OnWarning(ctx, p.warn), u, p.creation, p.rollback)
	})
}

// lentBy decodes what a lease knows, and finds its connection.
func (b *backend) lentBy(ctx context.Context, u engine.Undo) (l issuedUser, c *connection, err error) {
	if err := json.Unmarshal(u.Data, &l); err != nil {
		return l, nil, engine.LeaseOnly(fault.Wrap("database.lease", fault.Internal, err))
	}
	if c, err = b.byID(ctx, l.Config); err != nil {
		return l, nil, err
	}
	if c == nil {
		return l, nil, engine.LeaseOnly(fault.New("database.lease", fault.Held, "the connection by which %q was made is not in the store any more; remove that user from its database, and forget the lease by revoke-force", l.User))
	}
	return l, c, nil
}

// current is the lease's role, if it still is what the lease was issued by.
func (b *backend) current(ctx context.Context, l *issuedUser) (*role, error) {
	ro, err := b.role(ctx, l.Role)
	if err != nil || ro == nil || ro.ID != l.RoleID {
		return nil, err
	}
	return ro, nil
}

// Renew moves the end of the user itself.
func (b *backend) Renew(ctx context.Context, u engine.Undo, expires time.Time) error {
	const op = "database.Renew"
	l, c, err := b.lentBy(ctx, u)
	if err != nil {
		return err
	}
	ro, err := b.current(ctx, &l)
	switch {
	case err != nil:
		return err
	case ro == nil:
		return roleGone(l.Role)
	case c.DeletedAt.IsZero() && ro.DB != c.Name:
		return fault.New(op, fault.Invalid, "the role %q is for the connection %q since the lease was issued, so it cannot be renewed; read new credentials", l.Role, ro.DB)
	case !c.DeletedAt.IsZero():
		return fault.New(op, fault.Invalid, "the connection %q was deleted, and serves to revoke alone; the lease ends at its time", c.Name)
	}
	gone := false
	err = b.using(ctx, op, c, nil, func(conn Conn) error {
		err := conn.Renew(ctx, l.User, expires, ro.Renewal)
		gone = fault.Is(err, fault.NotFound)
		return err
	})
	if gone {
		return fault.New(op, fault.Invalid, "the user %s is not in the database any more; read new credentials", l.User)
	}
	return err
}

func roleGone(name string) error {
	return fault.New("database.Renew", fault.Invalid, "the role %q was deleted since the lease was issued, so it cannot be renewed; read new credentials", name)
}

// Bounds are the role's, as it is now.
func (b *backend) Bounds(ctx context.Context, u engine.Undo) (ttl, longest time.Duration, err error) {
	var l issuedUser
	if err := json.Unmarshal(u.Data, &l); err != nil {
		return 0, 0, fault.Wrap("database.lease", fault.Internal, err)
	}
	ro, err := b.current(ctx, &l)
	if err != nil {
		return 0, 0, err
	}
	if ro == nil {
		return 0, 0, roleGone(l.Role)
	}
	return ro.TTL, ro.MaxTTL, nil
}
