package database

import (
	"context"
	"time"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
)

// backend is the engine of one mount.
type backend struct {
	records    *rotate.Manager
	pools      *pools
	configs    *configRoutes
	roles      *roleRoutes
	issuer     *issuer
	revoker    *revoker
	statics    *staticRoutes
	creds      *staticCreds
	tombstones *tombstones
}

func newBackend(m *engine.Mount, kinds providers) *backend {
	conns, roles, pools := &connections{m: m, providers: kinds}, &roles{m: m}, newPools(m)
	refusals, writes, noEffect := new(refusals), new(writeLocks), new(engine.Attempts)
	names, reusable := &reservedNames{m: m}, &reusableUsers{m: m}
	roots := &rootRotation{m: m, conns: conns, pools: pools, refusals: refusals}
	upstream := &upstream{conns: conns, pools: pools, refusals: refusals, roots: roots}
	users := &staticUsers{m: m, conns: conns, pools: pools, upstream: upstream}
	records := rotate.New(m.Rotations(), users.kind(), roots.kind())
	roots.records = records
	statics := &staticRoles{records: records}
	tombstones := &tombstones{m: m, conns: conns, pools: pools, records: records}
	return &backend{
		records: records, pools: pools, tombstones: tombstones,
		configs: &configRoutes{
			m: m, conns: conns, pools: pools, records: records, roots: roots, tombstones: tombstones, writes: writes,
		},
		roles: &roleRoutes{m: m, roles: roles, conns: conns, writes: writes},
		issuer: &issuer{m: m, conns: conns, roles: roles, upstream: upstream, names: names, reusable: reusable,
			noEffect: noEffect},
		revoker: &revoker{
			log: m.Log, conns: conns, roles: roles, upstream: upstream, names: names, reusable: reusable,
			noEffect: noEffect, tombstones: tombstones,
		},
		statics: &staticRoutes{m: m, roles: statics, users: users},
		creds:   &staticCreds{roles: statics, users: users, roots: roots, refusals: refusals},
	}
}

// Rotations implements [engine.Rotator].
func (b *backend) Rotations() *rotate.Manager { return b.records }

// Close closes every pool and cancels the calls that use it.
func (b *backend) Close() error { b.pools.close(); return nil }

// Undo implements [engine.Undoer].
func (b *backend) Undo(ctx context.Context, u engine.Undo) (engine.Undone, error) {
	return b.revoker.undo(ctx, u)
}

// Renew implements [engine.Undoer]: the database's own expiry of the user moves with the lease.
func (b *backend) Renew(ctx context.Context, u engine.Undo, expires time.Time) error {
	return b.revoker.renew(ctx, u, expires)
}

// Bounds implements [engine.Undoer].
func (b *backend) Bounds(ctx context.Context, u engine.Undo) (ttl, longest time.Duration, err error) {
	return b.revoker.bounds(ctx, u)
}

// Work implements [engine.Worker].
func (b *backend) Work(ctx context.Context, kind, id string) error {
	switch kind {
	case cleanupKind:
		return b.tombstones.check(ctx, id)
	case staticKind:
		return b.records.Work(ctx, kind, id)
	case rootKind:
		defer b.pools.retire(id) // the administrator may have a new password
		return b.records.Work(ctx, kind, id)
	}
	return fault.New("database.Work", fault.Internal, "there is no work of kind %q", kind)
}
