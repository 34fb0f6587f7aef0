package kv

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/keyturn/keyturn/internal/barrier"
	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/storage"
)

// Publish writes a rotated credential as a new version, once for each rotation.
func (v *versioned) Publish(ctx context.Context, path string, p engine.Publication) (int, error) {
	n := 0
	by := writer{extra: p.Along}
	err := v.secrets.change(ctx, path, by, func(c *config, m *record) (*record, []storage.Op, error) {
		if m != nil {
			for _, ver := range m.Versions {
				if ver.Turn != nil && ver.Turn.ID == p.Turn {
					n = ver.N
					return nil, nil, nil
				}
			}
		}
		current := 0
		if m != nil {
			current = m.Current
		}
		if p.CAS >= 0 && p.CAS != current {
			return nil, nil, fault.New("kv.Publish", fault.Conflict,
				"%q is at version %d and not at %d: somebody else wrote it; read it and decide whose value is right",
				path, current, p.CAS)
		}
		data, err := fill(ctx, v.mount.Store, path, m, p)
		if err != nil {
			return nil, nil, err
		}
		base := m
		if base == nil {
			base = &record{Created: time.Now().UTC()}
		}
		base = base.clone()
		base.Custom = maps.Clone(base.Custom)
		if base.Custom == nil && len(p.Custom) > 0 {
			base.Custom = map[string]string{}
		}
		maps.Copy(base.Custom, p.Custom)
		next, ver, ops := c.append(base, path, data,
			&turn{ID: p.Turn, Key: p.Key, Period: p.Period, ReadTTL: p.ReadTTL})
		ver.Next, ver.Deleted = p.Next.UTC(), time.Time{}
		if p.Next.IsZero() {
			ver.Next = time.Time{}
		}
		n = next.Current
		next.setPublished(slices.Collect(maps.Keys(p.Fields)), nil)
		return next, ops, nil
	})
	return n, err
}

// Mark implements [engine.Versioned]: it notes in a path's record which fields a key publishes.
func (v *versioned) Mark(ctx context.Context, path string, published, released []string) ([]storage.Op, error) {
	row, ver, err := v.secrets.row(ctx, path)
	if err != nil {
		return nil, err
	}
	next := &record{Vacant: true}
	if row != nil {
		next = row.clone()
	}
	before := slices.Clone(next.Published)
	next.setPublished(published, released)
	key := metaPrefix + path
	switch {
	case slices.Equal(before, next.Published):
		return nil, nil
	case next.Vacant && len(next.Published) == 0:
		return []storage.Op{v.mount.Store.Abs(storage.Remove(key).If(ver))}, nil
	}
	ops, err := v.secrets.table.reindex(ctx, path, row, next, nil)
	if err != nil {
		return nil, err
	}
	b, err := next.encode()
	ops = append(ops, storage.Set(key, b).If(ver))
	for i := range ops {
		ops[i] = v.mount.Store.Abs(ops[i])
	}
	return ops, err
}

// fill replaces the published fields in the current data, and keeps the others.
func fill(
	ctx context.Context, store *barrier.View, path string, m *record, p engine.Publication,
) ([]byte, error) {
	doc := map[string]any{}
	if m != nil {
		if ver := m.find(0); ver != nil && !ver.unreadable(time.Now()) {
			e, err := store.Get(ctx, versionKey(path, ver.N))
			if err != nil {
				return nil, err
			}
			if x, err := decodeNumbers(e.Value); err == nil {
				if old, ok := x.(map[string]any); ok {
					doc = old
				}
			}
		}
	}
	for k, val := range p.Fields {
		doc[k] = val.RevealString()
	}
	for k, val := range p.Plain {
		doc[k] = val
	}
	return encodeText("kv.fill", doc)
}

// Published implements [engine.Versioned].
func (v *versioned) Published(ctx context.Context, path string) (*engine.Published, error) {
	m, _, err := v.secrets.load(ctx, path)
	if err != nil || m == nil {
		return nil, err
	}
	ver := m.find(0)
	if ver == nil || ver.unreadable(time.Now()) {
		return &engine.Published{Version: m.Current}, nil
	}
	return publishedIn(ctx, v.mount.Store, path, ver)
}

// Versions implements [engine.Versioned]. It includes versions that are deleted but can be
// undeleted.
func (v *versioned) Versions(ctx context.Context, path string) (all []engine.Published, err error) {
	m, _, err := v.secrets.load(ctx, path)
	if err != nil || m == nil {
		return nil, err
	}
	now := time.Now()
	for _, ver := range slices.Backward(m.Versions[max(0, len(m.Versions)-maxVersionsRead):]) {
		if ver.Destroyed {
			continue
		}
		p, err := publishedIn(ctx, v.mount.Store, path, &ver)
		if err != nil {
			return nil, err
		}
		p.Deleted = ver.unreadable(now)
		all = append(all, *p)
	}
	return all, nil
}

// maxVersionsRead limits how many versions are read.
const maxVersionsRead = 100

func publishedIn(
	ctx context.Context, store *barrier.View, path string, ver *version,
) (*engine.Published, error) {
	out := &engine.Published{Version: ver.N, At: ver.Created}
	if ver.Turn != nil {
		out.Turn, out.Key = ver.Turn.ID, ver.Turn.Key
	}
	e, err := store.Get(ctx, versionKey(path, ver.N))
	if err != nil {
		return out, err
	}
	out.Fields, err = texts(e.Value)
	return out, err
}
