package core

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/audit"
	"github.com/keyturn/keyturn/internal/barrier"
	"github.com/keyturn/keyturn/internal/core/mounts"
	"github.com/keyturn/keyturn/internal/core/policies"
	"github.com/keyturn/keyturn/internal/due"
	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/lease"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/token"
)

// hosts provides each engine with its services, and runs the work that engines have scheduled.
type hosts struct {
	barrier    *barrier.Barrier
	view       *barrier.View
	dial       func(ctx context.Context, network, address string) (net.Conn, error)
	files      []string
	clock      *clock
	events     events
	trail      *trail
	tokens     *token.Store
	leases     *lease.Manager
	policies   *policies.Manager
	mounts     *mounts.Manager
	places     *places
	publishing *publishing
	log        *slog.Logger
}

// host returns the services for the engine of a mount.
func (h *hosts) host(uuid string) engine.Host {
	return engine.Host{
		Installation: h.barrier.Installation(),
		Schedule: func(kind, id string, from, to time.Time) []storage.Op {
			return due.Move(due.Item{Lane: workLane + uuid, Kind: workKind, ID: kind + "/" + id}, from, to)
		},
		Event: h.events.op,
		Guard: func(ctx context.Context, id string) ([]storage.Op, error) {
			return h.tokens.Guard(ctx, &token.Entry{ID: id})
		},
		Dial:      h.dial,
		Files:     h.files,
		ClockHeld: h.clock.jumped,
		Password:  h.policies.Password,
		LeaseCount: func(ctx context.Context, target string, limit int) (int, error) {
			return h.leases.CountOf(ctx, due.Prefix+lease.Lane(uuid, target)+"/", limit)
		},
		Reserve: func(ctx context.Context, r engine.Reservation) ([]storage.Op, error) {
			return h.places.reserve(ctx, uuid, r)
		},
		MayPublish: h.publishing.mayPublish,
		MayRead:    h.publishing.mayRead,
		Rotating:   h.publishing.rotating,
		Compliance: (&compliance{h.barrier, h.mounts, h.policies, h.publishing.rotating}).page,
		Publish:    h.publishing.publish,
		Published:  h.publishing.published,
		Versions:   h.publishing.versions,
		Overwrite:  h.places.overwrite,
		Audited: func(ctx context.Context, a engine.Automatic, act func(ctx context.Context) error) error {
			m := audit.Mount{Class: mounts.ClassSecret}
			if o := h.mounts.Snapshot().ByUUID(uuid); o != nil {
				entry := o.Entry()
				m = audit.Mount{Point: entry.Path, Type: entry.Type, Accessor: entry.Accessor, Class: entry.Class}
			}
			action := audit.Action{
				ID: NewRequestID(), Actor: audit.ActorRotation, Operation: a.Operation, Path: a.Path, Mount: m,
				Detail: audit.Detail(a.Detail),
			}
			if a.Takes {
				return h.trail.revoke(ctx, action, act)
			}
			return h.trail.act(ctx, action, act)
		},
	}
}

// runWork calls the engine that scheduled a due item.
func (h *hosts) runWork(ctx context.Context, it due.Item) error {
	o := h.mounts.Snapshot().ByUUID(strings.TrimPrefix(it.Lane, workLane))
	kind, id, _ := strings.Cut(it.ID, "/")
	if o == nil || o.Worker == nil || !o.Entry().Gone.IsZero() {
		return h.view.Delete(ctx, it.Key())
	}
	return withoutPanic(h.log, "work", func() error { return o.Worker.Work(ctx, kind, id) })
}
