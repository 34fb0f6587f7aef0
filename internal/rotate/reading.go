package rotate

import (
	"context"
	"encoding/json"
	"iter"
	"slices"
	"strings"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/storage"
)

// rotations returns the stored rotations of a record in hand and the one in flight, the newest
// first.
func (m *Manager) rotations(ctx context.Context, e *Edit) ([]*Turn, error) {
	all, err := m.Past(ctx, e.kind.Name, e.Rec.Name)
	if t := e.turn(); t != nil {
		all = append(all, t)
	}
	slices.Reverse(all)
	return all, err
}

// Past returns the stored rotations of a record that have ended, the oldest first.
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

// Journal returns the journal rows of a record, the oldest first. With the number of a rotation,
// Journal returns only that rotation's rows, with the requests to the provider. With 0, Journal
// returns all rows.
func (m *Manager) Journal(ctx context.Context, kind, name string, turn uint32) (rows []JournalRow, err error) {
	prefix := m.kinds[kind].Journal + name + "/"
	for e, err := range m.cfg.Store.Scan(ctx, prefix, storage.PrefixEnd(prefix)) {
		if err != nil {
			return nil, err
		}
		row, err := decodeJournalRow(e.Value)
		if err != nil {
			return nil, err
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

func decodeJournalRow(text []byte) (JournalRow, error) {
	var row struct {
		JournalRow
		Number uint32 `json:"turn"` // the rotation's, as earlier versions stored it
	}
	err := json.Unmarshal(text, &row)
	if row.Number != 0 {
		row.Turn = row.Number
	}
	return row.JournalRow, fault.Wrap("rotate.Journal", fault.Internal, err)
}

// Read returns a record and its secrets as stored by the same commit, or nil if there is none.
// Callers do not commit them.
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

// Names lists the names of a kind's records that come after a given name.
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

// Records reads the records of a kind, including those that an earlier version has stored in rows
// of the engine's own. Records yields a damaged record with an error that names it.
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

// unstored yields the names of records that an earlier version has stored and that are not yet
// stored as records. An error without a name ends the sequence.
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

// View reads a record without its lock, or returns nil if there is none. The caller does not
// commit it.
func (m *Manager) View(ctx context.Context, kind, name string) (*Edit, error) {
	return m.load(ctx, m.kinds[kind], name)
}
