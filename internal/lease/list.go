package lease

import (
	"context"
	"strings"
	"sync/atomic"

	"github.com/keyturn/keyturn/internal/storage"
)

// Stats are the manager's counts. They are added up in memory, saved once a
// second by their owner, and never scanned for.
type Stats struct {
	Live    atomic.Int64 // reservations and leases that are stored
	Undone  atomic.Int64
	Failed  atomic.Int64 // undos that failed, each try
	Waiting atomic.Int64 // leases whose undo has failed and is to be tried again
}

// MaxNames is how many names a page has at most: all names of ten million leases
// would fill the memory of the server and of who asked.
const MaxNames = 100_000

// List returns the names directly below a prefix of lease ids, as a folder
// shows them: "creds/" for what has more below it. prefix ends in a slash or is empty. It
// seeks past subtrees, so that it costs what it returns. after is the last name
// of the page before, limit 0 is [MaxNames].
func (m *Manager) List(ctx context.Context, prefix, after string, limit int) ([]string, error) {
	base := Prefix + prefix
	from := base
	if after != "" {
		from = base + after + "\x00"
		if strings.HasSuffix(after, "/") {
			from = storage.PrefixEnd(base + after)
		}
	}
	if limit <= 0 {
		limit = MaxNames
	}
	limit = min(limit, MaxNames)
	var names []string
	for from != "" {
		next := "" // where the scan goes on behind a subtree
		for e, err := range m.view.Scan(ctx, from, storage.PrefixEnd(base)) {
			if err != nil {
				return nil, err
			}
			name, _, deeper := strings.Cut(strings.TrimPrefix(e.Key, base), "/")
			if deeper {
				name += "/"
				next = storage.PrefixEnd(base + name)
			}
			if names = append(names, name); len(names) == limit {
				return names, nil
			}
			if deeper {
				break
			}
		}
		from = next
	}
	return names, nil
}

// CountOf counts the leases of one mount's target, up to limit, by its lane of the due
// index: every record has exactly one item there. lanePrefix is given by who owns the index.
func (m *Manager) CountOf(ctx context.Context, lanePrefix string, limit int) (int, error) {
	n := 0
	for _, err := range m.view.Scan(ctx, lanePrefix, storage.PrefixEnd(lanePrefix)) {
		if err != nil {
			return n, err
		}
		if n++; n >= limit {
			break
		}
	}
	return n, nil
}

// Failing returns the leases whose undo has failed and is tried again, by their ids: at most limit,
// from after on.
func (m *Manager) Failing(ctx context.Context, after string, limit int) ([]*Lease, error) {
	var all []*Lease
	for id, err := range m.pages(ctx, FailingPrefix, after) {
		if err != nil {
			return nil, err
		}
		e, err := m.view.Get(ctx, Prefix+id)
		if err != nil {
			return nil, err
		}
		if e.Version == 0 {
			continue // undone meanwhile
		}
		l, err := Decode(e)
		if err != nil {
			return nil, err
		}
		if all = append(all, l); len(all) >= limit {
			break
		}
	}
	return all, nil
}
