package database

import (
	"context"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
)

// login tries what a user logs in with; false: the database was asked and refused it.
func (b statics) login(ctx context.Context, c *connection, user string, l login) (ok bool, err error) {
	const op = "database.login"
	conn, done, err := b.asking(ctx, c, user, l.secret)
	if err == nil {
		if l.kind == typePassword {
			ok, err = conn.Login(ctx, user, l.secret)
		} else {
			ok, err = tryKey(ctx, conn, user, l)
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

// asking is a connection by which a login can be tried. It needs no administrator: who asks does not wait for a
// change of that one's password.
func (b statics) asking(ctx context.Context, c *connection, user string, password secret.Value) (Conn, func(), error) {
	if c.Self {
		return b.own(ctx, c, user, password)
	}
	p, err := b.provider(c.Plugin)
	if err != nil {
		return nil, nil, err
	}
	return b.pools.use(ctx, p, c)
}

// own is a connection of a user's own.
func (b statics) own(ctx context.Context, c *connection, user string, password secret.Value) (Conn, func(), error) {
	p, err := b.provider(c.Plugin)
	if err != nil {
		return nil, nil, err
	}
	conn, err := p.Connect(ctx, c.configAs(b.m, user, password))
	if err != nil {
		return nil, nil, err
	}
	return conn, func() { b.pools.shut(&pool{conn: conn}) }, nil
}

// setPassword changes a user's password, as the administrator or as the user, or what it has in its place.
func (b statics) setPassword(ctx context.Context, s *staticData, c *connection, user string, from, to secret.Value) error {
	const op = "database.rotate"
	p, err := b.provider(c.Plugin)
	if err == nil {
		err = s.checkRotation(p, staticStatements, s.Statements)
	}
	if err != nil { // the database was not asked
		return MarkUnchanged(&fault.Error{Op: op, Kind: fault.KindOf(err), Msg: fault.Message(err), Err: err})
	}
	set := func(conn Conn) error {
		if s.kind() != typePassword {
			return b.setKey(ctx, s, conn, user, s.login(to))
		}
		return conn.SetPassword(ctx, user, to, s.Statements)
	}
	if !c.Self {
		return b.using(ctx, op, c, []secret.Value{from, to}, set)
	}
	conn, done, err := b.own(ctx, c, user, from)
	if err == nil {
		err = set(conn)
		done()
	}
	if err != nil {
		return upstreamError(op, err, c.redactor(from, to))
	}
	return nil
}
