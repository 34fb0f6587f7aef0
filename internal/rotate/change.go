package rotate

import (
	"context"
	"slices"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
)

// lock waits for the lock of a record until ctx ends.
func (m *Manager) lock(ctx context.Context, k *Kind, name string) (release func(), err error) {
	release, err = m.locks.Take(ctx, k.Records+name)
	if err != nil {
		err = fault.New("rotate.lock", fault.Timeout, "%s %q is busy: a call to its provider is under way; try again",
			k.Noun, name)
	}
	return release, err
}

// Change runs f on a record while it holds the record's lock; f commits. If no record is stored,
// Change returns missing. If missing is nil too, f gets a new record.
func (m *Manager) Change(ctx context.Context, kind, name string, missing error, f func(e *Edit) error) error {
	k := m.kinds[kind]
	release, err := m.lock(ctx, k, name)
	if err != nil {
		return err
	}
	defer release()
	e, err := m.load(ctx, k, name)
	switch {
	case err != nil:
		return err
	case e == nil && missing != nil:
		return missing
	case e == nil:
		if e, err = m.edit(ctx, k, &Record{Name: name, Tag: NewTag(name)}); err != nil {
			return err
		}
		e.Rec.Created, e.Sec = e.Now, &Secrets{Admin: map[string]secret.Value{}, Keys: map[string]Credential{}}
	}
	defer recoverExchanges(e)()
	return f(e)
}

// Target opens the target of a record as a step of its next rotation would, and returns the
// current credential. Nothing is stored. Target is for tests of targets.
func (m *Manager) Target(ctx context.Context, kind, name string) (Target, Credential, error) {
	e, err := m.View(ctx, kind, name)
	if err == nil && e == nil {
		err = fault.New("rotate.Target", fault.NotFound, "there is no %s %q; list what rotates with rotation/status",
			m.kinds[kind].Noun, name)
	}
	if err == nil {
		if e.Rec.Turn == nil {
			e.start(Start{Reason: "manual"})
		}
		err = e.open(ctx)
	}
	if err != nil {
		return nil, Credential{}, err
	}
	return e.target, e.Sec.Keys[e.Rec.Current.Key()], nil
}

// Delete deletes a record. Its history and its journal are deleted first. The caller has changed
// the record in hand, and Ops and Abs join the commit.
func (e *Edit) Delete(ctx context.Context) error {
	m, k, name := e.m, e.kind, e.Rec.Name
	for _, prefix := range []string{k.Journal, k.History} {
		if err := clearRows(ctx, e, prefix+name+"/"); err != nil {
			return err
		}
	}
	ops := append([]storage.Op{storage.Remove(k.Records + name).If(e.version), storage.Remove(k.Secrets + name)},
		e.Ops...)
	if k.Unchecked != "" {
		ops = append(ops, storage.Remove(k.Unchecked+name))
	}
	if k.Forget != nil {
		ops = append(ops, k.Forget(e.Rec)...)
	}
	abs := append(slices.Clone(e.Abs), m.cfg.Schedule(k.Name, name, e.due, time.Time{})...)
	abs = append(abs, event(e, "deleted-key"))
	_, err := m.cfg.Store.CommitWith(ctx, ops, abs)
	if err == nil {
		m.census.drop(k, name)
	}
	return err
}

// clearRows removes all rows below a prefix, in as many commits as needed. Each commit asserts
// the record, because another server may have driven the record on, or created a new record with
// its name.
func clearRows(ctx context.Context, e *Edit, prefix string) error {
	for {
		var ops []storage.Op
		for row, err := range e.m.cfg.Store.Scan(ctx, prefix, storage.PrefixEnd(prefix)) {
			if row.Key == "" && err != nil {
				return err
			}
			if ops = append(ops, storage.Remove(row.Key)); len(ops) == storage.MaxOps-1 {
				break
			}
		}
		if len(ops) == 0 {
			return nil
		}
		if _, err := e.m.cfg.Store.Commit(ctx, append(ops, expectUnchanged(e))...); err != nil {
			return err
		}
	}
}

// Unfinished returns a record of any kind whose rotation is in flight, or nil. Once the mount is
// gone, nobody would end that rotation.
func (m *Manager) Unfinished(ctx context.Context) (kind string, r *Record, err error) {
	for name := range m.kinds {
		for r, err := range m.Records(ctx, name) {
			if err != nil {
				return "", nil, err
			}
			if r.Turn != nil && !r.Gone { // the user has deleted it, and does not wait for its end
				return name, r, nil
			}
		}
	}
	return "", nil, nil
}
