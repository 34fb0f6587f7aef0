package aws

import (
	"context"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/route"
)

// histories are the routes of what has happened to what rotates.
type histories struct{ b *backend }

type historyIn struct {
	Name string `path:"name" doc:"The static role's name."`
	rotate.HistoryQuery
}

func (h histories) static(ctx context.Context, _ *route.Request, in historyIn) (*rotate.History, error) {
	missing := fault.New("aws.history", fault.NotFound, "there is no static role %q; list static-roles/", in.Name)
	return h.b.rotations.History(ctx, staticKind, in.Name, missing, in.HistoryQuery)
}

func (h histories) root(ctx context.Context, _ *route.Request, in rotate.HistoryQuery) (*rotate.History, error) {
	missing := fault.New("aws.history", fault.NotFound, "the mount is not configured, so nothing was rotated; write config/root with access_key, secret_key and region")
	return h.b.rotations.History(ctx, rootKind, rootKind, missing, in)
}
