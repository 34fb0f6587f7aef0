package lease

import (
	"context"
	"strings"

	"github.com/keyturn/keyturn/internal/storage"
)

// MaxNames is the maximum number of names on a page, because the names of ten million leases would
// fill the memory of the server and the client.
const MaxNames = 100_000

// List returns the names directly below a prefix of lease IDs, like the contents of a folder: a
// name that has others below it ends in a slash. prefix ends in a slash or is empty. List seeks
// past subtrees, so its cost depends on the number of names that it returns. after is the last
// name of the previous page; limit 0 means [MaxNames].
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
		next := "" // where the scan continues after a subtree
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

// CountOf counts the leases of one target of a mount, up to limit, in its lane of the due index,
// where every lease has exactly one item. lanePrefix precedes the keys of the lane.
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

// Failing returns at most limit leases after the ID after, in order of their IDs, whose undo has
// failed and is retried.
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

// owned yields the IDs of a token's leases. It reads them in pages, so that the caller may remove
// them.
func (m *Manager) owned(ctx context.Context, owner string) func(yield func(string, error) bool) {
	return m.pages(ctx, OfPrefix+owner+"/", "")
}

// Below yields the ids of the leases whose id starts with prefix.
func (m *Manager) Below(ctx context.Context, prefix string) func(yield func(string, error) bool) {
	return m.pages(ctx, Prefix+prefix, "")
}
