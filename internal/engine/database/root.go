package database

import (
	"context"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/route"
)

// rotateRoot changes the administrator's password, on request.
func (b roots) rotateRoot(ctx context.Context, r *route.Request, in nameIn) (route.None, error) {
	return route.None{}, b.exclusively(ctx, namePrefix+in.Name, func() error {
		c, err := b.byName(ctx, in.Name)
		if err == nil && c == nil {
			err = fault.New("database.rotateRoot", fault.Invalid, "there is no connection %q; list config/", in.Name)
		}
		if err == nil {
			err = b.checkRotatable(c)
		}
		if err == nil {
			err = b.drive(ctx, c)
		}
		if err != nil {
			return err
		}
		return b.warnSharedAdmin(ctx, r, c)
	})
}

// drive goes on with the rotation of a connection's password, or makes one.
func (b roots) drive(ctx context.Context, c *connection) error {
	defer b.pools.retire(c.ID)
	return b.rotations.Change(ctx, rootKind, c.ID, nil, func(e *rotate.Edit) (err error) {
		if err := e.Unlock(ctx); err != nil {
			return err
		}
		if e.Rec.Data, err = c.rotationData(); err != nil {
			return err
		}
		return rotateNow(ctx, e, "request", func() error { return nil })
	})
}
