package lease

import (
	"context"
	"strings"

	"github.com/keyturn/keyturn/internal/storage"
)

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

func (m *Manager) pages(ctx context.Context, prefix, after string) func(yield func(string, error) bool) {
	return func(yield func(string, error) bool) {
		from := prefix
		if after != "" {
			from += after + "\x00"
		}
		for {
			var page []string
			for row, err := range m.view.Scan(ctx, from, storage.PrefixEnd(prefix)) {
				if err != nil {
					yield("", err)
					return
				}
				page = append(page, row.Key)
				if len(page) == 256 {
					break
				}
			}
			for _, key := range page {
				id := strings.TrimPrefix(key, prefix)
				if strings.HasPrefix(prefix, Prefix) {
					id = strings.TrimPrefix(key, Prefix)
				}
				if !yield(id, nil) {
					return
				}
			}
			if len(page) < 256 {
				return
			}
			from = page[len(page)-1] + "\x00"
		}
	}
}

// owned yields the ids of a token's leases in pages, so that what is done with one may
// remove its row.
func (m *Manager) owned(ctx context.Context, owner string) func(yield func(string, error) bool) {
	return m.pages(ctx, OfPrefix+owner+"/", "")
}

// Below yields the ids of the leases whose id starts with prefix.
func (m *Manager) Below(ctx context.Context, prefix string) func(yield func(string, error) bool) {
	return m.pages(ctx, Prefix+prefix, "")
}
