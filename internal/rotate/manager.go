package rotate

import (
	"context"
	"encoding/json"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
)

// take waits for the lock of a record, or for ctx.
func (m *Manager) take(ctx context.Context, k *Kind, name string) (release func(), err error) {
	release, err = m.locks.Take(ctx, k.Records+name)
	if err != nil {
		err = fault.New("rotate.take", fault.Timeout, "%s %q is busy: a call to its provider is under way; try again", k.Noun, name)
	}
	return release, err
}

// Change runs f on a record with its lock held; f commits. A record that is not stored is new, unless missing says
// otherwise: then that error is returned.
func (m *Manager) Change(ctx context.Context, kind, name string, missing error, f func(e *Edit) error) error {
	k := m.kinds[kind]
	release, err := m.take(ctx, k, name)
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
		e = m.edit(k, &Record{Name: name, Tag: NewTag(name)})
		e.Rec.Created, e.Sec = e.Now, &Secrets{Admin: map[string]secret.Value{}, Keys: map[string]Credential{}}
	}
	defer remember(e)()
	return f(e)
}

// View reads a record without its lock; nil if there is none. It is not committed.
func (m *Manager) View(ctx context.Context, kind, name string) (*Edit, error) {
	return m.load(ctx, m.kinds[kind], name)
}

// Target opens the target of a record as a step of its next rotation would, and returns the
// credential that is current. Nothing is stored. It is for tests of targets.
func (m *Manager) Target(ctx context.Context, kind, name string) (Target, Credential, error) {
	e, err := m.View(ctx, kind, name)
	if err == nil && e == nil {
		err = fault.New("rotate.Target", fault.NotFound, "there is no %s %q; list what rotates with rotation/status", m.kinds[kind].Noun, name)
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

// Read reads a record and its secrets as one commit has left them; nil if there is none. Neither is committed.
func (m *Manager) Read(ctx context.Context, kind, name string) (*Record, *Secrets, error) {
	for {
		e, err := m.View(ctx, kind, name)
		if err != nil || e == nil {
			return nil, nil, err
		}
		if err := e.Unlock(ctx); err != nil {
			return nil, nil, err
		}
		row, err := m.cfg.Store.Get(ctx, e.kind.Records+name)
		if err != nil || row.Version == e.version {
			return e.Rec, e.Sec, err
		}
	}
}

// Delete forgets a record. Its history and its journal go first. The caller has changed it in hand, and Ops and Abs join
// the commit.
func (e *Edit) Delete(ctx context.Context) error {
	m, k, name := e.m, e.kind, e.Rec.Name
	for _, prefix := range []string{k.Journal, k.History} {
		if err := m.clear(ctx, prefix+name+"/"); err != nil {
			return err
		}
	}
	ops := append([]storage.Op{storage.Remove(k.Records + name).If(e.version), storage.Remove(k.Secrets + name)}, e.Ops...)
	if k.Unjudged != "" {
		ops = append(ops, storage.Remove(k.Unjudged+name))
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

// clear removes all rows below a prefix, in as many commits as it takes.
func (m *Manager) clear(ctx context.Context, prefix string) error {
	for {
		var ops []storage.Op
		for e, err := range m.cfg.Store.Scan(ctx, prefix, storage.PrefixEnd(prefix)) {
			if e.Key == "" && err != nil {
				return err
			}
			if ops = append(ops, storage.Remove(e.Key)); len(ops) == storage.MaxOps {
				break
			}
		}
		if len(ops) == 0 {
			return nil
		}
		if _, err := m.cfg.Store.Commit(ctx, ops...); err != nil {
			return err
		}
	}
}

// Names lists the records of a kind behind a name.
func (m *Manager) Names(ctx context.Context, kind, after string) iter.Seq2[string, error] {
	k := m.kinds[kind]
	return func(yield func(string, error) bool) {
		for e, err := range m.cfg.Store.Scan(ctx, k.Records+after, storage.PrefixEnd(k.Records)) {
			if e.Key == "" && err != nil {
				yield("", err)
				return
			}
			if name := strings.TrimPrefix(e.Key, k.Records); name != after && !yield(name, nil) {
				return
			}
		}
	}
}

// Records reads the records of a kind, also those that an earlier version has kept in rows of the
// engine's own. Damaged ones are yielded with an error that names them.
func (m *Manager) Records(ctx context.Context, kind string) iter.Seq2[*Record, error] {
	k := m.kinds[kind]
	return func(yield func(*Record, error) bool) {
		for e, err := range m.cfg.Store.Scan(ctx, k.Records, storage.PrefixEnd(k.Records)) {
			r := &Record{Name: strings.TrimPrefix(e.Key, k.Records)}
			if err == nil {
				_, err = k.decode(e, r)
			}
			if !yield(r, err) || e.Key == "" && err != nil {
				return
			}
		}
		for name, err := range m.unstored(ctx, k) {
			r := &Record{Name: name}
			if err == nil {
				r, _, err = k.Missing(ctx, name)
			}
			switch {
			case err != nil:
				if !yield(&Record{Name: name}, err) || name == "" {
					return
				}
			case r != nil && !yield(r, nil):
				return
			}
		}
	}
}

// unstored are the names of records that an earlier version has kept, and that are not stored as
// records yet. An error without a name ends it.
func (m *Manager) unstored(ctx context.Context, k *Kind) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if k.Earlier == nil {
			return
		}
		for name, err := range k.Earlier(ctx) {
			if err == nil {
				var row storage.Entry
				if row, err = m.cfg.Store.Get(ctx, k.Records+name); err == nil && row.Version != 0 {
					continue
				}
			}
			if err != nil {
				yield("", err)
				return
			}
			if !yield(name, nil) {
				return
			}
		}
	}
}

// Unfinished returns a record of any kind whose rotation is in flight; nil if there is none. Nobody would end it
// once its mount is gone.
func (m *Manager) Unfinished(ctx context.Context) (kind string, r *Record, err error) {
	for name := range m.kinds {
		for r, err := range m.Records(ctx, name) {
			if err != nil {
				return "", nil, err
			}
			if r.Turn != nil && !r.Gone { // who has deleted it, and does not wait, has decided
				return name, r, nil
			}
		}
	}
	return "", nil, nil
}

// rotations are those of a record in hand that are kept, the newest first, with the one in flight.
func (m *Manager) rotations(ctx context.Context, e *Edit) ([]*Turn, error) {
	all, err := m.Past(ctx, e.kind.Name, e.Rec.Name)
	if t := e.turn(); t != nil {
		all = append(all, t)
	}
	slices.Reverse(all)
	return all, err
}

// Past are the rotations of a record that have ended and that are kept, the oldest first.
func (m *Manager) Past(ctx context.Context, kind, name string) (all []*Turn, err error) {
	prefix := m.kinds[kind].History + name + "/"
	for e, err := range m.cfg.Store.Scan(ctx, prefix, storage.PrefixEnd(prefix)) {
		if err != nil {
			return nil, err
		}
		t := new(Turn)
		if err := decode(e, t); err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	return all, nil
}

// Journal are the rows of a record's commits, the oldest first. With the number of a rotation
// they are its own, and with the requests to the provider; with 0 they are all.
func (m *Manager) Journal(ctx context.Context, kind, name string, turn uint32) (rows []JournalRow, err error) {
	prefix := m.kinds[kind].Journal + name + "/"
	for e, err := range m.cfg.Store.Scan(ctx, prefix, storage.PrefixEnd(prefix)) {
		if err != nil {
			return nil, err
		}
		var row JournalRow
		if err := json.Unmarshal(e.Value, &row); err != nil {
			return nil, fault.Wrap("rotate.Journal", fault.Internal, err)
		}
		if turn == 0 {
			row.Requests = nil // of all rotations together they would be too many
		} else if row.Turn != turn {
			continue
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// Planned is when the record is next due, by what is stored alone: never by a time that is zero.
func (e *Edit) Planned() time.Time {
	rec := e.Rec
	switch {
	case rec.Paused != nil && !rec.doubted():
		return time.Time{}
	case rec.Paused != nil:
		return later(rec.Look, e.Now) // looking changes nothing at the provider
	case rec.Turn != nil && !rec.Due.IsZero() && !e.soon:
		return rec.Due
	case rec.Turn != nil:
		return e.Now
	case rec.Queued != nil:
		return later(rec.Queued.After, e.Now)
	}
	at := later(rec.Next, rec.Retry)
	if !rec.Look.IsZero() && (at.IsZero() || rec.Look.Before(at)) {
		at = rec.Look
	}
	if at.IsZero() {
		return at // by request alone
	}
	return later(at, e.Now)
}
