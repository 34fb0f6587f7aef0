package aws

import (
	"context"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/route"
)

type historyIn struct {
	Name string `path:"name" doc:"The static role's name."`
	rotate.HistoryQuery
}

// history shows the rotations of a static role.
func (s *staticRoutes) history(ctx context.Context, _ *route.Request, in historyIn) (*rotate.History, error) {
	missing := fault.New("aws.history", fault.NotFound, "there is no static role %q; list static-roles/", in.Name)
	return s.records.History(ctx, staticKind, in.Name, missing, in.HistoryQuery)
}

// history shows the rotations of the key of config/root.
func (s *configRoutes) history(ctx context.Context, _ *route.Request, in rotate.HistoryQuery) (*rotate.History,
	error) {
	missing := fault.New("aws.history", fault.NotFound,
		"the mount is not configured, so nothing was rotated; write config/root with access_key, "+
			"secret_key and region")
	return s.records.History(ctx, rootKind, rootKind, missing, in)
}
