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

// A trail is the audit of what the server does on its own: expiries, revocations, rotations. Where
// the law of the audit log – no effect without a line before it – would keep access open, the line is
// owed instead: it is stored, and written once a device is back.
type trail struct {
	broker *audit.Broker
	view   *barrier.View
	mounts *mounts.Manager
}

// expiry is the action that ends a lease, as the audit log names it.
func (t *trail) expiry(l *lease.Lease) audit.Action {
	m := audit.Mount{Class: "secret"}
	if o := t.mounts.Snapshot().ByUUID(l.Mount); o != nil {
		e := o.Entry()
		m = audit.Mount{Point: e.Path, Type: e.Type, Accessor: e.Accessor, Class: e.Class}
	}
	return audit.Expiry(NewRequestID(), l.ID, m)
}

// automatic surrounds what the server does by itself with its two lines. What
// gives access needs the first one; the second is owed if no device takes it.
func (t *trail) automatic(ctx context.Context, a audit.Action, act func(ctx context.Context) error) error {
	first := a.Request(time.Now())
	if err := t.broker.Write(ctx, first); err != nil {
		return err
	}
	err := act(ctx)
	text := ""
	if err != nil {
		text = audit.ErrorText(messageOf(err))
	}
	last := first.Answered(time.Now(), nil, text)
	if werr := t.broker.Write(ctx, last); werr != nil {
		return errors.Join(err, t.owe(ctx, last))
	}
	return err
}

// taking surrounds what only takes access away: it goes on while no device
// writes, and owes its entries.
func (t *trail) taking(ctx context.Context, a audit.Action, act func(ctx context.Context) error) error {
	first := a.Request(time.Now())
	wrote := t.broker.Write(ctx, first) == nil
	err := act(ctx)
	text := ""
	if err != nil {
		text = audit.ErrorText(messageOf(err))
	}
	last := first.Answered(time.Now(), nil, text)
	lines := []*audit.Entry{first, last}
	if wrote {
		lines = lines[1:]
	}
	if werr := t.broker.Write(ctx, lines...); werr != nil {
		return errors.Join(err, t.owe(ctx, lines...))
	}
	return err
}

// owedPrefix is where audit entries wait that no device took.
const owedPrefix = "audit-owed/"

// owe stores entries, which payOwed writes once a device works again.
func (t *trail) owe(ctx context.Context, entries ...*audit.Entry) error {
	b := t.broker.Render(entries...)
	if b == nil {
		return nil
	}
	_, err := t.view.Commit(ctx, storage.Append(owedPrefix, b))
	return err
}

// payOwed writes what is owed, in order, once a device writes again.
func (t *trail) payOwed(ctx context.Context) error {
	if t.broker.Enabled() && !t.broker.Healthy() {
		return nil
	}
	for {
		var ops []storage.Op
		var lines [][]byte
		for e, err := range t.view.Scan(ctx, owedPrefix, storage.PrefixEnd(owedPrefix)) {
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

// messageOf is what the client will read of an error.
func messageOf(err error) string {
	if m := fault.Message(err); m != "" {
		return m
	}
	return strings.ReplaceAll(fault.KindOf(err).String(), "-", " ")
}
