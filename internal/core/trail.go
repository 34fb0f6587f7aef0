package core

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/audit"
	"github.com/keyturn/keyturn/internal/barrier"
	"github.com/keyturn/keyturn/internal/core/mounts"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/lease"
	"github.com/keyturn/keyturn/internal/storage"
)

// A trail audits what the server does without a request: expiries, revocations, rotations. Nothing
// has an effect before its audit entry is written, with one exception: revoking access must not
// wait for an audit device. Its entries are stored as pending, and written when a device works
// again.
type trail struct {
	broker *audit.Broker
	view   *barrier.View
	mounts *mounts.Manager
}

// expiry is the audited action of ending a lease.
func (t *trail) expiry(l *lease.Lease) audit.Action {
	m := audit.Mount{Class: "secret"}
	if o := t.mounts.Snapshot().ByUUID(l.Mount); o != nil {
		e := o.Entry()
		m = audit.Mount{Point: e.Path, Type: e.Type, Accessor: e.Accessor, Class: e.Class}
	}
	return audit.Expiry(NewRequestID(), l.ID, m)
}

// act runs an action that may give access, after its request entry has been written.
func (t *trail) act(ctx context.Context, a audit.Action, run func(ctx context.Context) error) error {
	request := a.Request(time.Now())
	if err := t.broker.Write(ctx, request); err != nil {
		return err
	}
	return t.runThenAudit(ctx, request, nil, run)
}

// revoke runs an action that only revokes access, even if no device works.
func (t *trail) revoke(ctx context.Context, a audit.Action, run func(ctx context.Context) error) error {
	request := a.Request(time.Now())
	var unwritten []*audit.Entry
	if t.broker.Write(ctx, request) != nil {
		unwritten = append(unwritten, request)
	}
	return t.runThenAudit(ctx, request, unwritten, run)
}

// runThenAudit runs an action, and then writes the unwritten entries and the response entry, or
// stores them as pending if no device works.
func (t *trail) runThenAudit(
	ctx context.Context, request *audit.Entry, unwritten []*audit.Entry, run func(ctx context.Context) error,
) error {
	err := run(ctx)
	text := ""
	if err != nil {
		text = audit.ErrorText(clientMessage(err))
	}
	entries := append(unwritten, request.Answered(time.Now(), nil, text))
	if werr := t.broker.Write(ctx, entries...); werr != nil {
		return errors.Join(err, t.storePending(ctx, entries...))
	}
	return err
}

// pendingPrefix precedes the rows of audit entries that no device has written yet.
const pendingPrefix = "audit-owed/"

// storePending stores entries, which writePending writes when a device works again.
func (t *trail) storePending(ctx context.Context, entries ...*audit.Entry) error {
	b := t.broker.Render(entries...)
	if b == nil {
		return nil
	}
	_, err := t.view.Commit(ctx, storage.Append(pendingPrefix, b))
	return err
}

// writePending writes the pending entries in order, if a device works.
func (t *trail) writePending(ctx context.Context) error {
	if t.broker.Enabled() && !t.broker.Healthy() {
		return nil
	}
	for {
		var ops []storage.Op
		var lines [][]byte
		for e, err := range t.view.Scan(ctx, pendingPrefix, storage.PrefixEnd(pendingPrefix)) {
			if err != nil {
				return err
			}
			ops, lines = append(ops, storage.Remove(e.Key)), append(lines, e.Value)
			if len(ops) == storage.MaxOps {
				break
			}
		}
		if len(ops) == 0 {
			return nil
		}
		if err := t.broker.WriteRendered(ctx, lines...); err != nil {
			return err
		}
		if _, err := t.view.Commit(ctx, ops...); err != nil {
			return err
		}
	}
}

// clientMessage is the text of an error that the client sees.
func clientMessage(err error) string {
	if m := fault.Message(err); m != "" {
		return m
	}
	return strings.ReplaceAll(fault.KindOf(err).String(), "-", " ")
}
