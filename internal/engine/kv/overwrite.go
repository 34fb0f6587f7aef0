package kv

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/keyturn/keyturn/internal/barrier"
	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
)

// A revision is a change of a secret to be committed.
type revision struct {
	path      string
	by        *client      // nil: a rotation
	extra     []storage.Op // of a rotation, on absolute keys
	old, next *record      // old may be nil
	version   storage.Version
	ops       []storage.Op // without that of the record
	remove    bool         // remove the record
}

// overwrites describes how a client changes published fields; nil: it does not. It costs nothing
// if no key publishes to the path.
func (r *revision) overwrites(ctx context.Context, mount *engine.Mount) (*engine.Overwrite, error) {
	if r.by == nil {
		return nil, nil
	}
	settings := mount.Settings()
	inherits := settings.Inherits // the records do not name the fields
	named := r.old != nil && (r.old.mayBePublished() || r.next.mayBePublished()) ||
		r.old == nil && len(r.next.Published) > 0
	if !named && !inherits {
		return nil, nil
	}
	now := time.Now()
	before, after := r.old.readable(now), r.next.readable(now)
	if before == nil && after == nil || before != nil && after != nil && before.N == after.N {
		return nil, nil // nothing changes for readers
	}
	oldTexts, err := textsOf(ctx, mount.Store, r.path, before, nil)
	damaged := fault.Is(err, fault.Internal) // a damaged version can be overwritten
	if err != nil && !damaged {
		return nil, err
	}
	newTexts, err := textsOf(ctx, mount.Store, r.path, after, r.ops)
	if err != nil {
		return nil, err
	}
	fields := r.next.Published
	if r.old != nil && len(r.old.Published) > 0 {
		fields = r.old.Published // the next record of a deleted secret has none
	}
	if len(fields) == 0 || inherits {
		fields = slices.Sorted(maps.Keys(oldTexts))
		for name := range newTexts {
			if _, known := oldTexts[name]; !known {
				fields = append(fields, name)
			}
		}
	}
	o := &engine.Overwrite{
		Path: settings.Path + r.path, Version: r.next.Current, Fields: newTexts, Empties: after == nil,
		By: r.by.name, Of: r.by.policies, Force: r.by.force, Warn: r.by.warn,
	}
	for _, name := range fields {
		written, ok := newTexts[name]
		if damaged || !oldTexts[name].Equal(written) || before == nil && ok { // also an empty text
			o.Changed = append(o.Changed, name)
		}
	}
	if len(o.Changed) == 0 {
		return nil, nil
	}
	if o.Empties {
		o.Remedy = r.remedy(o.Path, before)
	}
	return o, nil
}

// remedy is the command that makes a value readable again.
func (r *revision) remedy(path string, before *version) string {
	if current := r.next.find(before.N); current != nil && !current.Destroyed {
		return fmt.Sprintf("kv undelete -versions=%d %s", before.N, path)
	}
	for _, ver := range slices.Backward(r.next.Versions) {
		if !ver.Destroyed && ver.N < before.N && ver.Turn != nil {
			return fmt.Sprintf("kv rollback -version=%d %s, if that key still lives", ver.N, path)
		}
	}
	return ""
}

// textsOf returns the text fields of a version, whose data may be in ops, which will store it.
func textsOf(
	ctx context.Context, store *barrier.View, path string, ver *version, ops []storage.Op,
) (map[string]secret.Value, error) {
	if ver == nil {
		return nil, nil
	}
	key := versionKey(path, ver.N)
	if i := slices.IndexFunc(ops, func(o storage.Op) bool { return o.Key == key }); i >= 0 {
		return texts(ops[i].Value)
	}
	e, err := store.Get(ctx, key)
	if err != nil {
		return nil, err
	}
	t, err := texts(e.Value)
	if fault.Is(err, fault.Invalid) { // a value of version 1 that is not an object
		return nil, nil
	}
	return t, err
}
