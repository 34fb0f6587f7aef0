package kv

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
)

// visible is a row as its readers see it: nil where there is no secret.
func (m *record) visible() *record {
	if m == nil || m.Vacant {
		return nil
	}
	return m
}

// hold changes which fields are held.
func (m *record) hold(add, drop []string) {
	held := slices.DeleteFunc(slices.Concat(m.Held, add), func(f string) bool { return slices.Contains(drop, f) })
	slices.Sort(held)
	m.Held, m.Told = slices.Compact(held), true
}

// mayBeHeld reports whether some key publishes to the path, or once did. A record of an earlier
// version does not name the fields, until a key publishes there next: then each field that a write
// changes has to be looked up.
func (m *record) mayBeHeld() bool {
	return len(m.Held) > 0 || !m.Told && slices.ContainsFunc(m.Versions, func(v version) bool { return v.Turn != nil })
}

// readable is the version that readers get; nil where there is none.
func (m *record) readable(now time.Time) *version {
	if m == nil || m.Vacant {
		return nil
	}
	if ver := m.find(0); ver != nil && !ver.gone(now) {
		return ver
	}
	return nil
}

// Mark notes in a path's record which fields a key is about to hold, and which it gives up, by
// operations on absolute keys that join the commit of the key. From then on a write of a client
// that changes them is told to the key: see [engine.Overwrite].
func (v *versioned) Mark(ctx context.Context, path string, add, drop []string) ([]storage.Op, error) {
	row, ver, err := v.row(ctx, path)
	if err != nil {
		return nil, err
	}
	next := &record{Vacant: true}
	if row != nil {
		next = row.clone()
	}
	was := slices.Clone(next.Held)
	next.hold(add, drop)
	key := metaPrefix + path
	switch {
	case slices.Equal(was, next.Held):
		return nil, nil
	case next.Vacant && len(next.Held) == 0:
		return []storage.Op{v.m.Store.Abs(storage.Remove(key).If(ver))}, nil
	}
	b, err := next.encode()
	return []storage.Op{v.m.Store.Abs(storage.Set(key, b).If(ver))}, err
}

// overwrites is what a client's change does to fields that keys publish; nil if it changes none.
// A path to which no key publishes costs nothing.
func (r *revision) overwrites(ctx context.Context, b *backend) (*engine.Overwrite, error) {
	if r.by == nil || r.old != nil && !r.old.mayBeHeld() && !r.next.mayBeHeld() || r.old == nil && len(r.next.Held) == 0 {
		return nil, nil
	}
	now := time.Now()
	before, after := r.old.readable(now), r.next.readable(now)
	if before == nil && after == nil || before != nil && after != nil && before.N == after.N {
		return nil, nil // readers get what they did
	}
	was, err := b.textsOf(ctx, r.path, before, nil)
	damaged := fault.Is(err, fault.Internal) // it must be possible to write over it
	if err != nil && !damaged {
		return nil, err
	}
	is, err := b.textsOf(ctx, r.path, after, r.ops)
	if err != nil {
		return nil, err
	}
	fields := r.next.Held
	if r.old != nil && len(r.old.Held) > 0 {
		fields = r.old.Held // the next record of a secret that is deleted has none
	}
	if len(fields) == 0 {
		fields = slices.Sorted(maps.Keys(was))
		for name := range is {
			if _, known := was[name]; !known {
				fields = append(fields, name)
			}
		}
	}
	o := &engine.Overwrite{
		Path: b.m.Settings().Path + r.path, Version: r.next.Current, Fields: is, Empties: after == nil, By: r.by.name, Of: r.by.of, Force: r.by.force, Warn: r.by.warn,
	}
	for _, name := range fields {
		if damaged || !was[name].Equal(is[name]) {
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

// remedy says how readers get a value again.
func (r *revision) remedy(path string, before *version) string {
	if still := r.next.find(before.N); still != nil && !still.Destroyed {
		return fmt.Sprintf("kv undelete -versions=%d %s", before.N, path)
	}
	for _, ver := range slices.Backward(r.next.Versions) {
		if !ver.Destroyed && ver.N < before.N && ver.Turn != nil {
			return fmt.Sprintf("kv rollback -version=%d %s, if that key still lives", ver.N, path)
		}
	}
	return ""
}

// oneEvent leaves one event among operations, the first: a commit has room for one. That of a key
// says more than that of the write.
func oneEvent(ops []storage.Op) []storage.Op {
	seen := map[string]bool{}
	return slices.DeleteFunc(ops, func(o storage.Op) bool {
		again := o.Stamp && seen[o.Key]
		seen[o.Key] = seen[o.Key] || o.Stamp
		return again
	})
}

// textsOf are the texts of a version, whose data may be among the operations that are about to store it.
func (b *backend) textsOf(ctx context.Context, path string, ver *version, ops []storage.Op) (map[string]secret.Value, error) {
	if ver == nil {
		return nil, nil
	}
	key := versionKey(path, ver.N)
	if i := slices.IndexFunc(ops, func(o storage.Op) bool { return o.Key == key }); i >= 0 {
		return texts(ops[i].Value)
	}
	e, err := b.m.Store.Get(ctx, key)
	if err != nil {
		return nil, err
	}
	t, err := texts(e.Value)
	if fault.Is(err, fault.Invalid) { // a value of version 1 that is no object
		return nil, nil
	}
	return t, err
}

// A revision is a change of a secret that is about to be committed.
type revision struct {
	path      string
	by        *hand   // nil: a rotation
	old, next *record // of which old may be nil
	version   storage.Version
	ops       []storage.Op // but that of the record
	along     []storage.Op // of a rotation, on absolute keys
	remove    bool         // the record goes
}
