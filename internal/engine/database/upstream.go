package database

import (
	"context"

	"github.com/keyturn/keyturn/internal/secret"
)

// upstream makes calls to the databases of connections.
type upstream struct {
	conns    *connections
	pools    *pools
	refusals *refusals
	roots    *rootRotation
}

// do calls f with the connection's pool. If the database surely did nothing and the connection has
// changed meanwhile, do calls f once more, because the administrator's old password is refused as
// soon as the new one is set. Errors show no secret of the connection, and none of secrets.
func (u *upstream) do(ctx context.Context, op string, c *connection, secrets []secret.Value,
	f func(conn Conn) error) error {
	for repeated := false; ; repeated = true {
		conn, done, err := u.conn(ctx, c)
		if err != nil {
			return MarkUnchanged(upstreamError(op, err, c.redactor(secrets...)))
		}
		err = f(conn)
		done()
		if err == nil {
			return nil
		}
		current, rerr := u.conns.byID(ctx, c.ID)
		if repeated || !Unchanged(err) || rerr != nil || current == nil || current.serverID() != c.serverID() {
			return upstreamError(op, err, c.redactor(secrets...))
		}
		if n, rerr := u.roots.inFlight(ctx, current); rerr != nil || current.Revision == c.Revision && n == 0 {
			return upstreamError(op, err, c.redactor(secrets...))
		}
		u.refusals.expire(rootPrefix + c.ID)
		c = current
	}
}

// conn returns the connection's pool for one call, which ends with done.
func (u *upstream) conn(ctx context.Context, c *connection) (conn Conn, done func(), err error) {
	c, err = u.roots.resolve(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	p, err := u.conns.provider(c)
	if err != nil {
		return nil, nil, err
	}
	return u.pools.use(ctx, p, c)
}
