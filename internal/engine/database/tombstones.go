package database

import (
	"context"
	"time"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/storage"
)

// tombstones keeps deleted connections until the last lease that needs them has ended.
type tombstones struct {
	m       *engine.Mount
	conns   *connections
	pools   *pools
	records *rotate.Manager
}

// cleanupKind is the kind of the due items of tombstones.
const cleanupKind = "bury"

// When a tombstone is checked. The first check is later than any request lives that read the
// connection before it was deleted, so that its reservation is counted.
const (
	firstCheck = 2 * time.Minute
	nextCheck  = 10 * time.Minute
	checkDelay = 2 * time.Second // after what seemed to be the last undo, whose lease is removed only after it
)

// scheduleOps stores a tombstone with its next check, and adds more operations.
func (s *tombstones) scheduleOps(c *connection, at time.Time, more ...storage.Op) (ops, abs []storage.Op, err error) {
	abs = s.m.Host.Schedule(cleanupKind, c.ID, c.CleanupAt, at)
	c.CleanupAt = at
	op, err := c.storeOp()
	return append(more, op), abs, err
}

func (s *tombstones) schedule(ctx context.Context, c *connection, at time.Time) error {
	ops, abs, err := s.scheduleOps(c, at)
	if err == nil {
		_, err = s.m.Store.CommitWith(ctx, ops, abs)
	}
	return err
}

// checkSoon brings the next check forward while the last lease is being undone. If that fails, the
// check comes at its time.
func (s *tombstones) checkSoon(ctx context.Context, c *connection) {
	at := time.Now().Add(checkDelay).UTC()
	if first := c.DeletedAt.Add(firstCheck); at.Before(first) {
		at = first
	}
	n, err := s.m.Host.LeaseCount(ctx, c.leaseTarget(), 2)
	if err == nil && n <= 1 && at.Before(c.CleanupAt) {
		err = s.schedule(ctx, c, at)
	}
	if err != nil && !fault.Is(err, fault.Conflict) {
		s.m.Log.Warn("checking whether a deleted connection is still needed failed; it is checked again later",
			"connection", c.Name, "error", err)
	}
}

// check removes a tombstone that no lease needs any more.
func (s *tombstones) check(ctx context.Context, id string) error {
	c, err := s.conns.byID(ctx, id)
	if err != nil || c == nil || c.DeletedAt.IsZero() {
		return err
	}
	n, err := s.m.Host.LeaseCount(ctx, c.leaseTarget(), 1)
	if err != nil {
		return err
	}
	if n > 0 {
		err = s.schedule(ctx, c, time.Now().UTC().Add(nextCheck))
	} else {
		err = s.remove(ctx, c)
	}
	if fault.Is(err, fault.Conflict) {
		return nil // an undo has moved the check meanwhile
	}
	return err
}

func (s *tombstones) remove(ctx context.Context, c *connection) error {
	s.pools.retire(c.ID)
	return s.records.Change(ctx, rootKind, c.ID, nil, func(e *rotate.Edit) error {
		ops := []storage.Op{storage.Remove(connRows.Key(c.ID)).If(c.stored)}
		abs := s.m.Host.Schedule(cleanupKind, c.ID, c.CleanupAt, time.Time{})
		if e.New() && e.Rec.Due.IsZero() {
			_, err := s.m.Store.CommitWith(ctx, ops, abs)
			return err
		}
		e.Ops, e.Abs = ops, abs
		return e.Delete(ctx)
	})
}
