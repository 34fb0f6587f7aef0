package aws

import (
	"context"
	"time"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/rotate"
)

// backend is the engine of one mount.
type backend struct {
	records *rotate.Manager
	clients *clients
	configs *configRoutes
	roles   *roleRoutes
	issuer  *issuer
	revoker *revoker
	statics *staticRoutes
}

func newBackend(m *engine.Mount) *backend {
	configs, roles, noEffect := &configs{m: m}, &roles{m: m}, new(engine.Attempts)
	clients := &clients{m: m, configs: configs}
	root := &rootRotation{m: m, configs: configs, clients: clients}
	users := &staticUsers{m: m, configs: configs, clients: clients}
	records := rotate.New(m.Rotations(), users.kind(), root.kind())
	return &backend{
		records: records, clients: clients,
		configs: &configRoutes{m: m, configs: configs, clients: clients, records: records, root: root},
		roles:   &roleRoutes{m: m, roles: roles},
		issuer:  &issuer{m: m, configs: configs, clients: clients, roles: roles, noEffect: noEffect},
		revoker: &revoker{log: m.Log, configs: configs, clients: clients, roles: roles, noEffect: noEffect},
		statics: &staticRoutes{m: m, users: users, records: records},
	}
}

// Work implements [engine.Worker].
func (b *backend) Work(ctx context.Context, kind, name string) error {
	return b.records.Work(ctx, kind, name)
}

// Rotations implements [engine.Rotator].
func (b *backend) Rotations() *rotate.Manager { return b.records }

// Close closes connections.
func (b *backend) Close() error { b.clients.close(); return nil }

// Undo implements [engine.Undoer].
func (b *backend) Undo(ctx context.Context, u engine.Undo) (engine.Undone, error) {
	return b.revoker.undo(ctx, u)
}

// Renew implements [engine.Undoer]. It has nothing to do, because a user lives until it is
// removed.
func (b *backend) Renew(context.Context, engine.Undo, time.Time) error { return nil }

// Bounds implements [engine.Undoer].
func (b *backend) Bounds(ctx context.Context, u engine.Undo) (ttl, longest time.Duration, err error) {
	return b.revoker.bounds(ctx, u)
}
