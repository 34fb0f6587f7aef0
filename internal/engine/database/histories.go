package database

import (
	"context"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/route"
)

type staticHistoryIn struct {
	Name string `path:"name" doc:"The static role's name."`
	rotate.HistoryQuery
}

// history shows the rotations of a static role.
func (s *staticRoutes) history(ctx context.Context, _ *route.Request, in staticHistoryIn) (*rotate.History, error) {
	missing := fault.New("database.history", fault.NotFound, "there is no static role %q; list static-roles/", in.Name)
	return s.roles.records.History(ctx, staticKind, in.Name, missing, in.HistoryQuery)
}

type rootHistoryIn struct {
	Name string `path:"name" doc:"The connection's name."`
	rotate.HistoryQuery
}

// history shows the rotations of a connection's administrator.
func (s *configRoutes) history(ctx context.Context, _ *route.Request, in rootHistoryIn) (*rotate.History, error) {
	missing := fault.New("database.history", fault.NotFound, "there is no connection %q; list config/", in.Name)
	c, err := s.conns.byName(ctx, in.Name)
	switch {
	case err != nil:
		return nil, err
	case c == nil:
		return nil, missing
	}
	return s.records.History(ctx, rootKind, c.ID, missing, in.HistoryQuery)
}
