package database

import (
	"context"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/route"
)

// histories are the routes of what has happened to what rotates.
type histories struct{ b *backend }

type staticHistoryIn struct {
	Name string `path:"name" doc:"The static role's name."`
	rotate.HistoryQuery
}

func (h histories) static(ctx context.Context, _ *route.Request, in staticHistoryIn) (*rotate.History, error) {
	missing := fault.New("database.history", fault.NotFound, "there is no static role %q; list static-roles/", in.Name)
	return h.b.rotations.History(ctx, staticKind, in.Name, missing, in.HistoryQuery)
}

type rootHistoryIn struct {
	Name string `path:"name" doc:"The connection's name."`
	rotate.HistoryQuery
}

func (h histories) root(ctx context.Context, _ *route.Request, in rootHistoryIn) (*rotate.History, error) {
	missing := fault.New("database.history", fault.NotFound, "there is no connection %q; list config/", in.Name)
	c, err := h.b.byName(ctx, in.Name)
	switch {
	case err != nil:
		return nil, err
	case c == nil:
		return nil, missing
	}
	return h.b.rotations.History(ctx, rootKind, c.ID, missing, in.HistoryQuery)
}
