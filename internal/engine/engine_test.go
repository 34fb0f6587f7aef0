package engine_test

import (
	"context"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
)

type issuer struct{}

func (issuer) Routes() []route.Route {
	plan := func(context.Context, *route.Request, route.None) (route.Plan, struct{}, error) {
		return route.Plan{}, struct{}{}, nil
	}
	create := func(context.Context, route.Attempt, struct{}) (*route.None, error) { return nil, nil }
	return []route.Route{route.Lease(route.Read, "creds", plan, create)}
}

func (issuer) Close() error { return nil }

type revoker struct{ issuer }

func (revoker) Undo(context.Context, engine.Undo) (engine.Undone, error) {
	return engine.Undone{}, nil
}

func (revoker) Renew(context.Context, engine.Undo, time.Time) error { return nil }

func (revoker) Bounds(context.Context, engine.Undo) (ttl, longest time.Duration, err error) {
	return 0, 0, nil
}

// TestRoutesOf: an engine that could not revoke what it issues does not open.
func TestRoutesOf(t *testing.T) {
	if _, err := engine.RoutesOf(issuer{}); !fault.Is(err, fault.Internal) {
		t.Errorf("without an Undo: %v", err)
	}
	if routes, err := engine.RoutesOf(revoker{}); err != nil || len(routes) != 1 {
		t.Errorf("with an Undo: %d routes, %v", len(routes), err)
	}
}
