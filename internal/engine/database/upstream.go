package database

import (
	"context"

	"github.com/keyturn/keyturn/internal/secret"
)

// using does something over the connection's pool. What the database surely did not do is done
// once more if the connection has changed meanwhile: its administrator's old password is
// refused from the moment on that the new one is set. Errors show no secret of the connection, nor of known.
func (b *backend) using(ctx context.Context, op string, c *connection, known []secret.Value, do func(conn Conn) error) error {
	for again := false; ; again = true {
		conn, done, err := b.conn(ctx, c)
		if err != nil {
			return MarkUnchanged(upstreamError(op, err, c.redactor(known...)))
		}
		err = do(conn)
		done()
		if err == nil {
			return nil
		}
		now, rerr := b.byID(ctx, c.ID)
		if again || !Unchanged(err) || rerr != nil || now == nil || now.serverID() != c.serverID() {
			return upstreamError(op, err, c.redactor(known...))
		}
		if under, rerr := (roots{b}).rotating(ctx, now); rerr != nil || now.Revision == c.Revision && !under {
			return upstreamError(op, err, c.redactor(known...))
		}
		b.pools.doubt(rootPrefix + c.ID)
		c = now
	}
}

// conn is the connection's pool, for one call.
func (b *backend) conn(ctx context.Context, c *connection) (Conn, func(), error) {
	c, err := roots{b}.rooted(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	p, err := b.provider(c.Plugin)
	if err != nil {
		return nil, nil, err
	}
	return b.pools.use(ctx, p, c)
}
