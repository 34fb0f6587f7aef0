package kv

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/storage"
)

// reindex sets the deadline of a changed record, and returns the operations that move the path in
// the index of ages. ops may contain the data of the current version. A secret that a key
// publishes has no row, because the key's record says when it is rotated.
func (t *table) reindex(ctx context.Context, path string, old, next *record, ops []storage.Op) ([]storage.Op, error) {
	now := time.Now()
	before, after := old.readable(now), next.readable(now)
	if before != nil && after != nil && before.N == after.N && before.Deleted.Equal(after.Deleted) &&
		old.mayBePublished() == next.mayBePublished() && maps.Equal(old.Custom, next.Custom) {
		return nil, nil
	}
	a, err := t.ageNow(ctx, path, next, after, ops)
	if err != nil {
		return nil, err
	}
	return moveInIndex(path, old, next, a)
}

// ageNow returns the age of a record whose current version is ver; nil: the index has no row for
// it.
func (t *table) ageNow(ctx context.Context, path string, m *record, ver *version, ops []storage.Op) (*age, error) {
	if ver == nil || m.mayBePublished() {
		return nil, nil
	}
	var data []byte
	key := versionKey(path, ver.N)
	if i := slices.IndexFunc(ops, func(o storage.Op) bool { return o.Key == key }); i >= 0 {
		data = ops[i].Value
	} else if e, err := t.mount.Store.Get(ctx, key); err == nil {
		data = e.Value
	} else if !fault.Is(err, fault.Internal) { // the metadata of a damaged version can be changed
		return nil, err
	}
	a := ageOf(data, m.Custom, m.Updated)
	if a != nil {
		a.Expires = ver.Deleted
	}
	return a, nil
}

// moveInIndex replaces the row of a path by that of an age, and notes its deadline in next.
func moveInIndex(path string, old, next *record, a *age) ([]storage.Op, error) {
	var before, after string
	if old != nil && !old.Indexed.IsZero() {
		before = nextKey(old.Indexed, path)
	}
	next.Indexed = time.Time{}
	var ops []storage.Op
	if a != nil {
		next.Indexed = a.indexedAt()
		after = nextKey(next.Indexed, path)
		op, err := ages.Set(after[len(nextPrefix):], *a)
		if err != nil {
			return nil, err
		}
		ops = append(ops, op)
	}
	if before != "" && before != after {
		ops = append(ops, storage.Remove(before))
	}
	return ops, nil
}
