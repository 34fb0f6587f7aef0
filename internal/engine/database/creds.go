package database

import (
	"context"
	"time"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
)

// createWithin bounds a create at the database. A create takes milliseconds. What a crash has left
// of one is removed only after its deadline, so a longer bound would keep orphans for longer.
const createWithin = 8 * time.Second

// lateMargin is what the lease adds to the deadline for its Late. It cannot be zero, because a
// zero Late means that it is unknown how late a create can take effect. Revoking subtracts it
// again.
const lateMargin = time.Millisecond

// attempt names a create to the database, both when it is made and when it is revoked. The
// deadline is cut to the precision of the due index, so that a reservation that falls due can be
// settled at once.
func attempt(id string, deadline time.Time) Attempt {
	return Attempt{ID: id, Deadline: deadline.UTC().Truncate(time.Millisecond)}
}

// issuer issues users: the route creds/.
type issuer struct {
	m        *engine.Mount
	conns    *connections
	roles    *roles
	upstream *upstream
	names    *reservedNames
	reusable *reusableUsers
	noEffect *engine.Attempts // creates that surely had no effect
}

// plan decides on a user, without any effect.
func (s *issuer) plan(ctx context.Context, r *route.Request, in nameIn) (plan route.Plan, p issuePlan, err error) {
	ro, c, err := s.issuable(ctx, in.Name)
	if err != nil {
		return plan, p, err
	}
	kind, err := s.conns.provider(c)
	if err != nil {
		return plan, p, err
	}
	statements := ro.creationStatements(kind)
	if len(statements) == 0 {
		return plan, p,
			fault.New("database.creds", fault.Invalid, "role %q has no creation_statements; write them into the role",
				in.Name)
	}
	creation, others, err := ro.inspectStatements(kind)
	if err != nil {
		return plan, p, err
	}
	if err := ro.checkIssuing(kind, creation, others); err != nil {
		return plan, p, err
	}
	now := time.Now()
	n := naming{installation: s.m.Host.Installation, role: in.Name, longest: kind.LongestName(c.Plugin), now: now}
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
	l, err := newLogin(ctx, s.m, &ro.credentialConfig, c)
	if err != nil {
		return plan, p, err
	}
	p = issuePlan{
		issuedUser: issuedUser{
			Config: c.ID, Role: in.Name, RoleID: ro.ID, User: name, Revocation: ro.Revocation, Terminate: ro.Terminate,
			Repeats: repeats,
		},
		creation: statements, rollback: ro.Rollback, credential: ro.credentialConfig, login: l,
		warn:   func(text string) { r.Warn("%s", text) },
		source: userSource{Role: ro.ID, Version: ro.stored, Config: c.ID, Place: c.serverID()},
	}
	reuse, err := s.reusable.find(ctx, r, ro, &p)
	if err != nil {
		return plan, p, err
	}
	return route.Plan{
		Again: reuse,
		Kind:  "user", Undo: p.issuedUser, TTL: ro.TTL, MaxTTL: longest, Renewable: true, Target: c.leaseTarget(),
		CreateWithin: createWithin, Late: lateMargin,
	}, p, nil
}

// userName generates a user's name, and reports whether the template generates the same one again.
// A role of certificates uses the template of the common name, because the two must be equal.
func (ro *role) userName(n naming, c *connection) (name string, repeats bool, err error) {
	field, text := "common_name_template", ro.Config["common_name_template"]
	if text == "" {
		field, text = "username_template", c.Template
	}
	name, err = n.fromTemplate(field, text)
	return name, err == nil && n.repeats(text), err
}

// longestTTL bounds leases, so that no certificate outlives its authority's.
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

// issuable returns a role and its connection if they may issue users.
func (s *issuer) issuable(ctx context.Context, name string) (*role, *connection, error) {
	const op = "database.creds"
	ro, err := s.roles.get(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	if ro == nil {
		return nil, nil, fault.New(op, fault.Invalid, "unknown role: %s; list roles/, or write it there first", name)
	}
	c, err := s.conns.byName(ctx, ro.DB)
	switch {
	case err != nil:
		return nil, nil, err
	case c == nil:
		return nil, nil,
			fault.New(op, fault.Invalid, "role %q is for the connection %q, which does not exist; write config/%s",
				name, ro.DB, ro.DB)
	case c.Self:
		return nil, nil,
			fault.New(op, fault.Invalid,
				"connection %q is self-managed: without an administrator it cannot create users; use a static role",
				c.Name)
	case !c.allows(name):
		return nil, nil,
			fault.New(op, fault.Upstream, "%q is not an allowed role of connection %q; add it to allowed_roles", name,
				c.Name)
	}
	return ro, c, nil
}

// create creates the user. The reservation, which has all that revoking needs, is durable by now.
func (s *issuer) create(ctx context.Context, a route.Attempt, p issuePlan) (*credsOut, error) {
	out, err := p.answer(a)
	if err == nil {
		err = s.createUser(ctx, a, p)
	}
	if err == nil {
		s.reusable.store(ctx, a, p)
		return out, nil
	}
	if Unchanged(err) {
		s.noEffect.Add(a.ID)
	}
	return nil, err
}

// answer returns what the client gets. It signs the certificate, which expires at the latest time
// to which the lease can be renewed.
func (p *issuePlan) answer(a route.Attempt) (*credsOut, error) {
	const op = "database.create"
	var err error
	if p.login.kind == typeCertificate {
		if p.login, err = p.credential.certify(p.login, p.User, "", a.Max); err != nil {
			return nil, MarkUnchanged(&fault.Error{Op: op, Kind: fault.KindOf(err), Msg: fault.Message(err), Err: err})
		}
	}
	out := &credsOut{Username: p.User}
	if out.loginOut, err = p.login.out(); err != nil {
		return nil, MarkUnchanged(&fault.Error{Op: op, Kind: fault.Internal, Err: err})
	}
	return out, nil
}

func (s *issuer) createUser(ctx context.Context, a route.Attempt, p issuePlan) error {
	const op = "database.create"
	deadline, bounded := ctx.Deadline()
	if !bounded {
		return MarkUnchanged(fault.New(op, fault.Internal, "the call to create a user has no deadline"))
	}
	c, err := s.conns.byID(ctx, p.Config)
	if err != nil {
		return MarkUnchanged(&fault.Error{Op: op, Kind: fault.KindOf(err), Msg: fault.Message(err), Err: err})
	}
	if c == nil || !c.DeletedAt.IsZero() {
		return MarkUnchanged(
			fault.New(op, fault.Invalid, "the role's connection was deleted meanwhile; write it again"))
	}
	key, err := p.login.publicKey()
	if err != nil {
		return MarkUnchanged(&fault.Error{Op: op, Kind: fault.Internal, Err: err})
	}
	u := User{Name: p.User, Password: p.login.password(), Key: key, Expires: a.Expires,
		Attempt: attempt(a.ID, deadline)}
	return s.upstream.do(ctx, op, c, []secret.Value{p.login.secret}, func(conn Conn) error {
		if err := s.names.reserve(ctx, conn, &p.issuedUser, u.Attempt); err != nil {
			return err
		}
		return conn.Create(OnWarning(ctx, p.warn), u, p.creation, p.rollback)
	})
}
